"""Real processes, really killed or stopped, their clocks set wrong: every file of an upload has one outcome, and nothing is left lying."""

from __future__ import annotations

import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import documents as make
from tests import services
from tests.chaos.household import Household, halt
from tests.e2e.instance import descendants, processes

pytestmark = pytest.mark.firejail

STATES = "select name, state, attempts from analyses_uploadfile order by name"
READING = "select count(*) from analyses_uploadfile where state = 'extracting' and reason like 'Page 1 of%'"
DONE = "select count(*) from analyses_upload where finished_at is not null and lease_token = ''"


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """While this is there, readings go no further than their first page."""
    flag = tmp_path / "slow"
    flag.touch()
    return flag


@pytest.fixture
def house(tmp_path: Path, slow: Path) -> Iterator[Household]:
    with services.installation() as environment:
        environment |= {"RLMWEB_LEASE_SECONDS": "3", "RLMWEB_SANDBOX_SPARE": "0", "CHAOS_SLOW": str(slow)}
        one = Household(tmp_path / "data", "http://127.0.0.1:9", **environment)
        yield one
        one.close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A folder as people have it: plain texts, a PDF and a book, an archive, the same thing twice, and something broken."""
    folder = tmp_path / "folder"
    folder.mkdir()
    pdf = make.pdf([f"Page {n} of the fog ledger." for n in range(9)])
    for name, data in {
        "z.txt": b"Ten past two.",
        "b.pdf": pdf,
        "c.pdf": make.pdf(["The harbour.", "Two boats."]),
        "d.rtf": make.rtf("Fog."),
        "e-broken.pdf": b"%PDF-1.4 and no more",
        "f-again.pdf": pdf,
    }.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "g.zip", "w") as archive:
        archive.writestr("in/h.txt", "Half past.")
        archive.writestr("in/i.pdf", make.pdf(["One.", "Two."]))
    return sorted(folder.iterdir())


OUTCOMES = {
    "z.txt": "ready", "b.pdf": "ready", "c.pdf": "ready", "d.rtf": "ready", "e-broken.pdf": "failed",
    "f-again.pdf": "duplicate", "g.zip": "ready", "in/h.txt": "ready", "in/i.pdf": "ready",
}  # fmt: skip


def reads(worker: int) -> bool:
    """Whether it has a jail that reads files."""
    found = processes()
    return any("extract.zygote" in found.get(pid, (0, ""))[1] for pid in descendants(worker))


def whole(house: Household) -> None:
    """Every file has its outcome, one version holds what is ready, no row lacks its blob and no blob its row."""
    assert {name: state for name, state, _ in house.rows(STATES)} == OUTCOMES
    assert house.rows("select number, document_count from analyses_corpusversion") == [(1, 6)]
    assert house.rows("select count(*) from analyses_upload where lease_token != '' or reason != ''") == [(0,)]
    named = {
        sha
        for columns in (
            "original, marks from analyses_document",
            "text, text from analyses_corpusversion",
            "blob, text from analyses_uploadfile",
            "marks, text from analyses_uploadfile",
            "sha, sha from analyses_looseblob",
        )
        for row in house.rows(f"select {columns}")
        for sha in row
    }
    kept = {path.name for path in (house.data / "blobs").glob("??/??/*")}
    assert kept and not kept - named
    assert not {sha for (sha,) in house.rows("select text from analyses_corpusversion")} - kept


def test_a_killed_workers_files_are_read_by_another(house: Household, slow: Path, files: list[Path]) -> None:
    house.upload(*files)
    first = house.start_worker()
    house.wait(lambda: house.rows(READING) > [(0,)])
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    slow.unlink()
    house.start_worker()
    house.wait(lambda: house.rows(DONE) == [(1,)])
    whole(house)
    assert max(attempts for _, _, attempts in house.rows(STATES)) == 2


def test_a_worker_that_hung_past_its_lease_writes_nothing_when_it_wakes(
    house: Household, slow: Path, files: list[Path]
) -> None:
    house.upload(*files)
    first = house.start_worker()
    house.wait(lambda: house.rows(READING) > [(0,)])
    halt(house.data, first.pid)
    try:
        house.start_worker(CHAOS_SLOW="")
        house.wait(lambda: house.rows(DONE) == [(1,)])
        slow.unlink()
        tables = ("upload", "uploadfile", "corpusversion", "document")
        rows = [house.rows(f"select * from analyses_{table} order by id") for table in tables]
        assert reads(first.pid)
    finally:
        first.send_signal(signal.SIGCONT)
    house.wait(lambda: not reads(first.pid))  # it has looked around, and let go
    assert [house.rows(f"select * from analyses_{table} order by id") for table in tables] == rows
    whole(house)


@pytest.mark.parametrize("clock", ["+1h", "-1h"])
def test_a_wrong_clock_takes_no_upload_from_a_worker_and_keeps_none(
    house: Household, slow: Path, files: list[Path], clock: str
) -> None:
    house.environment["RLMWEB_LEASE_SECONDS"] = "6"
    house.upload(*files)
    first = house.start_worker()
    house.wait(lambda: house.rows(READING) > [(0,)])
    other = house.start_worker(clock=clock)
    renewed = "select lease_expires_at from analyses_upload"
    for _ in range(6):  # in which time the other has looked three times, and more
        before = house.rows(renewed)
        house.wait(lambda before=before: house.rows(renewed) != before)  # type: ignore[misc]
    assert max(attempts for _, _, attempts in house.rows(STATES)) == 1
    # The one whose clock is wrong goes on where the first dies, and the third where that one does.
    first.kill()
    house.wait(lambda: max(attempts for _, _, attempts in house.rows(STATES)) == 2)
    other.kill()
    slow.unlink()
    house.start_worker()
    house.wait(lambda: house.rows(DONE) == [(1,)])
    whole(house)
