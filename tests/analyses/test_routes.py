"""Every address of the site, asked by everybody: a route without a rule fails here, and so does one that tells too much.

A new route gets a line in RULES (or SOCKETS) saying who may; the walk does the rest.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from analyses.consumers import GONE
from analyses.ingest import import_paths
from analyses.models import Call, Cell, Import, Run, Share, Status
from tests.workspaces.cast import Cast, make_cast, make_plain_run, make_user
from workspaces.files import POLICY

SECRET = "Sesquipedalian"  # stands in every row of Alice's workspace; a stranger must never be shown it
MEMBERS = ("alice", "adam", "ed", "vera")
# Nobody, an owner and an editor of another workspace, who was a member here once, who came by an invitation too late.
STRANGERS = ("anonymous", "oscar", "edna", "removed", "late")


@dataclass(frozen=True)
class Rule:
    """Who may ask by which method. ``read`` and ``write`` name those among MEMBERS; the other strangers see below."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    found: bool = True  # the cast has what this route shows: who may read it gets it
    data: dict[str, str] = field(default_factory=dict)  # a write that is valid
    headers: dict[str, str] = field(default_factory=dict)  # without which the route does not listen


class Public(Rule):
    """For everybody; shows nothing of a workspace."""


class Person(Rule):
    """For whoever is signed in; shows nothing of another's workspace."""


class Shared(Rule):
    """For whoever has a live link; with one that is revoked, over, or waits for its password, nothing."""


EDITORS, ADMINS = ("alice", "adam", "ed"), ("alice", "adam")
see = Rule(read=MEMBERS)
TUS = {"Tus-Resumable": "1.0.0"}
part = Rule(read=MEMBERS, found=False)  # a part of a page that a small run does not have

