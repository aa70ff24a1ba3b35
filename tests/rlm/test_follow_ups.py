"""Follow-ups: a further question goes on in the root's REPL and conversation, warm or rebuilt, and pays for nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio

from rlm.client import ModelClient
from rlm.endpoints import Endpoint
from rlm.engine import FollowUp, RunResult, RunSpec, WarmRepl, solve
from rlm.events import CallFinished, CallQueued, CallStarted, CellDiffers, CellDone, Event, ReplyDone, TurnStarted
from rlm.limits import Limits
from sandbox import Value
from tests.rlm.conftest import cell
from tests.rlm.recorded import recording_of
from tests.rlm.test_replay import Cut, Stopped
from tests.scripted.fixture import Scripted


class Talk:
    """A run and its follow-ups, as a worker would go on with them."""

    def __init__(self, pool: Any, server: Scripted, *, warm: bool, context: Any = "the text", **spec: Any) -> None:
        self.pool, self.server, self.keep = pool, server, warm
        self.context, self.limits, self.spec = context, spec.pop("limits", {}), spec
        self.events: list[Event] = []
        self.starts = [0]  # how many events were there when each question was asked
        self.questions: list[FollowUp] = []
        self.warm: WarmRepl | None = None

    async def ask(self, question: str = "What is asked?", *, most: int = 10**9) -> RunResult | None:
        """Ask, the first question or a further one; ``most`` events of it are told, then the process is gone."""
        if self.events:
            turns = [e.cell for e in self.events if isinstance(e, TurnStarted) and e.call == 1]
            self.questions.append(FollowUp(question, max(turns, default=0)))
            self.starts.append(len(self.events))
            return await self.go(most=most)
        self.spec["question"] = question
        return await self.go(most=most)

    async def go(self, *, most: int = 10**9) -> RunResult | None:
        """Go on from what is told."""
        model = ModelClient(Endpoint(name="s", base_url=self.server.base_url, root_model="scripted"), backoff=0.01)
        told = Cut(most)
        warm, self.warm = self.warm, None
        try:
            result = await solve(
                RunSpec(
                    limits=Limits.of({"run_seconds": 30.0, **self.limits}), seed="1", follow_ups=tuple(self.questions), **self.spec,
                ),
                context=Value.of(self.context), pool=self.pool, client=model, emit=told,
                record=recording_of(self.events, self.starts[-1]) if self.events else None,
                warm=warm, keep_warm=self.keep,
            )  # fmt: skip
            self.warm = result.warm
            return result
        except Stopped:
            return None
        finally:
            self.events += told.events
            await model.close()

    async def close(self) -> None:
        if self.warm is not None:
            await self.warm.close()

    def of(self, kind: type, question: int = 0) -> list[Any]:
        """The root's events of a kind: of one question, counted from 1, or of all."""
        bounds = [*self.starts, len(self.events)]
        events = self.events[bounds[question - 1] : bounds[question]] if question else self.events
        return [e for e in events if isinstance(e, kind) and e.call == 1]

    def cut(self, most: int) -> None:
        """Forget what was told of the newest question after so many events."""
        del self.events[self.starts[-1] + most :]


Talks = Callable[..., Talk]


@pytest_asyncio.fixture(loop_scope="session")
async def talk(pool: Any, scripted: Callable[..., Scripted]) -> Any:
    made: list[Talk] = []

    def make(script: Any, *, warm: bool = False, **given: Any) -> Talk:
        server = scripted({"replies": script} if isinstance(script, list) else script)
        made.append(Talk(pool, server, warm=warm, **given))
        return made[-1]

    yield make
    for one in made:
        await one.close()


SCRIPT = [
    cell("import random\nkept = [random.random()]\nprint(kept)"),
    cell("kept.append(await llm_query('aaaa', 'how long?'))\nFINAL({'kept': len(kept)})"),
    cell("kept.append(random.random())\nprint(kept, len(history))"),
    cell("FINAL([kept, await llm_query('bb', 'how long?')])"),
    cell("FINAL(kept[0])"),
]
FAMILY = {"rules": [{"match": "how long", "turn": 0, "reply": cell("FINAL(len(context))")}], "replies": SCRIPT}
# The children's conversations are told from the root's by their instruction, which stands in no message of the root.


