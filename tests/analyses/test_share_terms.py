"""What a share lasts, asks for and contains: ends, passwords, source texts, outputs, views, previews, the audit."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from PIL import Image

from analyses import blobs, feed, sharing
from analyses.ingest import import_paths
from analyses.models import Call, Cell, Run, Share
from analyses.routing import websocket_urlpatterns
from analyses.trajectory import archive
from analyses.trajectory.exporting import EXPORTS
from analyses.viewers import GONE
from tests.factories import make_run
from tests.workspaces.cast import Cast, make_cast
from workspaces.models import AuditEntry

PASSWORD = "the tin lighthouse"
BROWSER = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
SOURCE = "The light went dark at ten past two."
PRINTED = "printed, and never seen by a model"


@pytest.fixture(autouse=True)
def no_guesses_yet() -> None:
    cache.clear()


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def run(cast: Cast) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "log.txt").write_text(SOURCE)
        version = import_paths(cast.workspace, cast.ed, [Path(folder, "log.txt")], name="Harbour").version
    run = make_run(cast.workspace, "done", corpus_version=version, created_by=cast.ed)
    whole = Cell.objects.filter(run=run, call_number=1, number=2)
    whole.update(
        output_blob=blobs.put(PRINTED.encode()), variables=[{"name": "held", "type": "str", "preview": "kept value"}]
    )
    child = Call.objects.get(run=run, number=2)
    Call.objects.filter(pk=child.pk).update(kind="leaf")
    Cell.objects.filter(call=child).update(messages=[{"role": "user", "content": SOURCE}])
    return run


def locked(run: Run, **fields: Any) -> Share:
    return Share.objects.create(run=run, password=make_password(PASSWORD), **fields)


def page(client: Client, share: Share, rest: str = "", **headers: str) -> str:
    response = client.get(f"{share.get_absolute_url()}{rest}", headers=headers)
    assert response.status_code == 200, response.status_code
    return (b"".join(response.streaming_content) if response.streaming else response.content).decode()  # type: ignore[attr-defined]


def unlock(client: Client, share: Share, password: str = PASSWORD) -> Any:
    return client.post(f"{share.get_absolute_url()}unlock", {"password": password})


# — made and changed —


def make(cast: Cast, run: Run, **terms: Any) -> Share:
    response = cast.client(cast.ed).post(f"{run.get_absolute_url()}share", terms)
    assert response.status_code == 302
    return Share.objects.latest("pk")


def test_a_share_is_made_with_its_terms(cast: Cast, run: Run) -> None:
    plain = make(cast, run)
    assert (plain.expires_at, plain.password, plain.with_sources, plain.with_outputs) == (None, "", False, True)
    share = make(cast, run, expires="7", password=PASSWORD, outputs="seen", with_sources="on")
    assert share.expires_at is not None
    assert abs(share.expires_at - timezone.now() - datetime.timedelta(days=7)) < datetime.timedelta(minutes=1)
    assert PASSWORD not in share.password and check_password(PASSWORD, share.password)
    assert (share.with_sources, share.with_outputs) == (True, False)
    day = timezone.now().date() + datetime.timedelta(days=3)
    dated = make(cast, run, expires="date", expires_on=day.isoformat())
    assert dated.expires_at == datetime.datetime.combine(day, datetime.time(23, 59, 59), tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"expires": "date"}, "Choose the day."),
        ({"expires": "date", "expires_on": "1999-01-01"}, "Choose a day from today on"),
        ({"expires": "date", "expires_on": "9999-12-31"}, "Choose a day from today on"),
        ({"expires": "soon"}, "soon"),
        ({"password": "short"}, "at least 8 characters"),
        ({"password": "x" * 129}, "at most 128 characters"),
    ],
)
def test_terms_that_cannot_be_are_refused_with_a_reason(cast: Cast, run: Run, terms: dict[str, str], said: str) -> None:
    client = cast.client(cast.ed)
    assert said in client.post(f"{run.get_absolute_url()}share", terms, headers={"HX-Request": "true"}).content.decode()
    assert said in client.post(f"{run.get_absolute_url()}share", terms, follow=True).content.decode()
    assert not Share.objects.exists()


def test_a_share_is_changed_and_what_is_not_said_stays(cast: Cast, run: Run) -> None:
    share = locked(run, expires_at=timezone.now() + datetime.timedelta(hours=1), with_sources=True)
    client, address = cast.client(cast.alice), f"{run.get_absolute_url()}share/{share.pk}/change"
    before = (share.password, share.expires_at)
    name = f"share{share.pk}-"
    assert client.post(address, {f"{name}expires": "keep", f"{name}outputs": "seen"}).status_code == 302
    share.refresh_from_db()
    assert (share.password, share.expires_at) == before
    assert (share.with_sources, share.with_outputs) == (False, False)
    client.post(address, {f"{name}expires": "never", f"{name}no_password": "on"})
    share.refresh_from_db()
    assert (share.password, share.expires_at, share.with_outputs) == ("", None, True)
    told = AuditEntry.objects.filter(action="changed a share").latest("pk").details
    assert told["password"] == "no" and told["outputs"] == "whole"


def test_a_revoked_share_cannot_be_changed(cast: Cast, run: Run) -> None:
    share = Share.objects.create(run=run, revoked_at=timezone.now())
    assert cast.client(cast.ed).post(f"{run.get_absolute_url()}share/{share.pk}/change").status_code == 404


def test_the_dialog_lists_a_runs_links_with_terms_and_views(cast: Cast, run: Run) -> None:
    locked(run, views=12, expires_at=timezone.now() - datetime.timedelta(days=1))
    shown = cast.client(cast.ed).get(run.get_absolute_url()).content.decode()
    assert "12 views" in shown and "Over since" in shown and "Change this link" in shown
    assert "argon2" not in shown


def test_admins_see_every_live_share_and_revoke_from_the_list(cast: Cast, run: Run) -> None:
    share = locked(run)
    Share.objects.create(run=run, revoked_at=timezone.now())
    Share.objects.create(run=make_run(cast.elsewhere, "done", question="Elsewhere?"))
    client = cast.client(cast.adam)
    shown = client.get(cast.url("settings/shares/")).content.decode()
    assert shown.count('id="share-') == 1
    assert share.token not in shown and "Elsewhere?" not in shown
    response = client.post(f"{run.get_absolute_url()}share/{share.pk}/revoke", {"back": "list"})
    assert response.headers["Location"] == cast.url("settings/shares/")
    assert "No link opens a run" in client.get(cast.url("settings/shares/")).content.decode()


# — ends —


def test_an_expired_share_opens_nothing(cast: Cast, run: Run) -> None:
    share = Share.objects.create(run=run, expires_at=timezone.now() + datetime.timedelta(hours=1))
    client = Client()
    assert "until <time" in page(client, share)
    Share.objects.update(expires_at=timezone.now())
    for rest in ("", "preview.png", "export/jsonl", "answer", "c/1/cells", "c/1/2/output", "search?q=a", "c/1/inspect"):
        assert client.get(f"{share.get_absolute_url()}{rest}").status_code == 404, rest


# — passwords —


def test_a_password_is_asked_for_and_opens_page_parts_and_files(cast: Cast, run: Run) -> None:
    share, client = locked(run), Client()
    shown = page(client, share)
    assert run.question not in shown and "opens with a password" in shown and "noindex" in shown
    assert client.get(f"{share.get_absolute_url()}c/1/2/output").status_code == 404
    assert client.get(f"{share.get_absolute_url()}export/jsonl").status_code == 404
    wrong = unlock(client, share, "a tin lighthouse")
    assert wrong.status_code == 403 and "That is not the password" in wrong.content.decode()
    right = unlock(client, share)
    assert right.status_code == 302
    for cookie in right.cookies.values():
        assert cookie["httponly"] and cookie["samesite"] == "Lax" and share.token in cookie["path"]
    assert run.question in page(client, share)
    assert PRINTED in page(client, share, "c/1/2/output")
    assert page(client, share, "export/jsonl")


def test_a_password_opens_its_own_share_alone_and_no_longer_than_it_is_the_password(cast: Cast, run: Run) -> None:
    share, other, client = locked(run), locked(run), Client()
    unlock(client, share)
    assert run.question not in page(client, other)
    # Its cookie sent to another share, by whoever tries that.
    client.cookies["unlocked"]["path"] = "/"
    assert run.question not in page(client, other)
    Share.objects.filter(pk=share.pk).update(password=make_password("another password"))
    assert run.question not in page(client, share)


def test_passwords_are_guessed_a_few_times_only(cast: Cast, run: Run) -> None:
    share, client = locked(run), Client()
    statuses = [unlock(client, share, f"guess number {n}").status_code for n in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    assert unlock(client, share).status_code == 429  # the right one too
    assert unlock(Client(REMOTE_ADDR="192.0.2.7"), share).status_code == 302  # from another address


def test_guesses_from_many_addresses_are_counted_together(
    cast: Cast, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = locked(run)
    monkeypatch.setattr(sharing, "check_password", lambda *_: False)
    statuses = [unlock(Client(REMOTE_ADDR=f"192.0.2.{n % 250}"), share).status_code for n in range(301)]
    assert statuses[299] == 403 and statuses[300] == 429


# — what it contains —


def test_what_a_page_contains_stands_on_it(cast: Cast, run: Run) -> None:
    plain = page(Client(), Share.objects.create(run=run, created_by=cast.ed))
    assert "Shared by <b>Ed</b>" in plain and "the answer, and 5 calls" in plain
    assert "outputs of cells whole" in plain and "not the source texts" in plain
    less = page(Client(), Share.objects.create(run=run, with_sources=True, with_outputs=False))
    assert "only as the model saw them" in less and "the source texts</a>" in less


def test_without_outputs_nothing_shows_what_the_model_did_not_see(cast: Cast, run: Run) -> None:
    share, client = Share.objects.create(run=run, with_outputs=False), Client()
    assert 'data-outputs="seen"' in page(client, share)
    for whole in (
        client.get(f"{share.get_absolute_url()}c/1/2/output", **how)
        for how in ({}, {"headers": {"HX-Request": "true"}})
    ):
        assert whole.status_code == 404 and PRINTED not in whole.content.decode()
        assert "This link does not show whole outputs" in whole.content.decode()
    inspected = page(client, share, "c/1/2/inspect")
    assert "kept value" not in inspected and "not part of what is shared" in inspected
    for name in EXPORTS:
        told = page(client, share, f"export/{name}")
        assert PRINTED not in told and "kept value" not in told, name
        assert "57,348 characters cut" in told, name  # what the model saw is there


def test_a_run_in_the_archive_says_why_it_cannot_be_downloaded(cast: Cast, run: Run) -> None:
    share, client = Share.objects.create(run=run), Client()
    archive.archive(run)
    assert 'popovertarget="export"' not in page(client, share)
    told = client.get(f"{share.get_absolute_url()}export/jsonl")
    assert told.status_code == 409 and "This run is in the archive" in told.content.decode()
    assert client.get(f"{share.get_absolute_url()}export/nothing").status_code == 404
    run.refresh_from_db()
    archive.restore(run)
    assert page(client, share, "export/jsonl")


def test_with_outputs_all_of_them_are_there(cast: Cast, run: Run) -> None:
    share, client = Share.objects.create(run=run), Client()
    assert "kept value" in page(client, share, "c/1/2/inspect")
    for name in EXPORTS:
        assert PRINTED in page(client, share, f"export/{name}"), name


def test_without_source_texts_no_document_is_read_and_no_message_holds_one(cast: Cast, run: Run) -> None:
    share, client = Share.objects.create(run=run), Client()
    assert client.get(f"{share.get_absolute_url()}d/").status_code == 404
    assert client.get(f"{share.get_absolute_url()}d/0/").status_code == 404
    assert "/d/" not in page(client, share)
    assert SOURCE not in page(client, share, "c/2/inspect")
    lines = [json.loads(line) for line in page(client, share, "export/jsonl").splitlines()]
    assert SOURCE not in json.dumps(lines)
    assert not [line for line in lines if line["type"] == "document"]


def test_with_source_texts_they_are_read_in_windows(cast: Cast, run: Run) -> None:
    share, client = Share.objects.create(run=run, with_sources=True), Client()
    assert f'{share.get_absolute_url()}d/"' in page(client, share)
    assert "log.txt" in page(client, share, "d/")
    text = page(client, share, "d/0/?c=4-9")
    assert '<mark class="is-cited" id="cited" tabindex="-1">light</mark>' in text
    assert "/w/" not in text and 'method="post"' not in text
    assert SOURCE in page(client, share, "c/2/inspect")
    assert client.get(f"{share.get_absolute_url()}d/1/").status_code == 404


def test_a_shared_file_tells_nothing_of_the_instance_and_comes_in_again(cast: Cast, run: Run) -> None:
    from analyses.trajectory.importing import import_file

    Run.objects.update(sandbox={"kernel": "of this machine"}, endpoint="secret endpoint")
    for terms in ({}, {"with_outputs": False}, {"with_sources": True}):
        data = page(Client(), Share.objects.create(run=run, **terms), "export/jsonl")
        assert "of this machine" not in data and "secret endpoint" not in data
        (outcome,) = import_file(io.BytesIO(data.encode()), "run.jsonl", cast.workspace, cast.ed)
        assert outcome.run is not None, outcome.reason
        assert outcome.run.calls == run.calls


# — views —


def test_views_are_counted_once_a_visitor_and_day_without_members_and_machines(cast: Cast, run: Run) -> None:
    share = Share.objects.create(run=run)

    def views() -> int:
        share.refresh_from_db()
        return share.views

    visitor = Client()
    for _ in range(3):
        page(visitor, share, **BROWSER)
    assert views() == 1
    page(Client(), share, **BROWSER)
    assert views() == 2
    page(cast.client(cast.vera), share, **BROWSER)
    page(Client(), share, **{"user-agent": "Slackbot-LinkExpanding 1.0"})
    Client().head(share.get_absolute_url(), headers=BROWSER)
    page(Client(), share, **BROWSER, **{"sec-purpose": "prefetch"})
    assert views() == 2
    page(cast.client(cast.oscar), share, **BROWSER)
    assert views() == 3
    visitor.cookies["seen"] = "2020-01-01"  # another day
    page(visitor, share, **BROWSER)
    assert views() == 4


def test_asking_for_the_password_is_no_view(cast: Cast, run: Run) -> None:
    share = locked(run)
    page(Client(), share, **BROWSER)
    share.refresh_from_db()
    assert share.views == 0


# — previews —


def image_of(client: Client, share: Share) -> Image.Image:
    response = client.get(f"{share.get_absolute_url()}preview.png")
    assert response.headers["Content-Type"] == "image/png"
    assert len(response.content) < 200_000
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize("question", ["Who saw it?", "w" * 3000, "七つの灯台 " * 40, "\u202e🦑\x01 e\u0301", ""])
def test_a_preview_is_drawn_whatever_the_question(cast: Cast, question: str) -> None:
    run = make_run(cast.workspace, "crowd", question=question)
    assert image_of(Client(), Share.objects.create(run=run)).size == (1200, 630)


def test_a_locked_preview_tells_nothing_even_to_who_gave_the_password(cast: Cast, run: Run) -> None:
    share, other, client = locked(run), locked(make_run(cast.workspace, "failed")), Client()
    unlock(client, share)
    images = [image_of(each, s).tobytes() for each, s in ((client, share), (Client(), share), (Client(), other))]
    assert images[0] == images[1] == images[2]
    assert image_of(client, Share.objects.create(run=run)).tobytes() != images[0]


def test_a_preview_is_asked_about_and_not_sent_twice(cast: Cast, run: Run) -> None:
    address = f"{Share.objects.create(run=run).get_absolute_url()}preview.png"
    first = Client().get(address)
    again = Client().get(address, headers={"if-none-match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    Run.objects.filter(pk=run.pk).update(status="failed")
    assert Client().get(address, headers={"if-none-match": first.headers["ETag"]}).status_code == 200


def test_chat_apps_are_told_title_figures_and_image(cast: Cast, run: Run) -> None:
    share = Share.objects.create(run=run)
    shown = page(Client(), share)
    assert f'<meta property="og:title" content="{run.question}">' in shown
    assert f'property="og:image" content="http://testserver{share.get_absolute_url()}preview.png?' in shown
    assert 'name="twitter:card" content="summary_large_image"' in shown
    hidden = page(Client(), locked(run))
    assert 'property="og:title" content="A shared run"' in hidden


# — sockets —


async def _opened(share: Share, cookies: dict[str, str] | None = None) -> WebsocketCommunicator:
    socket = WebsocketCommunicator(URLRouter(websocket_urlpatterns), f"/ws{share.get_absolute_url()}?seq=0")
    socket.scope |= {"user": AnonymousUser(), "cookies": cookies or {}}
    assert (await socket.connect())[0]
    return socket


async def _code_of_close(socket: WebsocketCommunicator) -> int:
    while True:
        message = await socket.receive_output(20)
        if message["type"] == "websocket.close":
            return int(message["code"])


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself the feed would look after ten minutes: what closes these sockets is the end, or being told."""
    for name in ("CHECK", "UNASKED"):
        monkeypatch.setattr(feed, name, 600.0)
    monkeypatch.setattr(feed, "LINGER", 0.05)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient")
