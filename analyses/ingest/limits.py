"""How much an upload may be, and the error that says a file is not taken."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True)
class UploadLimits:
    files: int  # of one upload, members of archives counted
    bytes: int  # of one upload, unpacked
    ratio: int  # unpacked to packed size of an archive
    depth: int = 2  # archives in archives that are opened
    ratio_from: int = 16 << 20  # unpacked bytes under which no ratio is suspicious
    seconds: float = 300.0  # of extraction, one file that is read in a jail

    @classmethod
    def from_settings(cls) -> UploadLimits:
        return cls(
            files=settings.UPLOAD_FILES,
            bytes=settings.UPLOAD_BYTES,
            ratio=settings.ARCHIVE_RATIO,
            seconds=settings.EXTRACT_SECONDS,
        )


class Refused(Exception):
    """A file is not taken; the message is a sentence for the person who uploaded it."""

    def __init__(self, reason: str, *, skip: bool = False, may_retry: bool = False, what: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.skip = skip  # nobody asked for this file in particular
        self.may_retry = may_retry  # the same bytes may be taken another time
        self.what = what  # what it turned out to be, for the ledger's column


def megabytes(size: float) -> str:
    """A size as people say it: 812 bytes, 44 kB, 3.2 MB, 1.5 GB."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000 or unit == "GB":
            return f"{size:.1f} {unit}" if size < 10 else f"{size:.0f} {unit}"
    raise AssertionError
