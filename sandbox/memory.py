"""Bytes that can be handed to a jail without a copy: plain bytes, or a sealed memfd that nobody can write any more."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
EMPTY = b""


class Memory:
    """A read-only region of bytes. Its descriptor, if it has one, is closed when the object goes."""

    def __init__(self, data: bytes | memoryview | mmap.mmap = EMPTY, *, fd: int = -1, size: int | None = None) -> None:
        self._data: bytes | memoryview | mmap.mmap | None = data if fd < 0 or data else None
        self._fd = fd
        self._owner: Memory | None = None  # keeps the descriptor open
        self.size = len(data) if size is None else size
        if fd >= 0:
            weakref.finalize(self, _close, fd)

    @classmethod
    def of_file(cls, path: Path) -> Memory:
        """Map a file. It is copied into a sealed memfd only where a jail needs it."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                return cls()
            return cls(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))

    @classmethod
    def of_parts(cls, path: Path, parts: Sequence[tuple[int, int]]) -> Memory:
        """Ranges of a file (first byte, byte after the last), one after the other in a sealed memfd."""
        fd, size = new_memfd(), 0
        try:
            with path.open("rb") as file:
                for start, end in parts:
                    at = start
                    while at < end:
                        sent = os.sendfile(fd, file.fileno(), at, min(end - at, 1 << 30))
                        if not sent:
                            raise OSError(f"{path.name} ends before byte {end}")
                        at += sent
                    size += end - start
            return cls.sealed(fd, size)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def sealed(cls, fd: int, size: int) -> Memory:
        """Take over a memfd: nothing can write to it from here on."""
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return cls(fd=fd, size=size)

    def head(self, size: int) -> Memory:
        """The first ``size`` bytes, without a copy."""
        if self._fd < 0:
            return Memory(self.view()[:size])
        part = Memory(fd=-1, size=size)
        part._data, part._fd, part._owner = None, self._fd, self
        return part

    def view(self) -> memoryview:
        if self._data is None:
            self._data = mmap.mmap(self._fd, self.size, prot=mmap.PROT_READ) if self.size else EMPTY
        return memoryview(self._data)

    def fd(self) -> int:
        """A sealed memfd with these bytes; it stays this object's."""
        if self._fd < 0:
            fd = new_memfd()
            try:
                view, at = self.view(), 0
                while at < self.size:
                    at += os.pwrite(fd, view[at : at + (8 << 20)], at)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd
            weakref.finalize(self, _close, fd)
            # from here on the memfd is the one copy; a mapped file may go
            self._data = None
        return self._fd


def new_memfd() -> int:
    return os.memfd_create("value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)
