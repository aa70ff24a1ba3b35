"""A corpus version, or some of its documents, as the object that a run calls `context` (rlm.md, "A corpus as context")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import BigIntegerField, Case, F, Sum, When

from analyses import blobs
from analyses.ingest.limits import megabytes

if TYPE_CHECKING:
    from analyses.models import CorpusVersion
    from sandbox import Value

MEMORY_MB = 2048  # of a call, where nobody says otherwise (rlm/limits.py)
AT_ONCE = 500  # positions in one query


class ContextMissing(Exception):
    """The text that a run is about is not kept any more."""


def room(memory_mb: int = MEMORY_MB) -> int:
    """Bytes of a call's memory that its context may take; the rest is for what a cell makes of it."""
    return memory_mb * (1 << 20) * 6 // 10


# Python keeps a text at one, two or four bytes a character; the widest character decides. Told without reading it: one
# where every character is a byte of UTF-8, else two, which only signs such as 🚤 make too few.
DECODED = Case(
    When(byte_end=F("byte_start") + F("characters"), then=F("characters")),
    default=F("characters") * 2,
    output_field=BigIntegerField(),
)


def decoded(version: CorpusVersion, documents: Sequence[int] | None = None) -> int:
    """Bytes that the texts take in a REPL, about."""
    if documents is None:
        return max(version.characters, version.documents.aggregate(size=Sum(DECODED))["size"] or 0)
    return sum(
        version.documents.filter(position__in=documents[at : at + AT_ONCE]).aggregate(size=Sum(DECODED))["size"] or 0
        for at in range(0, len(documents), AT_ONCE)
    )


def oversize(version: CorpusVersion, memory_mb: int = MEMORY_MB, documents: Sequence[int] | None = None) -> str:
    """Why a version, or these documents of it, cannot be a run's context, with the figures; "" if they can."""
    # Nothing is wider than two bytes for each of UTF-8: most corpora need no look at their documents.
    if version.bytes * 2 <= room(memory_mb) or (size := decoded(version, documents)) <= room(memory_mb):
        return ""
    whose = (
        "The text of these documents"
        if documents is not None
        else f"Its text is {megabytes(version.bytes)}: in a REPL it"
    )
    return (
        f"{whose} would take about {megabytes(size)}; a call of {megabytes(memory_mb << 20)} has room for "
        f"{megabytes(room(memory_mb))}. It is kept, readable and searchable; to ask about it, choose "
        f"{'fewer' if documents is not None else 'some'} of its documents, or raise the memory of a call."
    )


def index_of(version: CorpusVersion, documents: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """The documents in order, each with the range of bytes that its text takes in the packed text."""
    rows = version.documents.order_by("position").values_list(
        "position", "title", "name", "meta", "byte_start", "byte_end"
    )
    chosen = None if documents is None else set(documents)
    return [
        {"title": title, "name": name, "meta": meta, "start": start, "end": end}
        for position, title, name, meta, start, end in rows.iterator()
        if chosen is None or position in chosen
    ]


def context_of(version: CorpusVersion, documents: Sequence[int] | None = None) -> Value:
    """One document: its text. Several: a list of {"title", "text", "name", "meta"}. Nothing is read here but the index.

    Of some documents alone, their texts are copied out of the packed one: the rest would take memory for nothing.
    """
    from sandbox import Value  # pages of corpora do not need the sandbox
    from sandbox.memory import Memory

    index = index_of(version, documents)
    try:
        blob: Any = blobs.path(version.text)
    except blobs.BlobMissing:
        raise ContextMissing(
            f"The text of {version} is not in the blob storage any more: restore it, or upload the documents again."
        ) from None
    if documents is not None:
        blob = Memory.of_parts(blob, [(entry["start"], entry["end"]) for entry in index])
        at = 0
        for entry in index:
            size = entry["end"] - entry["start"]
            entry |= {"start": at, "end": at + size}
            at += size
    if len(index) == 1:
        return Value.text(blob, index[0]["start"], index[0]["end"])
    return Value.documents(blob, index)
