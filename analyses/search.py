"""Full-text search over a corpus version: an SQLite FTS5 file beside the blobs' caches, one for each version.

The index is derived and never changes, as the text it is of: it may be deleted at any time and is built again when
somebody searches. So it works the same on SQLite and PostgreSQL, and costs neither of them anything
(docs/decisions/0103-search.md).
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import mmap
import os
import re
import sqlite3
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from analyses import blobs
from analyses.models import CorpusVersion

log = logging.getLogger(__name__)

PASSAGE = 600  # characters after which the end of a line ends a passage
PASSAGE_MOST = 1200
HITS = 50
AT_ONCE = 16 << 20  # bytes of text that a request indexes itself; more is done beside it
BEFORE, AFTER = 40, 160  # characters shown around what was found: a phone shows two lines
QUERY_MOST = 200
FORM = "2"  # of the index: another number, and all are built again
NAME = re.compile(r"[0-9a-f]{64}-([0-9]{1,18})\.[0-9]+\.sqlite")  # of a version's index
SWEEP_EVERY = 3_600.0  # seconds
# Thai, Lao, Burmese, Khmer, Tai, Chinese, Japanese, Korean: no space tells where a word ends.
RUN = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u2e80-\u2fdf\u3005-\u3007\u3031-\u3035"
    "\u3040-\u30ff\u3100-\u318f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\ua9e0-\ua9ff\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uffdc\U00020000-\U0003ffff]+"
)


@dataclass(frozen=True)
class Found:
    """A passage that has what was asked for."""

    position: int  # of the document, from 0
    title: str
    start: int  # characters into the document, of the first word found
    end: int
    before: str
    words: str
    after: str

    @property
    def place(self) -> str:
        return f"c={self.start}-{self.end}"


@dataclass(frozen=True)
class Answer:
    hits: list[Found]
    total: int
    ready: bool = True  # False: the index is being built


def _place(version: CorpusVersion) -> Path:
    # By version too: the same text may be cut into other documents elsewhere.
    return Path(settings.DATA_DIR) / "search" / version.text[:2] / f"{version.text}-{version.pk}.{FORM}.sqlite"


def search(version: CorpusVersion, query: str) -> Answer:
    """The passages that have every word (and every "quoted phrase"), the best first."""
    query = query.replace("\0", " ").strip()[:QUERY_MOST]
    if not query:
        return Answer([], 0)
    if (place := _ready(version)) is None:
        return Answer([], 0, ready=False)
    terms = _terms(query)
    with contextlib.closing(_open(place)) as index:
        rows, total = _matching(index, terms) if terms else ([], 0)
        if not rows:
            rows = _containing(index, version, query)
            total = len(rows)
            terms = [query]
        return Answer(list(_shown(version, rows, terms)), total)


def documents_with(version: CorpusVersion, query: str) -> list[int] | None:
    """Positions of the documents that have a passage with every word; None while the index is being built."""
    terms = _terms(query.replace("\0", " ").strip()[:QUERY_MOST])
    if not terms:
        return []
    if (place := _ready(version)) is None:
        return None
    with contextlib.closing(_open(place)) as index:
        rows = index.execute(
            "SELECT DISTINCT position FROM words JOIN passages ON passages.id = words.rowid WHERE words MATCH ? ORDER BY 1",
            (_asked(terms),),
        )
        return [position for (position,) in rows]


def _ready(version: CorpusVersion) -> Path | None:
    """Where the index lies; made at once where the text is short, else beside the request, and None meanwhile."""
    sweep()
    place = _place(version)
    if not place.exists():
        if version.bytes > AT_ONCE:
            build_beside(version)
            return None
        build(version)
    return place


def _open(place: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{place}?mode=ro&immutable=1", uri=True)


def _terms(query: str) -> list[str]:
    """Words and quoted phrases, without what FTS5 would take for syntax."""
    found = [phrase or word for phrase, word in re.findall(r'"([^"]+)"|(\S+)', query)]
    cleaned = (term.replace('"', " ").strip() for term in found)
    return [term for term in cleaned if any(map(str.isalnum, term))][:16]


def _spelled(text: str, *, whole: bool = True) -> str:
    """Scripts without spaces as overlapping pairs, which FTS5 then takes for words: 灯台守 is 灯台, 台守 and, in a text, 守.

    Asked for (not ``whole``), the pairs alone: two characters in a row are found wherever they stand.
    """
    if text.isascii():
        return text

    def pairs(match: re.Match[str]) -> str:
        run = match[0]
        last = len(run) if whole or len(run) == 1 else len(run) - 1
        return f" {' '.join(run[at : at + 2] for at in range(last))} "

    return RUN.sub(pairs, text)


def _asked(terms: list[str]) -> str:
    """Phrases for FTS5. The last word may be the beginning of one: people search while they type."""
    phrases = []
    for number, term in enumerate(terms, 1):
        tail = RUN.search(term[-1:]) and not RUN.match(
            term[-2:-1]
        )  # one character alone is any pair that begins with it
        begins = tail or (number == len(terms) and len(term) > 2)
        phrases.append(f'"{_spelled(term, whole=False).strip()}"' + ("*" if begins else ""))
    return " ".join(phrases)


def _matching(index: sqlite3.Connection, terms: list[str]) -> tuple[list[tuple[int, int, int, int]], int]:
    asked = _asked(terms)
    total = index.execute("SELECT count(*) FROM words WHERE words MATCH ?", (asked,)).fetchone()[0]
    rows = index.execute(
        "SELECT position, character, byte_start, byte_end FROM words JOIN passages ON passages.id = words.rowid "
        "WHERE words MATCH ? ORDER BY rank LIMIT ?",
        (asked, HITS),
    ).fetchall()
    return rows, total


def _containing(index: sqlite3.Connection, version: CorpusVersion, query: str) -> list[tuple[int, int, int, int]]:
    """Passages with the very characters asked for: parts of words, signs, and scripts that set no spaces."""
    wanted = query.strip('"').encode()
    with blobs.open(version.text) as file:
        if not wanted or not os.fstat(file.fileno()).st_size:
            return []
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as text:
            places: list[int] = []
            at = text.find(wanted)
            while at >= 0 and len(places) < HITS:
                places.append(at)
                at = text.find(wanted, at + len(wanted))
    found: dict[int, tuple[int, int, int, int]] = {}
    for place in places:
        row = index.execute(
            "SELECT position, character, byte_start, byte_end FROM passages WHERE byte_start <= ? ORDER BY byte_start DESC LIMIT 1",
            (place,),
        ).fetchone()
        found.setdefault(row[2], row)
    return list(found.values())


def _shown(version: CorpusVersion, rows: list[tuple[int, int, int, int]], terms: list[str]) -> Iterator[Found]:
    positions = {row[0] for row in rows}
    titles = dict(version.documents.filter(position__in=positions).values_list("position", "title"))
    looks = [
        re.compile(r"\W+".join(map(re.escape, re.findall(r"\w+", _folded(term)))) or re.escape(_folded(term)))
        for term in terms
    ]
    with blobs.open(version.text) as text:
        for position, character, start, end in rows:
            text.seek(start)
            passage = text.read(end - start).decode("utf-8", "replace")
            folded = _folded(passage)
            spans = [match.span() for look in looks if (match := look.search(folded))]
            a, b = min(spans) if spans else (0, min(len(passage), 40))
            yield Found(
                position, titles.get(position, ""), character + a, character + b,
                ("…" if a > BEFORE else "") + passage[max(0, a - BEFORE) : a], passage[a:b],
                passage[b : b + AFTER] + ("…" if b + AFTER < len(passage) else ""),
            )  # fmt: skip


def _folded(text: str) -> str:
    """Without case and accents, a character for a character: what FTS5's unicode61 compares."""
    if text.isascii():
        return text.lower()
    return "".join(_bare(character.lower()[:1]) for character in text)


