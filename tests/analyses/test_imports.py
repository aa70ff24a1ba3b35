"""Imports read by a worker: progress, a worker that dies, what the page says when it is asked again."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from analyses import blobs, deletion, jobs
from analyses.ingest import loose
from analyses.jobs import Hold
from analyses.models import Import, ImportFile, Run
from analyses.trajectory import importing, intake
from analyses.trajectory.limits import ImportLimits
from tests.factories import make_user, make_workspace
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db


def run_of(name: str, answer: str = "one") -> bytes:
    """A run of fast-rlm's kind."""
    lines = (
        {"run_id": name, "event_type": "execution_result", "step": 1, "code": "print(1)", "output": "1", "time": "2026-02-15T22:12:31Z"},
        {"run_id": name, "event_type": "final_result", "result": answer, "time": "2026-02-15T22:12:32Z"},
    )  # fmt: skip
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def session(count: int) -> bytes:
    """A file of several runs, of rlm's kind: each begins with its metadata."""
    lines: list[dict[str, Any]] = []
    for number in range(count):
        lines.append({"type": "metadata", "root_model": "m", "timestamp": "2026-02-15T22:12:31"})
        lines.append(
            {
                "type": "iteration",
                "iteration": 1,
                "prompt": "p",
                "response": "r",
                "code_blocks": [],
                "final_answer": str(number),
            }
        )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture
def owner() -> User:
    return make_user()


@pytest.fixture
def workspace(owner: User) -> Workspace:
    return make_workspace(owner)


@pytest.fixture
def client(owner: User) -> Client:
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    return client


def sent(workspace: Workspace, *logs: bytes) -> Import:
    """Logs that are here and that nobody has read yet."""
    files = [SimpleUploadedFile(f"{number}.jsonl", log) for number, log in enumerate(logs)]
    return intake.start(workspace, None, files)


def test_files_are_read_one_by_one_and_their_bytes_let_go(workspace: Workspace) -> None:
    made = sent(workspace, run_of("a"), b"no log\n", session(3))
    assert not Run.objects.exists()
    blob = made.files.first().blob  # type: ignore[union-attr]
    assert blobs.exists(blob)
    intake.process(made.pk)
    made.refresh_from_db()
    assert made.finished_at and not made.lease_token
    good, bad, three = made.files.all()
    assert [len(file.outcomes) for file in (good, bad, three)] == [1, 1, 3]
    assert "not a log of a kind" in bad.outcomes[0]["reason"]
    assert {file.blob for file in (good, bad, three)} == {""} and all(file.settled_at for file in (good, bad, three))
    assert Run.objects.count() == 4
    loose.sweep(grace=0.0)
    assert not blobs.exists(blob)


def test_doing_it_again_changes_nothing(workspace: Workspace) -> None:
    made = sent(workspace, run_of("a"))
    for _ in range(3):
        intake.process(made.pk)
    assert Run.objects.count() == 1


