"""A part of a corpus version: which documents somebody has chosen, as short text for an address and as rows for a run."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Sum

from analyses.ingest.context import AT_ONCE
from analyses.models import CorpusVersion

RANGES = re.compile(r"\d{1,7}(-\d{1,7})?(,\d{1,7}(-\d{1,7})?)*\Z")
RANGES_MOST = 1500  # characters; choices with more gaps are a packed bitmap, which stays short
POSITION_MOST = 1 << 20


@dataclass(frozen=True)
class Part:
    """What a run notes of the documents it reads; of all of them, nothing."""

    positions: list[int] | None = None
    characters: int | None = None


def part_of(version: CorpusVersion | None, documents: Sequence[int] | None) -> Part:
    """The documents with these positions; those that are not there are left out, and all of them are no part."""
    if version is None or documents is None:
        return Part()
    chosen = sorted(set(documents))
    found, characters = list[int](), 0
    for at in range(0, len(chosen), AT_ONCE):
        rows = version.documents.filter(position__in=chosen[at : at + AT_ONCE])
        found += rows.order_by("position").values_list("position", flat=True)
        characters += rows.aggregate(total=Sum("characters"))["total"] or 0
    return Part() if not found or len(found) == version.document_count else Part(found, characters)


def page_of(
    version: CorpusVersion, positions: list[int] | None, size: int, number: str | None
) -> tuple[Page[Any], Any]:
    """A page of the documents with these positions, or of all, and the documents on it."""
    documents = version.documents.order_by("position").defer("marks")
    if positions is None:
        page = Paginator(documents, size).get_page(number)
        return page, page.object_list
    page = Paginator(positions, size).get_page(number)
    return page, documents.filter(position__in=list(page.object_list))


def written(positions: Iterable[int]) -> str:
    """Positions as text: "0-11,15", or a bitmap where that would be long."""
    chosen = sorted(set(positions))
    runs: list[list[int]] = []
    for position in chosen:
        if runs and runs[-1][1] == position - 1:
            runs[-1][1] = position
        else:
            runs.append([position, position])
    text = ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)
    if len(text) <= RANGES_MOST:
        return text
    bits = bytearray(chosen[-1] // 8 + 1)
    for position in chosen:
        bits[position // 8] |= 1 << position % 8
    return "z" + base64.urlsafe_b64encode(zlib.compress(bytes(bits), 9)).decode().rstrip("=")


def positions_of(text: str) -> list[int]:
    """The inverse; of what is no such text, nothing."""
    if text.startswith("z"):
        return _of_bitmap(text[1:])
    if not RANGES.match(text):
        return []
    found: set[int] = set()
    for each in text.split(","):
        first, _, last = each.partition("-")
        found.update(range(int(first), min(int(last or first), POSITION_MOST) + 1))
    return sorted(found)


def _of_bitmap(text: str) -> list[int]:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        bits = zlib.decompressobj().decompress(packed, POSITION_MOST // 8)
    except (binascii.Error, ValueError, zlib.error):
        return []
    return [8 * at + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1]
