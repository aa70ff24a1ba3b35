"""A jail for each module and backend; each test gets REPLs of its own in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from sandbox import CellResult, HostRequest, Jail, JailPool, Repl, ReplLimits, Value
from sandbox.install import install

Start = Callable[..., Awaitable[Repl]]
RunCells = Callable[..., Awaitable[CellResult]]

QUICK = ReplLimits(cell_seconds=5, cpu_seconds=5, grace_seconds=0.3, memory_mb=1024)


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    install()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[JailPool]:
    pool = JailPool(spare=0)
    yield pool
    await pool.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def jail(pool: JailPool) -> Jail:
    return await pool.open()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["firejail", "bubblewrap"])
async def any_jail(request: pytest.FixtureRequest) -> AsyncIterator[Jail]:
    """The same attacks against each backend."""
    pool = JailPool(backend=request.param, spare=0)
    yield await pool.open()
    await pool.close()


async def echo(request: HostRequest) -> Value:
    """What an engine would be: gives the context back."""
    return request.context if request.context is not None else Value.of({"calls": 3})


def starter(jail: Jail, repls: list[Repl]) -> Start:
    async def start(context: Any = "hello", **options: Any) -> Repl:
        value = context if isinstance(context, Value) else Value.of(context)
        repl = await jail.start_repl(value, **{"limits": QUICK, "on_request": echo, **options})
        repls.append(repl)
        return repl

    return start


@pytest_asyncio.fixture(loop_scope="module")
async def start(jail: Jail) -> AsyncIterator[Start]:
    """Starts a REPL that is closed after the test."""
    repls: list[Repl] = []
    yield starter(jail, repls)
    for repl in repls:
        await repl.close()


@pytest_asyncio.fixture(loop_scope="module")
async def attack(any_jail: Jail) -> AsyncIterator[RunCells]:
    """Runs cells in a fresh REPL of a backend; gives the last result."""
    repls: list[Repl] = []
    start = starter(any_jail, repls)

    async def run(*cells: str, **options: Any) -> CellResult:
        repl = await start(**options)
        result = CellResult()
        for number, cell in enumerate(cells, 1):
            result = await repl.run(cell, number)
        return result

    yield run
    for repl in repls:
        await repl.close()


@pytest.fixture
def run(start: Start) -> RunCells:
    """Runs cells in a fresh REPL; gives the last result."""

    async def run(*cells: str, **options: Any) -> CellResult:
        repl = await start(**options)
        result = CellResult()
        for number, cell in enumerate(cells, 1):
            result = await repl.run(cell, number)
        return result

    return run
