"""A cell while it runs: its clock, which stands still during waits, and how far it has been told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.values import Value


@dataclass
class Cell:
    number: int
    left: float  # seconds of wall clock
    on_overdue: Callable[[str], None]
    on_waiting: Callable[[bool], None] | None
    ended: asyncio.Future[dict[str, Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    started: float = field(default_factory=time.perf_counter)
    requests: int = 0
    refused: int = 0
    visible: int = 0  # requests in flight that people are told of
    waited: float = 0.0
    overdue: str = ""  # why it is being interrupted
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    cpu_base: float | None = None  # processor time of its process near its beginning
    final: Value | None = None
    _running_since: float = 0.0
    _waiting_since: float | None = None

    def go_on(self) -> None:
        """Start the clock, at first or after waiting."""
        now = time.perf_counter()
        if self._waiting_since is not None:
            self.waited += now - self._waiting_since
            self._waiting_since = None
        self._running_since = now
        if not self.overdue:
            self.timer("wall", self.left, self.on_overdue, "time")

    def wait(self) -> None:
        """Stop the clock: the host is to answer."""
        self._waiting_since = time.perf_counter()
        self.left -= self._waiting_since - self._running_since
        if not self.overdue:
            self.timers["wall"].cancel()

    def show_waiting(self, more: int) -> None:
        """Tell who listens when the first visible request goes out and when the last is answered."""
        before, self.visible = self.visible, self.visible + more
        if self.on_waiting is not None and bool(before) != bool(self.visible):
            self.on_waiting(bool(self.visible))

    def timer(self, name: str, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Set one of its timers, in place of what was set under that name."""
        if name in self.timers:
            self.timers[name].cancel()
        self.timers[name] = asyncio.get_running_loop().call_later(max(0.0, seconds), call, *arguments)

    def finish(self) -> None:
        for timer in self.timers.values():
            timer.cancel()
        if self._waiting_since is not None:
            self.waited += time.perf_counter() - self._waiting_since
            self._waiting_since = None
        self.show_waiting(-self.visible)
