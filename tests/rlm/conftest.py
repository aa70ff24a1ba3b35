"""One jail pool and one event loop for all tests of the engine, and short ways to run something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from rlm.client import ModelClient
from rlm.control import Control
from rlm.endpoints import Endpoint
from rlm.engine import RunResult, RunSpec, solve
from rlm.events import CallFinished, CallQueued, CellDone, Event, Note, ReplyDone, TurnStarted
from rlm.limits import Limits
from sandbox import Jail, JailPool, Repl, Value
from tests.scripted.fixture import Scripted, scripted, scripted_server

__all__ = ["scripted", "scripted_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Jails belong to an event loop: tests of the engine share one."""
    for item in items:
        if "tests/rlm/" in str(item.path).replace("\\", "/") and isinstance(item, pytest.Function):
            if asyncio.iscoroutinefunction(item.obj):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if {"pool", "ask"} & set(item.fixturenames):
                item.add_marker(pytest.mark.firejail)


class OneJail:
    """A pool that lends the same real jail to every run: these tests are about the engine, and a jail takes half a second."""

    def __init__(self) -> None:
        self.real = JailPool(spare=0)
        self.jail: Jail | None = None

    async def open(self) -> Lent:
        if self.jail is None or not self.jail.alive:
            self.jail = await self.real.open()
        return Lent(self.jail)


class Lent:
    def __init__(self, jail: Jail) -> None:
        self.jail = jail
        self.repls: list[Repl] = []

    @property
    def alive(self) -> bool:
        return self.jail.alive

    async def start_repl(self, *args: Any, **kwargs: Any) -> Repl:
        self.repls.append(await self.jail.start_repl(*args, **kwargs))
        return self.repls[-1]

    async def close(self) -> None:
        for repl in self.repls:
            await repl.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pool() -> AsyncIterator[Any]:
    pool = OneJail()
    yield pool
    await pool.real.close()


@dataclass
class Story:
    """What a run told, by kind."""

    events: list[Event] = field(default_factory=list)
    commits: int = 0
    refuse_commit: int = 0  # raise at this commit

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    async def commit(self) -> None:
        self.commits += 1
        if self.commits == self.refuse_commit:
            raise PermissionError("the lease is lost")

    def of(self, kind: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    def calls(self) -> list[CallQueued]:
        return self.of(CallQueued)

    def cells(self, call: int = 1) -> list[CellDone]:
        return [e for e in self.of(CellDone) if e.call == call]

    def replies(self, call: int = 1) -> list[ReplyDone]:
        return [e for e in self.of(ReplyDone) if e.call == call]

    def ends(self) -> dict[int, CallFinished]:
        return {e.call: e for e in self.of(CallFinished)}

    def notes(self) -> list[str]:
        return [e.text for e in self.of(Note)]

    def sent(self, call: int = 1) -> str:
        return "\n".join(m.content for e in self.of(TurnStarted) if e.call == call for m in e.messages)


@dataclass
class Told:
    result: RunResult
    story: Story
    server: Scripted

    @property
    def answer(self) -> Any:
        return self.result.answer.python() if self.result.answer is not None else None


Ask = Callable[..., Any]


@pytest.fixture
def ask(pool: Any, scripted: Callable[..., Scripted]) -> Ask:
    """Give ``await ask(script, question, context=…, limits={…}, endpoint={…}, **spec)``: one run, against a script."""

    async def run(
        script: str | dict[str, Any] | list[Any],
        question: str = "What is asked?",
        *,
        context: Any = None,
        limits: dict[str, Any] | None = None,
        endpoint: dict[str, Any] | None = None,
        control: Control | None = None,
        story: Story | None = None,
        latency_ms: float = 0.0,
        client: dict[str, Any] | None = None,
        **spec: Any,
    ) -> Told:
        server = scripted({"replies": script} if isinstance(script, list) else script, latency_ms=latency_ms)
        model = ModelClient(
            Endpoint(**{"name": "scripted", "base_url": server.base_url, "root_model": "scripted", **(endpoint or {})}),
            **{"backoff": 0.01, **(client or {})},
        )
        story = story or Story()
        made = Limits.of({"run_seconds": 30.0, **(limits or {})})
        value = context if isinstance(context, Value) else Value.of(question if context is None else context)
        try:
            result = await solve(
                RunSpec(question, limits=made, has_corpus=context is not None, **spec),
                context=value, pool=pool, client=model, emit=story, control=control,
            )  # fmt: skip
        finally:
            await model.close()
        return Told(result, story, server)

    return run


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"