RULES: dict[str, Rule] = {
    "healthz": Public(),
    "home": Person(),
    "workspace-new": Person(),
    "workspace-settings": Rule(MEMBERS, ADMINS, data={"name": SECRET}),
    "audit": Rule(ADMINS),
    "invitation": Public(),  # with a share's token: nothing; what a true one opens, tests/workspaces/test_members.py says
    "invite": Rule(write=ADMINS, data={"role": "viewer"}),
    "invitation-revoke": Rule(write=ADMINS),
    "member-role": Rule(write=ADMINS, data={"role": "viewer"}),
    "member-remove": Rule(write=ADMINS),
    "workspace-delete": Rule(write=("alice",)),
    "workspace-deleted": Person(),  # its owners', once it is deleted (tests/workspaces/test_deletion.py); else nothing
    "account-delete": Person(),
    "run-delete": Rule(EDITORS, EDITORS),
    "usage": Rule(MEMBERS),
    "budgets": Rule(MEMBERS, ADMINS, data={"workspace_cost": "50"}),
    "upload-limits": Rule(MEMBERS, ADMINS, data={"files": "50"}),
    "budget-member": Rule(write=ADMINS),
    "retention": Rule(MEMBERS, ADMINS, data={"runs_then": "keep", "runs_days": "90"}),
    "run-keep": Rule(write=EDITORS, data={"kept": "1"}),
    "run-archive": Rule(write=EDITORS),
    "run-restore": Rule(write=EDITORS),
    "run-estimate": see,
    "workspace-home": Rule(MEMBERS, EDITORS, data={"question": f"{SECRET}?"}),
    "sample-load": Rule(write=EDITORS),
    "run-list": see,
    "run-detail": see,
    "run-stop": Rule(write=EDITORS),
    "run-pause": Rule(write=EDITORS),
    "run-resume": Rule(write=EDITORS),
    "run-follow-up": Rule(MEMBERS, EDITORS, data={"question": f"{SECRET} further?"}),
    "run-answer": see,
    "run-earlier-answer": part,
    "call-cells": see,
    "call-path": part,
    "run-moments": see,
    "run-search": see,
    "call-inspect": see,
    "cell-inspect": see,
    "cell-children": part,
    "cell-output": see,
    "run-fork": Rule(EDITORS, EDITORS),
    "run-retry": Rule(EDITORS, EDITORS),
    "compare": see,
    "compare-pick": Rule(read=MEMBERS, found=False),
    "share-make": Rule(write=EDITORS),
    "share-change": Rule(write=EDITORS),
    "share-list": Rule(ADMINS),
    "share-revoke": Rule(write=EDITORS),
    "corpus-list": see,
    "corpus-new": Rule(MEMBERS, EDITORS, found=False),
    "corpus-detail": see,
    "corpus-add": Rule(MEMBERS, EDITORS),
    "corpus-probe": part,
    "corpus-search": see,
    "corpus-order": Rule(EDITORS, EDITORS, data={"version": "1", "order": "1,0"}),
    "corpus-restore": Rule(write=EDITORS, data={"version": "1", "to": "1"}),
    "corpus-choose": Rule(EDITORS),
    "corpus-rename": Rule(write=EDITORS),
    "corpus-delete": Rule(MEMBERS, EDITORS),
    "document-detail": see,
    "document-original": part,
    "document-remove": Rule(write=EDITORS, data={"version": "1"}),
    "document-move": Rule(write=EDITORS, data={"version": "1", "to": "2"}),
    "upload-detail": see,
    "upload-ledger": see,
    "upload-files": Rule(write=EDITORS),
    "upload-close": Rule(write=EDITORS),
    "upload-cancel": Rule(write=EDITORS),
    "upload-retry": Rule(write=EDITORS),
    "tus-create": Rule(write=EDITORS, headers=TUS),
    "tus-file": Rule(headers=TUS),  # HEAD, PATCH and DELETE: the tests of tus ask who may
    "run-export": see,
    "run-import": Rule(EDITORS, EDITORS),
    "import-detail": see,
    "endpoint-list": see,
    "endpoint-new": Rule(ADMINS, ADMINS),
    "endpoint-edit": Rule(ADMINS, ADMINS),
    "endpoint-test": Rule(write=ADMINS),
    "endpoint-remove": Rule(write=ADMINS),
    "share-detail": Shared(),
    "share-unlock": Shared(found=False),
    "share-preview": Shared(),
    "share-export": Shared(),
    "share-sources": Shared(),
    "share-document": Shared(),
    "share-answer": Shared(),
    "share-earlier-answer": Shared(found=False),
    "share-call-cells": Shared(),
    "share-call-path": Shared(found=False),
    "share-moments": Shared(),
    "share-search": Shared(),
    "share-call-inspect": Shared(),
    "share-cell-inspect": Shared(),
    "share-children": Shared(found=False),
    "share-output": Shared(),
    # django-allauth's own pages
    "account_login": Public(),
    "account_logout": Public(),
    "account_inactive": Public(),
    "account_signup": Public(),
    "account_reset_password": Public(),
    "account_reset_password_done": Public(),
    "account_reset_password_from_key": Public(),
    "account_reset_password_from_key_done": Public(),
    "account_confirm_email": Public(),
    "account_email_verification_sent": Public(),
    "account_confirm_login_code": Public(),
    "account_reauthenticate": Person(),
    "account_email": Person(),
    "account_change_password": Person(),
    "account_set_password": Person(),
    "usersessions_list": Person(),
    "openid_connect_login": Public(),
    "openid_connect_callback": Public(),
    "socialaccount_login_cancelled": Public(),
    "socialaccount_login_error": Public(),
    "socialaccount_signup": Public(),  # between the provider and the account
    "socialaccount_connections": Person(),
    "mfa_authenticate": Public(),  # between the password and the second factor
    "mfa_login_webauthn": Public(),
    "mfa_index": Person(),
    "mfa_reauthenticate": Person(),
    "mfa_reauthenticate_webauthn": Person(),
    "mfa_activate_totp": Person(),
    "mfa_deactivate_totp": Person(),
    "mfa_view_recovery_codes": Person(),
    "mfa_generate_recovery_codes": Person(),
    "mfa_download_recovery_codes": Person(),
    "mfa_list_webauthn": Person(),
    "mfa_add_webauthn": Person(),
    "mfa_edit_webauthn": Person(),
    "mfa_remove_webauthn": Person(),
}


