"""Members of zip and tar archives and of mailboxes, one after the other, never written under their own names; hostile ones are refused.

Nothing an archive says of itself is believed: unpacked bytes are counted while they are read.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from analyses import blobs
from analyses.ingest.limits import Refused, UploadLimits, megabytes

DIRECTORY_MOST = 64 << 20  # bytes of a zip's table of contents; zipfile reads it whole
# What the readers of archives raise on a damaged one. OSError too: gzip's, and seeks to nowhere.
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, struct.error, OSError, ValueError)


@dataclass(frozen=True)
class Entry:
    """One member: its name, and either a file to read (once, before the next is asked for) or why it is not read."""

    name: str
    size: int  # as the archive says
    file: IO[bytes] | None = None
    refused: Refused | None = None


class Meter:
    """Counts what an archive and the archives in it unpack to, and ends it when that is too much."""

    def __init__(self, limits: UploadLimits, packed: int, room: int, look: Callable[[], None] = lambda: None) -> None:
        self.limits, self.packed, self.room = limits, max(1, packed), room
        self.look = look  # called often, and ends the reading by what it raises
        self.unpacked = 0

    def add(self, size: int) -> None:
        self.look()
        self.unpacked += size
        self.check(self.unpacked)

    def check(self, unpacked: int) -> None:
        if unpacked > self.limits.ratio_from and unpacked > self.packed * self.limits.ratio:
            raise Bomb(
                f"It is {megabytes(self.packed)} and unpacks to more than {self.limits.ratio} times that: refused as a zip bomb. "
                + self.limits.who("ratio")
            )
        if unpacked > self.room:
            raise Bomb(
                f"It unpacks to more than the {megabytes(self.limits.bytes)} that an upload may have. {self.limits.who('bytes')}"
            )


class Bomb(Refused):
    """The whole archive is refused, with all that came out of it."""


class Metered:
    """A member's file whose bytes are counted while they are read."""

    def __init__(self, file: IO[bytes], meter: Meter) -> None:
        self._file, self._meter = file, meter

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(1 << 20 if size < 0 else size)
        self._meter.add(len(piece))
        return piece


def entries(source: Path, form: str, meter: Meter) -> Iterator[Entry]:
    """The members of an archive in its own order. Directories are left out; what is refused comes with its reason."""
    yield from {"tar": _tar, "zip": _zip, "mbox": _mbox}[form](source, meter)


def _zip(source: Path, meter: Meter) -> Iterator[Entry]:
    try:
        if _directory_size(source) > DIRECTORY_MOST:
            raise Refused("Its table of contents alone is larger than any archive of texts needs.")
        archive = zipfile.ZipFile(source)
    except DAMAGED as error:
        _ours(error)
        raise Refused("It is not a zip archive, or a damaged one.") from None
    with archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        _count(len(members), meter.limits)
        meter.check(sum(member.file_size for member in members))  # an honest bomb is told before it is unpacked
        for member in members:
            name = _zip_name(member)
            refused = _name_refused(name) or _hidden(name)
            if not refused and stat.S_ISLNK(member.external_attr >> 16):
                refused = Refused("It is a symbolic link; links are not followed.", skip=True)
            if not refused and member.flag_bits & 1:
                refused = Refused("Encrypted: it needs a password. Remove it and add the file again.")
            if refused:
                yield Entry(name, member.file_size, refused=refused)
                continue
            try:
                # LZMA names the memory it wants, up to 4 GB: no archive of texts needs it.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
                    raise NotImplementedError
                file = archive.open(member)
            except (NotImplementedError, RuntimeError, *DAMAGED):
                yield Entry(
                    name, member.file_size, refused=Refused("The archive is damaged here, or packed in an unknown way.")
                )
                continue
            with file:
                yield Entry(name, member.file_size, Metered(file, meter))  # type: ignore[arg-type]


def _directory_size(source: Path) -> int:
    """Bytes of the central directory, from the end record, before zipfile reads it all."""
    with source.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 16) - 22 - 20))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + 22 > len(tail):
            raise zipfile.BadZipFile
        (length,) = struct.unpack_from("<I", tail, at + 12)
        if length == 0xFFFFFFFF and tail[at - 20 : at - 16] == b"PK\x06\x07":
            (where,) = struct.unpack_from("<Q", tail, at - 20 + 8)
            file.seek(where)
            record = file.read(56)
            if len(record) == 56:
                (length,) = struct.unpack_from("<Q", record, 40)
    return int(length)


def _zip_name(member: zipfile.ZipInfo) -> str:
    name = member.orig_filename.split("\0")[0]
    if not member.flag_bits & 0x800:  # not said to be UTF-8, but most often it is
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return name.replace("\\", "/")


