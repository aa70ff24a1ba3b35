"""Viewers of runs that have ended: they rest together, and one look for all of them finds the runs that go on.

Nothing is read or rendered for them until then (docs/decisions/0006-pages-of-ended-runs-rest.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseError

from analyses import outage
from analyses.models import Run
from analyses.viewers import ANEW, GONE, LET_GO, Viewer, in_thread, listen, refusal
from workspaces import rights

log = logging.getLogger(__name__)

LOOK = 2.0  # seconds between two looks
MOST = 2000  # viewers at rest in one process; the longest resting makes room
SECONDS = 3600.0  # that one may rest
CHECK = 300.0  # seconds after which all are asked about again, should the word that somebody may see less be lost
CHECKS_MOST = 50  # people and links asked about in one look: nothing flows to them, and all is asked before it does
TOLD_MOST = 5000  # runs named in one query

Who = tuple[str, Any]
GoOn = Callable[[int, Viewer], Awaitable[None]]  # have a viewer of this run watch its feed
_rests: WeakKeyDictionary[asyncio.AbstractEventLoop, Rest] = WeakKeyDictionary()


class Rest:
    def __init__(self) -> None:
        self.viewers: dict[Viewer, tuple[int, float, GoOn]] = {}  # run, since when, and where to; the longest first
        self._behind: set[Viewer] = set()  # have fetched a part of the tree that is older than where they stand
        self._unasked: set[tuple[int, Who]] = set()
        self._asked_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def here(cls) -> Rest:
        """This process's, on this loop."""
        return _rests.setdefault(asyncio.get_running_loop(), cls())

    async def join(self, run_id: int, viewer: Viewer, go_on: GoOn) -> None:
        """A viewer who stands where its run has ended."""
        viewer.place = self
        self.viewers[viewer] = (run_id, time.monotonic(), go_on)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        while len(self.viewers) > MOST:
            await next(iter(self.viewers)).end(LET_GO)

    def leave(self, viewer: Viewer) -> None:
        self.viewers.pop(viewer, None)
        self._behind.discard(viewer)

    def opened(self, viewer: Viewer) -> None:
        if min(viewer.scopes.values(), default=viewer.at) < viewer.at:
            self._behind.add(viewer)

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] == rights.CHANGED:
            self._ask_all()

    def _ask_all(self) -> None:
        self._asked_at = time.monotonic()
        self._unasked = {(run_id, viewer.who) for viewer, (run_id, *_) in self.viewers.items()}

    async def _work(self) -> None:
        listening = asyncio.create_task(listen((rights.GROUP,), self._heard))
        try:
            while self.viewers:
                await asyncio.sleep(LOOK)
                try:
                    await self._look()
                except DatabaseError as error:
                    outage.DATABASE.met(error)
                except Exception:
                    log.exception("looking after the pages of ended runs failed; it is tried again")
                else:
                    outage.DATABASE.over()
        finally:
            self._task = None
            listening.cancel()

    async def _look(self) -> None:
        now = time.monotonic()
        for viewer in [viewer for viewer, (_, since, _) in self.viewers.items() if now - since > SECONDS]:
            await viewer.end(LET_GO)
        resting = list(self.viewers.items())  # who comes meanwhile is not among those that are looked for
        stands = await in_thread(_stands)({run_id for _, (run_id, *_) in resting})
        going: list[tuple[int, Viewer, GoOn]] = []
        for viewer, (run_id, _, go_on) in resting:
            if viewer not in self.viewers:
                continue
            seq, form = stands.get(run_id, (-1, ""))
            if seq < 0:
                await viewer.end(GONE)
            elif form != viewer.form:
                await viewer.end(ANEW)
            elif seq != viewer.at or viewer in self._behind:
                going.append((run_id, viewer, go_on))
        await self._check({(run_id, viewer.who) for run_id, viewer, _ in going} | self._due(now))
        for run_id, viewer, go_on in going:
            if viewer in self.viewers:  # it may still look, and has not left
                self.leave(viewer)
                await go_on(run_id, viewer)

    def _due(self, now: float) -> set[tuple[int, Who]]:
        """Whom to ask about, though nothing is on its way to them: that their pages say so."""
        if now - self._asked_at > CHECK:
            self._ask_all()
        due = {self._unasked.pop() for _ in range(min(CHECKS_MOST, len(self._unasked)))}
        for viewer, (run_id, *_) in self.viewers.items():
            if viewer.until is not None and viewer.until <= time.time():
                viewer.until = None  # looked at once for this; a link that was made to last longer goes on
                due.add((run_id, viewer.who))
        return due

    async def _check(self, asked: set[tuple[int, Who]]) -> None:
        codes = await in_thread(_refusals)(asked) if asked else {}
        for viewer, (run_id, *_) in list(self.viewers.items()):
            if code := codes.get((run_id, viewer.who), 0):
                await viewer.end(code)


def _stands(run_ids: set[int]) -> dict[int, tuple[int, str]]:
    """In a thread: the seq and the form of these runs, of those that are still there."""
    found: dict[int, tuple[int, str]] = {}
    numbers = list(run_ids)
    for start in range(0, len(numbers), TOLD_MOST):
        runs = Run.objects.filter(pk__in=numbers[start : start + TOLD_MOST])
        found |= {run.pk: (run.seq, run.form) for run in runs.only("seq", "archive", "archived_at", "restored_at")}
    return found


def _refusals(asked: set[tuple[int, Who]]) -> dict[tuple[int, Who], int]:
    return {(run_id, who): refusal(run_id, who) for run_id, who in asked}
