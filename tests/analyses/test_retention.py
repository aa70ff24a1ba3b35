"""How long runs are kept: archived and brought back without loss, deleted by age, and blobs that no row names removed."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from analyses import blobs, follow_ups, forks, retention
from analyses.ingest import loose
from analyses.models import Call, Cell, LooseBlob, Run, Status
from analyses.trajectory import archive, jsonl
from analyses.trajectory.archive import CannotArchive
from analyses.trajectory.exporting import EXPORTS
from tests.analyses.test_trajectory_export import make_rich
from tests.factories import make_run, make_workspace
from tests.workspaces.cast import Cast, make_cast, make_plain_run
from workspaces.models import AuditEntry, Workspace

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture(autouse=True)
def none_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_left_alone", {})


def export(run: Run) -> bytes:
    return b"".join(jsonl.export(run))


def age(sha: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(blobs.path(sha), (then, then))


def aged(workspace: Workspace, days: float, **fields: Any) -> Run:
    run = make_run(workspace, "done")
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now() - days * DAY, **fields)
    run.refresh_from_db()
    return run


def test_archived_run_comes_back_as_it_was() -> None:
    run = make_rich(3_000, 200)
    before, calls, cells = export(run), run.call_set.count(), run.cell_set.count()
    seq = run.seq
    archive.archive(run)
    run.refresh_from_db()
    assert run.archive and run.seq > seq and run.question and run.answer_display is not None
    assert not Call.objects.filter(run=run).exists() and not Cell.objects.filter(run=run).exists()
    assert b"".join(archive.lines(run)) == before
    assert run.archive_bytes == len(blobs.read(run.archive)) < len(before)

    packed = run.archive
    archive.restore(run)
    run.refresh_from_db()
    assert run.archive == "" and run.restored_at
    assert export(run) == before
    assert (run.call_set.count(), run.cell_set.count()) == (calls, cells)
    assert LooseBlob.objects.filter(sha=packed).exists()
    assert run.seq >= max(run.call_set.order_by("-seq")[0].seq, run.cell_set.order_by("-seq")[0].seq)


def test_follow_ups_and_earlier_answers_stay_while_their_run_is_archived() -> None:
    run = make_run(make_workspace(), "further")
    Run.objects.filter(pk=run.pk).update(status=Status.STOPPED)  # its last question still waited
    run.refresh_from_db()
    before, questions = export(run), [row.question for row in run.follow_up_set.all()]
    assert questions
    archive.archive(run)
    run.refresh_from_db()
    assert [row.question for row in run.follow_up_set.all()] == questions and run.earlier_answers.exists()
    assert "archive" in follow_ups.refusal(run)
    archive.restore(run)
    run.refresh_from_db()
    assert export(run) == before and not follow_ups.refusal(run)


def test_blobs_of_an_archived_run_go_and_come_back_with_it() -> None:
    run = make_rich(3_000, 200)
    before = export(run)
    named = loose.of_runs(Run.objects.filter(pk=run.pk)) - {run.answer_blob}
    assert named
    archive.archive(run)
    run.refresh_from_db()
    for sha in named:
        age(sha, 7_200)
    loose.sweep(grace=0)
    assert not any(blobs.exists(sha) for sha in named) and blobs.exists(run.archive)
    archive.restore(run)
    run.refresh_from_db()
    assert export(run) == before and all(blobs.exists(sha) for sha in named)


def test_run_under_way_is_not_archived() -> None:
    run = make_run(make_workspace(), "running")
    with pytest.raises(CannotArchive, match="under way"):
        archive.archive(run)
    assert Call.objects.filter(run=run).exists()


def test_run_that_a_fork_reads_is_not_archived_and_an_archived_one_not_forked() -> None:
    run = make_run(make_workspace(), "done")
    fork = make_plain_run(run.workspace, status=Status.RUNNING, forked_from=run)
    with pytest.raises(CannotArchive, match="fork of it"):
        archive.archive(run)
    assert Call.objects.filter(run=run).exists()
    Run.objects.filter(pk=fork.pk).update(status=Status.DONE)
    archive.archive(run)
    run.refresh_from_db()
    assert "archived" in forks.why_not(run)


def test_what_does_not_read_back_whole_is_not_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(make_workspace(), "done")
    whole = export(run)
    torn = whole[: whole.rindex(b'{"type":"cell"')]
    monkeypatch.setattr(jsonl, "export", lambda run: iter([torn]))
    assert retention.pack(run) is False
    run.refresh_from_db()
    assert not run.archived and run.archive_tried_at
    monkeypatch.undo()
    assert export(run) == whole


def test_run_that_changed_while_it_was_packed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(make_workspace(), "done")
    real = jsonl.export

    def slow(run: Run) -> Any:
        yield from real(run)
        Run.objects.filter(pk=run.pk).update(seq=run.seq + 1)

    monkeypatch.setattr(jsonl, "export", slow)
    with pytest.raises(CannotArchive, match="changed"):
        archive.archive(run)
    assert Call.objects.filter(run=run).exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: b"\x1f\x8b not a pack",
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:200] + bytes(200) + packed[400:],
    ],
    ids=["no pack", "cut off", "overwritten"],
)
def test_damaged_archive_is_said_and_kept(cast: Cast, damage: Callable[[bytes], bytes]) -> None:
    run = aged(cast.workspace, 1)
    archive.archive(run)
    run.refresh_from_db()
    packed = blobs.read(run.archive)
    blobs.path(run.archive).write_bytes(damage(packed))
    Run.objects.filter(pk=run.pk).update(restore_asked_at=timezone.now())
    retention.sweep()
    run.refresh_from_db()
    assert run.archived and not run.restore_asked_at
    page = cast.client(cast.ed).get(run.get_absolute_url()).content.decode()
    assert "could not be brought back just now" in page


@pytest.mark.parametrize("done", ["archive", "restore", "delete"])
@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), OperationalError("too many variables")], ids=["bug", "database"]
)
def test_what_goes_wrong_with_one_run_keeps_no_other_waiting(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, done: str, error: Exception
) -> None:
    first, second = aged(cast.workspace, 3), aged(cast.workspace, 2)
    if done == "delete":
        Workspace.objects.filter(pk=cast.workspace.pk).update(runs_then="delete", runs_days=1)
    for run, when in ((first, 2), (second, 1)):
        if done == "restore":
            archive.archive(run)
        if done != "delete":
            at = timezone.now() - when * timedelta(minutes=1)
            Run.objects.filter(pk=run.pk).update(**{f"{done}_asked_at": at})
    name = {"archive": "archive", "restore": "restore", "delete": "delete_run"}[done]
    real, tried = getattr(retention, name), []

    def fails(run: Run) -> None:
        tried.append(run.pk)
        if run.pk == first.pk:
            raise error
        real(run)

    monkeypatch.setattr(retention, name, fails)
    for _ in range(3):
        with suppress(OperationalError):  # whoever sweeps says so; it may be the database that is away
            retention.sweep()
    assert tried == [first.pk, second.pk]
    first.refresh_from_db()
    if done == "delete":
        assert not Run.objects.filter(pk=second.pk).exists()
        return
    second.refresh_from_db()
    assert (first.archived, second.archived) == ((False, True) if done == "archive" else (True, False))
    # A person is told at once; where it is the database, it is done when that is back.
    waits = getattr(first, f"{done}_asked_at") is not None
    assert waits == isinstance(error, OperationalError)


@pytest.mark.parametrize(("then", "left", "packed"), [("keep", 4, 0), ("archive", 4, 1), ("delete", 3, 0)])
def test_runs_go_by_their_age_as_the_workspace_says(cast: Cast, then: str, left: int, packed: int) -> None:
    workspace = cast.workspace
    Workspace.objects.filter(pk=workspace.pk).update(runs_then=then, runs_days=30)
    old = aged(workspace, 31)
    aged(workspace, 29)
    aged(workspace, 40, kept=True)
    aged(workspace, 90, imported_at=timezone.now() - DAY)
    retention.sweep()
    assert workspace.runs.count() == left
    assert list(workspace.runs.exclude(archive="").values_list("pk", flat=True)) == ([old.pk] if packed else [])
    assert AuditEntry.objects.filter(workspace=workspace, details__by="its age").count() == (then != "keep")


@pytest.mark.parametrize("change", ["kept", "setting", "asked further"])
def test_what_a_member_says_while_runs_are_deleted_holds_for_those_that_are_left(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    workspace = cast.workspace
    Workspace.objects.filter(pk=workspace.pk).update(runs_then="delete", runs_days=30)
    first, second = aged(workspace, 32), aged(workspace, 31)
    real = retention.delete_run

    def then(run: Run) -> None:
        real(run)
        assert run.pk == first.pk
        if change == "kept":
            Run.objects.filter(pk=second.pk).update(kept=True)
        elif change == "setting":
            Workspace.objects.filter(pk=workspace.pk).update(runs_then="keep")
        else:  # and answered
            Run.objects.filter(pk=second.pk).update(finished_at=timezone.now())

    monkeypatch.setattr(retention, "delete_run", then)
    retention.sweep()
    assert Run.objects.filter(pk=second.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_runs_are_deleted_while_others_write(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = cast.workspace
    Workspace.objects.filter(pk=workspace.pk).update(runs_then="delete", runs_days=30)
    shape = {"status": Status.DONE, "finished_at": timezone.now() - 31 * DAY}
    for number in range(60):
        make_plain_run(workspace, number=number + 10, **shape)
    settle = retention._settle

    def beside() -> None:
        Workspace.objects.filter(pk=workspace.pk).update(name="Another name")
        connection.close()

    def while_others_write(*which: Any) -> None:
        other = threading.Thread(target=beside)
        other.start()
        other.join()
        settle(*which)

    monkeypatch.setattr(retention, "_settle", while_others_write)
    retention.sweep()
    assert not workspace.runs.exclude(status=Status.QUEUED).exists()


def test_run_brought_back_is_young_again(cast: Cast) -> None:
    Workspace.objects.filter(pk=cast.workspace.pk).update(runs_then="archive", runs_days=30)
    run = aged(cast.workspace, 31)
    retention.sweep()
    Run.objects.filter(pk=run.pk).update(restore_asked_at=timezone.now())
    retention.sweep()
    retention.sweep()
    run.refresh_from_db()
    assert not run.archived and run.call_set.exists()


def test_archived_page_shows_earlier_answers_and_a_link_to_it_says_what_is_left(cast: Cast) -> None:
    run = make_run(cast.workspace, "further")
    Run.objects.filter(pk=run.pk).update(status=Status.STOPPED)
    run.refresh_from_db()
    share = run.shares.create()
    archive.archive(run)
    client = cast.client(cast.vera)
    page = client.get(run.get_absolute_url()).content.decode()
    assert 'id="answer-1"' in page and "The questions, the answers and the figures are here." in page
    assert b"Five guests say they saw it themselves." in client.get(run.get_absolute_url() + "answers/1").content
    shared = client.get(share.get_absolute_url()).content.decode()
    assert "its calls and cells are archived" in shared and "with all code and replies" not in shared
    assert 'id="answer-1"' in shared


def test_archived_page_shows_the_answer_and_how_to_get_the_rest(cast: Cast) -> None:
    run = aged(cast.workspace, 1)
    client = cast.client(cast.ed)
    address = run.get_absolute_url()
    assert client.post(address + "archive").status_code == 302
    retention.sweep()
    page = client.get(address).content.decode()
    assert "Calls and cells are archived" in page and "Bring them back" in page and 'id="answer"' in page
    assert 'id="tree"' not in page
    assert "Bring them back" not in cast.client(cast.vera).get(address).content.decode()
    run.refresh_from_db()
    lines = b"".join(client.get(address + "export/jsonl").streaming_content)  # type: ignore[attr-defined]
    assert json.loads(lines.splitlines()[-1])["type"] == "end"
    assert client.get(address + "export/html").status_code == 302

    assert client.post(address + "restore").status_code == 302
    asks = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "archived"}
    assert client.get(address, **asks).status_code == 204
    retention.sweep()
    assert client.get(address, **asks).headers["HX-Refresh"] == "true"
    assert 'id="tree"' in client.get(address).content.decode()
    did = list(AuditEntry.objects.filter(workspace=cast.workspace).values_list("action", flat=True))
    assert "archived a run" in did and "brought a run back from its archive" in did


class ClientError(Exception):
    """As an object store has them."""

    __module__ = "botocore.exceptions"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "there is no room left where archives are kept"),
        (ConnectionError("away"), "the store cannot be written to where archives are kept"),
        (ClientError("503"), "the store cannot be written to where archives are kept"),
        (KeyError("a bug"), "something went wrong; the worker’s log says more"),
        (CannotArchive("The run changed while it was packed."), "The run changed while it was packed. Nothing of it is lost"),
    ],
    ids=["full", "away", "object store away", "bug", "changed"],
)  # fmt: skip
def test_archive_that_was_asked_for_and_failed_is_said(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    run = aged(cast.workspace, 1)
    client, address = cast.client(cast.ed), run.get_absolute_url()
    asks = {"HTTP_HX_REQUEST": "true", "HTTP_HX_TARGET": "archiving"}
    client.post(address + "archive")
    assert "It is being archived" in client.get(address).content.decode()
    assert client.get(address, **asks).status_code == 204
    with monkeypatch.context() as broken:
        broken.setattr(blobs, "put_file", Mock(side_effect=error))
        retention.sweep()
        retention.sweep()
    for told in (client.get(address).content.decode(), client.get(address, **asks).content.decode()):
        assert "It was not archived" in told and says in told
    assert "It was not archived" not in cast.client(cast.vera).get(address).content.decode()
    client.post(address + "archive")
    retention.sweep()
    assert client.get(address, **asks).content.strip() == b""
    page = client.get(address).content.decode()
    assert "Calls and cells are archived" in page and "It was not archived" not in page


def test_archive_by_age_that_failed_is_tried_again_without_a_word(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    Workspace.objects.filter(pk=cast.workspace.pk).update(runs_then="archive", runs_days=1)
    run = aged(cast.workspace, 2)
    monkeypatch.setattr(blobs, "put_file", Mock(side_effect=ConnectionError("away")))
    retention.sweep()
    run.refresh_from_db()
    assert run.archive_tried_at and not run.archive_refused


def test_setting_that_would_take_runs_at_once_is_asked_about_first(cast: Cast) -> None:
    aged(cast.workspace, 100)
    client = cast.client(cast.adam)
    address = cast.url("settings/retention/")
    asked = client.post(address, {"runs_then": "delete", "runs_days": "30"})
    assert asked.status_code == 422 and "1 run is older than that already" in asked.content.decode()
    # A yes to something else is none.
    other = client.post(address, {"runs_then": "delete", "runs_days": "30", "confirmed": "archive 30"})
    assert other.status_code == 422
    cast.workspace.refresh_from_db()
    assert cast.workspace.runs_then == "keep"
    done = client.post(address, {"runs_then": "delete", "runs_days": "30", "confirmed": "delete 30"})
    assert done.status_code == 302
    cast.workspace.refresh_from_db()
    assert (cast.workspace.runs_then, cast.workspace.runs_days) == ("delete", 30)
    assert AuditEntry.objects.get(action="changed how long runs are kept").details["was"] == "keep"


@pytest.mark.parametrize("days", ["", "0", "-1", "ten", "99999", "1.5"])
def test_days_that_are_none_are_refused(cast: Cast, days: str) -> None:
    got = cast.client(cast.alice).post(cast.url("settings/retention/"), {"runs_then": "archive", "runs_days": days})
    assert got.status_code == 422 and "field-error" in got.content.decode()
    cast.workspace.refresh_from_db()
    assert cast.workspace.runs_then == "keep"


def test_keeping_a_run_is_a_switch(cast: Cast) -> None:
    run = make_plain_run(cast.workspace, status=Status.DONE)
    client = cast.client(cast.ed)
    client.post(run.get_absolute_url() + "keep", {"kept": "1"})
    run.refresh_from_db()
    assert run.kept
    client.post(run.get_absolute_url() + "keep", {"kept": ""})
    run.refresh_from_db()
    assert not run.kept


def test_clean_blobs_removes_what_no_row_names_and_nothing_else() -> None:
    run = make_rich(3_000, 200)
    archived = make_run(run.workspace, "done")
    archive.archive(archived)
    archived.refresh_from_db()
    named = loose.of_runs(Run.objects.all())
    stray, young = blobs.put(b"nobody names this"), blobs.put(b"nobody names this yet")
    for sha in {*named, stray}:
        age(sha, 7_200)

    def clean(*arguments: str) -> dict[str, Any]:
        out = io.StringIO()
        call_command("clean_blobs", "--json", *arguments, stdout=out)
        return json.loads(out.getvalue())  # type: ignore[no-any-return]

    told = clean()
    assert told["names"] == [stray] and told["deleted"] == 0 and blobs.exists(stray)
    assert clean("--delete")["deleted"] == 1
    assert not blobs.exists(stray) and blobs.exists(young) and all(blobs.exists(sha) for sha in named)
    assert b"".join(EXPORTS["jsonl"].write(run)) and clean()["names"] == []


def test_names_lists_every_blob(settings: Any, tmp_path: Path) -> None:
    shas = {blobs.put(bytes([n]) * 10) for n in range(20)}
    assert shas <= set(blobs.names())
