"""Blobs that may not be needed any more: noted when a row lets go of them, deleted later if no row names them then."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from django.db import models
from django.db.models import ExpressionWrapper, Q
from django.db.models.functions import Now

from analyses import blobs, search
from analyses.leases import Still
from analyses.models import (
    Call,
    Cell,
    CorpusVersion,
    Document,
    EarlierAnswer,
    ImportFile,
    LooseBlob,
    MessageBlob,
    Run,
    UploadFile,
)  # fmt: skip

GRACE = 600  # seconds: what was put or let go of more recently stays, for somebody may be about to name it
NOTED_MOST = 20_000  # that are watched at once

NAMED_BY: tuple[tuple[type[models.Model], tuple[str, ...]], ...] = (
    (Document, ("original", "marks")),
    (CorpusVersion, ("text",)),
    (UploadFile, ("blob", "text", "marks")),
    (ImportFile, ("blob",)),
    (Run, ("answer_blob", "archive")),
    (EarlierAnswer, ("answer_blob",)),
    (Call, ("answer_blob",)),
    (Cell, ("output_blob",)),
    (MessageBlob, ("sha",)),
)


def let_go(shas: Iterable[str]) -> None:
    """Note blobs that a row has stopped naming."""
    LooseBlob.objects.bulk_create(
        [LooseBlob(sha=sha) for sha in set(shas) if sha], ignore_conflicts=True, batch_size=500
    )


def named(shas: list[str]) -> set[str]:
    """Those of these blobs that some row names."""
    found: set[str] = set()
    for start in range(0, len(shas), 500):
        some = shas[start : start + 500]
        for model, columns in NAMED_BY:
            for column in columns:
                found.update(model._default_manager.filter(**{f"{column}__in": some}).values_list(column, flat=True))
    return found


def of_runs(runs: models.QuerySet[Run]) -> set[str]:
    """All blobs that these runs, their answers, calls and cells name."""
    calls, cells = Call.objects.filter(run__in=runs), Cell.objects.filter(run__in=runs)
    shas = {sha for row in runs.order_by().values_list("answer_blob", "archive") for sha in row}
    shas.update(EarlierAnswer.objects.filter(run__in=runs).order_by().values_list("answer_blob", flat=True))
    shas.update(calls.order_by().exclude(answer_blob="").values_list("answer_blob", flat=True))
    shas.update(cells.order_by().exclude(output_blob="").values_list("output_blob", flat=True))
    shas.update(MessageBlob.objects.filter(cell__run__in=runs).order_by().values_list("sha", flat=True).distinct())
    return shas - {""}


_resting = Still()


def sweep(*, grace: float = GRACE, most: int = 200) -> int:
    """Delete loose blobs whose time has come, as this process has seen it pass; return how many."""
    search.sweep()
    over = ExpressionWrapper(Q(since__lt=Now() - datetime.timedelta(seconds=grace)), output_field=models.BooleanField())
    noted = LooseBlob.objects.annotate(over=over).order_by("pk").values_list("pk", "sha", "over")[:NOTED_MOST]
    # As with leases: dates by some clock only shorten the wait.
    seconds = _resting.seconds(noted)
    due = [(sha, pk) for (pk, sha, is_over), waited in seconds.items() if waited >= grace / (2 if is_over else 1)]
    rows = dict(due[:most])
    if not rows:
        return 0
    gone, young = remove(list(rows), grace=grace)
    LooseBlob.objects.filter(pk__in=[pk for sha, pk in rows.items() if sha not in young]).delete()
    return len(gone)


def remove(shas: list[str], *, grace: float = GRACE) -> tuple[set[str], set[str]]:
    """Delete those of these blobs that no row names; return what went, and what is too young to be judged.

    Looked at in this order: whoever puts a blob that is here already makes it young again before a row names it.
    """
    kept = named(shas)
    gone: set[str] = set()
    young: set[str] = set()
    for sha in shas:
        if sha in kept:
            continue
        if blobs.exists(sha) and blobs.age(sha) < grace:
            young.add(sha)
            continue
        blobs.delete(sha)
        search.forget(sha)
        gone.add(sha)
    return gone, young


def unnamed(*, grace: float = GRACE) -> list[str]:
    """Every blob kept here that no row names and that is old enough to be judged."""
    shas = [sha for sha in blobs.names() if blobs.age(sha) >= grace]
    kept = named(shas)
    return [sha for sha in shas if sha not in kept]