@pytest.mark.parametrize("warm", [True, False])
async def test_a_follow_up_goes_on_with_every_name(talk: Talks, warm: bool) -> None:
    run = talk(FAMILY, warm=warm)
    first = await run.ask()
    assert first.status == "done" and first.answer.python() == {"kept": 2}, first.reason
    assert (first.warm is not None) is warm
    second = await run.ask("And with one more?")
    assert second.status == "done", second.reason
    kept, length = second.answer.python()
    assert len(kept) == 3 and length == 2
    third = await run.ask("Only the first?")
    assert third.answer.python() == kept[0]
    numbers = [e.cell for e in run.of(TurnStarted)]
    assert numbers == [1, 2, 3, 4, 5], "no turn comes twice, and their numbers go on"
    assert len(run.of(CallQueued)) == len(run.of(CallStarted)) == 1
    assert [e.status for e in run.of(CallFinished)] == ["done"] * 3
    assert [e.cell for e in run.of(CellDone)] == [1, 2, 3, 4, 5] and not run.of(CellDiffers)
    assert run.server.stats()["requests"] == 5 + 2, "no request is paid twice"
    assert (second.calls, third.calls) == (2, 1), "the root and one child; the root alone"
    printed = run.of(CellDone)[2].output
    assert printed.strip().endswith(" 2"), "history holds the outputs of the cells before"


@pytest.mark.parametrize("warm", [True, False])
async def test_warm_or_rebuilt_the_same_messages_are_sent_and_they_only_grow(talk: Talks, warm: bool) -> None:
    run = talk(FAMILY, warm=warm)
    for question in ("What is asked?", "And with one more?", "Only the first?"):
        await run.ask(question)
    sent = [r["messages"] for r in run.server.log() if "how long?" not in r["messages"][1]["content"]]
    assert len(sent) == 5
    for before, after in zip(sent, sent[1:], strict=False):
        assert after[: len(before)] == before
    assert [m["role"] for m in sent[-1]] == ["system", *["user", "assistant"] * 4, "user"]
    assert "And with one more?" in sent[2][-1]["content"] and "Your REPL is as you left it" in sent[2][-1]["content"]
    told = [m for e in run.of(TurnStarted) for m in e.messages]
    assert [(m.role, m.content) for m in told] == [(m["role"], m["content"]) for m in sent[-1]]


async def test_a_follow_up_cut_after_any_event_comes_to_the_same_answer(talk: Talks) -> None:
    whole = talk(FAMILY)
    await whole.ask()
    expected = await whole.ask("And with one more?")
    events = len(whole.events) - whole.starts[-1]
    assert events > 10
    for most in range(events):
        run = talk(FAMILY)
        await run.ask()
        await run.ask("And with one more?", most=most)
        run.cut(most)
        before = run.server.stats()["requests"]
        replies = sum(isinstance(e, ReplyDone) for e in run.events[run.starts[-1] :])
        again = await run.go()
        assert again is not None and again.status == "done", f"cut after {most}: {again and again.reason}"
        assert again.answer.python() == expected.answer.python(), f"cut after {most}"
        assert run.server.stats()["requests"] - before == 3 - replies, f"cut after {most}: a request was paid twice"
        assert again.usage.prompt_tokens == expected.usage.prompt_tokens
        assert [e.cell for e in run.of(CellDone)] == [1, 2, 3, 4]


async def test_each_question_has_the_limits_anew(talk: Talks) -> None:
    script = [cell("n = 1\nprint(n)"), cell("FINAL(n)"), cell("n += 1\nprint(n)"), cell("FINAL(n)")]
    run = talk(script, limits={"turns": 2, "calls": 1})
    assert (await run.ask()).status == "done"
    second = await run.ask("Again?")
    assert second.status == "done" and second.answer.python() == 2
    assert second.usage.prompt_tokens < 10_000 and second.cells == 4
    poor = talk(
        [cell("print(budget()['turns'])"), cell("FINAL(1)"), cell("FINAL(budget()['turns'])")], limits={"turns": 5}
    )
    await poor.ask()
    assert (await poor.ask("Again?")).answer.python() == 4


