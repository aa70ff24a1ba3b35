"""Deleting runs, workspaces and accounts: what goes, what stays, and what can be brought back."""

from __future__ import annotations

import re
import threading
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from analyses import blobs, deletion
from analyses.actions import RunRefused, share_run, start_run
from analyses.budgets import standings
from analyses.follow_ups import ask_follow_up
from analyses.ingest import import_paths, loose
from analyses.models import ENDED, Call, Cell, Corpus, LooseBlob, MessageBlob, Run, Status
from analyses.usage import usage
from analyses.views.usage import _month
from tests.factories import make_run
from tests.workspaces.cast import PASSWORD, Cast, make_cast, make_corpus, make_plain_run
from workspaces.audit import Did, record
from workspaces.models import AuditEntry, Budget, User, Workspace


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()  # of tries counted before, for people of the same ids
    return make_cast()


def full_run(cast: Cast, name: str = "one", **fields: Any) -> tuple[Run, set[str]]:
    """A run that names a blob in every way there is, and the blobs."""
    shas = {what: blobs.put(f"{what} of {name}".encode() * 9) for what in ("answer", "call", "output", "message")}
    shas["prompt"] = blobs.put(b"the system prompt of every run")
    start: dict[str, Any] = {"status": Status.DONE, "endpoint": "default", "cost": 2.0, "created_by": cast.ed}
    run = make_plain_run(cast.workspace, answer_blob=shas["answer"], **(start | fields))
    now = time.time()
    call = Call.objects.create(
        run=run, number=1, kind="root", strategy="rlm", model="m", dialect="async", context_type="str",
        context_shape="str", queued_at=now, answer_blob=shas["call"], born=1, seq=1,
    )  # fmt: skip
    messages = [{"role": "system", "blob": shas["prompt"]}, {"role": "user", "blob": shas["message"], "chars": 5000}]
    Cell.objects.create(
        run=run, call=call, call_number=1, number=1, output_blob=shas["output"], started_at=now, born=2, seq=2,
        messages=messages,
    )  # fmt: skip
    return run, set(shas.values())


def kept(shas: set[str]) -> set[str]:
    return {sha for sha in shas if blobs.exists(sha)}


def test_a_deleted_run_takes_its_blobs_with_it_but_those_that_another_names(cast: Cast) -> None:
    run, shas = full_run(cast)
    _, others = full_run(cast, "two")
    client = cast.client(cast.ed)
    assert "Delete run 1?" in client.get(f"{run.get_absolute_url()}delete").content.decode()
    response = client.post(f"{run.get_absolute_url()}delete", follow=True)
    assert "Run 1 is deleted." in response.content.decode()
    assert not Run.objects.filter(pk=run.pk).exists()
    assert Cell.objects.count() == 1
    assert loose.sweep(grace=-1) == 4
    assert kept(shas) == shas & others
    assert kept(others) == others
    assert AuditEntry.objects.get(action=Did.DELETED_RUN.value).details == {"run": 1}


def test_a_blob_that_only_a_message_names_is_never_loose(cast: Cast) -> None:
    _, shas = full_run(cast)
    loose.let_go(shas)
    assert loose.sweep(grace=-1) == 0
    assert kept(shas) == shas


def test_whether_messages_name_a_blob_is_asked_without_reading_them(cast: Cast) -> None:
    """However many messages there are: it is asked in the thread that renews leases."""
    _, shas = full_run(cast)
    with CaptureQueriesContext(connection) as caught:
        assert loose.named([*shas, "0" * 64]) == shas
    assert not [query["sql"] for query in caught if '"messages"' in query["sql"]]
    if connection.vendor == "sqlite":  # PostgreSQL reads so small a table whole
        plan = str(MessageBlob.objects.filter(sha__in=list(shas)).values("sha").explain())
        assert "analyses_messageblob_sha" in plan


def test_messages_of_cells_written_together_are_noted(cast: Cast) -> None:
    _, shas = full_run(cast)
    cell = Cell.objects.get()
    noted = set(MessageBlob.objects.values_list("sha", flat=True))
    assert noted == {message["blob"] for message in cell.messages}
    cell.pk, cell.number = None, 2
    Cell.objects.bulk_create([cell])
    assert MessageBlob.objects.count() == 2 * len(noted)
    Cell.objects.filter(number=1).delete()
    assert MessageBlob.objects.count() == len(noted)


def test_blobs_of_messages_from_before_are_noted_by_the_migration(cast: Cast) -> None:
    full_run(cast)
    before = sorted(MessageBlob.objects.values_list("cell_id", "sha"))
    MessageBlob.objects.all().delete()
    migration = import_module("analyses.migrations.0012_message_blobs")
    migration.note_those_that_are_there(apps, None)
    assert sorted(MessageBlob.objects.values_list("cell_id", "sha")) == before


def test_a_run_under_way_is_not_deleted(cast: Cast) -> None:
    run, _ = full_run(cast, status=Status.RUNNING)
    response = cast.client(cast.ed).post(f"{run.get_absolute_url()}delete")
    assert response.status_code == 409
    assert "This run is under way." in response.content.decode()
    assert Run.objects.filter(pk=run.pk).exists()


