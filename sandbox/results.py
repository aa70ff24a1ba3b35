"""What passes between a REPL and those who use it: a request of a cell, the result of one, a variable for the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sandbox.guest.crossing import MAX_SKELETON
from sandbox.memory import Memory
from sandbox.output import harmless
from sandbox.values import Value

LARGE = 1 << 16  # a value at least this long is read in a thread
WHY = {
    "time": "it went on after its time limit and did not react to being interrupted",
    "cpu": "it used more processor time than it may",
    "memory": "the run's memory was used up, and this REPL held the most",
    "output": "it printed without end and did not react to being interrupted",
    "protocol": "it sent something that is no message of a REPL",
    "exit": "its process ended",
}


@dataclass(frozen=True)
class HostRequest:
    """What a cell asks of the host."""

    name: str  # llm_query, llm_complete, budget, sub_agent, write_file, read_file, list_files
    cell: int
    order: int  # how many requests this cell made before
    context: Value | None  # the first argument, by reference
    options: dict[str, Any]  # instruction, schema, tools, model, name …
    same_as_context: bool = False  # the argument is the call's whole own context, unchanged


OnRequest = Callable[[HostRequest], Awaitable[Value]]


@dataclass(frozen=True)
class CellResult:
    """How a cell ended. What failed in it is here, never raised."""

    output: str = ""  # what was kept of it: head and tail
    output_chars: int = 0  # its true length
    error: str = ""  # a traceback of the user's frames
    finished: bool = False  # FINAL was called
    final: Value | None = None
    final_name: str = ""  # the variable that FINAL was given
    killed: str = ""  # a key of WHY, or "" while the REPL lives
    seconds: float = 0.0
    waited: float = 0.0  # of these, for the host
    notes: tuple[str, ...] = ()  # what the model should be told beside


@dataclass(frozen=True)
class Variable:
    """One name of a REPL, for the page."""

    name: str
    type: str
    size: str
    preview: str
    is_context: bool = False

    @classmethod
    def of(cls, row: Any) -> Variable:
        """From what a REPL says of it."""
        if type(row) is not dict:
            return cls("?", "?", "", "")
        name, kind, size, preview = (
            harmless(str(row.get(key, ""))[:200]) for key in ("name", "type", "size", "preview")
        )
        return cls(name, kind, size, preview, row.get("is_context") is True)


def value_in(sizes: Any, blob: Memory) -> Value | None:
    """The value in a frame: its region, then its skeleton. Raises ValueError for sizes that are none."""
    if sizes is None:
        return None
    skeleton, region = sizes
    if type(skeleton) is not int or type(region) is not int or skeleton < 0 or region < 0:
        raise ValueError("sizes that are none")
    if skeleton > MAX_SKELETON or skeleton + region != blob.size:
        raise ValueError("sizes that do not add up")
    return Value(bytes(blob.view()[region:]), blob.head(region) if region else None)


async def is_sound(value: Value) -> bool:
    """Whether a value from the jail is one: read once here, so that nobody meets the flaw later."""
    if len(value.skeleton) < LARGE:
        return value.sound
    return await asyncio.to_thread(lambda: value.sound)


async def are_equal(value: Value, other: Value) -> bool:
    """By digest, which is only taken where the sizes allow it."""
    if abs(value.nbytes - other.nbytes) > 64 + other.nbytes // 100 or len(value.skeleton) != len(other.skeleton):
        return False
    if value.nbytes < LARGE:
        return value.digest == other.digest
    return await asyncio.to_thread(lambda: value.digest == other.digest)
