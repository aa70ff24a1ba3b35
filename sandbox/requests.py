"""What the cells of one REPL ask of the host: checked, bounded, answered in tasks, cancelled with their cell."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

from sandbox.cell import Cell
from sandbox.channel import Channel
from sandbox.errors import HostError
from sandbox.limits import ReplLimits
from sandbox.memory import Memory
from sandbox.output import tidy
from sandbox.results import HostRequest, OnRequest, are_equal, is_sound, value_in
from sandbox.values import Value

NAMES = {
    "plain": frozenset[str](),
    "async": frozenset({"llm_query", "budget"}),
    "paper": frozenset({"llm_query", "llm_complete", "budget"}),
    "subagents": frozenset({"sub_agent"}),
    "files": frozenset({"sub_agent", "write_file", "read_file", "list_files"}),
}
QUICK = frozenset({"budget", "write_file", "read_file", "list_files"})  # answered at once: nobody is told of waiting
MAX_PENDING = 2048  # in flight; then the REPL is not read until some are answered
MAX_REFUSED = 200  # in one cell; more is no honest program


class Requests:
    def __init__(
        self, channel: Channel, *, context: Value, functions: str, limits: ReplLimits, on_request: OnRequest | None,
        reserve: Callable[[int], bool],
    ) -> None:  # fmt: skip
        self._channel = channel
        self._context = context
        self._names = NAMES[functions]
        self._limits = limits
        self._on_request = on_request
        self._reserve = reserve  # the run's room for values on their way
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._asking: set[int] = set()  # of the tasks, those that the host has not answered yet
        self._refusals: set[asyncio.Task[None]] = set()
        self._strays = 0  # requests made while no cell ran

    def serve(self, on_request: OnRequest) -> None:
        self._on_request = on_request

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, message: dict[str, Any], blob: Memory, cell: Cell | None) -> None:
        """Begin to answer. Raises ValueError where the message is none, or one too many."""
        number, name, options = message["id"], message["name"], message["options"]
        if type(number) is not int or type(name) is not str or type(options) is not dict or number in self._tasks:
            raise ValueError("not a request")
        try:
            options = tidy(options)
            held = weight(options)
        except RecursionError:
            raise ValueError("options nested too deeply") from None
        context = value_in(message["value"], blob)
        same = message.get("same") is True
        size = held + (0 if context is None or same else context.nbytes)
        refusal = self._refusal(name, cell, size)
        if refusal or cell is None:
            self._refuse(number, refusal, cell)
            return
        request = HostRequest(name, cell.number, cell.requests, self._context if same else context, options, same)
        cell.requests += 1
        self._tasks[number] = task = self._loop.create_task(self._serve(number, request, cell))
        self._asking.add(number)
        if len(self._asking) == 1:
            cell.wait()
        cell.show_waiting(name not in QUICK)
        task.add_done_callback(lambda _: self._served(number, size))
        if len(self._tasks) >= MAX_PENDING:
            self._channel.pause(True)

    def cancel(self) -> int:
        """Give up what is in flight; how many there were."""
        count = len(self._tasks)
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._asking.clear()
        self._channel.pause(False)
        return count

    def _refusal(self, name: str, cell: Cell | None, size: int) -> str:
        """Why a request is not even tried; else "", and room is taken for its value."""
        if name not in self._names:
            return f"there is no {name[:40]} here"
        if cell is None or cell.ended.done():
            return "the cell that asked has ended: await inside the cell"
        if cell.requests >= self._limits.requests:
            return f"a cell may make {self._limits.requests:,} requests, and this one has"
        if self._on_request is None:
            return "nobody answers requests here"
        if not self._reserve(size):
            return "the requests in flight hold more data than the run has room for; send less at once"
        return ""

    def _refuse(self, number: int, reason: str, cell: Cell | None) -> None:
        if cell is not None:
            cell.refused += 1
        else:
            self._strays += 1
        if self._strays > MAX_REFUSED or (cell is not None and cell.refused > MAX_REFUSED):
            raise ValueError("it goes on asking")
        task = self._loop.create_task(self._answer(number, None, reason))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    async def _serve(self, number: int, request: HostRequest, cell: Cell) -> None:
        assert self._on_request is not None
        value, error = None, ""
        try:
            if request.context is not None and not request.same_as_context:
                if not await is_sound(request.context):
                    raise HostError("the value sent is malformed")
                if await are_equal(request.context, self._context):
                    request = HostRequest(
                        request.name, request.cell, request.order, request.context, request.options, True
                    )
            value = await self._on_request(request)
        except HostError as refused:
            error = str(refused) or "the request was refused"
        except asyncio.CancelledError:
            raise
        except Exception as failure:  # noqa: BLE001 (the engine's bug must not hang the cell)
            self._loop.call_exception_handler(
                {"message": f"on_request failed for {request.name}", "exception": failure}
            )
            error = "the host could not answer"
        self._answered(number, request.name, cell)
        await self._answer(number, value, error)

    async def _answer(self, number: int, value: Value | None, error: str) -> None:
        message: dict[str, Any] = {"op": "answer", "id": number, "error": error[:10_000] or None, "value": None}
        buffers: list[Any] = []
        if value is not None and not error:
            region = value.memory.view()
            message["value"] = [len(value.skeleton), region.nbytes]
            buffers = [region, value.skeleton] if region.nbytes else [value.skeleton]
        elif not error:
            message["error"] = "the host gave no value"
        with contextlib.suppress(ConnectionError, OSError):
            await self._channel.send(message, buffers)

    def _answered(self, number: int, name: str, cell: Cell) -> None:
        """From here on it is the host that waits, for the answer to be read: the cell's clock goes on."""
        if number not in self._asking or cell.ended.done():
            return  # cancelled with its cell
        self._asking.discard(number)
        cell.show_waiting(-(name not in QUICK))
        if not self._asking:
            cell.go_on()

    def _served(self, number: int, size: int) -> None:
        self._reserve(-size)
        if self._tasks.pop(number, None) is not None and len(self._tasks) < MAX_PENDING // 2:
            self._channel.pause(False)


def weight(tree: Any) -> int:
    """Bytes that JSON takes in the memory of this process."""
    size = sys.getsizeof(tree)
    if type(tree) is list:
        size += sum(map(weight, tree))
    elif type(tree) is dict:
        size += sum(weight(key) + weight(item) for key, item in tree.items())
    return size
