"""How many requests an endpoint gets at once, and how fast: shared by all runs of a worker, fair between them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from typing import Protocol
from weakref import WeakKeyDictionary

from rlm.endpoints import Endpoint


class SharedGate(Protocol):
    """A gate that several workers go through, such as rlm.sharedgate.RedisGate."""

    async def enter(self) -> str: ...
    async def leave(self, place: str) -> None: ...


class Gate:
    """At most ``concurrency`` requests at once, ``per_minute`` of them a minute; runs take turns."""

    def __init__(self, concurrency: int, per_minute: int | None = None, shared: SharedGate | None = None) -> None:
        self._free = concurrency
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0  # monotonic time of the next request that the rate allows
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._shared = shared

    async def enter(self, run_key: str = "") -> str:
        """Wait for a place; requests of one run queue behind each other, runs go round. Returns what ``leave`` wants."""
        if self._free > 0 and not self._waiting:
            self._free -= 1
        else:
            place = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(run_key, deque()).append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._give_back()  # the place came together with the cancellation
                raise
        try:
            await self._pace()
            return await self._shared.enter() if self._shared is not None else ""
        except BaseException:
            self._give_back()
            raise

    async def leave(self, place: str = "") -> None:
        self._give_back()
        if self._shared is not None:
            await self._shared.leave(place)

    def hold_until(self, seconds: float) -> None:
        """Let nothing out for so long: the provider asked all of us to wait."""
        self._next = max(self._next, time.monotonic() + seconds)

    async def _pace(self) -> None:
        now = time.monotonic()
        start = max(now, self._next)
        if self._gap:
            self._next = start + self._gap
        if start > now:
            await asyncio.sleep(start - now)

    def _give_back(self) -> None:
        self._free += 1
        while self._free > 0 and self._waiting:
            key, queue = next(iter(self._waiting.items()))
            place = queue.popleft()
            self._waiting.move_to_end(key)
            if not queue:
                del self._waiting[key]
            if not place.done():
                self._free -= 1
                place.set_result(None)


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Gate]] = WeakKeyDictionary()


def gate_of(endpoint: Endpoint, shared: SharedGate | None = None) -> Gate:
    """Return the one gate that all clients of this endpoint share in this event loop."""
    key = hashlib.sha256(f"{endpoint.base_url}\0{endpoint.api_key}".encode()).hexdigest()
    key += f"/{endpoint.max_concurrency}/{endpoint.requests_per_minute}"
    gates = _gates.setdefault(asyncio.get_running_loop(), {})
    if key not in gates:
        gates[key] = Gate(endpoint.max_concurrency, endpoint.requests_per_minute, shared)
    return gates[key]
