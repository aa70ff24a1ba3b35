"""Jails for the runs of one event loop: tested before the first is handed out, a spare one kept warm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections import deque
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxUnavailable
from sandbox.install import installed
from sandbox.jail import Jail
from sandbox.probe import probe_jail

OPEN_FILES = 65_536


class JailPool:
    """Hands out jails. A warm jail is used once: what comes back is never handed out again."""

    def __init__(
        self, *, backend: str = "firejail", prefix: Path | None = None, spare: int = 1, run_memory_mb: int = 4096
    ) -> None:
        self.backend = backend
        self.probe: dict[str, Any] = {}
        self._base = prefix
        self._spare = spare
        self._run_memory_mb = run_memory_mb
        self._spares: deque[Jail] = deque()
        self._jails: set[Jail] = set()
        self._filling: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self._probing = asyncio.Lock()
        self._closed = False
        _raise_open_files()

    async def open(self) -> Jail:
        """A jail for one run. Raises SandboxUnavailable with a sentence on what to do."""
        if self._closed:
            raise SandboxUnavailable("the pool is closed")
        jail = None
        if not self.probe:
            async with self._probing:
                if not self.probe:
                    jail = await self._first()
        while self._spares and jail is None:
            spare = self._spares.popleft()
            if spare.alive:
                jail = spare
            else:
                await self._drop(spare)
        if jail is None:
            jail = await self._start()
        self._fill()
        return jail

    async def warm(self) -> None:
        """Probe and start the spare jails before anyone asks: for a worker's start. Raises SandboxUnavailable as open does."""
        if not self.probe:
            async with self._probing:
                if not self.probe:
                    self._spares.append(await self._first())
        self._fill()

    async def close(self) -> None:
        """End every jail, handed out or not."""
        self._closed = True
        for task in self._filling:
            task.cancel()
        await asyncio.gather(*self._filling, return_exceptions=True)
        await asyncio.gather(*(jail.close() for jail in list(self._jails)), return_exceptions=True)
        self._jails.clear()
        self._spares.clear()

    async def _first(self) -> Jail:
        """Start the first jail while another is being probed."""
        probe = asyncio.ensure_future(self._probe())
        try:
            jail = await self._start()
        except BaseException:
            await asyncio.gather(probe, return_exceptions=True)
            raise
        try:
            await probe
        except BaseException:
            await jail.close()
            raise
        return jail

    async def _probe(self) -> None:
        """Try escapes for real in the first jail; refuse to serve if any works."""
        jail = await self._start()
        try:
            result = await probe_jail(jail)
        except BaseException:
            await jail.close()
            raise
        if not result["ok"]:
            await jail.close()
            failed = [name for name, check in result["checks"].items() if not check]
            raise SandboxUnavailable(f"the sandbox does not hold on this machine: {', '.join(failed)}")
        self.probe = result
        await jail.close()  # cells have run in it

    async def _start(self) -> Jail:
        prefix = await asyncio.to_thread(installed, self._base)
        async with self._starting:
            jail = await Jail.start(self.backend, prefix, self._run_memory_mb)
        self._jails = {j for j in self._jails if j.alive}
        self._jails.add(jail)
        if self._closed:
            await jail.close()
            raise SandboxUnavailable("the pool is closed")
        return jail

    def _fill(self) -> None:
        missing = self._spare - len(self._spares) - len(self._filling)
        for _ in range(max(0, missing)):
            task = asyncio.get_running_loop().create_task(self._add_spare())
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)

    async def _add_spare(self) -> None:
        with contextlib.suppress(SandboxUnavailable):
            self._spares.append(await self._start())

    async def _drop(self, jail: Jail) -> None:
        self._jails.discard(jail)
        await jail.close()


def _raise_open_files() -> None:
    """A REPL takes two descriptors here, a large value one: the usual soft limit of 1,024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(OPEN_FILES, hard) if hard != resource.RLIM_INFINITY else OPEN_FILES
    if 0 <= soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
