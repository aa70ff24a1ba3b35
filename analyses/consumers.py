"""The socket of a run's page: it checks as the view does, joins the run's feed or rests, and passes frames on."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from analyses import sharing
from analyses.feed import watch
from analyses.models import Run, Share
from analyses.rest import Rest
from analyses.viewers import ANEW, GONE, Viewer

_SCOPE = re.compile(r"[bc]\d{1,7}|l\d{1,7}-\d{1,7}")


class RunConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    # Wake-ups go to the feed: a subscription of its own for every viewer would be a thousand for nothing.
    channel_layer_alias = "none"
    viewer: Viewer | None = None
    until: float | None = None  # when the link it came by is over: seconds since the epoch

    async def connect(self) -> None:
        await self.accept()  # a refusal before would look like a broken line, and the page would try again for ever
        found = await database_sync_to_async(self._run)()
        if found is None:
            await self.close(GONE)
            return
        run, who = found
        asked = parse_qs(self.scope["query_string"].decode("latin-1"))
        seq = asked.get("seq", ["0"])[0]
        at = min(int(seq), run.seq) if re.fullmatch(r"\d{1,15}", seq) else 0
        self.viewer = Viewer(at, who, send=self._pass_on, close=self._end, until=self.until, form=run.form)
        if asked.get("form", [""])[0] != run.form:
            await self.close(ANEW)
        elif run.ended and at == run.seq:
            await Rest.here().join(run.pk, self.viewer, watch)
        else:
            await watch(run.pk, self.viewer)

    def _run(self) -> tuple[Run, tuple[str, Any]] | None:
        where = self.scope["url_route"]["kwargs"]
        if any("\0" in name for name in where.values()):  # PostgreSQL refuses to look for it
            return None
        if "token" in where:
            share = Share.objects.live().select_related("run").filter(token=where["token"]).first()
            cookies = self.scope.get("cookies", {})
            if share is None or not sharing.is_open(share, cookies):
                return None
            self.until = share.expires_at.timestamp() if share.expires_at else None
            return share.run, ("share", (share.token, sharing.given(share, cookies)))
        user = self.scope["user"]
        runs = Run.objects.visible_to(user).filter(workspace__slug=where["workspace"], key=where["key"])
        run = runs.only("seq", "status", "archive", "archived_at", "restored_at").first()
        if run is None:
            return None
        session = self.scope.get("session")  # whose end closes this socket too
        return run, ("session", (user.pk, session.session_key)) if session else ("user", user.pk)

    async def _pass_on(self, frame: str) -> None:
        await self.send(text_data=frame)

    async def _end(self, code: int) -> None:
        await self.close(code)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """The page says which parts of the tree it has fetched, and at which seq, and which it let go.

        ``{"open": {"b57": 1203}}``, ``{"close": ["b57"]}``
        """
        if self.viewer is None or not text_data or len(text_data) > 64_000:
            return
        try:
            said = json.loads(text_data)
            scopes = {name: max(0, int(seq)) for name, seq in said.get("open", {}).items() if _SCOPE.fullmatch(name)}
            gone = [str(name) for name in said.get("close", [])]
        except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
            return
        for name in gone:
            self.viewer.scopes.pop(name, None)
        if scopes:
            self.viewer.open(scopes)

    async def disconnect(self, code: int) -> None:
        if self.viewer:
            self.viewer.leave()
