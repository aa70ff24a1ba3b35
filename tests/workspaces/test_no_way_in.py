"""What somebody tries who wants in: forms of other sites, sockets of other origins, addresses that lead away, two at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from analyses.trajectory.exporting import EXPORTS
from rlmweb.origin import allowed
from tests.analyses.test_routes import RULED, World, key_of, make_world
from tests.workspaces.cast import PASSWORD, Cast, make_cast, make_user
from workspaces import actions
from workspaces.files import POLICY
from workspaces.models import Invitation, Member, User, Workspace
from workspaces.retention import prune_sessions

Role = Member.Role


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()
    return make_cast()


def text(response: Any) -> str:
    page: str = response.content.decode()
    return page


# — forms of other sites —


def test_nothing_is_written_without_the_token_that_only_our_pages_have(db: None) -> None:
    cache.clear()
    world: World = make_world()
    taken = []
    for who in ("alice", "anonymous"):
        client = Client(enforce_csrf_checks=True)
        client.cookies.update(world.clients[who].cookies)
        for name in RULED:
            path = world.path(name, **key_of(world, name))
            for method in ("post", "delete"):
                response = getattr(client, method)(path)
                if response.status_code != 403 or "This page was too old" not in text(response):
                    taken.append(f"{who}: {method} {name}: {response.status_code}")
    assert taken == []


# — sockets of other origins —


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        ("http://rlm.example", "rlm.example", True),
        ("https://rlm.example", "rlm.example", True),
        ("https://rlm.example", "rlm.example:443", True),
        ("http://rlm.example:8000", "rlm.example:8000", True),
        ("http://RLM.example", "rlm.example", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://desk.example", "rlm.example", True),  # the operator trusts it
        ("http://rlm.example:9000", "rlm.example:8000", False),  # another program of the same machine
        ("http://rlm.example", "rlm.example:8000", False),
        ("https://evil.example", "rlm.example", False),
        ("https://rlm.example.evil.example", "rlm.example", False),
        ("https://evil.example", "evil.example", False),  # a name that leads here, and is not ours
        ("http://desk.example", "rlm.example", False),
        ("null", "rlm.example", False),
        ("", "rlm.example", False),
        ("file://", "rlm.example", False),
        ("http://rlm.example:port", "rlm.example", False),
        ("http://rlm.exämple", "rlm.example", False),
        ("http://rlm.example", "", False),
    ],
)
def test_a_socket_opens_from_our_own_pages_alone(settings: Any, origin: str, host: str, may: bool) -> None:
    settings.ALLOWED_HOSTS = ["rlm.example", "[::1]"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://desk.example"]
    headers = {b"host": host.encode(), **({b"origin": origin.encode()} if origin else {})}
    assert allowed(headers) is may


async def test_a_socket_from_elsewhere_is_refused_before_anything_is_read() -> None:
    from channels.testing import WebsocketCommunicator

    from rlmweb.asgi import application

    for origin in (b"https://evil.example", b"http://localhost:9"):
        headers = [(b"origin", origin), (b"host", b"localhost")]
        socket = WebsocketCommunicator(application, "/ws/s/unknown/", headers=headers)  # type: ignore[no-untyped-call]
        connected, _ = await socket.connect(timeout=5)
        assert not connected


# — addresses that lead away —

EVIL = ("https://evil.example/", "//evil.example/", "/\\evil.example", "///evil.example", "javascript:alert(1)",
        "https:evil.example", "\thttps://evil.example", "http://testserver@evil.example/")  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_leads_to_another_site(cast: Cast, evil: str) -> None:
    def away(response: Any) -> str:
        return str(response.headers.get("Location", "")) + str(response.headers.get("HX-Redirect", ""))

    given = {"login": "ed@example.com", "password": PASSWORD, "next": evil}
    client = Client()
    assert "evil" not in away(client.post("/accounts/login/", given))
    assert "evil" not in away(client.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": evil}))
    assert "evil" not in away(client.post("/accounts/logout/", {"next": evil}))
    signed = Client().post(
        f"/accounts/signup/?next={evil}", {"email": "n@example.com", "password1": PASSWORD, "next": evil}
    )
    assert signed.status_code == 302
    assert "evil" not in away(signed)
    ended = Client().post(cast.url(), {}, headers={"HX-Request": "true", "HX-Current-URL": evil})
    assert not away(ended).startswith(("http", "//"))
    assert "evil.example" not in away(Client().get(away(ended)))


def test_links_in_mails_lead_here_whatever_a_request_says(cast: Cast, mailoutbox: list[Any]) -> None:
    given = {"email": "ed@example.com"}
    assert Client().post("/accounts/password/reset/", given, headers={"Host": "evil.example"}).status_code == 400
    assert not mailoutbox
    Client().post("/accounts/password/reset/", given, headers={"X-Forwarded-Host": "evil.example"})
    assert "http://testserver/accounts/" in mailoutbox[0].body
    assert "evil" not in mailoutbox[0].body


def test_a_workspaces_name_adds_no_line_to_a_mails_head(cast: Cast, mailoutbox: list[Any]) -> None:
    Workspace.objects.filter(pk=cast.workspace.pk).update(name="Desk\r\nBcc: everybody@example.com")
    cast.client(cast.alice).post(cast.url("settings/invite"), {"role": "viewer", "email": "nell@example.com"})
    [mail] = mailoutbox
    assert mail.subject == "Invitation to Desk Bcc: everybody@example.com on rlmweb"
    assert mail.recipients() == ["nell@example.com"]
    for evil in ("nell@example.com\r\nBcc: x@example.com", "nell@example.com, x@example.com", "<nell@example.com>"):
        refused = cast.client(cast.alice).post(cast.url("settings/invite"), {"role": "viewer", "email": evil})
        assert refused.status_code == 422
    assert len(mailoutbox) == 1


# — more than the form asks —


def test_fields_that_a_form_does_not_have_are_not_taken(cast: Cast) -> None:
    more = {"is_staff": "1", "is_superuser": "1", "is_active": "1", "name": "Root", "pk": str(cast.alice.pk)}
    Client().post("/accounts/signup/", {"email": "nell@example.com", "password1": PASSWORD, **more})
    nell = User.objects.get(email="nell@example.com")
    assert (nell.is_staff, nell.is_superuser) == (False, False)
    theirs = {
        "workspace": str(cast.elsewhere.pk),
        "id": str(cast.elsewhere.pk),
        "slug": "mine",
        "delete_at": "2001-01-01",
    }
    cast.client(cast.alice).post(cast.url("settings/"), {"name": "Quay", **theirs})
    cast.workspace.refresh_from_db()
    assert (cast.workspace.name, cast.workspace.delete_at) == ("Quay", None)
    assert cast.workspace.slug != "mine"
    cast.client(cast.adam).post(
        cast.url("endpoints/new"),
        {"name": "Desk", "base_url": "https://m.example/v1", "root_model": "m", "dialect": "async", "window": "9000",
         "workspace": str(cast.elsewhere.pk), "sealed_key": "x", "created_by": str(cast.alice.pk)},
    )  # fmt: skip
    row = cast.workspace.model_endpoints.get()
    assert (row.sealed_key, row.created_by) == ("", cast.adam)
    invited = {
        "role": "viewer",
        "accepted_by": str(cast.oscar.pk),
        "token": "guess",
        "workspace": str(cast.elsewhere.pk),
    }
    cast.client(cast.adam).post(cast.url("settings/invite"), invited)
    link = Invitation.objects.get()
    assert (link.workspace, link.accepted_by) == (cast.workspace, None)
    assert link.token != "guess"


# — coming back —


def _removed(cast: Cast, adam: Member) -> None:
    cast.client(cast.alice).post(cast.url(f"settings/members/{adam.pk}/remove"))


def _left(cast: Cast, adam: Member) -> None:
    cast.client(cast.adam).post(cast.url(f"settings/members/{adam.pk}/remove"))


def _demoted(cast: Cast, adam: Member) -> None:
    cast.client(cast.alice).post(cast.url(f"settings/members/{adam.pk}/role"), {"role": "editor"})


def _deleted(cast: Cast, adam: Member) -> None:
    cast.client(cast.adam).post("/accounts/delete/", {"proof": PASSWORD})


@pytest.mark.parametrize("happens", [_removed, _left, _demoted, _deleted])
def test_who_could_invite_does_not_come_back_by_a_link_they_kept(cast: Cast, happens: Callable[..., None]) -> None:
    make = cast.workspace.invitations.create
    seen = make(created_by=cast.alice, role="admin")  # links of others stand on the same page
    own = make(created_by=cast.adam, role="admin", email="friend@example.com")
    bound = make(created_by=cast.alice, email="nell@example.com")
    happens(cast, cast.workspace.members.get(user=cast.adam))
    assert list(Invitation.objects.open()) == [bound]
    for link in (seen, own):
        assert cast.client(make_user(f"again{link.pk}")).post(link.get_absolute_url()).status_code == 404


def test_who_is_removed_while_they_invite_leaves_no_link_behind(cast: Cast) -> None:
    adam = cast.workspace.members.get(user=cast.adam)  # as a request of theirs has read it
    alice = cast.workspace.members.get(user=cast.alice)
    actions.change_role(alice, adam, Role.VIEWER)
    with pytest.raises(actions.Refused, match="Only owners and admins invite"):
        actions.invite(adam, role="viewer")
    actions.remove_member(alice, adam)
    with pytest.raises(actions.Refused, match="not a member any more"):
        actions.invite(adam, role="viewer")
    assert not Invitation.objects.exists()


def test_who_could_not_invite_takes_no_link_along(cast: Cast) -> None:
    link = cast.workspace.invitations.create(created_by=cast.alice)
    ed = cast.workspace.members.get(user=cast.ed)
    cast.client(cast.alice).post(cast.url(f"settings/members/{ed.pk}/remove"))
    assert list(Invitation.objects.open()) == [link]


def test_an_address_that_was_taken_away_from_its_account_opens_no_invitation(cast: Cast) -> None:
    link = cast.workspace.invitations.create(created_by=cast.alice, email="nell@example.com")
    address = EmailAddress.objects.create(user=cast.oscar, email="nell@example.com", verified=True)
    address.verified = False
    address.save()
    assert cast.client(cast.oscar).post(link.get_absolute_url()).status_code == 403


# — two at once —


def at_once(*verbs: Callable[[], Any]) -> list[Any]:
    """All of them in threads of their own, begun together; what each returned, or its refusal."""
    begin = threading.Barrier(len(verbs))
    found: list[Any] = [None] * len(verbs)

    def one(number: int) -> None:
        begin.wait(30)
        try:
            found[number] = verbs[number]()
        except actions.Refused as refusal:
            found[number] = refusal
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(verbs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_leave_at_once_one_stays(transactional_db: None) -> None:
    cast = make_cast()
    alice = cast.workspace.members.get(user=cast.alice)
    adam = cast.workspace.members.get(user=cast.adam)
    actions.change_role(alice, adam, Role.OWNER)
    adam.refresh_from_db()
    found = at_once(lambda: actions.remove_member(alice, alice), lambda: actions.change_role(adam, adam, Role.VIEWER))
    assert sum(isinstance(each, actions.Refused) for each in found) == 1
    assert cast.workspace.members.filter(role=Role.OWNER).count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_remove_each_other_at_once_one_stays(transactional_db: None) -> None:
    cast = make_cast()
    alice = cast.workspace.members.get(user=cast.alice)
    adam = cast.workspace.members.get(user=cast.adam)
    actions.change_role(alice, adam, Role.OWNER)
    adam.refresh_from_db()
    at_once(lambda: actions.remove_member(alice, adam), lambda: actions.remove_member(adam, alice))
    assert cast.workspace.members.filter(role=Role.OWNER).count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_who_use_one_link_at_once_one_gets_in(transactional_db: None) -> None:
    cast = make_cast()
    link = cast.workspace.invitations.create(created_by=cast.alice)
    people = [make_user(f"Person{number}") for number in range(4)]
    before = cast.workspace.members.count()
    found = at_once(*[lambda person=person: actions.accept_invitation(link, person) for person in people])  # type: ignore[misc]
    assert sum(isinstance(each, Member) for each in found) == 1
    assert cast.workspace.members.count() == before + 1


@pytest.mark.django_db(transaction=True)
def test_who_presses_twice_is_a_member_once(transactional_db: None) -> None:
    cast = make_cast()
    link = cast.workspace.invitations.create(created_by=cast.alice)
    found = at_once(*[lambda: actions.accept_invitation(link, cast.oscar)] * 3)
    assert {type(each) for each in found} == {Member}
    assert cast.workspace.members.filter(user=cast.oscar).count() == 1


# — sessions —


def test_sessions_take_a_new_key_where_somebody_may_more_than_before(cast: Cast) -> None:
    client = Client()
    client.get(cast.workspace.invitations.create(created_by=cast.alice).get_absolute_url())  # an anonymous session
    anonymous = client.session.session_key
    client.post("/accounts/login/", {"login": "oscar@example.com", "password": PASSWORD})
    signed_in = client.session.session_key
    client.post(cast.workspace.invitations.get().get_absolute_url())
    joined = client.session.session_key
    new = "another long tin lighthouse"
    client.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    changed = client.session.session_key
    assert len({anonymous, signed_in, joined, changed}) == 4
    assert not Session.objects.filter(pk__in=[anonymous, signed_in, joined]).exists()


def test_sessions_that_are_over_go(cast: Cast) -> None:
    kept, over = cast.client(cast.alice), cast.client(cast.ed)
    Session.objects.filter(pk=over.session.session_key).update(expire_date=timezone.now() - timedelta(days=1))
    assert prune_sessions(at_once=1) == 1
    assert [session.pk for session in Session.objects.all()] == [kept.session.session_key]


# — what is served —


def test_every_page_forbids_scripts_and_styles_that_are_not_ours(db: None) -> None:
    cache.clear()
    world: World = make_world()
    for name in RULED:
        for who in ("alice", "anonymous"):
            response = world.clients[who].get(world.path(name, **key_of(world, name)))
            for close in response._resource_closers:  # type: ignore[attr-defined]
                close()
            policy = response.headers["Content-Security-Policy"]
            assert "unsafe" not in policy, name
            assert "default-src 'none'" in policy or "default-src 'self'" in policy, name
            assert "object-src 'none'" in policy or "default-src 'none'" in policy, name
            assert "frame-ancestors 'none'" in policy, name
            assert response.headers["X-Content-Type-Options"] == "nosniff", name
            assert response.headers["X-Frame-Options"] == "DENY", name


def test_every_export_is_a_download_that_cannot_act_as_a_page(db: None) -> None:
    cache.clear()
    world: World = make_world()
    for name in EXPORTS:
        for path in (world.path("run-export", format=name), world.path("share-export", format=name)):
            response = world.clients["alice"].get(path)
            assert response.status_code == 200, path
            assert response.headers["Content-Disposition"].startswith("attachment"), path
            assert response.headers["Content-Security-Policy"] == POLICY, path


def test_cookies_are_not_for_scripts_and_not_for_other_sites(cast: Cast) -> None:
    client = Client()
    response = client.post("/accounts/login/", {"login": "ed@example.com", "password": PASSWORD})
    session = response.cookies["sessionid"]
    assert (session["httponly"], session["samesite"]) == (True, "Lax")
