"""Who may download a run and bring logs in, and what the pages say."""

from __future__ import annotations

import json
import re

import pytest
from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from django.template.loader import render_to_string
from django.test import AsyncClient, Client
from django.urls import reverse

from analyses.models import Run
from analyses.trajectory.exporting import EXPORTS
from tests.factories import make_run, make_user, make_workspace
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db
LOG = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {
            "run_id": "a",
            "event_type": "execution_result",
            "step": 1,
            "code": "print(1)",
            "output": "1",
            "time": "2026-02-15T22:12:31Z",
        },
        {"run_id": "a", "event_type": "final_result", "result": "one <b>answer</b>", "time": "2026-02-15T22:12:32Z"},
    )
)


@pytest.fixture
def cast() -> dict[str, User]:
    """Alice owns, Erin edits, Vera looks on, Charlie is outside."""
    return {name: make_user(f"{name}@example.org") for name in ("alice", "erin", "vera", "charlie")}


@pytest.fixture
def workspace(cast: dict[str, User]) -> Workspace:
    return make_workspace(cast["alice"], editor=cast["erin"], viewer=cast["vera"])


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_members_of_any_role_download_a_run_and_others_do_not_find_it(
    cast: dict[str, User], workspace: Workspace
) -> None:
    run = make_run(workspace, "done")
    address = reverse("run-export", args=[workspace.slug, run.key, "jsonl"])
    for name in ("alice", "erin", "vera"):
        assert signed_in(cast[name]).get(address).status_code == 200
    assert signed_in(cast["charlie"]).get(address).status_code == 404
    assert Client().get(address).status_code == 302
    assert signed_in(cast["alice"]).post(address).status_code == 405


def test_run_of_another_workspace_is_not_found_under_this_one(cast: dict[str, User], workspace: Workspace) -> None:
    other = make_run(make_workspace(cast["charlie"]), "done")
    address = reverse("run-export", args=[workspace.slug, other.key, "jsonl"])
    assert signed_in(cast["alice"]).get(address).status_code == 404
    assert signed_in(cast["charlie"]).get(address).status_code == 404


@pytest.mark.parametrize("name", EXPORTS)
def test_download_is_an_attachment_of_its_type(cast: dict[str, User], workspace: Workspace, name: str) -> None:
    run = make_run(workspace, "done")
    response = signed_in(cast["vera"]).get(reverse("run-export", args=[workspace.slug, run.key, name]))
    assert response["Content-Type"] == EXPORTS[name].content_type
    assert response["Content-Disposition"] == f'attachment; filename="run-{run.number}.{EXPORTS[name].suffix}"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert b"".join(response.streaming_content) == b"".join(EXPORTS[name].write(run))


def test_unknown_format_is_not_found(cast: dict[str, User], workspace: Workspace) -> None:
    run = make_run(workspace, "done")
    assert signed_in(cast["alice"]).get(reverse("run-export", args=[workspace.slug, run.key, "pdf"])).status_code == 404


def test_menu_links_to_every_format() -> None:
    menu = render_to_string("analyses/_export.html")
    assert re.findall(r'href="export/(\w+)"', menu) == list(EXPORTS)


@pytest.mark.django_db(transaction=True)
async def test_download_is_streamed_by_the_asynchronous_server() -> None:
    user = await sync_to_async(make_user)()
    workspace = await sync_to_async(make_workspace)(user)
    run = await sync_to_async(make_run)(workspace, "done")
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get(reverse("run-export", args=[workspace.slug, run.key, "jsonl"]))
    assert response.is_async
    data = b"".join([piece async for piece in response.streaming_content])
    assert json.loads(data.splitlines()[-1])["type"] == "end"
    await sync_to_async(
        connections.close_all
    )()  # those of the other thread, which would keep PostgreSQL's test database open


# — in —


def send(client: Client, workspace: Workspace, **files: bytes) -> str:
    logs = [SimpleUploadedFile(f"{name}.jsonl", data) for name, data in files.items()]
    response = client.post(reverse("run-import", args=[workspace.slug]), {"logs": logs}, follow=True)
    assert response.status_code == (200 if logs else 422)
    return response.content.decode()


def test_editors_import_viewers_may_not_and_others_find_nothing(cast: dict[str, User], workspace: Workspace) -> None:
    address = reverse("run-import", args=[workspace.slug])
    for name, status in {"alice": 200, "erin": 200, "vera": 403, "charlie": 404}.items():
        client = signed_in(cast[name])
        assert client.get(address).status_code == status
        sent = client.post(address, {"logs": SimpleUploadedFile("a.jsonl", LOG)}, follow=True)
        assert sent.status_code == status
    assert Run.objects.count() == 2
    assert Client().get(address).status_code == 302


def test_page_says_what_became_of_each_file(cast: dict[str, User], workspace: Workspace) -> None:
    page = send(signed_in(cast["erin"]), workspace, good=LOG, bad=b"<script>alert(1)</script>\n", cut=LOG[:-20])
    whole, cut = Run.objects.order_by("number")
    assert whole.get_absolute_url() in page and cut.get_absolute_url() in page
    assert "not a log of a kind" in page
    assert "Cut off" in page
    assert "<script>alert" not in page
    assert (whole.created_by, whole.workspace, whole.imported_file) == (cast["erin"], workspace, "good.jsonl")


def test_file_names_are_shown_harmless(cast: dict[str, User], workspace: Workspace) -> None:
    page = send(signed_in(cast["alice"]), workspace, **{"<img src=x onerror=alert(1)>": LOG})
    assert "<img" not in page


def test_form_without_files_says_so(cast: dict[str, User], workspace: Workspace) -> None:
    assert "Choose at least one file" in send(signed_in(cast["alice"]), workspace)


def test_import_needs_the_forms_token(cast: dict[str, User], workspace: Workspace) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast["alice"])
    response = client.post(reverse("run-import", args=[workspace.slug]), {"logs": SimpleUploadedFile("a.jsonl", LOG)})
    assert response.status_code == 403
    assert not Run.objects.exists()


def test_imported_run_has_a_page_like_any_other(cast: dict[str, User], workspace: Workspace) -> None:
    client = signed_in(cast["alice"])
    send(client, workspace, good=LOG)
    page = client.get(Run.objects.get().get_absolute_url())
    assert page.status_code == 200
    assert "print" in page.content.decode()
    assert "one &lt;b&gt;answer" in page.content.decode()
