"""A run's calls and cells packed into one blob, and brought back from it. Its answer, figures and shares stay as rows."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, cast

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from analyses import blobs
from analyses.ingest import loose
from analyses.models import ENDED, Call, Cell, Run
from analyses.trajectory import jsonl
from analyses.trajectory.draft import Draft
from analyses.trajectory.limits import LIMITS, LogRefused
from analyses.trajectory.reading import Log

PIECE = 1 << 20  # bytes
# An archive is a file of our own: a run too large to be brought in from elsewhere must still come back.
OWN = replace(
    LIMITS, file_bytes=1 << 40, line_bytes=256 << 20, lines=1 << 40, calls=1 << 30, cells=1 << 30, depth=1 << 10,
    text_chars=1 << 40, json_chars=1 << 40, blob_bytes=1 << 40,
)  # fmt: skip


class CannotArchive(Exception):
    """The run stays as it is; the message says why."""


def archive(run: Run) -> None:
    """Pack the calls and cells of a run that has ended, read the pack back, and only then let the rows go.

    Raises CannotArchive: the run is under way or changed meanwhile, or what was packed does not read back whole.
    """
    run.refresh_from_db()
    if run.archived:
        return
    if not run.ended:
        raise CannotArchive("This run is under way. Stop it first, or wait until it has ended.")
    if not run.calls:
        raise CannotArchive("There is nothing in it to pack: it has no calls.")
    sha, size = blobs.put_file(_packed(jsonl.export(run)))
    try:
        counts = Call.objects.filter(run=run).count(), Cell.objects.filter(run=run).count()
        with blobs.open(sha) as packed:
            for draft in _drafts(packed):
                if (len(draft.calls), draft.cells) != counts or draft.cut:
                    raise CannotArchive("What was packed does not read back whole.")
        _exchange(run, sha, size)
    except LogRefused as refusal:
        loose.let_go([sha])
        raise CannotArchive(str(refusal)) from None
    except Exception:
        loose.let_go([sha])
        raise


@transaction.atomic
def _exchange(run: Run, sha: str, size: int) -> None:
    """The rows for the blob."""
    now = timezone.now()
    same = Run.objects.filter(pk=run.pk, seq=run.seq, status=run.status, archive="", lease_token=run.lease_token)
    if not same.update(
        archive=sha,
        archive_bytes=size,
        archived_at=now,
        archive_asked_at=None,
        archive_refused="",
        restore_asked_at=None,
        seq=F("seq") + 1,
    ):
        raise CannotArchive("The run changed while it was packed.")
    if fork := Run.objects.filter(forked_from=run).exclude(status__in=ENDED).first():
        raise CannotArchive(f"A fork of it, run {fork.number}, is under way and reads it.")
    shas = loose.of_runs(Run.objects.filter(pk=run.pk)) - {sha, run.answer_blob}
    Cell.objects.filter(run=run).delete()
    Call.objects.filter(run=run).delete()
    loose.let_go(shas)


def restore(run: Run) -> None:
    """Make the calls and cells again. Raises FileNotFoundError, LogRefused where the archive is gone or damaged."""
    with blobs.open(run.archive) as packed:
        for draft in _drafts(packed):
            with transaction.atomic():
                born = max(call.born for call in draft.calls) + draft.cells
                here = Run.objects.select_for_update().filter(pk=run.pk, archive=run.archive)
                if not here.update(
                    archive="", archive_bytes=0, archived_at=None, archive_tried_at=None, restore_asked_at=None,
                    restored_at=timezone.now(), seq=F("seq") + born + 1,
                ):  # fmt: skip
                    return  # another worker was first
                draft.put_back(run)
                loose.let_go([run.archive])


def lines(run: Run) -> Iterator[bytes]:
    """The archive as it was packed: the same bytes as the export of the run was."""
    with blobs.open(run.archive) as packed, gzip.open(packed) as file:
        while piece := file.read(PIECE):
            yield piece


def _packed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What is written, through gzip, a piece at a time; equal runs make equal bytes."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in pieces:
        if out := packer.compress(piece):
            yield out
    yield packer.flush()


def _drafts(packed: BinaryIO) -> Iterator[Draft]:
    try:
        with gzip.open(packed) as file:
            yield from jsonl.read(Log(cast(BinaryIO, file), "archive", OWN))
    except (EOFError, zlib.error) as error:
        raise LogRefused(f"The archive is damaged: {error}.") from error
