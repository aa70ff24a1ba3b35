"""Answers wake the tasks that wait for them in the order in which they came, whatever the scheduler does."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

from sandbox.guest.asking import Host, LLMQueryError


class Wire:
    """A host that answers both requests, the second one first, before the second ``send`` returns."""

    def __init__(self) -> None:
        self.frames: queue.Queue[Any] = queue.Queue()
        self.sent: list[int] = []
        self.settled = threading.Event()

    def send(self, message: dict[str, Any], buffers: Any = ()) -> None:
        self.sent.append(message["id"])
        if len(self.sent) == 2:
            for number in reversed(self.sent):
                self.frames.put({"op": "answer", "id": number, "error": str(number), "value": None})
            self.frames.put(None)
            assert self.settled.wait(30)

    def read(self) -> tuple[dict[str, Any], memoryview]:
        frame = self.frames.get()
        if frame is None:  # both answers before it have been settled
            self.settled.set()
            threading.Event().wait()  # a host that says nothing more
        return frame, memoryview(b"")


async def test_answers_that_come_while_a_request_is_sent_are_given_in_their_order() -> None:
    wire: Any = Wire()
    host = Host(wire, 1 << 20, lambda size: None, lambda skeleton, blob: None)  # type: ignore[arg-type,return-value]
    order: list[str] = []

    async def ask(name: str) -> None:
        try:
            await host.ask_async(name, {})
        except LLMQueryError as error:
            order.append(str(error))

    await asyncio.wait_for(asyncio.gather(ask("slow"), ask("fast")), 60)
    assert order == ["2", "1"]
