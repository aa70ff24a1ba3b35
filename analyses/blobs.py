"""Bytes by their sha256, over Django's storage "blobs": hashed while they are written, put in place whole, never changed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages

CHUNK = 1 << 20  # bytes read or written at a time
NAME = re.compile(r"[0-9a-f]{64}")
YOUNG = 30.0  # seconds since it was written, for which a blob in an object store needs not be written again
SENT_MOST = 4_096  # of which this process remembers that
CACHED = 86_400.0  # seconds for which a copy of one stays here with nobody using it


def no_room(error: Exception) -> bool:
    """Whether what went wrong is that there is no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def of_store(error: Exception) -> bool:
    """Whether it went wrong where blobs are kept. An object store has errors of its own."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("botocore", "boto3", "s3transfer")


class BlobMissing(FileNotFoundError):
    """No blob of that name is kept here."""


def _storage() -> Storage:
    return storages["blobs"]


def _key(sha: str) -> str:
    """The blob's name in the storage. Two levels of directories keep each of them small."""
    if not NAME.fullmatch(sha):
        raise ValueError(f"not the name of a blob: {sha[:80]!r}")
    return f"{sha[:2]}/{sha[2:4]}/{sha}"


def _local(sha: str) -> Path | None:
    """Where the blob lies, if the storage is a local directory."""
    storage = _storage()
    return Path(storage.path(_key(sha))) if isinstance(storage, FileSystemStorage) else None


def _cached(sha: str) -> Path:
    return Path(settings.DATA_DIR) / "blob-cache" / _key(sha)


def workshop() -> Path:
    """A directory for what is still being written, on the file system where it will stay."""
    storage = _storage()
    root = Path(storage.location) if isinstance(storage, FileSystemStorage) else Path(settings.DATA_DIR) / "blob-cache"
    place = root / "partial"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


