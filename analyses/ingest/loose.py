"""Blobs that may not be needed any more: noted when a row lets go of them, deleted later if no row names them then."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

from django.db import models
from django.db.models.functions import Cast
from django.utils import timezone

from analyses import blobs, search
from analyses.models import Call, Cell, CorpusVersion, Document, EarlierAnswer, LooseBlob, Run, UploadFile

BLOB = re.compile(r'"blob": ?"([0-9a-f]{64})"')
GRACE = 600  # seconds: what was put or let go of more recently stays, for somebody may be about to name it

NAMED_BY: tuple[tuple[type[models.Model], tuple[str, ...]], ...] = (
    (Document, ("original", "marks")),
    (CorpusVersion, ("text",)),
    (UploadFile, ("blob", "text", "marks")),
    (Run, ("answer_blob",)),
    (EarlierAnswer, ("answer_blob",)),
    (Call, ("answer_blob",)),
    (Cell, ("output_blob",)),
)


def let_go(shas: Iterable[str]) -> None:
    """Note blobs that a row has stopped naming."""
    LooseBlob.objects.bulk_create(
        [LooseBlob(sha=sha) for sha in set(shas) if sha], ignore_conflicts=True, batch_size=500
    )


def named(shas: list[str]) -> set[str]:
    """Those of these blobs that some row names."""
    found: set[str] = set()
    for model, columns in NAMED_BY:
        for column in columns:
            found.update(model._default_manager.filter(**{f"{column}__in": shas}).values_list(column, flat=True))
    return found | named_in_messages(set(shas) - found)


def named_in_messages(shas: set[str]) -> set[str]:
    """Those that messages of some cell name: long ones, kept whole in a blob (texts.stored_messages)."""
    found: set[str] = set()
    if shas:
        for text in texts_with_blobs(Cell.objects.all()):
            found.update(shas.intersection(BLOB.findall(text)))
            if found == shas:
                break
    return found


def texts_with_blobs(cells: models.QuerySet[Cell]) -> Iterable[str]:
    """Messages as the database keeps them, where they name a blob: read as text, many thousands a second."""
    as_text = cells.order_by().annotate(as_text=Cast("messages", models.TextField()))
    return as_text.filter(as_text__contains='"blob"').values_list("as_text", flat=True).iterator(chunk_size=500)


def of_runs(runs: models.QuerySet[Run]) -> set[str]:
    """All blobs that these runs, their answers, calls and cells name."""
    calls, cells = Call.objects.filter(run__in=runs), Cell.objects.filter(run__in=runs)
    shas = set(runs.order_by().values_list("answer_blob", flat=True))
    shas.update(EarlierAnswer.objects.filter(run__in=runs).order_by().values_list("answer_blob", flat=True))
    shas.update(calls.order_by().exclude(answer_blob="").values_list("answer_blob", flat=True))
    shas.update(cells.order_by().exclude(output_blob="").values_list("output_blob", flat=True))
    for text in texts_with_blobs(cells):
        shas.update(BLOB.findall(text))
    return shas - {""}


def sweep(*, grace: float = GRACE, most: int = 200) -> int:
    """Delete loose blobs whose time has come; return how many."""
    before = timezone.now() - datetime.timedelta(seconds=grace)
    rows = {row.sha: row.pk for row in LooseBlob.objects.filter(since__lte=before).order_by("since")[:most]}
    if not rows:
        return 0
    kept = named(list(rows))
    young = {sha for sha in rows if sha not in kept and blobs.exists(sha) and blobs.age(sha) < grace}
    gone = [sha for sha in rows if sha not in kept and sha not in young]
    for sha in gone:
        blobs.delete(sha)
        search.forget(sha)
    LooseBlob.objects.filter(pk__in=[pk for sha, pk in rows.items() if sha not in young]).delete()
    return len(gone)
