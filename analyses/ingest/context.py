"""A corpus version as the object that a run calls `context` (rlm.md, "A corpus as context")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyses import blobs
from analyses.ingest.limits import megabytes

if TYPE_CHECKING:
    from analyses.models import CorpusVersion
    from sandbox import Value


class ContextMissing(Exception):
    """The text that a run is about is not kept any more."""


def oversize(version: CorpusVersion, memory_mb: int = 2048) -> str:
    """Why a version cannot be a run's context, with the figures; "" if it can.

    Python keeps a text at one, two or four bytes a character; the widest character of a document decides. Without
    reading it: one where every character is a byte, else two, which only signs such as 🚤 make too few.
    """
    decoded = version.characters * (1 if version.bytes == version.characters else 2)
    room = memory_mb * (1 << 20) * 6 // 10  # the rest is for what a cell makes of it
    if decoded <= room:
        return ""
    return (
        f"Its text is {megabytes(version.bytes)}: in a REPL it would take about {megabytes(decoded)} of the "
        f"{megabytes(memory_mb << 20)} that a call has. It is kept, readable and searchable; to ask about it, make a corpus "
        "of some of its documents, or raise the memory of a call."
    )


def index_of(version: CorpusVersion) -> list[dict[str, Any]]:
    """The documents in order, each with the range of bytes that its text takes in the packed text."""
    rows = version.documents.order_by("position").values_list("title", "name", "meta", "byte_start", "byte_end")
    return [
        {"title": title, "name": name, "meta": meta, "start": start, "end": end}
        for title, name, meta, start, end in rows.iterator()
    ]


def context_of(version: CorpusVersion) -> Value:
    """One document: its text. Several: a list of {"title", "text", "name", "meta"}. Nothing is read here but the index."""
    from sandbox import Value  # pages of corpora do not need the sandbox

    index = index_of(version)
    try:
        blob = blobs.path(version.text)
    except blobs.BlobMissing:
        raise ContextMissing(
            f"The text of {version} is not in the blob storage any more: restore it, or upload the documents again."
        ) from None
    if len(index) == 1:
        return Value.text(blob, index[0]["start"], index[0]["end"])
    return Value.documents(blob, index)
