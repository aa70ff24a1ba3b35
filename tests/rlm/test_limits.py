"""Every limit ends a call or a run cleanly, from outside, with a reason, and keeps what there is."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from rlm.control import Control
from rlm.events import ReplyDelta, TurnStarted
from rlm.limits import Limits, LimitsError
from tests.rlm.conftest import Ask, Story, cell

LAST = {"match": "This is your last turn", "reply": cell("FINAL(found)")}
PRICED = {"input_price": 1000.0, "output_price": 1000.0}  # a dollar is a thousand tokens


async def test_turns_end_a_call_with_a_partial_answer(ask: Ask) -> None:
    script = {"rules": [LAST], "replies": [cell("found = [1, 2]")], "default": cell("print('on and on')")}
    told = await ask(script, limits={"turns": 4})
    assert told.result.status == "limit"
    assert told.result.reason == "The call's limit of 4 turns is reached."
    assert told.result.partial and told.answer == [1, 2] and told.result.answer_name == "found"
    assert len(told.server.log()) == 5
    assert "turns left" in told.story.cells()[1].shown


async def test_calls_end_a_run_and_code_cannot_swallow_it(ask: Ask) -> None:
    code = "found = []\nwhile True:\n    try:\n        found.append(await llm_query(str(len(found)), 'child task'))\n    except BaseException:\n        pass"
    script = {
        "rules": [
            LAST,
            {"match": "# Instruction\nchild task", "reply": cell("FINAL(context)")},
            {"turn": 0, "reply": cell(code)},
        ]
    }
    began = time.monotonic()
    told = await ask(script, limits={"calls": 4})
    assert told.result.status == "limit" and "limit of 4 calls" in told.result.reason
    assert told.result.calls == 4
    assert told.result.partial and told.answer[:3] == ["0", "1", "2"] or told.answer is None
    assert time.monotonic() - began < 30


async def test_calls_limit_in_a_gather_keeps_what_the_root_has(ask: Ask) -> None:
    code = "found = 'so far'\nr = await batch_llm_query(*[llm_query(str(n), 'child task') for n in range(10)])"
    script = {
        "rules": [
            LAST,
            {"match": "# Instruction\nchild task", "reply": cell("FINAL(context)")},
            {"turn": 0, "reply": cell(code)},
        ]
    }
    told = await ask(script, limits={"calls": 4})
    assert (told.result.status, told.result.partial, told.answer) == ("limit", True, "so far")
    assert told.result.calls == 4
    assert {e.status for e in told.story.ends().values()} <= {"limit", "done", "stopped"}
    assert len(told.story.ends()) == 4


@pytest.mark.parametrize(
    ("limits", "endpoint"),
    [
        ({"prompt_tokens": 60_000}, {}),
        ({"completion_tokens": 3_000}, {}),
        ({"cost": 60.0}, PRICED),
    ],
    ids=["prompt_tokens", "completion_tokens", "cost"],
)
async def test_a_hundred_children_never_pass_a_hard_limit(
    ask: Ask, limits: dict[str, Any], endpoint: dict[str, Any]
) -> None:
    code = "found = 'kept'\nr = await batch_llm_query(*[llm_query('x' * 100, 'child task') for n in range(100)])\nFINAL(len(r))"
    usage = {"prompt_tokens": 900, "completion_tokens": 60}
    script = {
        "rules": [
            {**LAST, "reply": {"text": cell("FINAL(found)"), "usage": usage}},
            {"match": "# Instruction\nchild task", "reply": {"text": cell("FINAL(context)"), "usage": usage}},
            {"turn": 0, "reply": {"text": cell(code), "usage": usage}},
        ]
    }
    told = await ask(script, limits={"calls_in_flight": 50, "reply_tokens": 200, **limits}, endpoint=endpoint)
    stats = told.server.stats()
    assert told.result.status == "limit", told.result
    assert stats["prompt_tokens"] <= limits.get("prompt_tokens", 1e9)
    assert stats["completion_tokens"] <= limits.get("completion_tokens", 1e9)
    assert (stats["prompt_tokens"] + stats["completion_tokens"]) / 1000 <= limits.get("cost", 1e9)
    assert stats["requests"] > 5
    assert told.result.partial and told.answer == "kept"
    assert told.result.usage.prompt_tokens == stats["prompt_tokens"]


async def test_provider_reported_cost_wins_and_ends_the_run(ask: Ask) -> None:
    told = await ask({"default": {"text": cell("x = 1"), "cost": 0.4}}, limits={"cost": 1.0})
    assert told.result.status == "limit" and "$1" in told.result.reason
    assert told.result.usage.cost == pytest.approx(1.2)
    assert len(told.server.log()) == 3


async def test_an_unknown_price_is_reported_as_unknown(ask: Ask) -> None:
    told = await ask([cell("FINAL(1)")])
    assert told.result.usage.cost is None


async def test_a_limit_too_small_for_the_first_request_ends_the_run_at_once(ask: Ask) -> None:
    told = await ask([cell("FINAL(1)")], limits={"prompt_tokens": 100})
    assert told.result.status == "limit" and "prompt tokens" in told.result.reason
    assert told.server.stats()["requests"] == 0
    assert told.story.ends()[1].status == "limit"


async def test_run_seconds_end_a_run_with_time_for_a_last_request(ask: Ask) -> None:
    script = {
        "rules": [
            LAST,
            {"turn": 0, "reply": cell("found = 7\nimport time\nfor n in range(1000):\n    time.sleep(0.05)")},
        ]
    }
    began = time.monotonic()
    told = await ask(script, limits={"run_seconds": 4})
    assert told.result.status == "limit" and "4 seconds" in told.result.reason
    assert told.result.partial and told.answer == 7
    assert time.monotonic() - began < 30
    assert "interrupted" in told.story.cells()[0].error


async def test_run_seconds_end_a_run_whose_model_is_slow(ask: Ask) -> None:
    began = time.monotonic()
    told = await ask({"default": {"text": cell("FINAL(1)"), "delay": 30}}, limits={"run_seconds": 1})
    assert told.result.status == "limit" and told.result.answer is None
    assert time.monotonic() - began < 30


async def test_cell_seconds_interrupt_a_cell_and_keep_its_names(ask: Ask) -> None:
    told = await ask([cell("x = 5\nwhile True: pass"), cell("FINAL(x)")], limits={"cell_seconds": 0.5})
    assert told.answer == 5
    assert "longer than its 0.5 s" in told.story.cells()[0].shown


async def test_request_seconds_bound_one_request(ask: Ask) -> None:
    told = await ask({"default": {"text": "x", "delay": 9}}, limits={"request_seconds": 0.2}, endpoint={"attempts": 2})
    assert told.result.status == "failed" and "within 0.2 s" in told.result.reason


async def test_consecutive_errors_end_a_call(ask: Ask) -> None:
    script = {"rules": [LAST], "replies": [cell("found = 1")], "default": cell("1 / 0")}
    told = await ask(script, limits={"errors": 3})
    assert told.result.status == "limit"
    assert "3 cells in a row raised an error, the last: ZeroDivisionError" in told.result.reason
    assert told.answer == 1


async def test_near_a_limit_the_model_is_told_once(ask: Ask) -> None:
    usage = {"prompt_tokens": 9_000, "completion_tokens": 10}
    script = {"replies": [{"text": cell("x = 1"), "usage": usage}] * 3 + [{"text": cell("FINAL(1)"), "usage": usage}]}
    told = await ask(script, limits={"prompt_tokens": 40_000, "reply_tokens": 64})
    shown = "".join(c.shown for c in told.story.cells())
    assert "of the run's prompt tokens are used" not in told.story.cells()[0].shown
    assert shown.count("of the run's prompt tokens are used") <= 1


async def test_stop_ends_everything_within_a_second_and_keeps_what_is_there(ask: Ask) -> None:
    control, story = Control(), Story()
    code = "print('begun')\nr = await batch_llm_query(*[llm_query(str(n), 'child task') for n in range(20)])"
    script = {
        "rules": [
            {
                "match": "# Instruction\nchild task",
                "turn": 0,
                "reply": cell("import time\nprint('working')\ntime.sleep(30)"),
            },
            {"turn": 0, "reply": cell(code)},
        ]
    }
    run = asyncio.create_task(ask(script, control=control, story=story))
    for _ in range(300):
        if len(story.calls()) > 5 and len(story.replies(3)):
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    control.stop("Stopped by Alice.")
    told = await run
    assert time.monotonic() - began < 30
    assert (told.result.status, told.result.reason) == ("stopped", "Stopped by Alice.")
    ends = story.ends()
    assert len(ends) == len(story.calls()) == 21
    assert {e.status for e in ends.values()} == {"stopped"}
    assert story.cells(1)[0].output.startswith("begun")
    running = {e.call for e in story.of(type(story.replies(1)[0])) if e.kind == "code"}
    assert {c.call for c in story.of(type(story.cells(1)[0]))} == running


@pytest.mark.parametrize(
    ("strategy", "replies", "answer"),
    [
        ("direct", [{"text": "The light went dark at nine. " + "And on. " * 400, "piece": 29, "pause": 0.3}], "The light went dark"),
        ("direct", [{"text": "<think>" + "Hm. " * 900, "piece": 40, "pause": 0.3}], None),
        ("rlm", ["The light went dark at nine.", {"text": cell("FINAL(1)"), "delay": 60}], "The light went dark at nine."),
        ("rlm", ["Nine?", cell("print(1)"), {"text": "I look " * 400, "piece": 40, "pause": 0.3}], None),
    ],
)  # fmt: skip
async def test_stop_keeps_as_partial_answer_what_there_is_of_one(
    ask: Ask, strategy: str, replies: list[Any], answer: str | None
) -> None:
    """No request is sent for it: an answer half written, or a reply without a cell that may have been meant as one."""
    control, story = Control(), Story()
    run = asyncio.create_task(
        ask({"replies": replies}, control=control, story=story, strategy=strategy, limits={"reply_tokens": 4_000})
    )

    def under_way() -> bool:
        turns = story.of(TurnStarted)
        return len(turns) == len(replies) and ("pause" not in replies[-1] or len(story.of(ReplyDelta)) > 3)

    for _ in range(1500):
        if under_way():
            break
        await asyncio.sleep(0.02)
    assert under_way()
    control.stop("Stopped by Alice.")
    told = await run
    assert (told.result.status, told.result.partial) == ("stopped", answer is not None)
    if answer is None:
        assert told.result.answer is None
    else:
        assert str(told.answer).startswith(answer)


async def test_pause_lets_no_request_out_until_resumed(ask: Ask) -> None:
    control = Control()
    control.pause()
    run = asyncio.create_task(ask([cell("FINAL(1)")], control=control, limits={"run_seconds": 3}))
    await asyncio.sleep(3.2)  # the clock of the run stands still
    assert not run.done()
    control.resume()
    assert (await run).answer == 1


async def test_stop_ends_a_paused_run(ask: Ask) -> None:
    control = Control()
    control.pause()
    run = asyncio.create_task(ask([cell("FINAL(1)")], control=control))
    await asyncio.sleep(0.2)
    control.stop()
    assert (await run).result.status == "stopped"


async def test_nesting_at_one_call_in_flight_does_not_deadlock(ask: Ask) -> None:
    script = {
        "rules": [
            {"match": "# Instruction\nleaf", "reply": cell("FINAL(1)")},
            {
                "match": "# Instruction\nmiddle",
                "reply": cell("FINAL(sum(await batch_llm_query(*[llm_query(str(n), 'leaf') for n in range(3)])))"),
            },
            {
                "turn": 0,
                "reply": cell("FINAL(sum(await batch_llm_query(*[llm_query(str(n), 'middle') for n in range(3)])))"),
            },
        ]
    }
    told = await ask(script, limits={"calls_in_flight": 1})
    assert told.answer == 9 and told.result.calls == 13 and told.result.depth == 2
    assert told.server.stats()["most_in_flight"] == 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"limits": Limits(depth=-1)}, "depth must be at least 0"),
        ({"limits": Limits(turns=0)}, "turns must be at least 1"),
        ({"strategy": "magic"}, "no strategy 'magic'"),
        ({"dialect": "latin"}, "no dialect 'latin'"),
        ({"schema": {"type": 7}}, "not a JSON Schema"),
        ({"question": "x" * 20_001}, "20,001 characters"),
        ({"question": " "}, "empty"),
    ],
)
async def test_a_run_that_cannot_be_ends_with_the_reason(pool: Any, spec: dict[str, Any], says: str) -> None:
    from rlm.client import ModelClient
    from rlm.endpoints import Endpoint
    from rlm.engine import RunSpec, solve
    from sandbox import Value

    story = Story()
    client = ModelClient(Endpoint("e", "http://127.0.0.1:9/v1", root_model="m"))
    result = await solve(
        RunSpec(**{"question": "q", **spec}),
        context=Value.of("q"),
        pool=pool,
        client=client,
        emit=story,
        control=Control(),
    )
    await client.close()
    assert result.status == "failed" and says in result.reason
    assert story.ends()[1].reason == result.reason


@pytest.mark.parametrize("reply", [{"status": 401}, {"mode": "html"}, {"status": 500}, {"mode": "empty_choices"}])
async def test_an_endpoint_that_fails_ends_the_run_with_its_reason(ask: Ask, reply: dict[str, Any]) -> None:
    told = await ask({"default": reply}, endpoint={"attempts": 2})
    assert told.result.status == "failed" and "The endpoint scripted" in told.result.reason
    assert told.story.ends()[1].status == "failed"


async def test_a_retry_is_noted_and_voids_what_streamed(ask: Ask) -> None:
    script = {
        "rules": [{"attempt": 0, "reply": {"text": "half of a reply", "mode": "drop"}}],
        "default": cell("FINAL(1)"),
    }
    told = await ask(script)
    assert told.answer == 1
    from rlm.events import ReplyDelta

    assert [d.restart for d in told.story.of(ReplyDelta)].count(True) == 1
    assert any("Trying again" in note for note in told.story.notes())


def test_limits_name_what_is_wrong() -> None:
    with pytest.raises(LimitsError, match="no limit 'speed'"):
        Limits.of({"speed": 1})
    with pytest.raises(LimitsError, match="depth must be at least 0"):
        Limits.of({"depth": -1})
    assert Limits.of({"cost": None}).cost is None


async def test_a_small_limit_still_lets_requests_out_that_fit(ask: Ask) -> None:
    told = await ask({"default": cell("x = 1")}, limits={"prompt_tokens": 9_000})
    assert told.result.status == "limit" and "9,000 prompt tokens" in told.result.reason
    assert told.server.stats()["requests"] >= 1
    assert told.server.stats()["prompt_tokens"] <= 9_000


async def test_the_last_cell_starts_no_children(ask: Ask) -> None:
    last = "try:\n    await llm_query('x', 'child task')\nexcept Exception as e:\n    FINAL(str(e))"
    script = {"rules": [{**LAST, "reply": cell(last)}], "default": cell("x = 1")}
    told = await ask(script, limits={"turns": 2})
    assert told.result.partial and "no child calls" in told.answer
    assert told.result.calls == 1


async def test_a_stop_during_the_last_request_ends_the_run(ask: Ask) -> None:
    control, story = Control(), Story()
    script = {
        "rules": [{"match": "This is your last turn", "reply": {"text": cell("FINAL(1)"), "delay": 20}}],
        "default": cell("x = 1"),
    }
    run = asyncio.create_task(ask(script, control=control, story=story, limits={"turns": 1}))
    for _ in range(200):
        if "last turn" in story.sent():
            break
        await asyncio.sleep(0.02)
    control.stop("Enough.")
    told = await run
    assert (told.result.status, told.result.reason) == ("stopped", "Enough.")


async def test_a_limit_and_a_stop_at_once_end_the_run_once(ask: Ask) -> None:
    from rlm.events import TurnStarted

    control, story = Control(), Story()
    run = asyncio.create_task(
        ask({"default": {"text": cell("x = 1"), "delay": 20}}, control=control, story=story, limits={"run_seconds": 1})
    )
    while not story.of(TurnStarted):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.85)
    control.stop("Stopped too.")
    told = await run
    assert told.result.status in ("limit", "stopped")
    assert len(story.ends()) == 1


async def test_a_first_reply_may_take_all_of_the_runs_time(ask: Ask) -> None:
    told = await ask(
        {"default": {"text": "late, but whole", "delay": 5.5}}, limits={"run_seconds": 6}, strategy="direct"
    )
    assert told.answer == "late, but whole"