def _bare(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    # 한 is ㅎ, ㅏ and ㄴ, but no ㅎ with accents.
    return parts[0] if all(map(unicodedata.combining, parts[1:])) else character


# — building —


def build(version: CorpusVersion) -> None:
    """Make the index, in a file of its own that takes its place when it is whole."""
    place = _place(version)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=place.parent, prefix="part-")
    os.close(descriptor)
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as index:
            index.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA page_size=8192;"
                "CREATE TABLE passages(id INTEGER PRIMARY KEY, position INTEGER, character INTEGER, byte_start INTEGER, byte_end INTEGER);"
                "CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize=\"unicode61 remove_diacritics 2 categories 'L* N* Co M*'\");"
            )
            index.execute("BEGIN")
            for number, (position, character, start, end, text) in enumerate(_passages(version), 1):
                index.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?)", (number, position, character, start, end))
                index.execute("INSERT INTO words(rowid, text) VALUES (?, ?)", (number, _spelled(text)))
            index.execute("CREATE INDEX by_byte ON passages(byte_start)")
            index.execute("COMMIT")
        Path(draft).replace(place)
        for older in set(place.parent.glob(f"{version.text}-{version.pk}.*.sqlite")) - {place}:
            older.unlink(missing_ok=True)
    finally:
        Path(draft).unlink(missing_ok=True)


