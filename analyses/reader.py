"""A window on a document's text: enough to read on a screen, whatever the document's length, every offset in characters."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from analyses import blobs
from analyses.ingest.meta import shortened
from analyses.models import Document
from analyses.texts import clean

WINDOW = 16_000  # characters shown at once, about
LINE_MOST = 2_000  # longer lines are shown in pieces
RANGE_MOST = 20_000  # characters of a range that is highlighted
HITS = 200
STROKES = 500  # of the overview, at most: hits nearer than that are one
SNIPPET = 60  # characters to each side of a hit
QUERY_MOST = 200
TITLE_SHOWN = 80  # characters of a chapter's
WHOLE_MOST = 48 << 20  # bytes of a text that is read into memory to be searched


@dataclass(frozen=True)
class Bit:
    """A stretch of a paragraph: plain, found or cited."""

    text: str
    kind: str = ""  # "", "hit", "now", "cited"
    id: str = ""


@dataclass(frozen=True)
class Paragraph:
    start: int  # characters into the document
    label: str  # a moment, a page or a line number
    bits: list[Bit]
    here: bool = False  # the cited range touches it


@dataclass(frozen=True)
class Hit:
    start: int
    end: int
    before: str
    found: str
    after: str
    label: str

    @property
    def place(self) -> str:
        return f"c={self.start}-{self.end}"


@dataclass
class Window:
    """What the reader's page shows of a document."""

    document: Document
    start: int
    end: int
    paragraphs: list[Paragraph] = field(default_factory=list)
    cited: tuple[int, int] | None = None
    # Where the cited range is in a recording, on pages, in a book: "at 41:08", "on page 12", "in “The fog”".
    place: str = ""
    page: int = 0  # where the document has pages: the one that the window begins on, or the cited range
    pages: int = 0
    chapter: int = 0  # of a book, by its table of contents: the one that the window begins in, or the cited range
    chapters: list[tuple[int, str]] = field(default_factory=list)  # number, title
    query: str = ""
    hits: list[Hit] = field(default_factory=list)
    hit_count: int = 0
    strokes: list[str] = field(default_factory=list)  # where hits are in the whole, in percent: for the overview
    too_long: bool = False  # to be searched

    @classmethod
    def of(cls, document: Document, asked: Any) -> Window:
        cited = _range(asked.get("c", ""), document.characters)
        text = Text(document)
        named = text.start("page", _number(asked.get("page", ""))) or text.start(
            "chapter", _number(asked.get("chapter", ""))
        )
        at = cited[0] if cited else named or _number(asked.get("at", "0"))
        start, end, shown = text.around(min(at, max(0, document.characters - 1)), before=1200 if cited else 0)
        window = cls(document, start, end, cited=cited, query=asked.get("q", "").replace("\0", "")[:QUERY_MOST].strip())
        if window.query:
            window._find(text)
        window._draw(text, shown)
        if cited:
            window.place = text.place(cited[0])
        window.page, window.pages = text.number("page", cited[0] if cited else start), text.pages
        window.chapter, window.chapters = text.number("chapter", cited[0] if cited else named or start), text.chapters
        return window

    def _find(self, text: Text) -> None:
        if self.document.byte_end - self.document.byte_start > WHOLE_MOST:
            self.too_long = True
            return
        whole = text.whole()
        places: set[int] = set()
        for match in re.finditer(re.escape(self.query), whole, re.IGNORECASE):
            self.hit_count += 1
            places.add(STROKES * match.start() // len(whole))
            if len(self.hits) < HITS:
                a, b = match.span()
                self.hits.append(
                    Hit(
                        a,
                        b,
                        whole[max(0, a - SNIPPET) : a],
                        match[0],
                        whole[b : b + SNIPPET],
                        text.label(a) or f"character {a:,}",
                    )
                )

        self.strokes = [f"{100 * place / STROKES:.1f}%" for place in sorted(places)]

    def _draw(self, text: Text, shown: str) -> None:
        lines = text.lines_before(self.start)
        hits = (
            [match.span() for match in re.finditer(re.escape(self.query), shown, re.IGNORECASE)] if self.query else []
        )
        at = self.start
        for line in _lines(shown):
            lines += 1
            label = text.label(at) or f"{lines:,}"
            for offset in range(0, max(1, len(line)), LINE_MOST):
                piece = line[offset : offset + LINE_MOST]
                place = at + offset
                if piece.strip() or offset:
                    self.paragraphs.append(
                        self._paragraph(piece.rstrip("\n"), place, label if not offset else "", hits)
                    )
            at += len(line)

    def _paragraph(self, text: str, at: int, label: str, hits: list[tuple[int, int]]) -> Paragraph:
        spans = [(a + self.start - at, b + self.start - at, "hit") for a, b in hits]
        if self.cited:
            spans.append((self.cited[0] - at, self.cited[1] - at, "cited"))
        edges = sorted({0, len(text), *(min(max(edge, 0), len(text)) for a, b, _ in spans for edge in (a, b))})
        bits, here, named = [], False, False
        for a, b in zip(edges, edges[1:], strict=False):
            kinds = {kind for x, y, kind in spans if x <= a and b <= y}
            kind = (
                "cited"
                if "cited" in kinds
                else "now"
                if "hit" in kinds and self._is_now(a + at)
                else "hit"
                if kinds
                else ""
            )
            first = kind == "cited" and not named and self.cited is not None and a + at == max(self.cited[0], at)
            here = here or kind == "cited"
            named = named or first
            bits.append(Bit(clean(text[a:b]), kind, "cited" if first and self.cited and self.cited[0] >= at else ""))
        return Paragraph(at, label, bits, here)

    def _is_now(self, place: int) -> bool:
        return bool(self.cited and self.cited[0] == place)

    @property
    def previous(self) -> int | None:
        return max(0, self.start - WINDOW) if self.start > 0 else None

    @property
    def next(self) -> int | None:
        return self.end if self.end < self.document.characters else None

    @property
    def hits_now(self) -> int:
        """The number, from 1, of the hit that the cited range is; 0 if it is none."""
        if self.cited:
            for number, hit in enumerate(self.hits, 1):
                if hit.start == self.cited[0]:
                    return number
        return 0

    @property
    def next_hit(self) -> Hit | None:
        place = self.cited[0] if self.cited else self.start - 1
        return next((hit for hit in self.hits if hit.start > place), None)

    @property
    def previous_hit(self) -> Hit | None:
        place = self.cited[0] if self.cited else self.start
        return next((hit for hit in reversed(self.hits) if hit.start < place), None)

    @property
    def overview(self) -> dict[str, Any]:
        """The whole document as a bar: what is shown of it, and where the cited range is, in percent."""
        whole = max(1, self.document.characters)
        told = [f"{self.hit_count:,} hit{'' if self.hit_count == 1 else 's'}"] if self.query else []
        told += ["one cited range"] if self.cited else []
        bars: dict[str, Any] = {
            "label": ", ".join(["Whole document", *told, "the part shown now"]),
            "at": f"{100 * self.start / whole:.2f}%",
            "width": f"{100 * (self.end - self.start) / whole:.2f}%",
        }
        if self.cited:
            bars |= {
                "cited": f"{100 * self.cited[0] / whole:.2f}%",
                "cited_width": f"{max(0.3, 100 * (self.cited[1] - self.cited[0]) / whole):.2f}%",
            }
        return bars


def _lines(text: str) -> list[str]:
    """Lines with their "\\n", split at nothing else: str.splitlines knows a dozen more line ends."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _number(words: str) -> int:
    return int(words) if words.isdecimal() and len(words) < 16 else 0


def _range(words: str, most: int) -> tuple[int, int] | None:
    """ "1200-1420" as a range that lies in the text; None for what is none."""
    found = re.fullmatch(r"(\d{1,15})-(\d{1,15})", words)
    if not found:
        return None
    start, end = int(found[1]), min(int(found[2]), most)
    return (start, min(end, start + RANGE_MOST)) if start < end else None


class Text:
    """A document's text in its packed blob, read by characters without reading more of it than needed."""

    STEP = 1 << 20  # bytes

    def __init__(self, document: Document) -> None:
        self.document = document
        self.path = blobs.path(document.version.text)
        self.size = document.byte_end - document.byte_start
        self.ascii = document.characters == self.size  # a character a byte: offsets need no counting

    def _bytes(self, start: int, end: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.document.byte_start + start)
            return file.read(max(0, min(end, self.size) - start))

    def whole(self) -> str:
        return self._bytes(0, self.size).decode()

    def byte_of(self, character: int) -> int:
        """The byte at which a character begins."""
        if self.ascii:
            return character
        at = counted = 0
        while at < self.size:
            piece = self._bytes(at, at + self.STEP)
            inside = _characters(piece)
            if counted + inside > character:
                return at + _nth(piece, character - counted)
            counted += inside
            at += len(piece)
        return self.size

    def around(self, character: int, before: int) -> tuple[int, int, str]:
        """Whole lines about a character, as far as lines are of a bearable length: start, end, text."""
        start = max(0, character - before)
        # Back to the beginning of a line, if there is one near.
        back = max(0, start - LINE_MOST)
        first = self.byte_of(back)
        raw = self._bytes(first, first + 4 * (character - back + WINDOW + LINE_MOST) + 8)
        text = raw.decode("utf-8", "ignore")  # the last character may be cut: it is not shown
        if start:
            line = text.rfind("\n", 0, start - back)
            start = back + line + 1 if line >= 0 else (0 if back == 0 else start)
        text = text[start - back :]
        if len(text) > WINDOW:
            stop = text.find("\n", WINDOW)
            text = text[: stop + 1] if 0 <= stop < WINDOW + LINE_MOST else text[:WINDOW]
        return start, start + len(text), text

    def lines_before(self, character: int) -> int:
        at, end, count = 0, self.byte_of(character), 0
        while at < end:
            piece = self._bytes(at, min(end, at + self.STEP))
            count += piece.count(b"\n")
            at += len(piece)
        return count

    def _mark(self, character: int) -> tuple[str, int]:
        """What the marks say of a character: ("time", ms), ("page" or "chapter", number) or ("", 0)."""
        kind, places, values, _ = _marks(self.document.marks)
        at = bisect_right(places, character) - 1
        return (kind, values[at]) if at >= 0 else ("", 0)

    def label(self, character: int) -> str:
        """Where a character is in a recording, "41:08", or on which page, "p. 12", in which part of a book, "§ 3"; or ""."""
        kind, value = self._mark(character)
        if kind == "page":
            return f"p. {value:,}"
        if kind == "chapter":
            return f"§ {value:,}"
        if kind != "time":
            return ""
        hours, rest = divmod(value // 1000, 3600)
        return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"

    def place(self, character: int) -> str:
        """The same in a sentence."""
        kind, value = self._mark(character)
        if kind == "chapter":
            return f"in “{self.title(value)}”"
        return f"on page {value:,}" if kind == "page" else f"at {label}" if (label := self.label(character)) else ""

    def number(self, kind: str, character: int) -> int:
        """Of the page or chapter that a character is in; 0 where there are none."""
        found, value = self._mark(character)
        return value if found == kind else 0

    def title(self, chapter: int) -> str:
        titles = _marks(self.document.marks)[3]
        return clean(titles[chapter - 1]) if 0 < chapter <= len(titles) else ""

    @property
    def pages(self) -> int:
        kind, _, values, _ = _marks(self.document.marks)
        return values[-1] if kind == "page" and values else 0

    @property
    def chapters(self) -> list[tuple[int, str]]:
        return [
            (number, shortened(clean(title), TITLE_SHOWN))
            for number, title in enumerate(_marks(self.document.marks)[3], 1)
        ]

    def start(self, kind: str, number: int) -> int:
        """The character at which a page or a chapter begins; 0 where there are none."""
        found, places, values, _ = _marks(self.document.marks)
        if not number or found != kind or not places:
            return 0
        at = bisect_left(values, number)
        return places[at] if at < len(places) else places[-1]


_CONTINUATION = bytes(range(0x80, 0xC0))  # in UTF-8 every other byte begins a character


def _characters(piece: bytes) -> int:
    return len(piece.translate(None, _CONTINUATION))


def _nth(piece: bytes, number: int) -> int:
    """The place of the number-th byte that begins a character."""
    low, high = 0, len(piece)
    while low < high:  # the count of beginnings up to a place only grows
        middle = (low + high) // 2
        if _characters(piece[: middle + 1]) > number:
            high = middle
        else:
            low = middle + 1
    return low


@lru_cache(maxsize=16)
def _marks(sha: str) -> tuple[str, list[int], list[int], list[str]]:
    """Kind, characters, moments or numbers, and titles where there are such."""
    try:
        found: dict[str, Any] = json.loads(blobs.read(sha)) if sha else {"kind": "", "marks": []}
    except blobs.BlobMissing:
        return "", [], [], []
    places, values = [place for place, _ in found["marks"]], [value for _, value in found["marks"]]
    return found["kind"], places, values, found.get("titles", [])
