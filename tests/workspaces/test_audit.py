"""The audit: what is written down, who may read it, and that nobody rewrites it."""

from __future__ import annotations

import csv
import io
import tempfile
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from analyses.ingest import import_paths
from tests.workspaces.cast import PASSWORD, Cast, make_cast, make_corpus, make_plain_run
from workspaces.audit import Did, record
from workspaces.models import AuditEntry, Invitation, Member, User


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


def test_tables_taken_out_are_written_down(cast: Cast) -> None:
    client = cast.client(cast.alice)
    assert client.get(cast.url("usage/?as=csv")).status_code == 200
    assert client.get(cast.url("audit/?as=csv&who=ed")).status_code == 200
    assert entries(workspace=cast.workspace) == [
        ("alice@example.com", "exported the usage", ""),
        ("alice@example.com", "exported the audit", ""),
    ]
    assert AuditEntry.objects.get(action="exported the audit").details == {"who": "ed"}


def test_what_happens_to_a_corpus_is_written_down(cast: Cast) -> None:
    client = cast.client(cast.ed)
    begun = client.post(cast.url("corpora/new"), {"name": "Letters"}, headers={"X-Upload": "begin"})
    assert begun.status_code == 201
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("first.txt", "second.txt", "third.txt")]
        for path in paths:
            path.write_text(f"{path.stem} words")
        version = import_paths(cast.workspace, cast.ed, paths, name="Papers").version
    assert version is not None
    url = version.corpus.get_absolute_url()
    client.post(f"{url}rename", {"name": "Quay papers"})
    client.post(f"{url}d/0/move", {"version": "1", "to": "2"})
    client.post(f"{url}d/0/remove", {"version": "2"})
    client.post(f"{url}order", {"version": "3", "order": "1,0"})
    client.post(f"{url}restore", {"version": "4", "to": "1"})
    assert entries(workspace=cast.workspace) == [
        ("ed@example.com", "began an upload", "Letters"),
        *[("ed@example.com", "changed a corpus", "Quay papers")] * 5,
    ]
    told = [entry.details for entry in AuditEntry.objects.filter(action="changed a corpus").order_by("pk")]
    assert [sorted(details) for details in told] == [["was"], ["moved"], ["removed"], ["ordered"], ["back_to_version"]]


def test_budgets_are_written_down(cast: Cast) -> None:
    client = cast.client(cast.adam)
    client.post(cast.url("settings/budgets/"), {"workspace_cost": "50"})
    member = cast.workspace.members.get(user=cast.ed)
    client.post(cast.url("settings/budgets/member"), {"member": str(member.pk), "cost": "5"})
    assert {did for _, did, _ in entries(workspace=cast.workspace)} == {"changed a budget"}


def test_what_happens_to_an_account_is_written_down(cast: Cast) -> None:
    here, there = Client(), Client()
    for client in (here, there):
        client.post("/accounts/login/", {"login": "ed@example.com", "password": PASSWORD})
    AuditEntry.objects.all().prune(timezone.now() + timedelta(days=1))
    here.post("/accounts/sessions/")
    new = "another long tin lighthouse"
    here.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    here.post("/accounts/email/", {"action_add": "", "email": "eddie@example.com"})
    here.post("/accounts/email/", {"action_remove": "", "email": "eddie@example.com"})
    assert entries() == [
        ("ed@example.com", "signed out elsewhere", ""),
        ("ed@example.com", "changed the password", ""),
        ("ed@example.com", "added an address", "eddie@example.com"),
        ("ed@example.com", "removed an address", "eddie@example.com"),
    ]
    assert new not in str(list(AuditEntry.objects.values()))


def test_what_the_operator_changes_among_members_is_written_down(cast: Cast) -> None:
    operator = cast.client(User.objects.create_superuser("op@example.com", PASSWORD))
    rows = list(cast.workspace.members.order_by("pk"))
    path = reverse("admin:workspaces_workspace_change", args=[cast.workspace.pk])
    form = operator.get(path).context["adminform"].form
    given: dict[str, Any] = {name: form[name].value() or "" for name in form.fields}
    given |= {
        "members-INITIAL_FORMS": len(rows),
        "members-TOTAL_FORMS": len(rows) + 1, "members-MIN_NUM_FORMS": 0, "members-MAX_NUM_FORMS": 1000,
    }  # fmt: skip
    for number, row in enumerate([*rows, Member(user=cast.oscar, role="viewer")]):
        given |= {
            f"members-{number}-id": row.pk or "", f"members-{number}-workspace": cast.workspace.pk,
            f"members-{number}-user": row.user_id, f"members-{number}-role": row.role,
            f"members-{number}-joined_at_0": row.joined_at.strftime("%Y-%m-%d"),
            f"members-{number}-joined_at_1": row.joined_at.strftime("%H:%M:%S"),
        }  # fmt: skip
    ed, vera = (next(n for n, row in enumerate(rows) if row.user == person) for person in (cast.ed, cast.vera))
    given |= {f"members-{ed}-role": "admin", f"members-{vera}-DELETE": "on"}
    response = operator.post(path, given)
    assert response.status_code == 302, text(response)
    written = set(entries(workspace=cast.workspace))
    assert {
        ("op@example.com", "added a member", "oscar@example.com"),
        ("op@example.com", "changed a role", "ed@example.com"),
        ("op@example.com", "removed a member", "vera@example.com"),
    } <= written


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
