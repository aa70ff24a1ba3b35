"""Blobs that may not be needed any more: noted when a row lets go of them, deleted later if no row names them then."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from django.db import models
from django.utils import timezone

from analyses import blobs, search
from analyses.models import Call, Cell, CorpusVersion, Document, LooseBlob, Run, UploadFile

GRACE = 600  # seconds: what was put or let go of more recently stays, for somebody may be about to name it

NAMED_BY: tuple[tuple[type[models.Model], tuple[str, ...]], ...] = (
    (Document, ("original", "marks")),
    (CorpusVersion, ("text",)),
    (UploadFile, ("blob", "text", "marks")),
    (Run, ("answer_blob",)),
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
    return found


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