def routes(
    patterns: Any = None, namespace: str = "", taken: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each route's name and the names of what its address takes."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        takes = (*taken, *(getattr(pattern.pattern, "converters", None) or pattern.pattern.regex.groupindex))
        if isinstance(pattern, URLResolver):
            inside = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from routes(pattern.url_patterns, inside, takes)
        elif isinstance(pattern, URLPattern):
            yield f"{namespace}{pattern.name}", takes


ALL = dict(routes())
OURS = sorted(name for name in ALL if not name.startswith("admin:"))
RULED = sorted(set(OURS) & set(RULES))


@dataclass(frozen=True)
class World:
    cast: Cast
    run: Run
    share: Share
    revoked: Share
    expired: Share
    locked: Share  # with a password that nobody here gives
    clients: dict[str, Client]
    values: dict[str, Any]

    def path(self, name: str, **other: Any) -> str:
        values = self.values | other
        missing = [each for each in ALL[name] if each not in values]
        assert not missing, f"World.values must say what {missing} of the route {name} is"
        return reverse(name, kwargs={each: values[each] for each in ALL[name]})


def make_world() -> World:
    cast = make_cast()
    cast.workspace.name = SECRET
    cast.workspace.save()
    removed = make_user("Removed")
    cast.workspace.members.create(user=removed).delete()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in (f"{SECRET}.txt", "second.txt")]
        for path in paths:
            path.write_text(f"{SECRET} said so, in {path.stem}.")
        version = import_paths(cast.workspace, cast.ed, paths, name=SECRET).version
    upload = cast.workspace.uploads.get()
    run = make_plain_run(
        cast.workspace, f"{SECRET}?", corpus_version=version, status=Status.DONE, seq=3, calls=1,
        answer_display=SECRET, answer_type="str", answer_shape="str",
    )  # fmt: skip
    now = time.time()
    call = Call.objects.create(
        run=run, number=1, kind="root", strategy="rlm", model="m", dialect="async", title=SECRET, context_type="str",
        context_shape="str", status=Status.DONE, queued_at=now, started_at=now, finished_at=now, turns=1, born=1, seq=3,
    )  # fmt: skip
    Cell.objects.create(
        run=run, call=call, call_number=1, number=1, kind="code", status="done", reply=SECRET, code=f"print('{SECRET}')",
        shown=SECRET, output=SECRET, output_chars=len(SECRET), shown_chars=len(SECRET), started_at=now, replied_at=now,
        ended_at=now, born=2, seq=3,
    )  # fmt: skip
    share = Share.objects.create(run=run, with_sources=True)
    revoked = Share.objects.create(run=run, revoked_at=timezone.now())
    expired = Share.objects.create(run=run, expires_at=timezone.now())
    locked = Share.objects.create(run=run, with_sources=True, password=make_password("a tin lighthouse"))
    clients = {name: cast.client(getattr(cast, name)) for name in (*MEMBERS, "oscar")}
    clients |= {"anonymous": Client(), "removed": cast.client(removed)}
    edna, late = make_user("Edna"), make_user("Late")
    cast.elsewhere.members.create(user=edna, role="editor")
    clients |= {"edna": cast.client(edna), "late": cast.client(late)}
    over = cast.workspace.invitations.create(email=late.email, expires_at=timezone.now() - timedelta(seconds=1))
    opened = clients["late"].session
    opened["invitation"] = over.token  # they had opened it in time
    opened.save()
    values = {
        "workspace": cast.workspace.slug,
        "key": run.key,
        "a": run.key,
        "b": run.key,
        "call": 1,
        "cell": 1,
        "number": 1,
        "share_id": share.pk,
        "token": share.token,
        "invitation_id": cast.workspace.invitations.create(created_by=cast.alice).pk,
        "over": over.token,
        "member_id": cast.workspace.members.create(user=make_user("Fern")).pk,
        "position": 0,
        "upload": upload.key,
        "file": upload.files.first().pk,
        "format": "jsonl",
        "import": Import.objects.create(workspace=cast.workspace, finished_at=timezone.now()).key,
        "endpoint_id": cast.workspace.model_endpoints.create(
            name=SECRET, base_url="http://127.0.0.1:9", root_model="m"
        ).pk,
        "uidb36": "1",
        "provider_id": "sso",
        "pk": 1,
    }
    return World(cast, run, share, revoked, expired, locked, clients, values)


