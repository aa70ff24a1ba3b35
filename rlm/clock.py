"""The time a run has used: it stands still while the run is paused, and rings twice, for the last request and the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

GRACE = 20.0  # seconds kept at the end of a run for a partial answer
GRACE_SHARE = 0.1  # and at most this share of the run's seconds


class Clock:
    """Belongs to one run and its event loop."""

    def __init__(self, seconds: float, used: float = 0.0) -> None:
        self.seconds = seconds
        self._used = used
        self._since: float | None = time.monotonic()  # None while it stands still
        self._bells: list[tuple[float, Callable[[], None]]] = []
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def used(self) -> float:
        return self._used + (time.monotonic() - self._since if self._since is not None else 0.0)

    @property
    def left(self) -> float:
        return max(0.0, self.seconds - self.used)

    def ring(self, soon: Callable[[], None], over: Callable[[], None]) -> None:
        """Call ``soon`` when there is just time for one last request, and ``over`` at the end."""
        self._bells = [(self.seconds - min(GRACE, GRACE_SHARE * self.seconds), soon), (self.seconds, over)]
        self._wind()

    def hold(self, still: bool) -> None:
        """Stand still, or go on."""
        if still and self._since is not None:
            self._used, self._since = self.used, None
            self.stop()
        elif not still and self._since is None:
            self._since = time.monotonic()
            self._wind()

    def stop(self) -> None:
        """Ring no more."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []

    def _wind(self) -> None:
        self.stop()
        loop = asyncio.get_running_loop()
        self._timers = [loop.call_later(max(0.0, at - self.used), bell) for at, bell in self._bells]