async def test_an_open_socket_ends_with_its_share() -> None:
    cast = await sync_to_async(make_cast)()
    run = await sync_to_async(make_run)(cast.workspace, "running")
    soon = timezone.now() + datetime.timedelta(seconds=4)
    share = await Share.objects.acreate(run=run, expires_at=soon)
    socket = await _opened(share)
    assert await _code_of_close(socket) == GONE
    assert timezone.now() >= soon


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient")
async def test_a_socket_asks_for_the_password_and_closes_when_there_is_another() -> None:
    cast = await sync_to_async(make_cast)()
    run = await sync_to_async(make_run)(cast.workspace, "running")
    share = await sync_to_async(locked)(run)
    assert await _code_of_close(await _opened(share)) == GONE
    client = Client()
    await sync_to_async(unlock)(client, share)
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    assert set(cookies) == {"unlocked", "unlocked-socket"}
    socket = await _opened(share, {"unlocked-socket": cookies["unlocked-socket"]})
    assert "run-seq" in await socket.receive_from(20)
    member = await sync_to_async(cast.client)(cast.ed)
    address = f"/w/{cast.workspace.slug}/r/{run.key}/share/{share.pk}/change"
    await sync_to_async(member.post)(address, {f"share{share.pk}-password": "another password"})
    assert await asyncio.wait_for(_code_of_close(socket), 30) == GONE