def test_deleting_runs_gives_no_money_back(cast: Cast) -> None:
    Budget.objects.create(workspace=cast.workspace, of="workspace", cost=10.0)
    Budget.objects.create(workspace=cast.workspace, of="member", cost=5.0)
    corpus = make_corpus(cast.workspace)
    full_run(cast, corpus_version=corpus.latest, prompt_tokens=70)
    run, _ = full_run(cast, "two", prompt_tokens=30)
    full_run(cast, "three", imported_from="rlmweb")
    before = [(each.cost_left, each.used_tokens) for each in standings(cast.workspace, cast.ed)]
    assert before == [(6.0, 100), (1.0, 100)]
    used = usage(cast.workspace, _month("")).members
    deletion.delete_run(run)
    cast.client(cast.ed).post(f"{corpus.get_absolute_url()}delete", {"runs": "too"})
    assert Run.objects.count() == 1
    assert [(each.cost_left, each.used_tokens) for each in standings(cast.workspace, cast.ed)] == before
    assert usage(cast.workspace, _month("")).members == used


@pytest.mark.django_db(transaction=True)
def test_deleting_a_run_and_asking_further_in_it_do_not_block_each_other(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(cast.workspace, "done", endpoint="offline")
    locked, said = threading.Event(), list[Exception]()
    keep = deletion.keep_usage

    def slowly(runs: Any) -> None:
        keep(runs)
        locked.set()
        asking.join(0.5)  # it waits for the run by then

    monkeypatch.setattr(deletion, "keep_usage", slowly)

    def ask() -> None:
        locked.wait(30)
        try:
            ask_follow_up(Run.objects.get(pk=run.pk), None, "And?", wake=False)
        except Exception as error:
            said.append(error)
        finally:
            connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    deletion.delete_run(run)
    asking.join()
    assert [(type(error), str(error)) for error in said] == [(RunRefused, "This run is deleted.")]


# — workspaces —


def test_a_deleted_workspace_is_out_of_sight_until_its_owner_brings_it_back(cast: Cast) -> None:
    run, _ = full_run(cast)
    share = share_run(run, cast.ed)
    queued = make_plain_run(cast.workspace)
    alice, ed = cast.client(cast.alice), cast.client(cast.ed)
    response = alice.post(cast.url("settings/delete"), follow=True)
    assert "Harbour Desk is deleted" in response.content.decode()
    for client in (alice, ed):
        for path in ("", "runs/", "settings/", f"r/{run.key}/", "corpora/", "usage/"):
            assert client.get(cast.url(path)).status_code == 404, path
    assert ed.get(cast.url("deleted/")).status_code == 404
    assert ed.post(cast.url("deleted/")).status_code == 404
    assert ed.get(share.get_absolute_url()).status_code == 404
    assert not Run.objects.visible_to(cast.ed).exists()
    with pytest.raises(RunRefused, match="deleted"):
        start_run(cast.workspace, cast.ed, question="q", wake=False)
    deletion.sweep()
    queued.refresh_from_db()
    assert queued.status == Status.STOPPED
    elsewhere = alice.get("/", follow=True).content.decode()
    assert "Bring back Harbour Desk" in elsewhere
    assert alice.post(cast.url("deleted/"), follow=True).redirect_chain == [(cast.url(), 302)]
    assert ed.get(cast.url(f"r/{run.key}/")).status_code == 200
    assert ed.get(share.get_absolute_url()).status_code == 200
    said = AuditEntry.objects.filter(workspace=cast.workspace).order_by("pk").values_list("action", flat=True)
    assert list(said) == [Did.DELETED_WORKSPACE.value, Did.RESTORED_WORKSPACE.value]


def test_when_the_grace_is_over_rows_and_blobs_are_gone(cast: Cast, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("Sesquipedalian " * 9)
    version = import_paths(cast.workspace, cast.ed, [path], name="Words").version
    _, shas = full_run(cast, corpus_version=version)
    upload = cast.workspace.uploads.create()
    upload.files.create(position=1, name="x", size=1, blob=blobs.put(b"an upload without a corpus"))
    record(None, Did.RENAMED, workspace=cast.workspace)
    cast.client(cast.alice).post(cast.url("settings/delete"))
    cast.workspace.refresh_from_db()
    assert cast.workspace.delete_at is not None
    assert timedelta(days=6.9) < cast.workspace.delete_at - timezone.now() < timedelta(days=7)
    deletion.sweep()
    assert Workspace.objects.filter(pk=cast.workspace.pk).exists()
    Workspace.objects.filter(pk=cast.workspace.pk).update(delete_at=timezone.now() - timedelta(seconds=1))
    assert cast.client(cast.alice).get(cast.url("deleted/")).status_code == 404  # too late
    deletion.sweep()
    assert not Workspace.objects.filter(pk=cast.workspace.pk).exists()
    assert not Run.objects.exists()
    assert not Corpus.objects.exists()
    assert not AuditEntry.objects.exclude(workspace=None).exists()
    assert loose.sweep(grace=-1) == len(shas) + 2  # the text, which is its own original, and the upload's
    assert not kept(shas)
    assert not LooseBlob.objects.exists()


def test_a_workspace_goes_a_part_at_a_time(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "SWEEP_MOST", -1.0)
    for number in range(3):
        make_plain_run(cast.workspace, number=number + 1, status=Status.DONE)
    Workspace.objects.filter(pk=cast.workspace.pk).update(delete_at=timezone.now() - timedelta(seconds=1))
    for left in (2, 1, 0):
        deletion.sweep()
        assert cast.workspace.runs.count() == left
    deletion.sweep()
    assert not Workspace.objects.filter(pk=cast.workspace.pk).exists()


def test_a_run_under_way_is_stopped_before_its_workspace_goes(cast: Cast) -> None:
    run = make_plain_run(cast.workspace, status=Status.RUNNING, lease_token="held")
    Workspace.objects.filter(pk=cast.workspace.pk).update(delete_at=timezone.now() - timedelta(seconds=1))
    deletion.sweep()
    run.refresh_from_db()
    assert run.stop_requested_at is not None
    Run.objects.filter(pk=run.pk).update(status=Status.STOPPED)
    deletion.sweep()
    assert not Run.objects.exists()


def test_a_run_that_rests_does_not_keep_its_workspace(cast: Cast) -> None:
    paused = make_run(cast.workspace, "running")
    Run.objects.filter(pk=paused.pk).update(status=Status.PAUSED, pause_requested_at=timezone.now(), lease_token="")
    Workspace.objects.filter(pk=cast.workspace.pk).update(delete_at=timezone.now() - timedelta(seconds=1))
    deletion.sweep()
    deletion.sweep()
    assert not Workspace.objects.filter(pk=cast.workspace.pk).exists()


def test_a_run_that_waits_to_go_on_is_closed_with_its_calls_when_its_workspace_is_deleted(cast: Cast) -> None:
    run = make_run(cast.workspace, "running")
    Run.objects.filter(pk=run.pk).update(status=Status.QUEUED, lease_token="", lease_expires_at=None)
    Workspace.objects.filter(pk=cast.workspace.pk).update(delete_at=timezone.now() + timedelta(days=1))
    deletion.sweep()
    run.refresh_from_db()
    assert run.status == Status.STOPPED
    assert not run.call_set.exclude(status__in=ENDED).exists()


def test_an_invitation_to_a_deleted_workspace_is_over(cast: Cast) -> None:
    invitation = cast.workspace.invitations.create()
    Workspace.objects.filter(pk=cast.workspace.pk).update(delete_at=timezone.now() + timedelta(days=1))
    response = cast.client(cast.oscar).get(invitation.get_absolute_url())
    assert response.status_code == 404


def test_old_audit_entries_are_taken_away_once_a_day(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "_next_prune", 0.0)
    for _ in range(2):
        AuditEntry.objects.create(action="old", at=timezone.now() - timedelta(days=400))
        deletion.sweep()
    assert AuditEntry.objects.count() == 1


# — accounts —


def test_an_account_is_deleted_with_its_password(cast: Cast) -> None:
    own = Workspace.start("Ed’s own", cast.ed)
    run, _ = full_run(cast)
    client = cast.client(cast.ed)
    assert "That is not your password." in client.post("/accounts/delete/", {"proof": "wrong"}).content.decode()
    assert User.objects.filter(pk=cast.ed.pk).exists()
    response = client.post("/accounts/delete/", {"proof": PASSWORD}, follow=True)
    assert "Your account is deleted." in response.content.decode()
    assert not User.objects.filter(pk=cast.ed.pk).exists()
    assert client.get(cast.url()).status_code == 302
    run.refresh_from_db()
    assert run.created_by is None
    deletion.sweep()
    assert not Workspace.objects.filter(pk=own.pk).exists()
    assert AuditEntry.objects.get(action=Did.DELETED_ACCOUNT.value).actor_email == "ed@example.com"


def test_the_only_owner_of_others_workspace_stays(cast: Cast) -> None:
    response = cast.client(cast.alice).post("/accounts/delete/", {"proof": PASSWORD})
    assert response.status_code == 422
    assert re.search("You are the only owner of Harbour Desk", response.content.decode())
    assert User.objects.filter(pk=cast.alice.pk).exists()
    assert not AuditEntry.objects.filter(action=Did.DELETED_ACCOUNT.value).exists()


def test_guessing_the_password_is_limited(cast: Cast) -> None:
    client = cast.client(cast.vera)
    for _ in range(5):
        client.post("/accounts/delete/", {"proof": "guess"})
    response = client.post("/accounts/delete/", {"proof": PASSWORD})
    assert "That was tried often." in response.content.decode()
    assert User.objects.filter(pk=cast.vera.pk).exists()


def test_the_local_owner_is_not_deleted(cast: Cast, settings: Any) -> None:
    settings.LOCAL = True
    assert cast.client(cast.alice).get("/accounts/delete/").status_code == 404
