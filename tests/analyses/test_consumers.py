"""The socket: who may join, what garbage does to it."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser

from analyses import feed
from analyses.routing import websocket_urlpatterns
from tests.factories import Rows, make_run, make_user, make_workspace

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LINGER", 0.05)
    monkeypatch.setattr(feed, "UNASKED", 0.2)


def socket(path: str, user: Any = None) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), f"/ws{path}")
    communicator.scope["user"] = user or AnonymousUser()
    return communicator


async def refused(communicator: WebsocketCommunicator) -> bool:
    await communicator.connect()
    message = await communicator.receive_output(2)
    return message["type"] == "websocket.close" and message["code"] == 4404


def _stage() -> tuple[Any, Any, Any]:
    owner, stranger = make_user(), make_user()
    run = make_run(make_workspace(owner), "running")
    assert run.workspace.slug  # read here, where the database may be asked
    return run, owner, stranger


async def test_member_gets_frames_from_the_seq_asked_for() -> None:
    run, owner, _ = await sync_to_async(_stage)()
    communicator = socket(f"{run.get_absolute_url()}?seq=4", owner)
    assert (await communicator.connect())[0]
    frame = await communicator.receive_from(3)
    assert frame.endswith(f'data-seq="{run.seq}" data-from="4"></span>')
    await communicator.disconnect()


async def test_stranger_and_nobody_are_closed_for_good() -> None:
    run, _, stranger = await sync_to_async(_stage)()
    assert await refused(socket(run.get_absolute_url(), stranger))
    assert await refused(socket(run.get_absolute_url()))
    assert await refused(socket("/s/nothing/"))


async def test_share_opens_the_socket_to_anyone_until_revoked() -> None:
    run, _, _ = await sync_to_async(_stage)()
    share = await sync_to_async(run.shares.create)()
    communicator = socket(f"/s/{share.token}/?seq=0")
    assert (await communicator.connect())[0]
    assert 'id="call-1"' in await communicator.receive_from(3)
    await communicator.disconnect()
    await sync_to_async(run.shares.update)(revoked_at=run.created_at)
    assert await refused(socket(f"/s/{share.token}/?seq=0"))


@pytest.mark.parametrize("seq", ["", "x", "-1", "9" * 40, "1e3"])
async def test_senseless_seq_begins_at_the_beginning(seq: str) -> None:
    run, owner, _ = await sync_to_async(_stage)()
    communicator = socket(f"{run.get_absolute_url()}?seq={seq}", owner)
    assert (await communicator.connect())[0]
    assert 'data-from="0"' in await communicator.receive_from(3)
    await communicator.disconnect()


@pytest.mark.parametrize(
    "said",
    [
        " ",
        "{",
        "[]",
        "null",
        '{"open": 3}',
        '{"open": {"b1": "x"}}',
        '{"open": {"b1": 1e400}}',
        '{"open": {"../x": 1}}',
        "[" * 50_000,
    ],
)
async def test_garbage_from_a_page_changes_nothing(said: str) -> None:
    run, owner, _ = await sync_to_async(_stage)()
    communicator = socket(f"{run.get_absolute_url()}?seq={run.seq}", owner)
    assert (await communicator.connect())[0]
    await communicator.receive_from(3)
    await communicator.send_to(text_data=said)
    await sync_to_async(lambda: Rows(run).call(run.call_set.get(number=1), 4))()
    assert 'id="call-6"' in await communicator.receive_from(3)
    await communicator.disconnect()
