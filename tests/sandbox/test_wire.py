"""The wires into jails are as they have to be, whatever else happens in the worker's process meanwhile."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from sandbox import JailPool, Value
from sandbox.extraction import Extraction, ExtractLimits
from sandbox.memory import Memory

pytestmark = pytest.mark.firejail


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """As a broker's client does for a moment when its connection is lost: for all sockets of the process."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    yield
    socket.setdefaulttimeout(before)


async def test_a_repl_waits_for_its_cell_although_sockets_were_made_with_a_time_limit() -> None:
    pool = JailPool(spare=0)
    try:
        jail = await pool.open()
        repl = await jail.start_repl(Value.of("abc"))
        await asyncio.sleep(
            0.5
        )  # in which it waits for its first cell: without blocking, it would take that for the end
        result = await repl.run("print(context)", 1)
        assert (result.killed, result.output) == ("", "abc\n")
        await asyncio.sleep(0.5)
        assert (await repl.run("FINAL(context)", 2)).finished
    finally:
        await pool.close()


def test_a_reader_of_files_does_too() -> None:
    pieces: list[str] = []
    with Extraction.start() as jail:
        for _ in range(5):
            jail.read("html", Memory(b"<p>Ten past two."), pieces.append, limits=ExtractLimits())
    assert "".join(pieces) == "Ten past two.\n" * 5
