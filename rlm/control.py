"""The way in from outside to a run under way: stop it, pause it, let it go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Control:
    """Belongs to one run. All methods but the waits may be called from any thread."""

    def __init__(self) -> None:
        self.reason = ""  # why it was stopped; "" while it was not
        self._paused = False
        self._listeners: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []

    @property
    def stopped(self) -> bool:
        return bool(self.reason)

    @property
    def paused(self) -> bool:
        return self._paused and not self.stopped

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
