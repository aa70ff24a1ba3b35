"""Who may not look any more loses the open socket at once, long before the feed's own look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.test import Client

from analyses import feed
from analyses.consumers import GONE
from analyses.routing import websocket_urlpatterns
from tests.factories import make_run, make_user, make_workspace
from workspaces.models import User

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself the feed would look after a minute: what closes these sockets is being told."""
    monkeypatch.setattr(feed, "CHECK", 60.0)
    monkeypatch.setattr(feed, "UNASKED", 60.0)
    monkeypatch.setattr(feed, "LINGER", 0.05)


class Stage:
    def __init__(self) -> None:
        cache.clear()
        self.owner, self.member = make_user(), make_user()
        self.workspace = make_workspace(self.owner)
        self.row = self.workspace.members.create(user=self.member, role="editor")
        self.run = make_run(self.workspace, "running")
        self.share = self.run.shares.create()
        self.address = self.run.get_absolute_url()
        self.client = Client()
        self.client.force_login(self.owner, backend="django.contrib.auth.backends.ModelBackend")

    def settings(self, rest: str) -> str:
        return f"/w/{self.workspace.slug}/settings/{rest}"


async def opened(path: str, user: User | None) -> WebsocketCommunicator:
    communicator = WebsocketCommunicator(URLRouter(websocket_urlpatterns), f"/ws{path}?seq=0")
    communicator.scope["user"] = user or AnonymousUser()
    assert (await communicator.connect())[0]
    await communicator.receive_from(3)
    return communicator


async def closed(communicator: WebsocketCommunicator) -> float:
    """Seconds until the socket was closed as gone."""
    began = time.monotonic()
    while True:
        message = await communicator.receive_output(4)
        if message["type"] == "websocket.close":
            assert message["code"] == GONE
            return time.monotonic() - began


def _removed(stage: Stage) -> Any:
    return stage.client.post(stage.settings(f"members/{stage.row.pk}/remove"))


def _left(stage: Stage) -> Any:
    client = Client()
    client.force_login(stage.member, backend="django.contrib.auth.backends.ModelBackend")
    return client.post(stage.settings(f"members/{stage.row.pk}/remove"))


def _deleted(stage: Stage) -> Any:
    return stage.client.post(stage.settings("delete"))


def _deactivated(stage: Stage) -> None:
    stage.member.is_active = False
    stage.member.save()


@pytest.mark.parametrize("happens", [_removed, _left, _deleted, _deactivated])
async def test_a_member_who_is_none_any_more_loses_the_socket(happens: Callable[[Stage], Any]) -> None:
    stage = await sync_to_async(Stage)()
    theirs, owners = await opened(stage.address, stage.member), await opened(stage.address, stage.owner)
    response = await sync_to_async(happens)(stage)
    assert response is None or response.status_code == 302
    assert await closed(theirs) < 2
    if happens is _deleted:
        assert await closed(owners) < 2
    else:
        await sync_to_async(lambda: None)()
        assert await owners.receive_nothing(0.3)  # who stays a member stays on the line
        await owners.disconnect()


async def test_a_revoked_share_closes_the_sockets_of_its_link_alone() -> None:
    stage = await sync_to_async(Stage)()
    stranger, owner = await opened(f"/s/{stage.share.token}/", None), await opened(stage.address, stage.owner)
    response = await sync_to_async(stage.client.post)(f"{stage.address}share/{stage.share.pk}/revoke")
    assert response.status_code == 302
    assert await closed(stranger) < 2
    assert await owner.receive_nothing(0.3)
    await owner.disconnect()


async def test_a_deleted_workspace_closes_its_shares_too() -> None:
    stage = await sync_to_async(Stage)()
    stranger = await opened(f"/s/{stage.share.token}/", None)
    await sync_to_async(_deleted)(stage)
    assert await closed(stranger) < 2
