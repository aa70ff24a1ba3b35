"""Who watches a run: a page at its socket, by what right, and where it waits: at the run's feed, or at rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from analyses import outage, sharing
from analyses.models import Run
from workspaces import rights
from workspaces.models import User

log = logging.getLogger(__name__)

# What a socket is closed with; hx-ws comes back by itself after none of them (static/app.js).
ASK_AGAIN = 4401  # the session is over: the page comes back as who it is by then, and is told GONE if that is nobody
GONE = 4404  # there is no such run for who asks, or not any more
LET_GO = 4408  # it rested long enough, or others needed the place: the page asks again now and then
ANEW = 4410  # the run went to the archive or came back from it: the page has to be loaded anew
SCOPES_MOST = 2000  # parts of one tree that one page may have open

# Reading and rendering hold the interpreter most of the time: more threads would only make more connections.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="rlmweb-feed")

T = TypeVar("T")


def in_thread(function: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    return database_sync_to_async(function, thread_sensitive=False, executor=_threads)  # type: ignore[no-any-return]


class Place(Protocol):
    """Where a viewer waits."""

    def leave(self, viewer: Viewer) -> None: ...

    def opened(self, viewer: Viewer) -> None: ...


@dataclass(eq=False)
class Viewer:
    """A page that watches. ``who`` says by what right: ("user", id), ("session", (id, key)) or ("share", (token, lock))."""

    at: int
    who: tuple[str, Any]
    send: Callable[[str], Awaitable[None]]
    close: Callable[[int], Awaitable[None]]
    scopes: dict[str, int] = field(default_factory=dict)  # parts it has fetched, and the seq at which each stands
    fresh: bool = True  # has had nothing yet
    until: float | None = None  # when its right ends by itself: seconds since the epoch
    form: str = ""  # of the run, when the page was made (Run.form)
    place: Place | None = None

    def leave(self) -> None:
        if self.place is not None:
            self.place.leave(self)
            self.place = None

    def open(self, scopes: dict[str, int]) -> None:
        """The page has fetched parts of the tree: from now on it gets their news too."""
        room = SCOPES_MOST - len(self.scopes)
        self.scopes |= dict(list(scopes.items())[: max(0, room)])
        if self.place is not None:
            self.place.opened(self)

    async def end(self, code: int) -> None:
        """Close its socket for this reason."""
        self.leave()
        try:
            await self.close(code)
        except Exception as error:
            log.debug("a viewer was gone already: %s", error)


def refusal(run_id: int, who: tuple[str, Any]) -> int:
    """The same question as the page's view asks: 0, or the code that the socket is closed with."""
    kind, name = who
    if kind == "share":
        return 0 if sharing.may_watch(run_id, *name) else GONE
    user_id, session = name if kind == "session" else (name, "")
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None or not Run.objects.visible_to(user).filter(pk=run_id).exists():
        return GONE
    return 0 if not session or rights.stands(session, user) else ASK_AGAIN


async def listen(groups: tuple[str, ...], heard: Callable[[dict[str, Any]], None]) -> None:
    """Pass on what these groups are told, until cancelled. One subscription, however many watch."""
    layer = get_channel_layer()
    if layer is None:
        return
    pause = 0.5
    while True:
        try:
            channel = await layer.new_channel()
            for group in groups:
                await layer.group_add(group, channel)
            try:
                while True:
                    heard(await layer.receive(channel))
                    pause = 0.5
            finally:
                for group in groups:
                    await layer.group_discard(group, channel)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # Redis is away: whoever listens looks by itself meanwhile
            outage.REDIS.met(error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)
