"""Files of an upload that are read beside each other, told to stop, or whose reader lost its lease."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from analyses import jobs, leases
from analyses.ingest import jailed, loose, reading, uploads
from analyses.jobs import Hold, LeaseLost
from analyses.models import LooseBlob, Upload, UploadFile
from sandbox.extraction import Extraction
from tests import documents as make
from tests.factories import make_workspace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.firejail]

PDF = make.pdf([f"Page {n}." for n in range(5)])


@pytest.fixture
def seats(monkeypatch: pytest.MonkeyPatch) -> int:
    """Three readings at once, whatever the machine."""
    monkeypatch.setattr(uploads, "SEATS", 3)
    monkeypatch.setattr(reading, "_seats", threading.BoundedSemaphore(3))
    return 3


@pytest.fixture
def jails(monkeypatch: pytest.MonkeyPatch) -> list[Extraction]:
    """Those that were started."""
    started: list[Extraction] = []
    real = Extraction.start

    def start(*given: Any) -> Extraction:
        started.append(real(*given))
        return started[-1]

    monkeypatch.setattr(Extraction, "start", start)
    return started


def sent(files: dict[str, bytes]) -> Upload:
    made = uploads.start(make_workspace(), None)
    for name, data in files.items():
        uploads.receive(made, name, io.BytesIO(data))
    uploads.close(made)
    return made


def told(made: Upload) -> dict[str, tuple[str, str]]:
    return {row.name: (row.state, row.reason) for row in made.files.all()}


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def pdfs(count: int) -> dict[str, bytes]:
    return {f"{n}.pdf": make.pdf([f"The {n}th page."]) for n in range(count)}


def in_the_midst(monkeypatch: pytest.MonkeyPatch, do: Callable[[str, Callable[[], None]], None]) -> None:
    """Have something done by whoever reads a document, on its first page: `do` is given its name and how to look around."""
    real = uploads.extract

    def extract(*given: Any, look: Callable[[], None], on_page: Any = None, **how: Any) -> Any:
        def page(number: int, of: int) -> None:
            if on_page:
                on_page(number, of)
            if number == 1:
                do(given[1], look)

        return real(*given, look=look, on_page=page, **how)

    monkeypatch.setattr(uploads, "extract", extract)


class Beside:
    """The work of a worker, on a thread of its own."""

    def __init__(self, made: Upload) -> None:
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._work, args=(made.pk,))
        self.thread.start()

    def _work(self, pk: int) -> None:
        try:
            uploads.process(pk)
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            connection.close()

    def join(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive() and self.error is None


def until(condition: Callable[[], Any], look: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        look()
        time.sleep(0.02)


def nothing_lies_there() -> None:
    """Every blob is named by a row, or noted as loose."""
    noted = set(LooseBlob.objects.values_list("sha", flat=True))
    assert not set(loose.unnamed(grace=-1)) - noted


# — beside each other —


def test_as_many_are_read_at_once_as_there_are_seats(
    seats: int, jails: list[Extraction], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(seats)
    in_the_midst(monkeypatch, lambda name, look: (together.wait(30), None)[1])
    made = sent(pdfs(2 * seats) | {"z.txt": b"one"})
    uploads.process(made.pk)
    made.refresh_from_db()
    assert {state for state, _ in told(made).values()} == {"ready"} and len(jails) == 1
    assert made.version
    assert [d.name for d in made.version.documents.all()] == [*(f"{n}.pdf" for n in range(6)), "z.txt"]
    nothing_lies_there()


def test_members_of_an_archive_are_read_at_once_too(seats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(seats)
    in_the_midst(monkeypatch, lambda name, look: (together.wait(30), None)[1])
    made = sent({"a.zip": zipped(pdfs(seats) | {"inner.zip": zipped({"b.txt": b"one"})})})
    uploads.process(made.pk)
    made.refresh_from_db()
    assert told(made)["a.zip"] == ("ready", "4 of 4 files in it are ready.")
    assert made.version and made.version.document_count == 4
    nothing_lies_there()


def test_a_slow_file_holds_up_no_other(seats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sent({"a-slow.pdf": PDF} | pdfs(6))
    others = made.files.exclude(name="a-slow.pdf")

    def slow(name: str, look: Callable[[], None]) -> None:
        if name == "a-slow.pdf":
            until(lambda: others.filter(state="ready").count() == 6, look)
            connection.close()

    in_the_midst(monkeypatch, slow)
    uploads.process(made.pk)
    assert told(made)["a-slow.pdf"][0] == "ready"


def test_same_bytes_at_once_are_kept_once_and_it_is_the_first(seats: int) -> None:
    made = sent({f"{n}.pdf": PDF for n in range(5)})
    uploads.process(made.pk)
    rows = list(made.files.order_by("position"))
    assert [row.state for row in rows] == ["ready", *["duplicate"] * 4]
    assert rows[1].reason == "Same bytes as 0.pdf. Kept once."


def test_a_file_that_breaks_the_jail_takes_no_other_with_it(
    seats: int, jails: list[Extraction], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(seats)
    done = set[str]()

    def breaks(name: str, look: Callable[[], None]) -> None:
        if name in done:
            return
        done.add(name)
        if len(done) <= seats:
            together.wait(30)
        if name == "1.pdf":
            jails[0].close()

    in_the_midst(monkeypatch, breaks)
    made = sent({f"{n}.pdf": make.pdf([f"The {n}th page." * 20] * 400) for n in range(4)})
    uploads.process(made.pk)
    assert {state for state, _ in told(made).values()} == {"ready"}
    assert len(jails) > 1 and not any(jail.alive for jail in jails)


def test_the_limit_of_characters_holds_for_all_together(seats: int, settings: Any) -> None:
    settings.UPLOAD_CHARACTERS = 40
    made = sent({f"{n}.pdf": make.pdf([f"Twelve of {n}."]) for n in range(6)})
    uploads.process(made.pk)
    made.refresh_from_db()
    states = [state for state, _ in told(made).values()]
    assert (states.count("ready"), states.count("failed")) == (3, 3)
    assert made.version and made.version.characters <= 40
    nothing_lies_there()


def test_what_a_worker_died_over_is_read_alone(seats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next death is then its own, and none of another's that was read beside it."""
    made = sent(pdfs(4))
    made.files.filter(name__in=["1.pdf", "2.pdf"]).update(state="extracting", attempts=1)
    beside: dict[str, set[str]] = {}

    def note(name: str, look: Callable[[], None]) -> None:
        beside[name] = set(made.files.filter(state="extracting").exclude(name=name).values_list("name", flat=True))
        connection.close()

    in_the_midst(monkeypatch, note)
    uploads.process(made.pk)
    assert beside["1.pdf"] == beside["2.pdf"] == set()


