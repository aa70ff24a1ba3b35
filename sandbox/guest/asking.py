"""Requests to the host: one frame out, one future until the answer comes. A reader thread starts with the first."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from .crossing import CrossingError, Encoder
from .wire import Closed, Frame, Wire


class LLMQueryError(RuntimeError):
    """What the host could not do, in its words."""

    __module__ = "builtins"  # shown without a package


class Packed(NamedTuple):
    """A value ready to be sent."""

    sizes: list[int]
    buffers: list[Any]
    alive: list[str]  # what the buffers look into


class Host:
    """The other end of the wire, as cells use it."""

    def __init__(
        self, wire: Wire, max_bytes: int, encoder: Callable[..., Encoder], decode: Callable[[bytes, Any], Any]
    ) -> None:
        self.wire = wire
        self.max_bytes = max_bytes
        self.encoder = encoder
        self.decode = decode
        self.pending: dict[int, concurrent.futures.Future[Any]] = {}
        self._orders: queue.SimpleQueue[Frame] | None = None
        self._ids = itertools.count(1)
        self._starting = threading.Lock()

    def next_order(self) -> Frame:
        """The next frame that is no answer: from the wire, or from the reader thread once there is one."""
        if self._orders is not None:
            return self._orders.get()
        return self.wire.read()

    def pack(self, value: Any) -> Packed:
        encoder = self.encoder(self.max_bytes)
        skeleton, buffers = encoder.encode(value)
        return Packed([len(skeleton), sum(b.nbytes for b in buffers)], [*buffers, skeleton], encoder.alive)

    def unpack(self, sizes: Any, blob: memoryview) -> Any:
        skeleton, region = sizes
        return self.decode(bytes(blob[region : region + skeleton]), blob[:region])

    def submit(
        self,
        name: str,
        options: dict[str, Any],
        *value: Any,
        same: bool = False,
        future: concurrent.futures.Future[Any] | None = None,
    ) -> concurrent.futures.Future[Any]:
        packed = self.pack(value[0]) if value and not same else None
        future = future or concurrent.futures.Future()
        number = next(self._ids)
        self.pending[number] = future
        self._listen()
        call = {"op": "call", "id": number, "name": name, "options": options, "same": same}
        self.wire.send(call | {"value": packed.sizes if packed else None}, packed.buffers if packed else ())
        return future

    def ask(self, name: str, options: dict[str, Any], *value: Any, same: bool = False) -> Any:
        """Block until the answer is here."""
        return self.submit(name, options, *value, same=same).result()

    async def ask_async(self, name: str, options: dict[str, Any], *value: Any, same: bool = False) -> Any:
        # Waited for before it is asked: an answer that comes while we are still sending wakes its task in its turn.
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        waiting = asyncio.wrap_future(future)
        try:
            self.submit(name, options, *value, same=same, future=future)
        except BaseException:
            waiting.cancel()
            raise
        return await waiting

    def abandon(self) -> None:
        """The cell is over: nobody answers what it still asks."""
        for number in list(self.pending):
            future = self.pending.pop(number, None)
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(
                    LLMQueryError("the cell that asked ended before the answer came; await it in the same cell")
                )

    def _listen(self) -> None:
        if self._orders is None:
            with self._starting:
                if self._orders is None:
                    self._orders = queue.SimpleQueue()
                    threading.Thread(target=self._read, daemon=True, name="answers").start()

    def _read(self) -> None:
        assert self._orders is not None
        try:
            while True:
                message, blob = self.wire.read()
                if message["op"] == "answer":
                    self._settle(message, blob)
                else:
                    self._orders.put((message, blob))
        except (Closed, OSError):
            os._exit(0)

    def _settle(self, message: dict[str, Any], blob: memoryview) -> None:
        future = self.pending.pop(message["id"], None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if message["error"] is not None:
            future.set_exception(LLMQueryError(message["error"]))
            return
        try:
            future.set_result(self.unpack(message["value"], blob))
        except (ValueError, CrossingError, MemoryError, RecursionError) as error:
            future.set_exception(LLMQueryError(f"the result could not be read: {error}"))