def key_of(world: World, name: str) -> dict[str, Any]:
    """A corpus and a run both call theirs `key`."""
    if name == "import-detail":
        return {"key": world.values["import"]}
    return {"key": world.run.corpus_version.corpus.key} if name.startswith(("corpus", "upload", "document")) else {}  # type: ignore[union-attr]


@pytest.fixture
def world(db: None) -> World:
    return make_world()


def refused(response: Any, client: str) -> bool:
    """What a stranger may be told: that there is nothing, or to sign in, or that the method is wrong."""
    to_sign_in = response.status_code == 302 and response.headers["Location"].startswith("/accounts/login/")
    return response.status_code in (404, 405) or (client == "anonymous" and to_sign_in)


def shows(response: Any) -> bool:
    content = b"".join(response.streaming_content) if response.streaming else response.content
    return SECRET.encode() in content


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    assert sorted(RULES) == OURS


def said(response: Any) -> str:
    for close in response._resource_closers:  # files alone: response.close() would close the test's database too
        close()
    return f"{response.status_code}"


def told_to_strangers(world: World) -> tuple[list[str], int]:
    """What strangers get that they should not, and how often was asked. benchmarks/load.py counts it too."""
    leaks, asked = [], 0
    for name in RULED:
        rule = RULES[name]
        path = world.path(name, **key_of(world, name))
        for stranger in STRANGERS:
            for method in ("get",) if isinstance(rule, Public | Shared) else ("get", "post", "put", "patch", "delete"):
                response = getattr(world.clients[stranger], method)(path, data=rule.data or None, headers=rule.headers)
                asked += 1
                told = isinstance(rule, Shared) or not shows(response)
                closed = isinstance(rule, Public | Shared) or refused(response, stranger)
                if isinstance(rule, Person) and stranger != "anonymous":
                    closed = response.status_code < 500
                if not told or not closed:
                    leaks.append(f"{stranger}: {method} {name}: {said(response)}")
    return leaks, asked


def test_strangers_are_told_nothing(world: World) -> None:
    leaks, asked = told_to_strangers(world)
    assert leaks == []
    assert asked >= 3 * len(OURS)


def beyond_their_role(world: World) -> tuple[list[str], int]:
    """What members get beyond their role, or miss of it, and how often was asked."""
    wrong, asked = [], 0
    for name in [name for name in RULED if type(RULES[name]) is Rule]:
        rule, path = RULES[name], world.path(name, **key_of(world, name))
        for member in MEMBERS:
            asked += 2
            read = said(world.clients[member].get(path, headers=rule.headers))
            with transaction.atomic():  # what one removes is there for the next
                write = said(world.clients[member].post(path, rule.data, headers=rule.headers))
                transaction.set_rollback(True)
            may_read = ("200",) if rule.found else ("200", "302", "404")
            if read not in (may_read if member in rule.read else ("403", "405")):
                wrong.append(f"{member} reads {name}: {read}")
            if (write not in ("403", "404", "405") and write < "500") != (member in rule.write):
                wrong.append(f"{member} writes {name}: {write}")
    return wrong, asked


def test_members_may_what_their_role_allows(world: World) -> None:
    wrong, _ = beyond_their_role(world)
    assert wrong == []


