"""Changes of a corpus that are not uploads: remove or move a document, delete the whole."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from analyses.ingest import loose, versions
from analyses.models import ENDED, Corpus, CorpusVersion, Document, Run, UploadFile
from analyses.usage import keep_usage

CHANGED = "The corpus has changed meanwhile. Look at it again, then repeat what you did."


class InUse(Exception):
    """A run is reading the corpus right now."""


class Changed(Exception):
    """The corpus is another one than the person saw."""


def _at(pieces: list[versions.Piece], position: int, seen: CorpusVersion) -> versions.Piece:
    """The piece at a place, if the corpus is still as it was seen."""
    document = seen.documents.filter(position=position).first()
    if (
        document is None
        or position >= len(pieces)
        or pieces[position].original != document.original
        or pieces[position].name != document.name
    ):
        raise Changed(CHANGED)
    return pieces[position]


def remove(corpus: Corpus, seen: CorpusVersion, position: int, user: Any) -> CorpusVersion:
    """A new version without this document."""

    def without(pieces: list[versions.Piece]) -> list[versions.Piece]:
        _at(pieces, position, seen)
        return [*pieces[:position], *pieces[position + 1 :]]

    return versions.make(corpus, without, user)


def move(corpus: Corpus, seen: CorpusVersion, position: int, to: int, user: Any) -> CorpusVersion:
    """A new version with this document at another place (from 0)."""

    def moved(pieces: list[versions.Piece]) -> list[versions.Piece]:
        piece = _at(pieces, position, seen)
        rest = [*pieces[:position], *pieces[position + 1 :]]
        return [*rest[:to], piece, *rest[to:]]

    return versions.make(corpus, moved, user)


def reorder(corpus: Corpus, seen: CorpusVersion, order: list[int], user: Any) -> CorpusVersion:
    """A new version with the documents in this order: their present positions, each once."""

    def ordered(pieces: list[versions.Piece]) -> list[versions.Piece]:
        if not _is_latest(corpus, seen) or sorted(order) != list(range(len(pieces))):
            raise Changed(CHANGED)
        return [pieces[position] for position in order]

    return versions.make(corpus, ordered, user)


def restore(corpus: Corpus, seen: CorpusVersion, number: int, user: Any) -> CorpusVersion:
    """A new version that is as an earlier one was."""
    earlier = corpus.versions.get(number=number)

    def again(_: list[versions.Piece]) -> list[versions.Piece]:
        if not _is_latest(corpus, seen):
            raise Changed(CHANGED)
        return versions.pieces_of(earlier)

    return versions.make(corpus, again, user, said=f"as version {number} was")


def _is_latest(corpus: Corpus, seen: CorpusVersion) -> bool:
    latest = corpus.latest
    return latest is not None and latest.pk == seen.pk


def _lock(runs: QuerySet[Run]) -> bool:
    """Hold the rows to the end of the transaction; True where there are any."""
    return bool(list(runs.select_for_update(of=["self"]).order_by("pk").values_list("pk", flat=True)))


@transaction.atomic
def delete(corpus: Corpus) -> None:
    """The corpus, its versions, its uploads and the runs that read it; their blobs are let go of."""
    Corpus.objects.select_for_update().filter(pk=corpus.pk).first()  # nobody asks about it from here on
    runs = Run.objects.filter(corpus_version__corpus=corpus)
    open_runs = runs.exclude(status__in=ENDED)
    # Nor further in a run that has ended. One that somebody writes to is not waited for: it is seen first.
    if open_runs.exists() or (_lock(runs.filter(status__in=ENDED)) and open_runs.exists()):
        raise InUse("A run is reading this corpus right now. Stop it first, or wait until it has ended.")
    shas: set[str] = set()
    for rows in (
        Document.objects.filter(version__corpus=corpus).values_list("original", "marks"),
        CorpusVersion.objects.filter(corpus=corpus).values_list("text"),
        UploadFile.objects.filter(upload__corpus=corpus).values_list("blob", "text", "marks"),
    ):
        for row in rows.iterator():
            shas.update(row)
    shas |= loose.of_runs(runs)
    keep_usage(runs)
    runs.delete()
    corpus.uploads.all().delete()
    corpus.delete()
    loose.let_go(shas)
