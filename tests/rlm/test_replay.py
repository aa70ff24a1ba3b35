"""A run that was cut off anywhere goes on from its record to the same end, and pays for nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rlm.client import ModelClient
from rlm.endpoints import Endpoint
from rlm.engine import Control, Released, RunResult, RunSpec, solve
from rlm.events import (
    CallFinished,
    CellDiffers,
    CellDone,
    CellWaiting,
    Event,
    Note,
    OutputDelta,
    ReplyDelta,
    ReplyDone,
    TurnStarted,
)
from rlm.limits import Limits
from sandbox import Value
from tests.rlm.conftest import cell
from tests.rlm.recorded import recording_of, tree
from tests.scripted.fixture import Scripted

FAMILY = {
    "rules": [
        {"match": "grandchild", "turn": 0, "reply": cell("FINAL(len(context))")},
        {"match": "child of two", "turn": 0, "reply": cell("half = len(context) // 2\nprint(half)")},
        {
            "match": "child of two",
            "turn": 1,
            "reply": cell("FINAL([half, await llm_query(context[:half], 'grandchild')])"),
        },
        {"match": "plain child", "turn": 0, "reply": "I think about it."},
        {"match": "plain child", "turn": 1, "reply": cell("import random\nFINAL((context, random.random()))")},
        {"turn": 0, "reply": cell("import random\nx = random.random()\nprint(context, x)\nprint(budget()['calls'])")},
        {
            "turn": 1,
            "reply": cell(
                "a = await batch_llm_query(llm_query('aaaa', 'child of two'), llm_query('bb', 'plain child'),"
                " llm_query('bb', 'plain child'))\nprint(a)"
            ),
        },
        {"turn": 2, "reply": cell("b = await llm_query([x, a], 'plain child')\nprint(b, random.random())")},
        {"turn": 3, "reply": cell("FINAL({'a': a, 'b': b, 'x': x, 'y': random.random()})")},
    ]
}


class Stopped(Exception):
    """As if the process were gone."""


class Cut:
    """Takes so many events, and none after."""

    def __init__(self, most: int = 10**9) -> None:
        self.events: list[Event] = []
        self.most = most

    def __call__(self, event: Event) -> None:
        if not isinstance(event, ReplyDelta | OutputDelta | CellWaiting) and len(self.events) < self.most:
            self.events.append(event)

    async def commit(self) -> None:
        if len(self.events) >= self.most:
            raise Stopped


Run = Callable[..., Any]


@pytest.fixture
def run(pool: Any, scripted: Callable[..., Scripted]) -> Run:
    """Run against a server, going on from events that were told before."""

    async def go(
        server: Scripted,
        before: list[Event] | None = None,
        most: int = 10**9,
        limits: dict[str, Any] | None = None,
        context: Any = "the text",
        endpoint: dict[str, Any] | None = None,
        **spec: Any,
    ) -> tuple[RunResult | None, list[Event]]:
        model = ModelClient(
            Endpoint(name="s", base_url=server.base_url, root_model="scripted", **(endpoint or {})), backoff=0.01
        )
        told = Cut(most)
        try:
            result = await solve(
                RunSpec("What is asked?", limits=Limits.of({"run_seconds": 30.0, **(limits or {})}), seed="1", **spec),
                context=Value.of(context), pool=pool, client=model, emit=told,
                record=recording_of(before) if before is not None else None,
            )  # fmt: skip
        except Stopped:
            result = None
        finally:
            await model.close()
        return result, told.events

    return go


async def cut_everywhere(
    run: Run, scripted: Callable[..., Scripted], script: Any, *, step: int = 1, loosely: bool = False, **given: Any
) -> list[Event]:
    """Go on after every ``step``-th event of a run as if that were all that was written down; return the whole of it.

    ``loosely``: calls that were ended from outside may have come more or less far.
    """
    server = scripted(script)
    result, whole = await run(server, **given)
    assert result is not None
    expected, requests = tree(whole), server.stats()["requests"]
    for most in range(1, len(whole) + 1, step):
        server, before = scripted(script), whole[:most]
        again, after = await run(server, before, **given)
        assert again is not None
        assert (again.status, again.reason) == (result.status, result.reason), f"cut after {most}"
        mine = tree([*before, *after])
        assert all(len(call["end"]) == 1 for call in mine.values()), f"cut after {most}: a call has no end, or two"
        if again.answer is not None:
            assert result.answer is not None and again.answer.python() == result.answer.python()
        if loosely:
            continue
        assert mine == expected, f"cut after {most}: {before[-1]}"
        assert (again.calls, again.cells, again.depth) == (result.calls, result.cells, result.depth)
        assert again.usage.prompt_tokens == result.usage.prompt_tokens
        assert server.stats()["requests"] == requests - sum(isinstance(e, ReplyDone) for e in before)
    return whole


async def test_a_run_cut_after_any_event_comes_to_the_same_end(run: Run, scripted: Callable[..., Scripted]) -> None:
    await cut_everywhere(run, scripted, FAMILY, limits={"depth": 3})


async def test_variables_lost_with_a_killed_repl_stay_lost(run: Run, scripted: Callable[..., Scripted]) -> None:
    script = {
        "replies": [
            cell("import random\nx = random.random()"),
            cell("import os\nos._exit(3)"),
            cell("import random\nprint(random.random())\ny = 2"),
            cell("FINAL(['x' in globals(), y])"),
        ]
    }
    whole = await cut_everywhere(run, scripted, script)
    assert [e.killed for e in whole if isinstance(e, CellDone)] == ["", "exit", "", ""]


async def test_a_limit_reached_before_the_cut_is_reached_after_it(run: Run, scripted: Callable[..., Scripted]) -> None:
    last = {"match": "This is your last turn", "reply": cell("FINAL(['so far', n])")}
    loop = {"reply": cell("n = globals().get('n', 0) + 1\nprint(n)")}
    whole = await cut_everywhere(run, scripted, {"rules": [last, loop]}, limits={"turns": 3})
    assert whole[-1].status == "limit" and whole[-1].answer.python() == ["so far", 3]
    await cut_everywhere(
        run, scripted, {"rules": [last, loop]}, limits={"completion_tokens": 1_000, "reply_tokens": 300}
    )
    calls = {
        "rules": [
            last | {"reply": cell("FINAL(n)")},
            {"match": "# Instruction\npiece", "reply": cell("FINAL(1)")},
            {"reply": cell("n = 7\nprint(await batch_llm_query(*[llm_query(c, 'piece') for c in 'abcd']))")},
        ]
    }
    whole = await cut_everywhere(run, scripted, calls, limits={"calls": 3}, loosely=True, step=3)
    assert whole[-1].status == "limit" and whole[-1].answer.python() == 7


async def test_a_schema_refused_before_the_cut_counts_after_it(run: Run, scripted: Callable[..., Scripted]) -> None:
    replies = [cell("FINAL('no')"), cell("v = 'neither'\nFINAL(v)"), cell("FINAL(3)")]
    whole = await cut_everywhere(run, scripted, {"replies": replies}, schema={"type": "integer"})
    assert whole[-1].answer.python() == 3


async def test_a_summary_of_earlier_turns_is_not_asked_for_again(run: Run, scripted: Callable[..., Scripted]) -> None:
    script = {
        "rules": [
            {"match": "Write a summary that will replace", "reply": "I printed digits."},
            {"match": "were replaced by this summary", "reply": cell("FINAL(len(history))")},
            {"reply": cell("print('0123456789' * 380)")},
        ]
    }
    whole = await cut_everywhere(run, scripted, script, endpoint={"window": 9_000}, limits={"reply_tokens": 500})
    assert "compaction" in [e.kind for e in whole if isinstance(e, ReplyDone)]


@pytest.mark.parametrize("strategy", ["codeact", "codeact_subagents", "codeact_files", "react", "direct"])
async def test_the_other_strategies_go_on_too(run: Run, scripted: Callable[..., Scripted], strategy: str) -> None:
    tool = {"text": "", "tool_calls": [{"name": "count", "arguments": {"pattern": "a'\n\"b|t"}}]}
    code = {
        "codeact": "n = len(context)\nprint(n)",
        "codeact_subagents": "n = await sub_agent('How long?', context[:4])\nprint(n)",
        "codeact_files": "write_file('a', context)\nn = await sub_agent('How long?')\nprint(read_file('a'), list_files())",
    }.get(strategy, "")
    script = {
        "rules": [
            {"match": "# Task\nHow long", "reply": "It is 4 long."},
            {"turn": 0, "reply": tool if strategy == "react" else cell(code) if code else "Forty-two."},
            {"turn": 1, "reply": tool if strategy == "react" else cell("print(n)") if code else ""},
            {"reply": "Forty-two."},
        ]
    }
    whole = await cut_everywhere(run, scripted, script, strategy=strategy)
    assert whole[-1].answer.python() == "Forty-two."


async def test_results_come_again_in_the_order_in_which_they_came(run: Run, scripted: Callable[..., Scripted]) -> None:
    """The slow child was asked first and delivered last; what a cell makes of that order is the same again."""
    racing = (
        "import asyncio\ncame = []\nfor f in asyncio.as_completed([llm_query(c, f'racer {c}') for c in 'abc']):\n"
        "    came.append(await f)\n    came.append(await llm_query(came[-1], 'after'))\nprint(came)"
    )
    script = {
        "rules": [
            {"match": "racer a", "reply": {"text": cell("FINAL('a')"), "delay": 0.4}},
            {"match": "racer b", "reply": {"text": cell("FINAL('b')"), "delay": 0.2}},
            {"match": "racer c", "reply": cell("FINAL('c')")},
            {"match": "# Instruction\nafter", "reply": cell("FINAL(context * 2)")},
            {"turn": 0, "reply": cell(racing)},
            {"turn": 1, "reply": cell("FINAL(came)")},
        ]
    }
    _, whole = await run(scripted(script))
    order = whole[-1].answer.python()
    ran = next(n for n, e in enumerate(whole) if isinstance(e, CellDone) and e.call == 1)
    for most in (ran, ran + 1):  # its children have ended and it has not; it has
        _, after = await run(scripted(script), whole[:most])
        assert after[-1].answer.python() == order
        assert not [e for e in after if isinstance(e, CellDiffers)]


async def test_what_cannot_be_the_same_again_is_said(run: Run, scripted: Callable[..., Scripted]) -> None:
    script = {"replies": [cell("import os\nprint(os.urandom(8).hex())"), cell("print(2)"), cell("FINAL(3)")]}
    _, before = await run(scripted(script), most=8)
    result, after = await run(scripted(script), before)
    assert result.status == "done"
    assert [(e.call, e.cell) for e in after if isinstance(e, CellDiffers)] == [(1, 1)]
    assert [e.text for e in after if isinstance(e, Note)] == ["The replayed output of cell 1 differs from the record."]
    _, third = await run(scripted(script), [*before, *[e for e in after if isinstance(e, CellDiffers | Note)]])
    assert not [e for e in third if isinstance(e, CellDiffers | Note)]  # said once


async def test_a_cell_interrupted_at_a_limit_makes_its_call_marked(run: Run, scripted: Callable[..., Scripted]) -> None:
    script = {"replies": [cell("n = 0\nwhile True: n += 1"), cell("print(2)"), cell("FINAL(3)")]}
    limits = {"cell_seconds": 0.3}
    _, before = await run(scripted(script), most=8, limits=limits)
    result, after = await run(scripted(script), before, limits=limits)
    assert result.status == "done"
    assert any("the state may differ" in e.text for e in after if isinstance(e, Note))


async def test_a_child_that_nobody_asks_for_again_is_closed(run: Run, scripted: Callable[..., Scripted]) -> None:
    script = {
        "rules": [
            {"match": "wait for me", "reply": {"text": cell("FINAL(1)"), "delay": 0.3}},
            {"turn": 0, "reply": cell("import os\nprint(await llm_query(os.urandom(8).hex(), 'wait for me'))")},
            {"turn": 1, "reply": cell("FINAL('over')")},
        ]
    }
    _, before = await run(scripted(script), most=6)
    assert before[-1].call == 2
    result, after = await run(scripted(script), before)
    assert result.status == "done" and result.calls == 3
    ends = {e.call: e.status for e in after if isinstance(e, CallFinished)}
    assert ends == {1: "done", 2: "stopped", 3: "done"}


async def test_a_run_let_go_of_tells_no_more(run: Run, pool: Any, scripted: Callable[..., Scripted]) -> None:
    server = scripted({"replies": [cell("print(1)")], "default": {"text": "slow", "delay": 30}})
    model = ModelClient(Endpoint(name="s", base_url=server.base_url, root_model="scripted"))
    control, told = Control(), Cut()
    spec = RunSpec("What is asked?", seed="1")
    task = asyncio.create_task(solve(spec, context=Value.of("x"), pool=pool, client=model, emit=told, control=control))
    while not [e for e in told.events if isinstance(e, TurnStarted) and e.cell == 2]:
        await asyncio.sleep(0.02)
    control.release()
    with pytest.raises(Released):
        await asyncio.wait_for(task, 2)
    await model.close()
    assert isinstance(told.events[-1], TurnStarted)


async def test_files_written_before_the_cut_are_there_after_it(run: Run, scripted: Callable[..., Scripted]) -> None:
    script = {
        "rules": [
            {
                "match": "# Task\nWrite b",
                "turn": 0,
                "reply": cell("write_file('b', 'by the child')\nwrite_file('a', 'new')"),
            },
            {"match": "# Task\nWrite b", "reply": "Written."},
            {"turn": 0, "reply": cell("write_file('a', 'old')\nprint(read_file('a'), list_files())")},
            {"turn": 1, "reply": cell("print(await sub_agent('Write b'))")},
            {"turn": 2, "reply": cell("print(read_file('a'), read_file('b'), list_files())")},
            {"reply": "Done."},
        ]
    }
    whole = await cut_everywhere(run, scripted, script, strategy="codeact_files", step=2)
    outputs = [e.output for e in whole if isinstance(e, CellDone) and e.call == 1]
    assert outputs[0] == "old ['a']\n" and outputs[2] == "new by the child ['a', 'b']\n"


async def test_a_request_that_a_limit_cut_off_is_not_taken_for_a_refusal(
    run: Run, scripted: Callable[..., Scripted]
) -> None:
    script = {
        "rules": [
            {"match": "This is your last turn", "reply": cell("FINAL(['so far', n])")},
            {"turn": 0, "reply": cell("n = 1")},
            {"reply": {"text": "word " * 400, "piece": 20, "pause": 0.05}},
        ]
    }
    limits = {"run_seconds": 4}
    _, whole = await run(scripted(script), limits=limits)
    assert whole[-1].status == "limit" and whole[-1].answer.python() == ["so far", 1]
    for most in range(len(whole) - 4, len(whole)):
        server = scripted(script)
        result, after = await run(server, whole[:most], limits=limits)
        assert (result.status, result.answer.python()) == ("limit", ["so far", 1]), f"cut after {most}"
        assert not [e for e in after if isinstance(e, ReplyDone) and e.kind == "compaction"]
