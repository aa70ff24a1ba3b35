"""The server's half of resumable uploads by the tus 1.0 protocol: pieces of a file are appended until it is whole.

A file on its way lies in the workshop of the blobs, named by its row; its size there is the offset, so nothing can
disagree with it. It is hashed while it grows, by the process that receives its pieces; where that changed, once more.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from analyses import blobs
from analyses.models import UploadFile

VERSION = "1.0.0"
EXTENSIONS = "creation,termination,checksum,expiration"
ALGORITHMS = ("sha256", "sha1", "md5")
PIECE_MOST = 64 << 20  # bytes of one request
CHUNK = 1 << 20

_digests: OrderedDict[int, tuple[int, Any]] = OrderedDict()  # row → bytes hashed, hash
_lock = threading.Lock()


class Trouble(Exception):
    """A request that the protocol answers with this status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def place(row: UploadFile) -> Path:
    return blobs.workshop() / f"tus-{row.pk}"


def offset(row: UploadFile) -> int:
    """Bytes of a file that are here."""
    if row.state != UploadFile.State.UPLOADING:
        return row.size
    path = place(row)
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file on its way, for one request at a time."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(423, "Another request is adding to this file.") from None
        yield file


def append(row: UploadFile, at: int, body: Any, checksum: str = "") -> int:
    """Add the bytes of a request at an offset, all of them or none; return the new offset."""
    path = place(row)
    with _locked(path) as file:
        here = os.fstat(file.fileno()).st_size
        if at != here:
            raise Trouble(409, f"The file stands at {here} bytes, not at {at}.")
        digest = _digest(row, here)
        check, wanted = _checker(checksum)
        size = here
        try:
            while piece := body.read(CHUNK):
                size += len(piece)
                if size > row.size:
                    raise Trouble(413, f"More bytes came than the {row.size} that were announced.")
                if size - here > PIECE_MOST:
                    raise Trouble(413, f"Send at most {PIECE_MOST} bytes at a time.")
                file.write(piece)
                if digest:
                    digest.update(piece)
                if check:
                    check.update(piece)
            file.flush()
            if check and check.digest() != wanted:
                raise Trouble(460, "The checksum does not match: nothing of this piece was kept.")
        except BaseException:
            _digests.pop(row.pk, None)
            file.truncate(here)  # a piece is kept whole or not at all
            raise
        _remember(row, size, digest)
    return size


def finish(row: UploadFile) -> tuple[str, int]:
    """The file is whole: make it a blob."""
    path = place(row)
    if not row.size:
        return blobs.put(b""), 0
    with _lock:
        hashed, digest = _digests.pop(row.pk, (0, None))
    return blobs.adopt(path, digest if hashed == path.stat().st_size else None)


def drop(row_pk: int) -> None:
    """Forget what came of a file."""
    with _lock:
        _digests.pop(row_pk, None)
    (blobs.workshop() / f"tus-{row_pk}").unlink(missing_ok=True)


def sweep() -> None:
    """Drop what lies there of files that are not expected any more."""
    parts = {int(path.name[4:]): path for path in blobs.workshop().glob("tus-*") if path.name[4:].isdecimal()}
    if not parts:
        return
    expected = UploadFile.objects.filter(pk__in=list(parts), state=UploadFile.State.UPLOADING).values_list(
        "pk", flat=True
    )
    for pk in parts.keys() - set(expected):
        drop(pk)


def _digest(row: UploadFile, here: int) -> Any:
    """The hash of what is here, if this process has received all of it."""
    if not here:
        return hashlib.sha256()
    with _lock:
        hashed, digest = _digests.get(row.pk, (0, None))
    return digest if hashed == here else None


def _remember(row: UploadFile, size: int, digest: Any) -> None:
    with _lock:
        if digest:
            _digests[row.pk] = (size, digest)
            _digests.move_to_end(row.pk)
        while len(_digests) > 256:
            _digests.popitem(last=False)


def _checker(checksum: str) -> tuple[Any, bytes]:
    """The hash that a piece must have: "sha256 <base64>"."""
    if not checksum:
        return None, b""
    name, _, value = checksum.partition(" ")
    if name not in ALGORITHMS:
        raise Trouble(400, f"Checksums are {', '.join(ALGORITHMS)}, not {name[:20]!r}.")
    try:
        return hashlib.new(name, usedforsecurity=False), base64.b64decode(value, validate=True)
    except binascii.Error:
        raise Trouble(400, "The checksum is no base64.") from None


def metadata(header: str) -> dict[str, str]:
    """Upload-Metadata: "filename d29ybGQ=,kind dHh0"."""
    found = {}
    for pair in header.split(",")[:20]:
        key, _, value = pair.strip().partition(" ")
        if key:
            try:
                found[key] = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise Trouble(400, f"The metadata {key[:40]!r} is no base64 of UTF-8.") from None
    return found