def _tar(source: Path, meter: Meter) -> Iterator[Entry]:
    count = 0
    with tempfile.TemporaryFile(dir=blobs.workshop()) as plain:
        try:
            _unpack(source, plain, meter)
            with tarfile.open(fileobj=_Careful(plain), mode="r:") as archive:  # type: ignore[call-overload]
                for member in archive:
                    if member.isdir():
                        continue
                    count += 1
                    _count(count, meter.limits)
                    name = member.name.replace("\\", "/")
                    refused = _name_refused(name) or _hidden(name)
                    if not refused and (member.issym() or member.islnk()):
                        refused = Refused("It is a link; links are not followed.", skip=True)
                    if not refused and (not member.isfile() or member.issparse()):
                        refused = Refused("It is a device, a pipe or a sparse file; such are not read.")
                    file = None if refused else archive.extractfile(member)
                    yield Entry(name, member.size, file, refused)
                    archive.members = []  # it keeps every header otherwise
        except DAMAGED as error:
            _ours(error)
            raise Refused(
                "The archive is damaged." if count else "It is not a tar archive, or a damaged one."
            ) from None


def _unpack(source: Path, plain: IO[bytes], meter: Meter) -> None:
    """Write the tar without its compression, to a file: tarfile seeks, which a compressed stream does badly."""
    with source.open("rb") as file:
        head = file.read(3)
    opener = gzip.open if head[:2] == b"\x1f\x8b" else bz2.open if head == b"BZh" else open
    with opener(source, "rb") as file:
        while piece := file.read(1 << 20):
            meter.add(len(piece))
            plain.write(piece)
    plain.seek(0)


# What begins a message in a mailbox: "From ", who sent it, and a moment with its year.
FROM_LINE = re.compile(rb"From \S+.* \d\d:\d\d.*\d{4}")


def _mbox(source: Path, meter: Meter) -> Iterator[Entry]:
    """The messages of a mailbox, each a file of its own. Only its lines are looked at here; mails are read in a jail."""
    found: list[tuple[int, int]] = []  # where the line that begins a message begins, and where it ends
    with source.open("rb") as file:
        at, may_begin = 0, True
        while line := file.readline(1 << 16):
            if may_begin and FROM_LINE.match(line, 0, 300):
                meter.look()
                found.append((at, at + len(line)))
                _count(len(found), meter.limits)
            at += len(line)
            may_begin = line in (b"\n", b"\r\n")
        if not found:
            raise Refused("It is no mailbox: no line of it begins a message (From, who sent it, and when).")
        ends = [begins for begins, _ in found[1:]] + [at]
        for number, ((_, start), end) in enumerate(zip(found, ends, strict=True), 1):
            piece = Metered(_Slice(file, start, end), meter)  # type: ignore[arg-type]
            yield Entry(f"message-{number:05}.eml", end - start, piece)  # type: ignore[arg-type]


class _Slice:
    """A part of a file, as a file."""

    def __init__(self, file: IO[bytes], start: int, end: int) -> None:
        self._file, self._at, self._end = file, start, end

    def read(self, size: int) -> bytes:
        self._file.seek(self._at)
        piece = self._file.read(min(size, self._end - self._at))
        self._at += len(piece)
        return piece


class _Careful:
    """A file that refuses to be read in huge pieces: tarfile takes whatever size a header names into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 1 << 24:
            raise tarfile.ReadError("a header of an absurd size")
        return self._file.read(size)


def _ours(error: Exception) -> None:
    """Let through what is this machine's trouble and not the archive's: a full disk."""
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
    ):
        raise error


def _count(files: int, limits: UploadLimits) -> None:
    if files > limits.files:
        raise Bomb(f"It holds {files:,} files or more; an upload takes {limits.files:,}. {limits.who('files')}")


def _name_refused(name: str) -> Refused | None:
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
        return Refused("Its name leads out of the archive (an absolute path or “..”); not read.")
    if not PurePosixPath(name).name:
        return Refused("It has no name.")
    return None


def _hidden(name: str) -> Refused | None:
    parts = PurePosixPath(name).parts
    if "__MACOSX" in parts or parts[-1] in ("Thumbs.db", "desktop.ini"):
        return Refused("A file of the system that made the archive, not a text.", skip=True)
    if any(part.startswith(".") for part in parts):
        return Refused("A hidden file (its name begins with a dot).", skip=True)
    return None


def hidden(name: str) -> Refused | None:
    """The same for what comes out of a folder: system files and dotfiles are skipped."""
    return _hidden(name)


def damaged(error: Exception) -> Refused | None:
    """What reading a member raised, as a reason; None if it was something else."""
    if isinstance(error, (zipfile.BadZipFile, zlib.error, EOFError, tarfile.TarError)):
        return Refused("It is damaged in the archive: its bytes do not match their checksum.")
    return None
