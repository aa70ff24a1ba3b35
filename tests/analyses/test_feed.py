"""The feed: one reading for all viewers, the right frame for each, nothing after they may not look."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.utils import timezone
from redis.exceptions import RedisError

from analyses import actions, feed, live, rest
from analyses.feed import Feed
from analyses.frames import Painter
from analyses.models import Run
from analyses.rest import Rest
from analyses.viewers import Viewer
from tests.factories import Rows, make_run, make_user, make_workspace

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LINGER", 0.05)
    monkeypatch.setattr(rest, "LOOK", 0.1)
    monkeypatch.setattr(feed, "UNASKED", 0.2)


class Page:
    """A viewer that keeps what it got."""

    def __init__(self, at: int, who: tuple[str, Any]) -> None:
        self.frames: list[str] = []
        self.closed: int | None = None
        self.viewer = Viewer(at, who, self._send, self._close)

    async def _send(self, frame: str) -> None:
        self.frames.append(frame)

    async def _close(self, code: int) -> None:
        self.closed = code

    @property
    def spans(self) -> list[tuple[int, int]]:
        found = re.findall(r'data-seq="(\d+)" data-from="(\d+)"></span>$', "\n".join(self.frames), re.M)
        return [(int(start), int(end)) for end, start in found]

    async def reaches(self, seq: int) -> None:
        await until(lambda: bool(self.spans) and self.spans[-1][1] >= seq)


async def until(happened: Any) -> None:
    for _ in range(300):
        if happened():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen within 6 s")


class Stage:
    def __init__(self, shape: str = "running") -> None:
        self.owner = make_user()
        self.workspace = make_workspace(self.owner)
        self.run = make_run(self.workspace, shape)
        self.rows = Rows(self.run)
        self.root = self.run.call_set.filter(number=1).first()

    def page(self, at: int | None = None) -> Page:
        return Page(self.run.seq if at is None else at, ("user", self.owner.pk))

    async def write(self, *args: Any, **fields: Any) -> Any:
        return await sync_to_async(self.rows.call)(*args, **fields)


async def wake(run: Run) -> None:
    await get_channel_layer().group_send(live.group(run.pk), {"type": "run.advanced"})


async def test_every_viewer_gets_an_unbroken_chain_of_frames() -> None:
    stage = await sync_to_async(Stage)()
    first, late = stage.page(), stage.page(at=3)
    watched = Feed.of(stage.run.pk)
    await watched.join(first.viewer)
    for _ in range(3):
        await stage.write(stage.root, 4)
        await wake(stage.run)
        await asyncio.sleep(0.12)
    await watched.join(late.viewer)
    await stage.write(stage.root, 4)
    await wake(stage.run)
    for page, began in ((first, stage.page().spans and 0 or first.spans[0][0]), (late, 3)):
        await page.reaches(stage.run.seq)
        at = began
        for start, end in page.spans:
            assert start == at and end >= start
            at = end
    watched.leave(first.viewer)
    watched.leave(late.viewer)


async def test_viewers_at_the_same_seq_share_one_rendering() -> None:
    stage = await sync_to_async(Stage)()
    watched = Feed.of(stage.run.pk)
    pages = [stage.page() for _ in range(50)]
    for page in pages:
        await watched.join(page.viewer)
    await until(lambda: all(page.frames for page in pages))
    before = watched.turns
    await stage.write(stage.root, 4)
    await wake(stage.run)
    for page in pages:
        await page.reaches(stage.run.seq)
    assert watched.turns - before <= 2
    assert len({tuple(page.frames[1:]) for page in pages}) == 1
    for page in pages:
        watched.leave(page.viewer)


async def test_what_a_member_asks_of_a_run_is_told_to_its_pages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "UNASKED", 3600)
    stage = await sync_to_async(Stage)()
    page = stage.page()
    await Feed.of(stage.run.pk).join(page.viewer)
    await until(lambda: page.frames)
    await asyncio.sleep(0.5)  # its subscription stands
    asked: list[tuple[Any, str]] = [
        (actions.pause_run, "Pausing"),
        (actions.resume_run, "Running"),
        (actions.stop_run, "Stopping"),
    ]
    for ask, word in asked:
        await sync_to_async(ask)(stage.run)
        await until(lambda word=word: f'data-word="{word}"' in page.frames[-1])
    page.viewer.leave()


async def test_run_that_waits_while_no_worker_is_alive_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = True

    async def unattended() -> bool:
        return alone

    monkeypatch.setattr(live, "unattended", unattended)
    stage = await sync_to_async(Stage)()

    async def stands(**fields: Any) -> None:
        await Run.objects.filter(pk=stage.run.pk).aupdate(**fields)

    await stands(status="queued")
    page = stage.page()
    await Feed.of(stage.run.pk).join(page.viewer)
    await until(lambda: page.frames and "No worker is running just now." in page.frames[-1])
    alone = False
    await until(lambda: "Waits for a worker to take it." in page.frames[-1])
    now = timezone.now()
    await stands(status="running", lease_expires_at=now + timedelta(hours=1))  # as the command line executes it
    alone = True
    await until(lambda: 'data-word="Running"' in page.frames[-1])
    assert "No worker" not in page.frames[-1]
    await stands(lease_expires_at=now - timedelta(seconds=1))
    await until(lambda: "No worker is running just now." in page.frames[-1])
    page.viewer.leave()


async def test_workers_are_looked_for_now_and_then_and_unknown_is_not_none(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    asked: list[str] = []

    class Keys:
        there: tuple[str, ...] = ()
        away = False

        async def scan_iter(self, match: str, count: int) -> AsyncIterator[str]:
            asked.append(match)
            if self.away:
                raise RedisError("gone")
            for key in self.there:
                yield key

    keys = Keys()
    monkeypatch.setattr(live, "redis_of_loop", lambda: keys)
    settings.REDIS_URL = ""
    assert not await live.unattended()  # no broker: whoever takes a run executes it
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert await live.unattended() and await live.unattended() and asked == ["rlmweb:worker:*:*"]
    monkeypatch.setattr(live, "WORKERS_KNOWN", 0.0)
    keys.there = ("rlmweb:worker:here:1",)
    assert not await live.unattended()
    keys.there, keys.away = (), True
    assert not await live.unattended()


async def test_feed_looks_by_itself_where_the_wake_up_was_lost() -> None:
    stage = await sync_to_async(Stage)()
    page = stage.page()
    await Feed.of(stage.run.pk).join(page.viewer)
    await until(lambda: page.frames)
    await stage.write(stage.root, 4)  # and nobody says so
    await page.reaches(stage.run.seq)
    Feed.of(stage.run.pk).leave(page.viewer)


async def test_viewers_of_a_run_that_ends_rest_and_its_feed_is_over() -> None:
    stage = await sync_to_async(Stage)()
    page = stage.page()
    watched = Feed.of(stage.run.pk)
    await watched.join(page.viewer)
    await sync_to_async(stage.rows.end)(answer="It is over.")
    await wake(stage.run)
    await until(lambda: page.viewer in Rest.here().viewers)
    assert page.closed is None and "It is over." in "".join(page.frames)
    await until(lambda: Feed.of(stage.run.pk) is not watched)
    page.viewer.leave()


async def test_member_who_was_removed_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "CHECK", 0.1)
    stage = await sync_to_async(Stage)()
    page = stage.page()
    await Feed.of(stage.run.pk).join(page.viewer)
    await until(lambda: page.frames)
    await sync_to_async(stage.workspace.members.all().delete)()
    await until(lambda: page.closed is not None)
    assert page.closed == 4404


async def test_revoked_share_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "CHECK", 0.1)
    stage = await sync_to_async(Stage)()
    share = await sync_to_async(stage.run.shares.create)()
    page = Page(stage.run.seq, ("share", (share.token, "")))
    await Feed.of(stage.run.pk).join(page.viewer)
    await until(lambda: page.frames)
    await sync_to_async(stage.run.shares.update)(revoked_at=stage.run.created_at)
    await until(lambda: page.closed is not None)


async def test_opened_part_gets_its_news_from_the_seq_at_which_it_was_fetched() -> None:
    stage = await sync_to_async(Stage)("crowd")
    await sync_to_async(Run.objects.filter(pk=stage.run.pk).update)(status="running")
    page, other = stage.page(), stage.page()
    watched = Feed.of(stage.run.pk)
    await watched.join(page.viewer)
    await watched.join(other.viewer)
    await until(lambda: page.frames and other.frames)
    fetched = stage.run.seq
    child = await sync_to_async(stage.run.call_set.get)(number=9)
    await sync_to_async(stage.rows.change)(child, notes=["asked again"])
    await page.reaches(stage.run.seq)
    page.viewer.open({"c9": fetched, "b9": fetched})
    await until(lambda: "call-9-about" in "".join(page.frames))
    assert "asked again" in "".join(page.frames) and "call-9-head" in "".join(page.frames)
    assert "call-9-head" not in "".join(other.frames)
    await sync_to_async(stage.rows.change)(child, notes=["and again"])
    await wake(stage.run)
    await until(lambda: "and again" in page.frames[-1])
    assert page.spans[-1] == (stage.run.seq - 1, stage.run.seq)  # with the run's own news: one frame a turn
    watched.leave(page.viewer)
    watched.leave(other.viewer)


async def test_growing_text_is_sent_and_moves_no_seq(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = await sync_to_async(Stage)()
    child = await sync_to_async(stage.run.call_set.get)(number=5)
    await sync_to_async(stage.rows.start)(child)
    await sync_to_async(stage.rows.turn)(child)
    texts: dict[tuple[int, int, str], str] = {}

    async def read(run_id: int) -> dict[tuple[int, int, str], str]:
        return dict(texts)

    monkeypatch.setattr(live, "read", read)
    page = stage.page()
    await Feed.of(stage.run.pk).join(page.viewer)
    await until(lambda: page.frames)
    texts[5, 1, "reply"] = "I count the"
    await wake(stage.run)
    await until(lambda: "I count the" in page.frames[-1])
    texts[5, 1, "reply"] = "I count the letters"
    await wake(stage.run)
    await until(lambda: "I count the letters" in page.frames[-1])
    assert page.spans[-1] == (stage.run.seq, stage.run.seq)
    leaf = re.findall(r'<[^>]* id="([^"]*)"', page.frames[-1])[0]
    texts.clear()  # whoever wrote it is gone: a page that is loaded now shows nothing of it
    await wake(stage.run)
    await until(lambda: f'id="{leaf}"' in page.frames[-1] and "I count" not in page.frames[-1])
    assert page.spans[-1] == (stage.run.seq, stage.run.seq)
    Feed.of(stage.run.pk).leave(page.viewer)


async def test_a_reply_that_comes_in_while_a_frame_is_made_is_not_overwritten_by_half_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = await sync_to_async(Stage)()
    child = await sync_to_async(stage.run.call_set.get)(number=5)
    await sync_to_async(stage.rows.start)(child)
    cell = await sync_to_async(stage.rows.turn)(child)
    texts: dict[tuple[int, int, str], str] = {}

    async def read(run_id: int) -> dict[tuple[int, int, str], str]:
        return dict(texts)

    monkeypatch.setattr(live, "read", read)
    page = stage.page()
    await Feed.of(stage.run.pk).join(page.viewer)
    await until(lambda: page.frames)
    whole, frames = [False], Painter.frames

    def late(self: Painter, *given: Any, **how: Any) -> list[str]:
        if how.get("following") and not whole[0]:
            whole[0] = True
            stage.rows.reply(cell)  # after the rows' seq was read, and before the frame is made
        return frames(self, *given, **how)

    monkeypatch.setattr(Painter, "frames", late)
    texts[5, 1, "reply"] = "I look"
    await sync_to_async(stage.rows.change)(child, notes=["It goes on."])
    await wake(stage.run)
    await until(lambda: whole[0])
    texts.clear()
    await sync_to_async(stage.run.refresh_from_db)()
    await wake(stage.run)
    await page.reaches(stage.run.seq)
    leaves = re.findall(r'<div [^>]*id="cell-5-1-reply"[^>]*>', "".join(page.frames))
    assert leaves and "aria-busy" not in leaves[-1]
    Feed.of(stage.run.pk).leave(page.viewer)
