"""Blobs: named by what they hold, whole or not there."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import Storage

from analyses import blobs
from analyses.texts import stored_messages
from rlm.events import Message

DATA = b"the light went dark at ten past two\n"
SHA = hashlib.sha256(DATA).hexdigest()


def files(settings: Any) -> list[str]:
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_blob_is_named_by_its_sha256_and_sharded(settings: Any) -> None:
    assert blobs.put(DATA) == SHA
    assert files(settings) == [f"{SHA[:2]}/{SHA[2:4]}/{SHA}"]
    assert blobs.read(SHA) == DATA
    assert blobs.read(SHA, limit=9) == b"the light"
    assert blobs.path(SHA).read_bytes() == DATA
    with blobs.open(SHA) as file:
        assert file.read(3) == b"the"


@pytest.mark.parametrize(
    "source", [io.BytesIO(DATA), [DATA[:5], DATA[5:]], ContentFile(DATA)], ids=["file", "pieces", "upload"]
)
def test_blob_is_hashed_while_it_streams(source: Any) -> None:
    assert blobs.put_file(source) == (SHA, len(DATA))


def test_duplicate_is_kept_once(settings: Any) -> None:
    blobs.put(DATA)
    assert blobs.put_file([DATA]) == (SHA, len(DATA))
    assert len(files(settings)) == 1


def test_blob_is_readable_by_its_owner_alone() -> None:
    blobs.put(DATA)
    assert blobs.path(SHA).stat().st_mode & 0o777 == 0o600
    assert blobs.path(SHA).parent.stat().st_mode & 0o777 == 0o700


def test_broken_source_leaves_nothing(settings: Any) -> None:
    def breaks() -> Any:
        yield b"half of it"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        blobs.put_file(breaks())
    assert files(settings) == []


def test_full_disk_leaves_nothing(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        blobs.put(DATA)
    assert files(settings) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "/" + "0" * 63])
def test_name_that_is_no_sha256_is_refused(name: str) -> None:
    for verb in (blobs.path, blobs.open, blobs.read, blobs.exists, blobs.delete):
        with pytest.raises(ValueError, match="not the name of a blob"):
            verb(name)


def test_missing_blob_says_so() -> None:
    assert not blobs.exists("0" * 64)
    with pytest.raises(blobs.BlobMissing):
        blobs.read("0" * 64)
    blobs.delete("0" * 64)


def test_deleted_blob_is_gone() -> None:
    blobs.put(DATA)
    blobs.delete(SHA)
    assert not blobs.exists(SHA)


def test_putting_again_makes_a_blob_young() -> None:
    blobs.put(DATA)
    os.utime(blobs.path(SHA), (1, 1))
    assert blobs.age(SHA) > 1e6
    blobs.put_file([DATA])
    assert blobs.age(SHA) < 60


def test_naming_a_long_message_again_makes_its_blob_young() -> None:
    long = Message("system", "the system prompt of every run " * 1_000)
    [named] = stored_messages([long])
    os.utime(blobs.path(named["blob"]), (1, 1))
    assert stored_messages([long]) == [named]
    assert blobs.age(named["blob"]) < 60


def test_blob_that_a_power_cut_shortened_is_written_again() -> None:
    blobs.put(DATA, lazy=True)
    blobs.path(SHA).write_bytes(b"")
    blobs.put(DATA, lazy=True)
    blobs.settle()
    assert blobs.read(SHA) == DATA


def test_what_a_dead_process_was_writing_is_swept_in_time() -> None:
    dead = blobs.workshop() / "part-dead"
    dead.write_bytes(b"half")
    assert blobs.sweep_workshop() == 0
    os.utime(dead, (1, 1))
    assert blobs.sweep_workshop() == 1
    assert not dead.exists()


def test_many_put_the_same_at_once() -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(blobs.put_file([b"x" * 100_000])[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 8
    assert blobs.read(names[0]) == b"x" * 100_000
    assert len(set(names)) == 1


class FarStorage(Storage):
    """An object store: no paths, only names and bytes."""

    kept: dict[str, bytes] = {}

    def _open(self, name: str, mode: str = "rb") -> Any:
        return ContentFile(self.kept[name])

    def _save(self, name: str, content: Any) -> str:
        self.kept[name] = b"".join(content.chunks())
        return name

    def exists(self, name: str) -> bool:
        return name in self.kept

    def delete(self, name: str) -> None:
        self.kept.pop(name, None)


@pytest.fixture
def far(settings: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    FarStorage.kept = {}
    monkeypatch.setattr(blobs, "_sent", {})
    settings.STORAGES = settings.STORAGES | {"blobs": {"BACKEND": f"{FarStorage.__module__}.FarStorage"}}
    # By import path where the module can be imported, else by the class itself.
    from django.core.files.storage import storages

    storages._storages = {"blobs": FarStorage()}  # type: ignore[attr-defined]
    return FarStorage.kept


def test_remote_blob_is_read_from_a_local_copy(far: dict[str, bytes], tmp_path: Path) -> None:
    assert blobs.put_file([DATA]) == (SHA, len(DATA))
    assert list(far.values()) == [DATA]
    far_only = blobs.path(SHA)
    far_only.unlink()  # another machine has no copy yet
    assert blobs.read(SHA) == DATA
    assert blobs.path(SHA).is_relative_to(tmp_path)
    blobs.delete(SHA)
    assert not far
    assert not far_only.exists()


def test_remote_blob_that_comes_back_damaged_is_refused(far: dict[str, bytes]) -> None:
    blobs.put(DATA)
    blobs.path(SHA).unlink()
    far[next(iter(far))] = b"something else"
    with pytest.raises(OSError, match="damaged"):
        blobs.read(SHA)