@pytest.mark.parametrize("warm", [True, False])
async def test_a_run_that_ended_at_a_limit_can_be_asked_to_go_on(talk: Talks, warm: bool) -> None:
    script = [
        cell("found = ['a']\nprint(found)"), cell("found.append('b')\nprint(found)"), cell("FINAL(found)"),
        cell("found.append('c')\nFINAL(found)"),
    ]  # fmt: skip
    run = talk(script, warm=warm, limits={"turns": 2})
    first = await run.ask()
    assert first.status == "limit" and first.partial and first.answer.python() == ["a", "b"]
    second = await run.ask("Go on.")
    assert (second.status, second.partial, second.answer.python()) == ("done", False, ["a", "b", "c"])
    assert run.server.stats()["requests"] == 4


async def test_a_run_whose_model_failed_can_be_asked_again(talk: Talks) -> None:
    refused = {"status": 401, "error": {"message": "no such key"}}
    rules = [{"turn": 1, "attempt": 0, "reply": refused}, {"turn": 2, "reply": cell("FINAL(x)")}]
    run = talk({"rules": rules, "replies": [cell("x = 7\nprint(x)")]})
    first = await run.ask()
    assert first.status == "failed" and first.answer is None
    second = await run.ask("Try again.")
    assert second.status == "done" and second.answer.python() == 7
    sent = run.server.log()[-1]["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert sent[-2]["content"] == "(no reply came)" and "Try again." in sent[-1]["content"]


async def test_a_repl_that_was_lost_is_lost_for_the_follow_up_too(talk: Talks) -> None:
    script = [
        cell("x = 1\nprint(x)"), cell("FINAL(x)"), cell("import os\nos._exit(3)"), cell("y = 2\nprint('x' in dir(), y)"),
        cell("FINAL(y)"), cell("FINAL(['x' in dir(), y])"),
    ]  # fmt: skip
    run = talk(script)
    await run.ask()
    assert (await run.ask("Next?")).answer.python() == 2
    assert (await run.ask("And now?")).answer.python() == [False, 2]
    assert not run.of(CellDiffers)


async def test_a_kept_repl_that_is_gone_is_rebuilt(talk: Talks) -> None:
    run = talk(FAMILY, warm=True)
    await run.ask()
    assert run.warm is not None
    await run.warm.repl.close()
    second = await run.ask("And with one more?")
    assert second.status == "done" and len(second.answer.python()[0]) == 3


async def test_questions_that_ended_without_a_turn_are_put_with_the_next(talk: Talks) -> None:
    run = talk([cell("x = 1\nFINAL(x)"), cell("FINAL(x + 1)")])
    await run.ask()
    await run.ask("Never begun?", most=0)
    second = await run.ask("And one more?")
    assert second.status == "done" and second.answer.python() == 2
    told = run.server.log()[-1]["messages"][-1]["content"]
    assert told.index("Never begun?") < told.index("And one more?")


async def test_strategies_without_a_repl_of_their_own_go_on_with_the_conversation(talk: Talks) -> None:
    run = talk(["forty-two", "because"], strategy="direct")
    assert (await run.ask()).answer.python() == "forty-two"
    assert (await run.ask("Why?")).answer.python() == "because"
    sent = run.server.log()[-1]["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert sent[2]["content"] == "forty-two" and sent[3]["content"] == "# Follow-up question\nWhy?"


@pytest.mark.parametrize("warm", [True, False])
async def test_codeact_goes_on_with_its_names(talk: Talks, warm: bool) -> None:
    run = talk([cell("n = 5\nprint(n)"), "five", cell("print(n + 1)"), "six"], strategy="codeact", warm=warm)
    assert (await run.ask()).answer.python() == "five"
    assert (await run.ask("And one more?")).answer.python() == "six"
    assert run.of(CellDone)[1].output == "6\n"


@pytest.mark.parametrize("warm", [True, False])
async def test_react_goes_on(talk: Talks, warm: bool) -> None:
    tool = {"tool_calls": [{"name": "calculate", "arguments": {"expression": "1 + 1"}}]}
    run = talk([tool, "found", tool, "found again"], strategy="react", warm=warm)
    assert (await run.ask()).answer.python() == "found"
    again = await run.ask("Again?")
    assert again.answer.python() == "found again", again.reason
    cells = run.of(CellDone)
    assert cells[0].output == cells[1].output and not run.of(CellDiffers)


async def test_the_paper_dialect_goes_on(talk: Talks) -> None:
    run = talk([cell("x = 3\nFINAL_VAR('x')"), cell("FINAL(x + 1)")], dialect="paper")
    assert (await run.ask()).answer.python() == 3
    assert (await run.ask("More?")).answer.python() == 4