def test_a_share_opens_its_own_pages_until_it_is_revoked_or_over(world: World) -> None:
    wrong = []
    for name in [name for name in RULED if isinstance(RULES[name], Shared)]:
        for who in (*STRANGERS, *MEMBERS):
            client = world.clients[who]
            opened = said(client.get(world.path(name)))
            if opened not in (("200",) if RULES[name].found else ("200", "404", "405")):
                wrong.append(f"{who} opens {name}: {opened}")
            for method in ("post", "put", "delete"):
                if said(getattr(client, method)(world.path(name))) not in ("403", "405"):
                    wrong.append(f"{who}: {method} {name}")
            for token in (world.revoked.token, world.expired.token, "unknown", world.run.key):
                response = client.get(world.path(name, token=token))
                # A member's own page of 404 names their workspace, in the switcher.
                if response.status_code not in (404, 405) or (who not in MEMBERS and shows(response)):
                    wrong.append(f"{who} opens {name} with a dead token: {said(response)}")
            response = client.get(world.path(name, token=world.locked.token))
            tells = response.status_code not in (404, 405) and name not in ("share-detail", "share-preview")
            if tells or (who not in MEMBERS and shows(response)):
                wrong.append(f"{who} opens {name} without its password: {said(response)}")
    assert wrong == []


def test_nothing_under_a_shares_link_is_indexed_or_kept(world: World) -> None:
    for name in [name for name in RULED if isinstance(RULES[name], Shared)]:
        for token in (world.share.token, world.locked.token, "unknown"):
            response = world.clients["anonymous"].get(world.path(name, token=token))
            assert response.headers["X-Robots-Tag"] == "noindex, nofollow", name
            assert response.headers["Referrer-Policy"] == "no-referrer", name
            assert response.headers["Cache-Control"].startswith("private, no-"), name
            said(response)


PROGRAMS = ("healthz", "mfa_login_webauthn")  # answered to programs and scripts, with words of ours alone


def test_what_is_no_page_is_served_so_that_it_cannot_act_as_one(world: World) -> None:
    """Texts of documents, models, cells and people: of a fixed type, in no origin of ours."""
    seen = set()
    for name in RULED:
        for query in ("", "?as=csv", "?as=json", "?as=md"):
            response = world.clients["alice"].get(world.path(name, **key_of(world, name)) + query)
            kind = response.headers.get("Content-Type", "").partition(";")[0]
            body = response.status_code == 200 and kind != "text/html" and name not in PROGRAMS
            if body:
                seen.add(name)
                assert response.headers["Content-Security-Policy"] == POLICY, (name, query)
                assert response.headers["X-Content-Type-Options"] == "nosniff", (name, query)
                charset = not kind.startswith("text/") or "charset=utf-8" in response.headers["Content-Type"]
                assert charset, (name, query)
            said(response)
    files = {"run-answer", "run-export", "cell-output", "document-original", "usage", "audit"}
    assert seen >= files | {"share-answer", "share-export", "share-output", "share-preview"}


def test_an_invitation_that_is_over_opens_nothing(world: World) -> None:
    path = world.path("invitation", token=world.values["over"])
    for who in STRANGERS:
        for method in ("get", "post"):
            response = getattr(world.clients[who], method)(path)
            assert response.status_code == 404, who
            assert not shows(response), who
    assert not world.cast.workspace.members.filter(user__email="late@example.com").exists()


@pytest.mark.parametrize("who", ["oscar", "vera"])
def test_a_row_of_another_workspace_is_not_reached_through_ones_own(world: World, who: str) -> None:
    """Oscar owns a workspace: its address with Alice's keys must not open them. Nor for Vera, who may see them, but no more."""
    world.cast.elsewhere.members.create(user=world.cast.vera, role="owner")
    for name in RULED:
        if "workspace" in ALL[name] and len(ALL[name]) > 1:
            path = world.path(name, workspace=world.cast.elsewhere.slug, **key_of(world, name))
            for method in ("get", "post", "patch", "delete"):
                response = getattr(world.clients[who], method)(path, RULES[name].data, headers=RULES[name].headers)
                assert response.status_code in (404, 405), f"{method} {name}: {response.status_code}"
                assert who == "vera" or not shows(response)  # whose switcher names the workspace


