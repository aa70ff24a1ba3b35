"""The way in from outside to a run under way: stop it, pause it, let it go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Released(Exception):
    """The run was let go of, to be taken up from its record."""


class Control:
    """Belongs to one run. All methods but the waits may be called from any thread."""

    def __init__(self) -> None:
        self.reason = ""  # why it was stopped; "" while it was not
        self.requests = 0  # to models, under way
        self._paused = False
        self.released = False  # this process lets go of the run, which goes on elsewhere or later
        self._listeners: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []

    @property
    def stopped(self) -> bool:
        return bool(self.reason)

    @property
    def paused(self) -> bool:
        return self._paused and not self.stopped

    @property
    def quiet(self) -> bool:
        """Whether no request to a model is under way."""
        return self.requests == 0

    def stop(self, reason: str = "Stopped.") -> None:
        """End the run within about a second, keeping what is there."""
        self.reason = self.reason or reason or "Stopped."
        self._tell()

    def pause(self) -> None:
        """Let no further request out to a model; what is under way ends."""
        self._paused = True
        self._tell()

    def resume(self) -> None:
        self._paused = False
        self._tell()

    def release(self) -> None:
        """Let go of the run at once: nothing more is told of it, and ``solve`` raises Released."""
        self.released = True
        self._tell()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` in the running loop after every change; returns what ends that."""
        entry = (asyncio.get_running_loop(), callback)
        self._listeners.append(entry)
        return lambda: self._listeners.remove(entry)

    async def until_running(self) -> None:
        """Return when the run is not paused (or is stopped)."""
        while self.paused:
            changed = asyncio.Event()
            unlisten = self.listen(changed.set)
            try:
                if self.paused:
                    await changed.wait()
            finally:
                unlisten()

    def _tell(self) -> None:
        for loop, callback in list(self._listeners):
            if not loop.is_closed():
                loop.call_soon_threadsafe(callback)