class Writer:
    """A blob being written: `with Writer() as blob: blob.write(…); sha = blob.commit()`. Without commit nothing stays.

    `lazy`: many small blobs in a row; their writer calls `settle` once before a row that is to last names them.
    """

    def __init__(self, *, lazy: bool = False) -> None:
        self._lazy = lazy
        descriptor, name = tempfile.mkstemp(dir=workshop(), prefix="part-")
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data)
        self._hash.update(view)
        while view:  # unbuffered files may take a part only
            written = self._file.write(view)
            self.size += written or 0
            view = view[written or 0 :]
        return len(data)

    def commit(self) -> str:
        """Put the blob in its place, if it is not there yet, and return its name."""
        sha = self._hash.hexdigest()
        place = _local(sha)
        if renew(sha, self.size):
            self._drop()
            return sha
        if place is None:
            place = _cached(sha)
            self._file.close()
            with self._path.open("rb") as source:
                _send(sha, source)
        else:
            if not self._lazy:
                os.fsync(self._file.fileno())  # a name must never stand for bytes that a power cut took away
            self._file.close()
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.replace(place)
        return sha

    def _drop(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()


_sent: dict[str, float] = {}  # to the object store by this process, the longest ago first; monotonic
_lock = threading.Lock()


def _send(sha: str, source: BinaryIO) -> None:
    """Put a blob into the object store."""
    _sweep_cache()
    _storage().save(_key(sha), File(source))
    with _lock:
        _sent.pop(sha, None)
        _sent[sha] = time.monotonic()
        if len(_sent) > SENT_MOST:
            del _sent[next(iter(_sent))]


def renew(sha: str, size: int) -> bool:
    """Say whether the blob is kept, and if so mark it as used now: `age` is what spares it from being swept.

    False, and it is to be written again: one of another size, which is what a power cut left of a lazy blob; and one in an
    object store, which marks nothing but writes, unless it is young.
    """
    if (place := _local(sha)) is None:
        sent = _sent.get(sha)
        if sent is not None and time.monotonic() - sent < YOUNG:
            return True
        return _storage().exists(_key(sha)) and age(sha) < YOUNG
    try:
        os.utime(place)
        return place.stat().st_size == size
    except FileNotFoundError:
        return False


def settle() -> None:
    """Have what was written lazily on the disk: one call to the file system instead of one for every blob."""
    storage = _storage()
    if not isinstance(storage, FileSystemStorage):
        return
    directory = os.open(workshop(), os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(directory):
            raise OSError(ctypes.get_errno(), "syncfs failed")
    finally:
        os.close(directory)


def _pieces(source: Any) -> Iterator[bytes]:
    if hasattr(source, "chunks"):  # an uploaded file of Django's
        yield from source.chunks(CHUNK)
    elif hasattr(source, "read"):
        while piece := source.read(CHUNK):
            yield piece
    else:
        yield from source


def put_file(source: BinaryIO | File[bytes] | Iterable[bytes], *, lazy: bool = False) -> tuple[str, int]:
    """Keep what a readable or an iterable of bytes gives, never whole in memory; return its name and size."""
    with Writer(lazy=lazy) as blob:
        for piece in _pieces(source):
            blob.write(piece)
        return blob.commit(), blob.size


def adopt(file: Path, digest: Any = None) -> tuple[str, int]:
    """Make a blob of a file in the workshop, which is gone afterwards: moved, not copied. `digest`: its hash, if known."""
    if digest is None:
        digest = hashlib.sha256()
        with file.open("rb") as source:
            for piece in _pieces(source):
                digest.update(piece)
    sha, size = digest.hexdigest(), file.stat().st_size
    if renew(sha, size):
        file.unlink()
        return sha, size
    with file.open("rb") as source:
        if (place := _local(sha)) is None:
            place = _cached(sha)
            _send(sha, source)
        else:
            os.fsync(source.fileno())
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.replace(place)
    return sha, size


def put(data: bytes, *, lazy: bool = False) -> str:
    """Keep these bytes and return their name."""
    sha = hashlib.sha256(data).hexdigest()
    return sha if renew(sha, len(data)) else put_file([data], lazy=lazy)[0]


def path(sha: str) -> Path:
    """A local file with the blob's bytes; where the storage is remote, a copy kept in the data directory."""
    if place := _local(sha):
        if not place.exists():
            raise BlobMissing(f"blob {sha} is not kept here")
        return place
    place = _cached(sha)
    with contextlib.suppress(FileNotFoundError):
        os.utime(place)
        return place
    _sweep_cache()
    if not _storage().exists(_key(sha)):
        raise BlobMissing(f"blob {sha} is not kept here")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=workshop(), prefix="copy-")
    try:
        digest = hashlib.sha256()
        with os.fdopen(descriptor, "wb") as copy, _storage().open(_key(sha)) as remote:
            for piece in remote.chunks(CHUNK):
                digest.update(piece)
                copy.write(piece)
        if digest.hexdigest() != sha:
            raise OSError(f"blob {sha} came back damaged from the storage")
        Path(name).replace(place)
    finally:
        Path(name).unlink(missing_ok=True)
    return place


def open(sha: str) -> BinaryIO:
    """The blob as a file to read."""
    return path(sha).open("rb")


def read(sha: str, limit: int | None = None) -> bytes:
    """The blob's bytes, at most `limit` of them."""
    with open(sha) as blob:
        return blob.read(-1 if limit is None else limit)


def exists(sha: str) -> bool:
    return place.exists() if (place := _local(sha)) else _storage().exists(_key(sha))


def names() -> Iterator[str]:
    """The names of all blobs that are kept, as the storage lists them. Of a large remote storage this takes long."""
    storage = _storage()
    for first in sorted(storage.listdir("")[0]):
        if len(first) != 2:
            continue
        for second in sorted(storage.listdir(first)[0]):
            yield from (name for name in sorted(storage.listdir(f"{first}/{second}")[1]) if NAME.fullmatch(name))


def size(sha: str) -> int:
    """How many bytes the blob has."""
    return place.stat().st_size if (place := _local(sha)) else _storage().size(_key(sha))


def age(sha: str) -> float:
    """Seconds since the blob was last put, 0 where that cannot be known."""
    if place := _local(sha):
        with contextlib.suppress(FileNotFoundError):
            return max(0.0, time.time() - place.stat().st_mtime)
        return 0.0
    with contextlib.suppress(OSError, NotImplementedError):
        return max(0.0, time.time() - _storage().get_modified_time(_key(sha)).timestamp())
    return 0.0


def sweep_workshop(older: float = 86_400) -> int:
    """Remove what a process that died was writing; return how many."""
    gone = 0
    for path in [*workshop().glob("part-*"), *workshop().glob("copy-*")]:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > older:
                path.unlink()
                gone += 1
    return gone


_cache_swept = float("-inf")  # monotonic


def _sweep_cache() -> None:
    """Now and then, before a copy is added: those that nobody has used for a while go, here as on every other host.

    So does, in time, what is left here of a blob that another host has deleted.
    """
    global _cache_swept
    now = time.monotonic()
    if now - _cache_swept < CACHED / 24:
        return
    _cache_swept = now
    for copy in _cached("0" * 64).parents[2].glob("??/??/*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - copy.stat().st_mtime > CACHED:
                copy.unlink()


def delete(sha: str) -> None:
    """Forget the blob. Whoever calls has made sure that no row names it."""
    if place := _local(sha):
        place.unlink(missing_ok=True)
        return
    with _lock:
        _sent.pop(sha, None)
    _cached(sha).unlink(missing_ok=True)
    _storage().delete(_key(sha))