def test_a_row_is_not_reached_through_another_of_its_kind(world: World) -> None:
    """A share, a file and a document belong to one run, upload and corpus: the address of another does not lead to them."""
    cast = world.cast
    run = make_plain_run(cast.workspace, "Another?", status=Status.DONE)
    upload = cast.workspace.uploads.create(created_by=cast.alice)
    for name, other in (
        ("share-revoke", {"key": run.key}),
        ("upload-retry", {"upload": upload.key}),
        ("tus-file", {"upload": upload.key}),
        ("call-cells", {"key": run.key}),
        ("cell-output", {"key": run.key}),
    ):
        for method in ("get", "post", "patch", "delete"):
            response = getattr(world.clients["alice"], method)(world.path(name, **other), headers=TUS)
            assert response.status_code in (404, 405), f"{method} {name}: {response.status_code}"
    world.share.refresh_from_db()
    assert world.share.revoked_at is None


def test_the_operators_pages_are_the_operators(world: World) -> None:
    names = [name for name in ALL if name.startswith("admin:") and not ALL[name]]
    assert names
    for name in names:
        for who in (*STRANGERS, *MEMBERS):
            response = world.clients[who].get(reverse(name))
            assert response.status_code in (302, 403, 404), f"{who}: {name} {response.status_code}"
            assert who in MEMBERS or not shows(response)


# — WebSockets: the route's text to who may open it —
SOCKETS: dict[str, str] = {
    "ws/w/<slug:workspace>/r/<str:key>/": "members",
    "ws/s/<str:token>/": "shared",
}


def sockets() -> list[str]:
    from analyses.routing import websocket_urlpatterns

    return [str(route.pattern) for route in websocket_urlpatterns]


def test_every_socket_has_a_rule() -> None:
    assert sorted(sockets()) == sorted(SOCKETS)


@pytest.mark.parametrize("route", list(SOCKETS))
@pytest.mark.django_db(transaction=True)
async def test_a_socket_opens_for_those_alone_who_may_see_the_run(route: str) -> None:
    from rlmweb.asgi import application

    world = await sync_to_async(make_world)()
    values = {
        "<slug:workspace>": world.cast.workspace.slug,
        "<str:key>": world.run.key,
        "<str:token>": world.share.token,
    }

    async def opens(who: str, **other: str) -> bool:
        path = f"/{route}"
        for name, value in (values | {f"<str:{name}>": value for name, value in other.items()}).items():
            path = path.replace(name, value)
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in world.clients[who].cookies.items())
        headers = [(b"cookie", cookies.encode()), (b"origin", b"http://localhost"), (b"host", b"localhost")]
        socket = WebsocketCommunicator(application, path, headers=headers)  # type: ignore[no-untyped-call]
        connected, _ = await socket.connect(timeout=5)
        if not connected:
            return False
        try:
            first = await socket.receive_output(timeout=0.5)
        except TimeoutError:
            return True  # open, and nothing to say
        if first["type"] == "websocket.close":  # accepted first, so that the page hears why and does not come back
            assert first["code"] == GONE
            return False
        await socket.disconnect()
        return True

    if SOCKETS[route] == "members":
        assert [who for who in (*MEMBERS, *STRANGERS) if await opens(who)] == list(MEMBERS)
        assert not await opens("alice", key="unknown")
    else:
        assert await opens("anonymous")
        for dead in (world.revoked, world.expired, world.locked):
            assert not await opens("anonymous", token=dead.token)
        assert not await opens("anonymous", token=world.run.key)


def test_the_operator_reads_what_the_recorder_writes_and_changes_none_of_it(world: World) -> None:
    operator = get_user_model().objects.create_superuser("op@example.com", "x")
    client = Client()
    client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    for name, takes in ALL.items():
        if name.startswith("admin:analyses_") and name.endswith("_changelist"):
            assert client.get(reverse(name)).status_code == 200, name
            assert not takes
    page = client.get(reverse("admin:analyses_run_change", args=[world.run.pk]))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert (
        client.post(reverse("admin:analyses_run_change", args=[world.run.pk]), {"status": "failed"}).status_code == 403
    )
    assert client.get(reverse("admin:analyses_run_add")).status_code == 403
