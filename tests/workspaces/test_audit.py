"""The audit: what is written down, who may read it, and that nobody rewrites it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from tests.workspaces.cast import PASSWORD, Cast, make_cast, make_corpus, make_plain_run
from workspaces.audit import Did, record
from workspaces.models import AuditEntry, Invitation


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()
    return make_cast()


def entries(**fields: Any) -> list[tuple[str, str, str]]:
    found = AuditEntry.objects.filter(**fields).order_by("pk")
    return [(entry.actor_email, entry.action, entry.target) for entry in found]


def text(response: Any) -> str:
    page: str = response.content.decode()
    return page


def test_signing_in_and_failing_to_is_written_down_with_its_address(cast: Cast) -> None:
    client = Client(REMOTE_ADDR="203.0.113.9")
    client.post("/accounts/login/", {"login": "ed@example.com", "password": "wrong"})
    client.post("/accounts/login/", {"login": "ed@example.com", "password": PASSWORD})
    client.post("/accounts/logout/")
    assert [(who, did) for who, did, _ in entries()] == [
        ("ed@example.com", Did.SIGN_IN_FAILED),
        ("ed@example.com", Did.SIGNED_IN),
        ("ed@example.com", Did.SIGNED_OUT),
    ]
    assert set(AuditEntry.objects.values_list("address", flat=True)) == {"203.0.113.9"}
    assert "wrong" not in str(list(AuditEntry.objects.values()))


def test_what_happens_to_a_workspace_is_written_down(cast: Cast) -> None:
    client = cast.client(cast.alice)
    AuditEntry.objects.all().prune(timezone.now() + timedelta(days=1))
    client.post(cast.url("settings/"), {"name": "Quay Desk"})
    client.post(cast.url("settings/invite"), {"role": "viewer", "email": "oscar@example.com"})
    link = Invitation.objects.get()
    client.post(cast.url(f"settings/invitations/{link.pk}/revoke"))
    ed = cast.workspace.members.get(user=cast.ed)
    client.post(cast.url(f"settings/members/{ed.pk}/role"), {"role": "admin"})
    client.post(cast.url(f"settings/members/{ed.pk}/remove"))
    run = make_plain_run(cast.workspace, "Who?")
    client.post(f"{run.get_absolute_url()}share")
    client.post(f"{run.get_absolute_url()}share/{run.shares.get().pk}/revoke")
    assert entries(workspace=cast.workspace) == [
        ("alice@example.com", "renamed the workspace", "Quay Desk"),
        ("alice@example.com", "invited", "oscar@example.com"),
        ("alice@example.com", "revoked an invitation", "oscar@example.com"),
        ("alice@example.com", "changed a role", "ed@example.com"),
        ("alice@example.com", "removed a member", "ed@example.com"),
        ("alice@example.com", "shared a run", "Who?"),
        ("alice@example.com", "revoked a share", "Who?"),
    ]
    assert AuditEntry.objects.get(action="changed a role").details == {"was": "editor", "now": "admin"}
    written = str(list(AuditEntry.objects.values()))
    assert link.token not in written
    assert run.shares.get().token not in written


def test_an_export_and_a_deletion_are_written_down(cast: Cast) -> None:
    client = cast.client(cast.ed)
    client.get(f"{make_plain_run(cast.workspace, 'Who?').get_absolute_url()}export/jsonl")
    corpus = make_corpus(cast.workspace, "Old papers")
    client.post(f"{corpus.get_absolute_url()}delete", {"runs": "too"})
    assert entries(workspace=cast.workspace) == [
        ("ed@example.com", "exported a run", "Who?"),
        ("ed@example.com", "deleted a corpus", "Old papers"),
    ]


def test_joining_and_leaving_are_written_down(cast: Cast) -> None:
    link = Invitation.objects.create(workspace=cast.workspace)
    client = cast.client(cast.oscar)
    client.post(link.get_absolute_url())
    me = cast.workspace.members.get(user=cast.oscar)
    client.post(cast.url(f"settings/members/{me.pk}/remove"))
    assert [did for _, did, _ in entries(workspace=cast.workspace)] == ["joined", "left"]


def test_what_was_refused_leaves_no_entry(cast: Cast) -> None:
    alice = cast.workspace.members.get(user=cast.alice)
    cast.client(cast.adam).post(cast.url(f"settings/members/{alice.pk}/role"), {"role": "viewer"})
    cast.client(cast.alice).post(cast.url(f"settings/members/{alice.pk}/remove"))
    cast.client(cast.vera).post(cast.url("settings/"), {"name": "Mine"})
    assert entries(workspace=cast.workspace) == []


def test_an_endpoints_key_is_never_written_down(cast: Cast) -> None:
    given = {"name": "Desk", "base_url": "https://m.example/v1", "key": "sk-very-secret", "root_model": "m",
             "dialect": "async", "window": "128000"}  # fmt: skip
    client = cast.client(cast.adam)
    client.post(cast.url("endpoints/new"), given)
    row = cast.workspace.model_endpoints.get()
    client.post(cast.url(f"endpoints/{row.pk}/"), given | {"key": ""})
    client.post(cast.url(f"endpoints/{row.pk}/remove"))
    assert [did for _, did, _ in entries(workspace=cast.workspace)] == [
        "added a model endpoint", "changed a model endpoint", "removed a model endpoint",
    ]  # fmt: skip
    assert "sk-very" not in str(list(AuditEntry.objects.values()))


# — reading —


@pytest.mark.parametrize(("who", "status"), [("alice", 200), ("adam", 200), ("ed", 403), ("vera", 403), ("oscar", 404)])
def test_who_may_read_it(cast: Cast, who: str, status: int) -> None:
    assert cast.client(getattr(cast, who)).get(cast.url("audit/")).status_code == status
    assert cast.client(getattr(cast, who)).get(cast.url("audit/?as=csv")).status_code == status


def test_filters(cast: Cast) -> None:
    record(None, Did.RENAMED, workspace=cast.workspace, user=cast.ed, target="Old name")
    record(None, Did.SHARED, workspace=cast.workspace, user=cast.adam, target="<b>Who?</b>")
    record(None, Did.SHARED, workspace=cast.elsewhere, user=cast.oscar, target="Theirs")
    client = cast.client(cast.alice)
    whole = text(client.get(cast.url("audit/")))
    assert "Old name" in whole
    assert "&lt;b&gt;Who?" in whole
    assert "Theirs" not in whole
    assert "Old name" not in text(client.get(cast.url("audit/?action=shared+a+run")))
    assert "Who?" not in text(client.get(cast.url("audit/?who=ed@")))
    today = timezone.localdate().isoformat()
    assert "Old name" in text(client.get(cast.url(f"audit/?since={today}&until={today}")))
    assert "Nothing here is like that." in text(client.get(cast.url("audit/?until=2001-01-01")))
    assert "Old name" in text(client.get(cast.url("audit/?since=nonsense&page=x&who=%00")))


def test_csv_holds_the_same_and_no_formulas(cast: Cast) -> None:
    record(None, Did.RENAMED, workspace=cast.workspace, user=cast.ed, target='=HYPERLINK("http://evil")', was="-1")
    response = cast.client(cast.alice).get(cast.url("audit/?as=csv&action=renamed+the+workspace"))
    assert "attachment" in response.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(b"".join(response).decode())))
    assert [row["target"] for row in rows] == ['\'=HYPERLINK("http://evil")']
    assert rows[0]["actor"] == "ed@example.com"


def test_the_page_takes_the_same_queries_however_long(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for number in range(150):
        record(None, Did.RENAMED, workspace=cast.workspace, user=cast.ed, target=number)
    client = cast.client(cast.alice)
    with django_assert_max_num_queries(6):  # session, person, member, count, entries, switcher
        assert 'rel="next"' in text(client.get(cast.url("audit/")))


# — append-only —


def test_an_entry_is_never_changed_or_taken_out(cast: Cast) -> None:
    entry = record(None, Did.RENAMED, workspace=cast.workspace, user=cast.ed)
    entry.target = "other"
    for change in (entry.save, AuditEntry.objects.all().delete, lambda: AuditEntry.objects.update(target="other")):
        with pytest.raises(TypeError):
            change()
    cast.ed.delete()
    assert entries() == [("ed@example.com", "renamed the workspace", "")]  # who it was is still known


def test_retention_takes_the_oldest(cast: Cast, settings: Any) -> None:
    old = record(None, Did.RENAMED, workspace=cast.workspace, target="old")
    AuditEntry.objects.bulk_create([AuditEntry(action="x", at=timezone.now() - timedelta(days=31))])
    settings.AUDIT_DAYS = 30
    out = StringIO()
    call_command("prune_audit", stdout=out)
    assert out.getvalue().startswith("1 entries removed")
    assert AuditEntry.objects.get() == old
    settings.AUDIT_DAYS = 0
    call_command("prune_audit", stdout=out)
    assert "for ever" in out.getvalue()
