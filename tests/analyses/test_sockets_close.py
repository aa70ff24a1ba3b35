"""Who may not look any more loses the open socket at once, long before the feed's own look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.test import Client

from analyses import feed
from analyses.routing import websocket_urlpatterns
from analyses.viewers import ANEW, ASK_AGAIN, GONE, LET_GO
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


# — a session that ends closes the sockets that it opened —


PASSWORD, NEW = "a long tin lighthouse", "another long tin lighthouse"


class Signed:
    """A member who is signed in twice: here, and on another device."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.user = self.stage.member
        self.user.set_password(PASSWORD)
        self.user.save()
        self.here, self.there = Client(), Client()
        for client in (self.here, self.there):
            signed = client.post("/accounts/login/", {"login": self.user.email, "password": PASSWORD})
            assert signed.status_code == 302


async def _asked(client: Client, path: str) -> WebsocketCommunicator:
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    application = AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
    communicator = WebsocketCommunicator(application, f"/ws{path}?seq=0", headers=[(b"cookie", cookies.encode())])
    assert (await communicator.connect(5))[0]
    return communicator


async def opened_by(client: Client, path: str) -> WebsocketCommunicator:
    communicator = await _asked(client, path)
    await communicator.receive_from(5)
    return communicator


async def code_of(communicator: WebsocketCommunicator) -> int:
    while True:
        message = await communicator.receive_output(20)
        if message["type"] == "websocket.close":
            return int(message["code"])


def _signed_out(signed: Signed) -> None:
    signed.there.post("/accounts/logout/")


def _ended_from_the_list(signed: Signed) -> None:
    signed.here.post("/accounts/sessions/")


def _changed_password(signed: Signed) -> None:
    given = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    assert signed.here.post("/accounts/password/change/", given).status_code == 302


def _set_by_the_operator(signed: Signed) -> None:
    signed.user.refresh_from_db()
    signed.user.set_password(NEW)
    signed.user.save()


@pytest.mark.parametrize("happens", [_signed_out, _ended_from_the_list, _changed_password, _set_by_the_operator])
async def test_a_session_that_ends_closes_its_sockets(happens: Callable[[Signed], None]) -> None:
    signed = await sync_to_async(Signed)()
    address = signed.stage.address
    theirs, owners = await opened_by(signed.there, address), await opened_by(signed.stage.client, address)
    await sync_to_async(happens)(signed)
    assert await code_of(theirs) == ASK_AGAIN  # the page asks again, …
    assert await owners.receive_nothing(0.3)
    await owners.disconnect()
    assert await code_of(await _asked(signed.there, address)) == GONE  # … and is told that there is nothing for it


async def test_whose_session_takes_a_new_key_comes_back_with_it() -> None:
    signed = await sync_to_async(Signed)()
    mine = await opened_by(signed.here, signed.stage.address)
    await sync_to_async(_changed_password)(signed)  # the session in which it was changed goes on, under another key
    assert await code_of(mine) == ASK_AGAIN
    again = await opened_by(signed.here, signed.stage.address)
    await again.disconnect()


async def test_a_deleted_account_closes_its_sockets() -> None:
    signed = await sync_to_async(Signed)()
    theirs = await opened_by(signed.there, signed.stage.address)
    deleted = await sync_to_async(signed.here.post)("/accounts/delete/", {"proof": PASSWORD})
    assert deleted.status_code == 302
    assert await code_of(theirs) in (GONE, ASK_AGAIN)


def test_codes_are_some_that_a_server_may_close_with() -> None:
    """1012 would be hx-ws's own word for it; WebSocket servers refuse to send it, and the socket would stay open."""
    assert all(3000 <= code <= 4999 for code in (GONE, ASK_AGAIN, LET_GO, ANEW))