def _passages(version: CorpusVersion) -> Iterator[tuple[int, int, int, int, str]]:
    """Position, first character in the document, bytes in the pack, and text, of each passage in order."""
    documents = version.documents.order_by("position").values_list("position", "byte_start", "byte_end")
    with blobs.open(version.text) as file:
        for position, start, end in documents.iterator():
            file.seek(start)
            character, byte = 0, start
            for passage in _cut(_pieces(file, end - start)):
                size = len(passage.encode())
                yield position, character, byte, byte + size, passage
                character += len(passage)
                byte += size


def _pieces(file: object, left: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while left > 0:
        raw = file.read(min(1 << 20, left))  # type: ignore[attr-defined]
        if not raw:
            return
        left -= len(raw)
        yield decoder.decode(raw, final=left <= 0)


def _cut(pieces: Iterator[str]) -> Iterator[str]:
    """Passages of whole lines where lines are of a bearable length."""
    rest = ""
    for piece in pieces:
        rest += piece
        at = 0
        while len(rest) - at > PASSAGE_MOST:
            line = rest.find("\n", at + PASSAGE, at + PASSAGE_MOST)
            stop = line + 1 if line >= 0 else _gap(rest, at)
            yield rest[at:stop]
            at = stop
        rest = rest[at:]
    if rest:
        yield rest


def _gap(text: str, at: int) -> int:
    """Where a long line is cut: after a space, if there is one."""
    space = text.rfind(" ", at + PASSAGE, at + PASSAGE_MOST)
    return space + 1 if space >= 0 else at + PASSAGE_MOST


_building: set[str] = set()
_lock = threading.Lock()


def build_beside(version: CorpusVersion) -> None:
    """Index a large text in a thread; who asks meanwhile is told to wait."""
    with _lock:
        if version.text in _building or _place(version).exists():
            return
        _building.add(version.text)

    def work() -> None:
        from django.db import connection

        try:
            build(version)
        except Exception:
            log.exception("corpus version %s was not indexed", version.pk)  # its name may be what cannot be had
        finally:
            with _lock:
                _building.discard(version.text)
            connection.close()

    threading.Thread(target=work, name=f"search-{version.pk}", daemon=True).start()


def forget(text: str) -> None:
    """Delete the index of a text that is gone."""
    for place in (Path(settings.DATA_DIR) / "search" / text[:2]).glob(f"{text}-*"):
        place.unlink(missing_ok=True)


_swept = float("-inf")  # monotonic


def sweep() -> None:
    """Now and then: indexes go whose corpus is gone, here too where it was deleted on another host."""
    global _swept
    now = time.monotonic()
    if now - _swept < SWEEP_EVERY:
        return
    _swept = now
    places: dict[int, list[Path]] = {}
    for place in (Path(settings.DATA_DIR) / "search").glob("??/*.sqlite"):
        if found := NAME.fullmatch(place.name):
            places.setdefault(int(found[1]), []).append(place)
    numbers = list(places)
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        kept = set(CorpusVersion.objects.filter(pk__in=some).values_list("pk", flat=True))
        for number in set(some) - kept:
            for place in places[number]:
                place.unlink(missing_ok=True)
