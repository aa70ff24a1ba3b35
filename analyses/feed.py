"""One feed a run and web process: reads rows and live text once, renders once, sends to everyone who watches.

Viewers stand at a seq. Those who stand where the feed stood get the same frame; one who comes late, or comes
back, is brought up to date from where it says it stands (design.md, decisions 1, 2 and 9).
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseError

from analyses import live, outage
from analyses.frames import MARK, CellKey, Painter, mark
from analyses.models import Run
from analyses.nodes import Texts
from analyses.rest import Rest
from analyses.viewers import GONE, Viewer, in_thread, listen, refusal
from workspaces import rights

log = logging.getLogger(__name__)

GAP = 0.1  # seconds between two readings of a run
UNASKED = 2.0  # seconds after which a feed looks by itself: a wake-up may be lost
CROWD_GAP = 0.5  # seconds between two summaries of a crowd of children
TIMELINE_GAP = 1.0
CHECK = 5.0  # seconds between two checks that viewers may still look
LINGER = 3.0  # seconds a feed is kept after its last viewer left: reloads are common

_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Feed]] = WeakKeyDictionary()

Key = tuple[str, int]  # "all", "news", "texts" or a scope, and the seq from which


@dataclass
class Turn:
    """What one reading of the run gave, rendered as far as somebody asked for it."""

    painter: Painter
    texts: Texts
    grown: set[CellKey]  # cells whose text under way is not what it was
    crowds: set[CellKey]
    timeline: bool
    made: dict[Key, list[str]] = field(default_factory=dict)
    written: dict[str, list[str]] = field(default_factory=dict)  # leaves of what is being written, by their scope


class Feed:
    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.viewers: set[Viewer] = set()
        self.turns = 0  # for tests and figures: how often it was rendered
        self._painter: Painter | None = None
        self._texts: Texts = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._seen: tuple[Any, ...] = ()
        self._owed: set[CellKey] = set()  # crowds whose summary was held back
        self._owed_timeline = False
        self._crowds_at = self._timeline_at = self._checked_at = 0.0

    @classmethod
    def of(cls, run_id: int) -> Feed:
        """This process's feed of the run, on this loop."""
        feeds = _feeds.setdefault(asyncio.get_running_loop(), {})
        if run_id not in feeds:
            feeds[run_id] = cls(run_id)
        return feeds[run_id]

    async def join(self, viewer: Viewer) -> None:
        viewer.place = self
        self.viewers.add(viewer)
        if self._task is None:
            self._listening = asyncio.create_task(listen((live.group(self.run_id), rights.GROUP), self._heard))
            self._task = asyncio.create_task(self._work())
        self._wake.set()

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)

    def opened(self, viewer: Viewer) -> None:
        self._wake.set()

    def _heard(self, message: dict[str, Any]) -> None:
        if message["type"] == rights.CHANGED:
            self._checked_at = 0.0  # somebody may see less: perhaps one of these
        self._wake.set()

    async def _work(self) -> None:
        try:
            while await self._wanted():
                began = time.monotonic()
                self._wake.clear()
                try:
                    await self._turn()
                except Run.DoesNotExist:
                    for viewer in list(self.viewers):
                        await viewer.end(GONE)
                except DatabaseError as error:
                    outage.DATABASE.met(error)
                    self._painter = None
                    await asyncio.sleep(1)
                except Exception:
                    log.exception("run %s: its feed failed; it tries again", self.run_id)
                    self._painter = None
                    await asyncio.sleep(1)
                else:
                    outage.DATABASE.over()
                await asyncio.sleep(max(0.0, GAP - (time.monotonic() - began)))
                await self._rest()
        finally:
            self._task = None
            if self._listening:
                self._listening.cancel()
            feeds = _feeds.get(asyncio.get_running_loop(), {})
            if feeds.get(self.run_id) is self:
                del feeds[self.run_id]

    async def _wanted(self) -> bool:
        if not self.viewers:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), LINGER)
            except TimeoutError:
                pass
        return bool(self.viewers)

    async def _rest(self) -> None:
        """Until a wake-up, until what was held back is due, or for UNASKED seconds."""
        now = time.monotonic()
        due = now + UNASKED
        if self._owed:
            due = min(due, self._crowds_at + CROWD_GAP)
        if self._owed_timeline:
            due = min(due, self._timeline_at + TIMELINE_GAP)
        if ends := [viewer.until for viewer in self.viewers if viewer.until is not None]:
            due = min(due, now + min(ends) - time.time())
        try:
            await asyncio.wait_for(self._wake.wait(), max(0.01, due - now))
        except TimeoutError:
            pass

    async def _turn(self) -> None:
        texts = await live.read(self.run_id)  # before the rows: text that goes into a row meanwhile is in one of them
        now = time.monotonic()
        due = [viewer for viewer in self.viewers if viewer.until is not None and viewer.until <= time.time()]
        for viewer in due:
            viewer.until = None  # looked at once for this; a link that was made to last longer goes on
        if due or now - self._checked_at > CHECK:
            self._checked_at = now
            await self._check()
        before = self._painter.seq if self._painter else -1
        turn = await in_thread(self._read)(texts)
        painter = turn.painter
        painter.unattended = not painter.run.ended and await live.unattended()
        run = painter.run
        asked = (run.stop_requested_at, run.pause_requested_at)
        seen = (painter.seq, run.status, *asked, painter.state().forsaken)
        news = seen != self._seen
        self._seen = seen
        self._texts = texts
        over = painter.run.ended
        # Held back for a while, never for good: what is owed goes out with a later turn, or at once at the end.
        if turn.crowds and now - self._crowds_at < CROWD_GAP and not over:
            self._owed, turn.crowds = turn.crowds, set()
        elif turn.crowds:
            self._crowds_at, self._owed = now, set()
        if turn.timeline and now - self._timeline_at < TIMELINE_GAP and not over:
            self._owed_timeline, turn.timeline = True, False
        elif turn.timeline:
            self._timeline_at, self._owed_timeline = now, False
        await self._send(turn, before, news)
        if over:
            for viewer in [viewer for viewer in self.viewers if not viewer.fresh]:
                if viewer in self.viewers:  # it has not left meanwhile
                    self.leave(viewer)
                    await Rest.here().join(self.run_id, viewer, watch)

    def _read(self, texts: Texts) -> Turn:
        """In a thread: the rows since the last reading, and where text under way has changed."""
        painter = self._painter
        if painter is None:
            painter = self._painter = Painter(Run.objects.get(pk=self.run_id))
            start = painter.seq
        else:
            start = painter.seq
            painter.advance()
        # What is gone too: its writer died, or Redis was emptied, and a reload would not show it any more.
        grown = {key[:2] for key in texts.keys() | self._texts.keys() if texts.get(key) != self._texts.get(key)}
        touched = painter.crowds("", start) if painter.seq > start else set()
        return Turn(
            painter=painter,
            texts=texts,
            grown=grown,
            crowds=self._owed | touched,
            timeline=self._owed_timeline or painter.seq > start,
        )

    async def _send(self, turn: Turn, before: int, news: bool) -> None:
        """To each viewer what it lacks; what several lack alike is rendered once."""
        end = turn.painter.seq
        held = bool(turn.crowds) or turn.timeline
        wanted: dict[Viewer, list[Key]] = {}
        for viewer in list(self.viewers):
            if viewer.at > end:
                continue  # it came while the rows were read, with newer ones: the next turn is its own
            asked: list[Key] = []
            if viewer.fresh:
                asked += [("all", viewer.at), ("texts", 0)]
            elif viewer.at != before:
                asked.append(("all", viewer.at))
            elif news or held:
                asked.append(("news", before))
            for scope, at in viewer.scopes.items():
                if at < end:
                    asked.append((scope, at))
            wanted[viewer] = asked
        missing = {key for keys in wanted.values() for key in keys}
        self.turns += bool(missing)
        if missing or turn.grown:
            await in_thread(_render)(turn, missing)
        for viewer, asked in wanted.items():
            frames = [frame for key in asked if key[0] in ("all", "news") for frame in turn.made[key]]
            extra = [piece for key in asked if key[0] not in ("all", "news") for piece in turn.made[key]]
            for scope in ("", *viewer.scopes):
                extra += turn.written.get(scope, ())
            if extra and frames:  # one frame a turn is enough; it goes before the mark at the end of the last
                at = frames[-1].rindex(MARK)
                frames[-1] = frames[-1][:at] + "".join(extra) + frames[-1][at:]
            elif extra:
                frames.append("".join(extra) + mark(end, end))
            for scope in viewer.scopes:
                viewer.scopes[scope] = max(viewer.scopes[scope], end)
            viewer.at, viewer.fresh = end, False
            try:
                for frame in frames:
                    await viewer.send(frame)
            except Exception as error:  # its socket is gone; its consumer will say so too
                log.debug("run %s: a viewer could not be sent to: %s", self.run_id, error)
                self.leave(viewer)

    async def _check(self) -> None:
        """Send away who may not look any more: one query for each person or link, not for each page."""
        for who in {viewer.who for viewer in self.viewers}:
            if code := await in_thread(refusal)(self.run_id, who):
                for viewer in [viewer for viewer in self.viewers if viewer.who == who]:
                    await viewer.end(code)


async def watch(run_id: int, viewer: Viewer) -> None:
    """Have a viewer get what is new of this run, from where it stands."""
    viewer.fresh = True
    await Feed.of(run_id).join(viewer)


def _render(turn: Turn, keys: set[Key]) -> None:
    """In a thread: the frames for each place where viewers stand.

    Text under way comes last, as the pages get it last: a reply that is whole by now must not be overwritten by half of it.
    """
    painter, made = turn.painter, turn.made
    for key in keys:
        scope, start = key
        if scope == "all":
            made[key] = painter.frames(start, turn.texts)
        elif scope == "news":
            made[key] = painter.frames(start, turn.texts, crowds=turn.crowds, timeline=turn.timeline, following=True)
        elif scope != "texts":
            made[key] = painter.part(scope, start, turn.texts)
    for key in keys:
        if key[0] == "texts":
            made[key] = painter.written({(call, cell) for call, cell, _ in turn.texts}, turn.texts).get("", [])
    turn.written = painter.written(turn.grown, turn.texts)
