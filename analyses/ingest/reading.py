"""Files that are read beside each other, and that can be told to stop: threads take out texts, rows are written by one alone."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path, PosixPath
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from analyses.ingest.formats import Extracted
    from analyses.models import UploadFile

# Jailed readers at work at once, of all uploads of a process. Each may take a processor, and a gigabyte at worst.
SEATS = max(1, min(4, len(os.sched_getaffinity(0))))
SEAT_SECONDS = 0.2  # between two looks of one that waits for a seat
_seats = threading.BoundedSemaphore(SEATS)


class Stopped(Exception):
    """The reading is not wanted any more."""


class Watched(PosixPath):
    """A file that asks before each piece whether it is still wanted."""

    look: Callable[[], None]

    @classmethod
    def at(cls, path: Path, look: Callable[[], None]) -> Self:
        made = cls(path)
        made.look = look
        return made

    def open(self, *_: Any, **__: Any) -> IO[Any]:  # type: ignore[override]  # bytes are all that is read here
        return _File(self, self.look)  # type: ignore[return-value]


class _File(io.FileIO):
    def __init__(self, path: Path, look: Callable[[], None]) -> None:
        super().__init__(path, "rb")
        self._look = look

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        self._look()
        return super().read(-1 if size is None else size)


class Reading:
    """One file that is being read, on a thread of its own or here."""

    def __init__(self, row: UploadFile, top: int, settle: Callable[[UploadFile], None]) -> None:
        self.row, self.settle = row, settle
        self.top = top  # the row that a person sees being read: its own, or that of the archive it came in
        self.page: tuple[int, int] | None = None  # how far it is, and of how many
        self.told = 0.0  # monotonic: when the row said so last
        self.future: Future[Extracted] = Future()
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def heard(self, page: int, of: int) -> None:
        self.page = page, of

    def run(self, take: Callable[[], Extracted]) -> None:
        """Here and now."""
        try:
            self.future.set_result(take())
        except BaseException as error:  # noqa: BLE001 — whoever asks for the result gets it
            self.future.set_exception(error)

    def start(self, take: Callable[[], Extracted]) -> None:
        """On a thread, as soon as there is a seat."""

        def seated() -> Extracted:
            while not _seats.acquire(timeout=SEAT_SECONDS):
                self.check()
            try:
                self.check()
                return take()
            finally:
                _seats.release()

        threading.Thread(target=self.run, args=(seated,), name=f"read-{self.row.name[:40]}", daemon=True).start()
