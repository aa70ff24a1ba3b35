"""Whose turn it is in a run: calls in flight, and how many calls are at work at once."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable


class Slots:
    """Bounds a run's model requests under way, and its calls at work.

    A call is at work from its admission to its end, except while it waits for its children: so a parent holds no
    place that its children need, and nesting cannot deadlock; and a thousand queued children do not start a
    thousand REPLs. Requests go out oldest call first, so what is begun is finished before more is begun.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._at_work = 0
        self._out = 0
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []  # for admission
        self._requests: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tie = 0

    async def admit(self, number: int) -> None:
        """Wait until the call may begin its work."""
        if self._at_work < self._size and not self._queue:
            self._at_work += 1
            return
        await self._wait(self._queue, number, self.dismiss)

    def dismiss(self) -> None:
        """A call has ended, or begins to wait for its children."""
        self._at_work -= 1
        while self._at_work < self._size and self._queue:
            place = heapq.heappop(self._queue)[2]
            if not place.done():
                self._at_work += 1
                place.set_result(None)

    def recall(self) -> None:
        """A call goes on after its children; it does not queue again."""
        self._at_work += 1

    async def take(self, number: int) -> None:
        """Wait until a request of this call may go out."""
        if self._out < self._size and not self._requests:
            self._out += 1
            return
        await self._wait(self._requests, number, self.give)

    def give(self) -> None:
        self._out -= 1
        while self._out < self._size and self._requests:
            place = heapq.heappop(self._requests)[2]
            if not place.done():
                self._out += 1
                place.set_result(None)

    async def _wait(
        self, queue: list[tuple[int, int, asyncio.Future[None]]], number: int, undo: Callable[[], None]
    ) -> None:
        self._tie += 1
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(queue, (number, self._tie, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                undo()  # the place came together with the cancellation
            raise
