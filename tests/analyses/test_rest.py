"""Pages of ended runs: they rest at no cost, hear of what makes the run go on, and are let go one day."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from analyses import deletion, feed, frames, rest
from analyses.follow_ups import ask_follow_up
from analyses.models import Run
from analyses.rest import Rest
from analyses.routing import websocket_urlpatterns
from analyses.viewers import ANEW, GONE, LET_GO
from tests.analyses.test_feed import until
from tests.analyses.test_sockets_close import code_of
from tests.factories import make_run, make_user, make_workspace
from workspaces import rights

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-x"
    monkeypatch.setattr(rest, "LOOK", 0.1)
    monkeypatch.setattr(feed, "LINGER", 0.05)
    monkeypatch.setattr(feed, "UNASKED", 0.2)


class Stage:
    def __init__(self) -> None:
        self.owner, self.member = make_user(), make_user()
        self.workspace = make_workspace(self.owner)
        self.row = self.workspace.members.create(user=self.member, role="viewer")
        self.run = make_run(self.workspace, "done")
        Run.objects.filter(pk=self.run.pk).update(endpoint="default")
        self.share = self.run.shares.create()
        self.address = self.run.get_absolute_url()

    def further(self) -> None:
        ask_follow_up(self.run, self.owner, "And what is new?", wake=False)


async def opened(path: str, user: Any = None, query: str = "") -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), f"/ws{path}?{query}")
    communicator.scope["user"] = user or AnonymousUser()
    assert (await communicator.connect(10))[0]
    return communicator


async def rests(many: int = 1) -> None:
    await until(lambda: len(Rest.here().viewers) == many)


async def test_nothing_is_read_for_pages_that_rest_until_their_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    advance = frames.Painter.advance

    def noted(self: frames.Painter) -> None:
        read.append(self.run.pk)
        advance(self)

    monkeypatch.setattr(frames.Painter, "advance", noted)
    stage = await sync_to_async(Stage)()
    at = f"seq={stage.run.seq}"
    member, stranger = await opened(stage.address, stage.member, at), await opened(f"/s/{stage.share.token}/", None, at)
    await rests(2)
    assert await member.receive_nothing(0.5) and read == []
    await sync_to_async(stage.further)()
    for watcher in (member, stranger):
        frame = await watcher.receive_from(20)
        assert 'id="follow-up-2"' in frame and "And what is new?" in frame and 'data-status="queued"' in frame
        assert frame.endswith(f'data-seq="{stage.run.seq}" data-from="{at[4:]}"></span>')
        await watcher.disconnect()


async def test_page_that_was_away_when_the_run_went_on_is_brought_up_to_date_and_then_rests() -> None:
    stage = await sync_to_async(Stage)()
    page = await opened(stage.address, stage.member, f"seq={stage.run.seq - 3}")
    assert f'data-seq="{stage.run.seq}" data-from="{stage.run.seq - 3}"' in await page.receive_from(20)
    await rests()
    await page.send_to(text_data='{"open": {"b2": 1}}')  # fetched before that
    assert 'id="cell-2-1"' in await page.receive_from(20)
    await rests()
    await page.disconnect()
    await rests(0)


async def test_deleted_archived_and_brought_back_runs_are_told() -> None:
    stage = await sync_to_async(Stage)()
    at = f"seq={stage.run.seq}"
    one = await opened(stage.address, stage.member, at)
    await rests()
    row = Run.objects.filter(pk=stage.run.pk)
    moved = {"archive": "a" * 64, "archived_at": timezone.now(), "seq": stage.run.seq + 1}
    await sync_to_async(row.update)(**moved)
    assert await code_of(one) == ANEW
    assert await code_of(await opened(stage.address, stage.member, at)) == ANEW  # however late it comes back
    form = (await sync_to_async(row.get)()).form
    archived = await opened(stage.address, stage.member, f"seq={stage.run.seq + 1}&form={form}")
    await rests()
    await sync_to_async(row.update)(archive="", archived_at=None, restored_at=timezone.now(), seq=stage.run.seq + 9)
    assert await code_of(archived) == ANEW
    form = (await sync_to_async(row.get)()).form
    back = await opened(stage.address, stage.member, f"seq={stage.run.seq + 9}&form={form}")
    await rests()
    await sync_to_async(lambda: deletion.delete_run(row.get()))()
    assert await code_of(back) == GONE


@pytest.mark.parametrize("told", [True, False])
async def test_who_may_not_look_any_more_hears_no_word_of_what_follows(told: bool) -> None:
    stage = await sync_to_async(Stage)()
    at = f"seq={stage.run.seq}"
    member, stranger = await opened(stage.address, stage.member, at), await opened(f"/s/{stage.share.token}/", None, at)
    owner = await opened(stage.address, stage.owner, at)
    await rests(3)
    await sync_to_async(stage.row.delete)()
    await sync_to_async(stage.run.shares.update)(revoked_at=timezone.now())
    await sync_to_async(rights.changed)() if told else await sync_to_async(stage.further)()
    for gone in (member, stranger):
        message = await gone.receive_output(20)
        assert (message["type"], message["code"]) == ("websocket.close", GONE)
    assert await owner.receive_nothing(0.3) if told else "And what is new?" in await owner.receive_from(20)
    await owner.disconnect()


async def test_link_that_is_over_lets_its_viewers_go() -> None:
    stage = await sync_to_async(Stage)()
    soon = timezone.now() + timedelta(seconds=4)
    await sync_to_async(stage.run.shares.update)(expires_at=soon)
    assert await code_of(await opened(f"/s/{stage.share.token}/", None, f"seq={stage.run.seq}")) == GONE


async def test_page_that_comes_while_others_are_looked_after_is_not_told_that_its_run_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = await sync_to_async(Stage)()
    other = await sync_to_async(make_run)(stage.workspace, "done")
    address = await sync_to_async(other.get_absolute_url)()
    looked: list[set[int]] = []
    looking, go_on = threading.Event(), threading.Event()
    stands = rest._stands

    def slowly(run_ids: set[int]) -> dict[int, tuple[int, str]]:
        found = stands(run_ids)
        looked.append(run_ids)
        looking.set()
        assert go_on.wait(60)
        return found

    monkeypatch.setattr(rest, "_stands", slowly)
    first = await opened(stage.address, stage.member, f"seq={stage.run.seq}")
    await until(looking.is_set)
    second = await opened(address, stage.member, f"seq={other.seq}")
    await rests(2)
    go_on.set()
    await until(lambda: len(looked) > 2)
    assert len(Rest.here().viewers) == 2
    await first.disconnect()
    await second.disconnect()


async def test_places_are_counted_and_none_is_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MOST", 2)
    stage = await sync_to_async(Stage)()
    pages = [await opened(stage.address, stage.member, f"seq={stage.run.seq}") for _ in range(3)]
    assert await code_of(pages[0]) == LET_GO  # the longest resting makes room
    await rests(2)
    monkeypatch.setattr(rest, "SECONDS", 0.0)
    assert [await code_of(page) for page in pages[1:]] == [LET_GO, LET_GO]


@pytest.mark.parametrize("seq", ["999999999999", "7"])
async def test_senseless_seq_of_an_ended_run_keeps_no_feed_busy(seq: str) -> None:
    stage = await sync_to_async(Stage)()
    page = await opened(stage.address, stage.member, f"seq={seq}")
    await rests()
    await page.disconnect()