def test_a_worker_that_died_between_two_runs_leaves_the_rest_to_the_next(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sent(workspace, session(4))
    tell = intake._Intake._add

    def dies(self: Any, row: ImportFile, outcome: Any) -> None:
        tell(self, row, outcome)
        if len(row.outcomes) == 3:
            raise KeyboardInterrupt  # in the transaction of the third: neither its run nor its line stays

    monkeypatch.setattr(intake._Intake, "_add", dies)
    with pytest.raises(KeyboardInterrupt):
        intake.process(made.pk)
    assert Run.objects.count() == 2
    monkeypatch.setattr(intake._Intake, "_add", tell)
    intake.process(made.pk)
    assert [run.answer_display for run in Run.objects.order_by("number")] == ["0", "1", "2", "3"]
    assert [outcome["number"] for outcome in made.files.get().outcomes] == [1, 2, 3, 4]


def test_a_file_that_kills_its_worker_is_given_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sent(workspace, run_of("a"), run_of("b"))

    def dies(file: io.BytesIO, name: str, *args: Any, **options: Any) -> Any:
        if name == "0.jsonl":
            raise SystemExit
        return importing.import_file(file, name, *args, **options)

    monkeypatch.setattr(intake, "import_file", dies)
    for _ in range(3):
        with pytest.raises(SystemExit):
            intake.process(made.pk)
        Import.objects.update(lease_expires_at=None)
    intake.process(made.pk)
    first, second = made.files.all()
    assert first.outcomes[0]["reason"] == intake.DIED
    assert second.outcomes[0]["run"] == Run.objects.get().key


def test_two_workers_do_not_read_the_same(workspace: Workspace) -> None:
    made = sent(workspace, run_of("a"))
    with Hold(Import, made.pk) as lease:
        assert lease.held
        intake.process(made.pk)
        assert not Run.objects.exists()
    intake.process(made.pk)
    assert Run.objects.count() == 1


def test_a_worker_that_lost_its_lease_writes_no_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sent(workspace, session(3))

    save = importing.Draft.save

    def hangs(*given: Any) -> Run:
        run = save(*given)
        Import.objects.update(lease_token="another")  # took it meanwhile
        return run

    monkeypatch.setattr(importing.Draft, "save", hangs)
    intake.process(made.pk)
    assert Run.objects.count() == 0  # the first one's own line was not written either
    made.refresh_from_db()
    assert made.finished_at is None


def test_a_database_that_is_away_is_no_fault_of_the_file(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sent(workspace, run_of("a"))

    def away(*args: Any, **fields: Any) -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(importing.Draft, "save", away)
        with pytest.raises(OperationalError):
            intake.process(made.pk)
    assert made.files.get().outcomes == []
    intake.process(made.pk)
    assert made.files.get().outcomes[0]["number"] == 1


@pytest.mark.django_db(transaction=True)  # the thread that renews the lease sees what is committed
def test_how_far_a_long_file_is_read_is_noted(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LOOK_SECONDS", 0.0)
    noted = []
    keep = intake._Intake._keep

    def listen(self: Any, row: ImportFile, **fields: Any) -> None:
        if set(fields) == {"read"}:
            noted.append(fields["read"])
        keep(self, row, **fields)

    monkeypatch.setattr(intake._Intake, "_keep", listen)
    made = sent(
        workspace,
        run_of("a")
        + b'{"event_type": "padding", "text": "'
        + b"x" * 900_000
        + b'"}\n'
        + b"\n".join([b"{}"] * 2_000_000),
    )
    intake.process(made.pk)
    assert len(noted) >= 3 and noted == sorted(noted) and noted[-1] <= made.files.get().size
    assert made.files.get().read == made.files.get().size


def test_too_many_and_too_large_files_are_refused_and_hold_up_no_other(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "FILES_MOST", 2)
    monkeypatch.setattr(intake, "LIMITS", ImportLimits(file_bytes=1000))
    made = sent(workspace, b"x" * 1001, run_of("a"), run_of("b"))
    intake.process(made.pk)
    large, good, third = made.files.all()
    assert "at most 1,000 are read" in large.outcomes[0]["reason"] and not large.blob
    assert good.outcomes[0]["number"] == 1
    assert "At most 2 files" in third.outcomes[0]["reason"]


def test_a_blob_that_is_gone_is_said(workspace: Workspace) -> None:
    made = sent(workspace, run_of("a"))
    blobs.delete(made.files.get().blob)
    intake.process(made.pk)
    assert made.files.get().outcomes[0]["reason"] == intake.GONE


def test_the_sweep_finds_what_no_message_told_of_and_forgets_old_pages(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sent(workspace, run_of("a"))
    done: list[int] = []

    class Thread:
        def __init__(self, *, target: Any, args: tuple[int, str], **_: Any) -> None:
            self.args = args

        def start(self) -> None:
            done.append(self.args[0])

    monkeypatch.setattr(jobs.threading, "Thread", Thread)
    assert intake.sweep() == 1 and done == [made.pk]
    assert intake.sweep() == 1 and done == [made.pk]  # one thread for each
    intake.JOBS._busy.clear()
    monkeypatch.undo()
    intake.process(made.pk)
    assert intake.sweep() == 0
    Import.objects.update(finished_at=timezone.now() - timedelta(days=31))
    intake.sweep()
    assert not Import.objects.exists() and Run.objects.count() == 1


def test_a_process_does_so_many_jobs_beside_and_no_more(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    Import.objects.bulk_create(Import(workspace=workspace) for _ in range(2 * jobs.AT_ONCE + 1))
    begun: list[int] = []

    class Thread:
        def __init__(self, *, args: tuple[int, str], **_: Any) -> None:
            self.pk = args[0]

        def start(self) -> None:
            begun.append(self.pk)

    monkeypatch.setattr(jobs.threading, "Thread", Thread)
    all_jobs = jobs.Jobs(Import, lambda: Import.objects.filter(finished_at=None).exclude(pk__in=begun), print)
    for _ in range(3):
        all_jobs.sweep()
    assert len(begun) == jobs.AT_ONCE
    all_jobs._busy.remove(begun[0])
    all_jobs.sweep()
    assert len(begun) == jobs.AT_ONCE + 1


def test_with_a_broker_the_request_reads_nothing(
    workspace: Workspace,
    client: Client,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    settings.WORKERS = True
    told: list[tuple[str, list[int]]] = []
    monkeypatch.setattr(intake.current_app, "send_task", lambda name, args, **_: told.append((name, args)))
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(f"/w/{workspace.slug}/runs/import", {"logs": SimpleUploadedFile("a.jsonl", run_of("a"))})
    made = Import.objects.get()
    assert response.status_code == 302 and response.headers["Location"] == made.get_absolute_url()
    assert told == [("analyses.import_logs", [made.pk])]
    assert not Run.objects.exists()
    page = client.get(made.get_absolute_url()).content.decode()
    assert "waits for a worker" in page and 'hx-trigger="every 1s"' in page
    from analyses.tasks import import_logs

    import_logs(made.pk)
    again = client.get(made.get_absolute_url(), headers={"HX-Request": "true", "HX-Target": "import"}).content.decode()
    assert "all read, 1 run made" in again and "hx-trigger" not in again and "<html" not in again
    assert Run.objects.get().get_absolute_url() in again


def test_the_page_tells_of_runs_deleted_since(workspace: Workspace, client: Client) -> None:
    made = sent(workspace, run_of("a"))
    intake.process(made.pk)
    deletion.delete_run(Run.objects.get())
    page = client.get(made.get_absolute_url()).content.decode()
    assert "Run 1 (deleted since)" in page and "/r/" not in page


def test_another_workspaces_import_is_not_found(workspace: Workspace, client: Client) -> None:
    theirs = sent(make_workspace(make_user()), run_of("a"))
    assert client.get(theirs.get_absolute_url()).status_code == 404
    assert client.get(f"/w/{workspace.slug}/runs/import/{theirs.key}/").status_code == 404


def test_bytes_of_an_import_go_with_its_workspace(workspace: Workspace) -> None:
    blob = sent(workspace, run_of("a")).files.get().blob
    assert blob in loose.named([blob])
    Workspace.objects.filter(pk=workspace.pk).update(delete_at=timezone.now() - timedelta(seconds=1))
    deletion.sweep()
    assert not Import.objects.exists()
    loose.sweep(grace=0.0)
    assert not blobs.exists(blob)
