"""A run goes on from the middle of another: kept cells and equal children cost nothing, what follows is asked anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlm.client import ModelClient
from rlm.endpoints import Endpoint
from rlm.engine import Recording, RunResult, RunSpec, solve
from rlm.events import CallFinished, CallQueued, CallReused, CellDiffers, CellDone, ReplyDone, TurnStarted
from rlm.limits import Limits
from rlm.parsing import parse
from rlm.wording import reply_with
from sandbox import Value
from tests.rlm.conftest import cell
from tests.rlm.recorded import fork_of
from tests.rlm.test_replay import FAMILY, Cut
from tests.scripted.fixture import Scripted

GO = Callable[..., Any]


@pytest.fixture
def go(pool: Any) -> GO:
    async def run(
        server: Scripted, record: Recording | None = None, limits: dict[str, Any] | None = None, **spec: Any
    ) -> tuple[RunResult, list[Any]]:
        model = ModelClient(Endpoint(name="s", base_url=server.base_url, root_model="scripted"), backoff=0.01)
        told = Cut()
        try:
            result = await solve(
                RunSpec("What is asked?", limits=Limits.of({"run_seconds": 60.0, "depth": 3, **(limits or {})}), seed="1", **spec),
                context=Value.of("the text"), pool=pool, client=model, emit=told, record=record,
            )  # fmt: skip
        finally:
            await model.close()
        return result, told.events

    return run


async def test_a_fork_with_the_same_cell_asks_nothing_up_to_its_end(go: GO, scripted: Callable[..., Scripted]) -> None:
    server = scripted(FAMILY)
    whole, events = await go(server)
    server = scripted(FAMILY)
    again, after = await go(server, fork_of(events, 2, ""))
    assert again.answer.python() == whole.answer.python()
    # The replies of turns 3 and 4 of the root; the child calls of cell 2 and of cell 3 are those of the other run.
    assert server.stats()["requests"] == 2
    reused = [e for e in after if isinstance(e, CallReused)]
    assert sorted((e.cell, e.calls) for e in reused) == [(2, 1), (2, 1), (2, 2), (3, 1)]
    assert not any(isinstance(e, CallQueued | CellDiffers) for e in after)
    assert len({number for e in reused for number in range(e.call, e.call + e.calls)}) == 5


async def test_the_edited_cell_runs_and_its_output_reaches_the_model(go: GO, scripted: Callable[..., Scripted]) -> None:
    _, events = await go(scripted(FAMILY))
    server = scripted(FAMILY)
    code = (
        "a = await batch_llm_query(llm_query('aaaa', 'child of two'), llm_query('cc', 'plain child'))\nprint('mine', a)"
    )
    again, after = await go(server, fork_of(events, 2, code))
    assert again.status == "done", again.reason
    # 'cc' takes two turns of a child, then turns 3 and 4 of the root, with a child of its own: x and a are others.
    assert server.stats()["requests"] == 2 + 2 + 2
    assert [e.calls for e in after if isinstance(e, CallReused)] == [2]
    assert len([e for e in after if isinstance(e, CallQueued)]) == 2
    first = next(e for e in after if isinstance(e, TurnStarted) and e.call == 1)
    said, told = first.messages[-2:]
    assert said.role == "assistant" and parse(said.content).code == code
    assert told.content.startswith("Output of cell 2:\nmine [[2, 2], ('cc',")
    assert not any(isinstance(e, ReplyDone) and (e.call, e.cell) == (1, 2) for e in after)
    assert again.usage.prompt_tokens == sum(e.usage.prompt_tokens for e in after if isinstance(e, ReplyDone))


async def test_a_cell_that_is_left_out_is_asked_for_again(go: GO, scripted: Callable[..., Scripted]) -> None:
    _, events = await go(scripted(FAMILY))
    server = scripted(FAMILY)
    again, after = await go(server, fork_of(events, 3))
    assert again.status == "done" and server.stats()["requests"] == 2
    assert [e.cell for e in after if isinstance(e, ReplyDone) and e.call == 1] == [3, 4]
    assert not any(isinstance(e, CellDone) and e.call == 1 and e.cell < 3 for e in after)


async def test_one_child_alone_is_asked_again_and_its_parent_goes_on(go: GO, scripted: Callable[..., Scripted]) -> None:
    script = {
        "rules": [
            {"match": "# Instruction\npiece b", "turn": 0, "reply": cell("raise SystemExit"), "times": 3},
            {"match": "# Instruction\npiece", "turn": 0, "reply": cell("FINAL(context * 2)")},
            {
                "turn": 0,
                "reply": cell("r = await batch_llm_query(*[llm_query(c, 'piece ' + c) for c in 'abc'])\nprint(r)"),
            },
            {"turn": 1, "reply": cell("FINAL([str(x) for x in r])")},
        ]
    }
    _, events = await go(scripted(script), limits={"turns": 1})
    failed = [e.call for e in events if isinstance(e, CallFinished) and e.status != "done" and e.call != 1]
    assert len(failed) == 1
    script["rules"][0] = {"match": "# Instruction\npiece b", "turn": 0, "reply": cell("FINAL('B')")}
    server = scripted(script)
    again, after = await go(server, fork_of(events, 1, "", but=failed))
    assert again.answer.python() == ["aa", "B", "cc"]
    assert server.stats()["requests"] == 2
    assert len([e for e in after if isinstance(e, CallReused)]) == 2


async def test_a_child_of_another_model_or_of_another_depth_is_not_reused(
    go: GO, scripted: Callable[..., Scripted]
) -> None:
    _, events = await go(scripted(FAMILY))
    _, after = await go(scripted(FAMILY), fork_of(events, 2, ""), child_model="another")
    assert not any(isinstance(e, CallReused) for e in after)
    _, after = await go(scripted(FAMILY), fork_of(events, 2, ""), limits={"depth": 1})
    assert not any(isinstance(e, CallReused) for e in after)


async def test_what_is_reused_does_not_count_against_the_limit_of_calls(
    go: GO, scripted: Callable[..., Scripted]
) -> None:
    _, events = await go(scripted(FAMILY))
    again, after = await go(scripted(FAMILY), fork_of(events, 2, ""), limits={"calls": 1})
    assert again.status == "done" and len([e for e in after if isinstance(e, CallReused)]) == 4


@pytest.mark.parametrize(
    "code", ["print(1)", 'x = """\n```\nprint(2)\n````\n"""\nprint(x)', "  # a comment\nprint('~~~')", "FINAL(1)"]
)
def test_a_reply_with_another_cell_parses_to_that_cell(code: str) -> None:
    for reply in ("Look.\n\n```repl\nprint(0)\n```\nThen more.", "<think>hm</think>```repl\n1\n```", "FINAL(2)"):
        said = parse(reply_with(reply, code))
        assert said.code.strip() == code.strip() and not said.unclosed


async def test_a_person_gives_a_child_another_instruction(go: GO, scripted: Callable[..., Scripted]) -> None:
    from dataclasses import replace

    _, events = await go(scripted(FAMILY))
    server = scripted(
        {"rules": [{"match": "# Instruction\nmine", "reply": cell("FINAL('by mine')")}, *FAMILY["rules"]]}
    )
    number = next(e.call for e in events if isinstance(e, CallQueued) and e.instruction == "child of two")
    record = fork_of(events, 2, "", but=[number])
    old = next(e for e in events if isinstance(e, CallQueued) and e.call == number)
    source = next(iter(record.calls.values()))
    record = Recording(
        [*record.calls.values(), replace(source, number=2, parent=1, cell=2, identity=old.identity, cells={}, instruction="mine")],
        reusable=record._reusable,
    )  # fmt: skip
    again, after = await go(server, record)
    assert again.answer.python()["a"][0] == "by mine"


async def test_results_that_are_reused_are_given_in_the_order_of_that_time(
    go: GO, scripted: Callable[..., Scripted]
) -> None:
    rules = [
        {"match": "# Instruction\nslow", "reply": {"text": cell("FINAL('slow')"), "delay": 2}},  # longer than a busy machine takes for the other
        {"match": "# Instruction\nfast", "reply": cell("FINAL('fast')")},
        {"turn": 0, "reply": cell(
            "import asyncio\norder = []\nasync def ask(name):\n    order.append(await llm_query(name, name))\n"
            "await asyncio.gather(ask('slow'), ask('fast'))\nprint(order)"
        )},
        {"turn": 1, "reply": cell("FINAL(order)")},
    ]  # fmt: skip
    whole, events = await go(scripted({"rules": rules}))
    assert whole.answer.python() == ["fast", "slow"]
    again, after = await go(scripted({"rules": rules}), fork_of(events, 1, ""))
    assert again.answer.python() == ["fast", "slow"]
    assert len([e for e in after if isinstance(e, CallReused)]) == 2