# — cancelled —


def test_cancel_ends_what_is_being_read_in_the_jail(
    seats: int, jails: list[Extraction], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that would be read for minutes, without a word."""
    slow = make.epub({f"c{n}": f"<p>{n}</p>" + "<div>" * 60_000 for n in range(40)})
    made = sent({"a.txt": b"one", "b-slow.epub": slow, "c.pdf": PDF, "d-slow.epub": slow + b"again"})
    row = made.files.get(name="b-slow.epub")
    work = Beside(made)
    until(lambda: jails and jails[0]._reading and made.files.filter(name="c.pdf", state="ready").exists())
    uploads.cancel(made)
    assert told(made)["b-slow.epub"] == ("skipped", "Cancelled while it was being read.")
    work.join()
    assert not jails[0].alive and len(jails) == 1
    made.refresh_from_db()
    assert made.finished_at and made.version and made.version.document_count == 2
    assert {name: state for name, (state, _) in told(made).items()} == {
        "a.txt": "ready", "b-slow.epub": "skipped", "c.pdf": "ready", "d-slow.epub": "skipped",
    }  # fmt: skip
    assert LooseBlob.objects.filter(sha=row.blob).exists() and not made.files.get(pk=row.pk).blob
    nothing_lies_there()


def test_cancel_ends_the_reading_of_a_plain_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LOOK_SECONDS", 0.0)
    made = sent({"a.txt": b"one", "b.txt": b"A line of the fog ledger.\n" * 400_000, "c.txt": b"three"})
    pieces = 0
    look = uploads.Intake._look_for

    def cancels(self: Any, top: int) -> None:
        nonlocal pieces
        if made.files.get(pk=top).name == "b.txt":
            pieces += 1
            if pieces == 3:
                uploads.cancel(made)
        look(self, top)

    monkeypatch.setattr(uploads.Intake, "_look_for", cancels)
    uploads.process(made.pk)
    assert pieces == 3  # of some thirty
    assert told(made) == {
        "a.txt": ("ready", ""),
        "b.txt": ("skipped", "Cancelled while it was being read."),
        "c.txt": ("skipped", "Cancelled before it was taken in."),
    }
    made.refresh_from_db()
    assert made.version and made.version.document_count == 1
    nothing_lies_there()


def test_cancel_ends_the_opening_of_an_archive_and_keeps_what_is_ready(
    seats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BATCH", 2)
    members = {
        "a.txt": b"one",
        "b.txt": b"two",
        "c.pdf": PDF,
        "in.zip": zipped({"d.pdf": PDF + b"again"}),
        "e.txt": b"e",
    }
    made = sent({"all.zip": zipped(members)})
    cancelled = threading.Event()

    def wait(name: str, look: Callable[[], None]) -> None:
        if name.endswith("c.pdf"):
            until(lambda: UploadFile.objects.filter(name="b.txt", state="ready").exists(), look)
            uploads.cancel(made)
            cancelled.set()
            connection.close()
        until(lambda: False, look)

    in_the_midst(monkeypatch, wait)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert cancelled.is_set() and made.finished_at and made.version
    assert told(made)["all.zip"] == ("skipped", "Cancelled while it was being read.")
    assert {"a.txt", "b.txt"} <= {d.name for d in made.version.documents.all()}
    assert not made.files.exclude(state__in=["ready", "skipped"]).exists()
    assert "c.pdf" not in told(made)
    nothing_lies_there()


def test_cancel_in_the_last_moment_lets_go_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text was there, its row was not written yet."""
    settle = uploads.Intake._settle

    def late(self: Any, row: UploadFile) -> None:
        uploads.cancel(self.upload)
        settle(self, row)

    monkeypatch.setattr(uploads.Intake, "_settle", late)
    made = sent({"a.pdf": PDF})
    uploads.process(made.pk)
    assert told(made)["a.pdf"] == ("skipped", "Cancelled while it was being read.")
    nothing_lies_there()


# — leases —


def rob(made: Upload) -> None:
    """Another worker has taken it."""
    Upload.objects.filter(pk=made.pk).update(lease_token="another")


def test_who_lost_the_lease_writes_no_row(seats: int, jails: list[Extraction], monkeypatch: pytest.MonkeyPatch) -> None:
    made = sent({"a.zip": zipped({"x.txt": b"one"} | pdfs(3))} | {"b.pdf": PDF})

    def hangs(name: str, look: Callable[[], None]) -> None:
        rob(made)
        connection.close()

    in_the_midst(monkeypatch, hangs)
    uploads.process(made.pk)
    assert not jails[0].alive
    assert {name: state for name, (state, _) in told(made).items()} == {"a.zip": "extracting", "b.pdf": "queued"}
    made.refresh_from_db()
    assert (made.lease_token, made.version) == ("another", None)
    nothing_lies_there()


def test_who_lost_the_lease_makes_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sent({"a.txt": b"one", "b.txt": b"two"})
    pack = uploads.versions.pack

    def hangs(pieces: Any) -> Any:
        rob(made)
        return pack(pieces)

    monkeypatch.setattr(uploads.versions, "pack", hangs)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert made.version is None and made.finished_at is None
    assert set(made.files.exclude(text="").values_list("name", flat=True)) == {"a.txt", "b.txt"}
    nothing_lies_there()


def test_a_lease_is_taken_when_it_is_not_renewed_and_not_when_its_date_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Time:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Time()
    monkeypatch.setattr(leases, "time", clock)
    found: list[int] = []
    all_jobs = jobs.Jobs(Upload, uploads.waiting, found.append)
    monkeypatch.setattr(all_jobs, "_beside", found.append)
    made = sent({"a.txt": b"one"})
    past = timezone.now() - timedelta(hours=1)
    Upload.objects.update(lease_token="mine", lease_expires_at=past)
    for second in range(5):  # its worker's clock is late, and it lives
        all_jobs.sweep()
        clock.now += 9
        Upload.objects.update(lease_expires_at=past + timedelta(seconds=second + 1))
    assert not found
    all_jobs.sweep()
    clock.now += 11
    all_jobs.sweep()
    assert found == [made.pk]
    made.refresh_from_db()
    assert (made.lease_token, made.lease_expires_at) == ("", None)


def test_a_worker_that_is_shut_down_gives_its_jobs_back() -> None:
    made = sent({"a.txt": b"one"})
    with Hold(Upload, made.pk) as hold:
        jobs.give_back()
        made.refresh_from_db()
        assert (made.lease_token, made.lease_expires_at) == ("", None)
        with pytest.raises(LeaseLost), hold.writing():
            pass
        with Hold(Upload, made.pk) as other:
            assert other.held and not hold.held
    made.refresh_from_db()
    assert made.lease_expires_at is None


def test_a_jail_that_broke_is_said_where_it_breaks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*given: Any) -> Any:
        raise jailed.JailBroke

    monkeypatch.setattr(jailed.Reader, "read", breaks)
    made = sent({"a.pdf": PDF})
    uploads.process(made.pk)
    row = made.files.get()
    assert (row.state, row.may_retry, row.reason) == (
        "failed",
        True,
        "The jail in which it was read broke down. Try again.",
    )
