"""Files, folders and archives of this machine → a corpus, in the foreground: for the command line and the sample."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analyses.ingest import archives, loose, uploads
from analyses.ingest.limits import Refused, UploadLimits
from analyses.models import Corpus, CorpusVersion, Upload, UploadFile
from workspaces.models import Workspace


class IngestRefused(Exception):
    """No document came out of what was given; the message says why, `outcomes` says it of each file."""

    def __init__(self, reason: str, outcomes: Sequence[Outcome] = ()) -> None:
        super().__init__(reason)
        self.outcomes = list(outcomes)


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    name: str
    outcome: str  # ready, failed, duplicate, skipped
    reason: str
    document_chars: int
    format: str
    encoding: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Imported:
    version: CorpusVersion
    outcomes: list[Outcome]


def import_paths(
    workspace: Workspace, user: Any, paths: Sequence[Path | str], *, name: str = "", corpus: Corpus | None = None
) -> Imported:
    """Take these in as a new corpus (or into one that is there), and wait until it is done."""
    upload = uploads.start(workspace, user, corpus=corpus, name=name)
    try:
        _collect(upload, paths)
        uploads.close(upload)
        uploads.process(upload.pk)
        upload.refresh_from_db()
        outcomes = outcomes_of(upload)
        if upload.version is None:
            raise IngestRefused(_first_reason(upload, outcomes), outcomes)
        return Imported(upload.version, outcomes)
    except BaseException:
        loose.let_go(upload.files.values_list("blob", flat=True))
        if upload.version_id is None:
            upload.delete()
        raise


def _first_reason(upload: Upload, outcomes: Sequence[Outcome]) -> str:
    if len(outcomes) == 1:
        return f"{outcomes[0].name}: {outcomes[0].reason}"
    return " ".join([upload.reason, *(f"{o.name}: {o.reason}" for o in outcomes[:3])])


def outcomes_of(upload: Upload) -> list[Outcome]:
    """What became of each file. An archive that was opened is told by its members."""
    rows = upload.files.exclude(format__in=uploads.ARCHIVE_FORMATS, state=UploadFile.State.READY)
    return [
        Outcome(row.name, row.state, row.reason, row.document_chars, row.format, row.encoding)
        for row in rows.order_by("position", "pk")
    ]


def _collect(upload: Upload, paths: Sequence[Path | str]) -> None:
    limits = UploadLimits.of(upload.workspace)
    count = size = 0
    for path in map(Path, paths):
        for file, name in _files(path):
            count += 1
            row = UploadFile(upload=upload, position=count, name=uploads.clean_name(name), size=0)
            try:
                if file is None:
                    raise Refused("There is no such file." if not os.path.lexists(path) else "It is no file or folder.")
                if refused := _not_wanted(file, name, given=file == path):
                    raise refused
                size += file.stat().st_size
                if count > limits.files or size > limits.bytes:
                    raise Refused(
                        f"It is beyond what an upload takes ({limits.files:,} files, {limits.bytes:,} bytes). "
                        + limits.who("files" if count > limits.files else "bytes")
                    )
                with file.open("rb") as source:
                    uploads.receive(upload, name, source, row)
            except Refused as refused:
                row.state = UploadFile.State.SKIPPED if refused.skip else UploadFile.State.FAILED
                row.reason = refused.reason
                row.save()
            except OSError as error:
                row.state, row.reason = UploadFile.State.FAILED, f"It cannot be read: {error.strerror}."
                row.save()


def _not_wanted(file: Path, name: str, *, given: bool) -> Refused | None:
    if given:
        return None
    if file.is_symlink():
        return Refused("It is a symbolic link; links in folders are not followed.", skip=True)
    return archives.hidden(name)


def _files(path: Path) -> Iterator[tuple[Path | None, str]]:
    """The files under a path with their names as a browser would give them: a folder's begin with the folder's own."""
    if path.is_file():
        yield path, path.name
    elif path.is_dir():
        root = path.resolve()
        for folder, folders, names in os.walk(root):
            folders.sort(key=uploads.natural)
            for name in sorted(names, key=uploads.natural):
                file = Path(folder) / name
                if file.is_symlink() or file.is_file():
                    yield file, f"{root.name}/{file.relative_to(root).as_posix()}"
    else:
        yield None, path.name or str(path)
