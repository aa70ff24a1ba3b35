"""Corpus versions: pack documents' texts into one blob and index them. A version never changes; runs keep theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from django.db import IntegrityError, transaction

from analyses import blobs
from analyses.ingest import loose
from analyses.ingest.meta import shortened
from analyses.models import Corpus, CorpusVersion, Document

CHUNK = 1 << 20


class Empty(Exception):
    """A version would hold no document."""


@dataclass(frozen=True)
class Piece:
    """A document to be packed: where its text lies now, and what its row will say."""

    source: str  # blob
    start: int
    end: int  # bytes
    characters: int
    title: str
    name: str
    format: str
    encoding: str
    original: str
    original_bytes: int
    marks: str = ""
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Document, source: str) -> Piece:
        """A document of an earlier version, as it stands."""
        return cls(
            source, document.byte_start, document.byte_end, document.characters, document.title, document.name,
            document.format, document.encoding, document.original, document.original_bytes, document.marks, document.meta,
        )  # fmt: skip


def pieces_of(version: CorpusVersion | None) -> list[Piece]:
    if version is None:
        return []
    return [Piece.of(document, version.text) for document in version.documents.order_by("position")]


def pack(pieces: Sequence[Piece]) -> tuple[str, int]:
    """One blob of all texts, in order; return its name and size. What is one whole blob already is its own pack."""
    first, last = pieces[0], pieces[-1]
    in_order = all(a.source == b.source and a.end == b.start for a, b in pairwise(pieces))
    if first.start == 0 and in_order and blobs.path(first.source).stat().st_size == last.end:
        return first.source, last.end
    with blobs.Writer() as packed:
        open_source, file = "", None
        try:
            for piece in pieces:
                if piece.source != open_source:
                    if file:
                        file.close()
                    file, open_source = blobs.open(piece.source), piece.source
                assert file is not None
                file.seek(piece.start)
                left = piece.end - piece.start
                while left:
                    part = file.read(min(CHUNK, left))
                    if not part:
                        raise OSError(f"blob {piece.source} is shorter than its index says")
                    packed.write(part)
                    left -= len(part)
        finally:
            if file:
                file.close()
        return packed.commit(), packed.size


def told(old: Sequence[Piece], new: Sequence[Piece]) -> str:
    """What has changed from one version to the next, in words."""
    before, after = Counter(map(_same, old)), Counter(map(_same, new))
    gone = [piece for piece in old if before[_same(piece)] > after[_same(piece)]]
    come = [piece for piece in new if after[_same(piece)] > before[_same(piece)]]
    if len(gone) == len(come) == 1 and len(old) == len(new):
        return f"{_named(gone)} replaced" + (f" by {_named(come)}" if gone[0].name != come[0].name else "")
    parts = [f"{_named(come)} added"] if come else []
    if gone:
        parts.append(f"{_named(gone)} removed")
    if not parts:
        parts = ["order changed" if list(map(_same, old)) != list(map(_same, new)) else "nothing changed"]
    return "; ".join(parts)


def _same(piece: Piece) -> tuple[str, str]:
    return piece.original, piece.name


def _named(pieces: Sequence[Piece]) -> str:
    return shortened(pieces[0].title, 80) if len(pieces) == 1 else f"{len(pieces):,} documents"


def make(
    corpus: Corpus | Callable[[], Corpus],
    change: Callable[[list[Piece]], list[Piece]],
    user: Any,
    *,
    also: Callable[[CorpusVersion], None] | None = None,
    said: str = "",
) -> CorpusVersion:
    """A new version: `change` turns the latest version's documents into the new one's; `also` runs in the transaction.

    Of a corpus that is not there yet, what makes it: a corpus and its first version appear together.
    Packing may take seconds and holds no lock: where another version came first meanwhile, it is done again on that one.
    """
    for _ in range(20):
        base = corpus.latest if isinstance(corpus, Corpus) else None
        old = pieces_of(base)
        pieces = change(old)
        if not pieces:
            raise Empty("A corpus keeps at least one document.")
        text, size = pack(pieces)
        kept = False
        try:
            blobs.settle()  # the rows below will name blobs that were written lazily
            with transaction.atomic():
                held = corpus if isinstance(corpus, Corpus) else corpus()
                number = (held.latest.number if held.latest else 0) + 1
                if number != (base.number if base else 0) + 1:
                    continue
                version = held.versions.create(
                    number=number,
                    text=text,
                    document_count=len(pieces),
                    characters=sum(piece.characters for piece in pieces),
                    bytes=size,
                    change=said or (told(old, pieces) if base else ""),
                    created_by=user,
                )
                Document.objects.bulk_create(_rows(version, pieces), batch_size=500)
                if also:
                    also(version)
                kept = True
            return version
        except IntegrityError:
            if isinstance(corpus, Corpus) and corpus.versions.filter(number=(base.number if base else 0) + 1).exists():
                continue  # another version took the number
            raise
        finally:
            if not kept:
                loose.let_go([text])
    raise RuntimeError(f"{corpus} changes all the time: no version could be made")


def _rows(version: CorpusVersion, pieces: Sequence[Piece]) -> list[Document]:
    rows, byte, char = [], 0, 0
    for position, piece in enumerate(pieces):
        size = piece.end - piece.start
        rows.append(
            Document(
                version=version,
                position=position,
                title=piece.title,
                name=piece.name,
                byte_start=byte,
                byte_end=byte + size,
                char_start=char,
                characters=piece.characters,
                format=piece.format,
                encoding=piece.encoding,
                original=piece.original,
                original_bytes=piece.original_bytes,
                marks=piece.marks,
                meta=piece.meta,
            )
        )
        byte += size
        char += piece.characters
    return rows
