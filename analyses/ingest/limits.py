"""How much an upload may be, and the error that says a file is not taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from analyses.models import UploadLimit
from workspaces.models import Workspace

NAMES = ("files", "bytes", "characters", "ratio", "depth", "seconds")
BY_WORKSPACE = "An owner or admin of this workspace can raise that limit, in its settings."
BY_OPERATOR = "Whoever runs this server can raise that limit."


@dataclass(frozen=True)
class UploadLimits:
    files: int  # of one upload, members of archives counted
    bytes: int  # of one upload, unpacked
    ratio: int  # unpacked to packed size of an archive
    characters: int = 1 << 31  # of one upload, as text
    depth: int = 2  # archives in archives that are opened
    ratio_from: int = 16 << 20  # unpacked bytes under which no ratio is suspicious
    seconds: float = 300.0  # of extraction, one file that is read in a jail
    own: frozenset[str] = frozenset()  # those that the workspace has set lower than it had to

    @classmethod
    def from_settings(cls) -> UploadLimits:
        return cls(
            files=settings.UPLOAD_FILES,
            bytes=settings.UPLOAD_BYTES,
            characters=settings.UPLOAD_CHARACTERS,
            ratio=settings.ARCHIVE_RATIO,
            depth=settings.ARCHIVE_DEPTH,
            seconds=settings.EXTRACT_SECONDS,
        )

    @classmethod
    def ceiling(cls, workspace: Workspace) -> UploadLimits:
        """The most that a workspace may allow itself: the operator's settings, or what they gave this one instead."""
        given = UploadLimit.objects.filter(workspace=workspace, by=UploadLimit.By.OPERATOR)
        values: dict[str, Any] = dict(given.values_list("name", "value"))
        return replace(cls.from_settings(), **values)

    @classmethod
    def of(cls, workspace: Workspace) -> UploadLimits:
        """What holds in a workspace: its own limits where they are lower."""
        most = cls.ceiling(workspace)
        rows = UploadLimit.objects.filter(workspace=workspace, by=UploadLimit.By.WORKSPACE)
        own: dict[str, Any] = {
            name: value for name, value in rows.values_list("name", "value") if value < getattr(most, name)
        }
        return replace(most, **own | {"own": frozenset(own)})

    def who(self, name: str) -> str:
        """Who can change a limit, for the error that names it."""
        return BY_WORKSPACE if name in self.own else BY_OPERATOR


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
