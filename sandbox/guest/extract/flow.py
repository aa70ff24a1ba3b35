"""Lines of a page, as they are laid out → paragraphs: a line goes on in the next one only where it had to break.

A line had to break where the next one's first word would not have fitted before the margin. Where a break was meant (the
end of a paragraph, a heading, a verse, a row of a table), the next line begins a line of the text as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median

SHORT = 30  # characters; a shorter line is never taken for one that had to break
WIDE = 0.66  # of the letters' size, a character: wider ones have gaps between them, as rows of tables do
SOFT_HYPHEN = "\xad"
ITEM = re.compile(r"(?:[•●▪◦‣·*–—-]|\(?\d{1,3}[.)]|\(?[A-Za-z][.)])\s")
NUMBER = re.compile(r"(?:^|\s)[($€£-]{0,3}\d[\d.,]*[)%]{0,2}$")


@dataclass(frozen=True)
class Line:
    """A line's text, and in points: where it begins and ends, its base line, how long its first word is, its letters' size."""

    text: str
    left: float = 0.0
    right: float = 0.0
    base: float = 0.0
    word: float = 0.0
    size: float = 0.0  # 0: not known, and then it stands by itself
    torn: bool = False  # its last word goes on in the next line


def joined(lines: list[Line]) -> str:
    """The text of a page: a paragraph a line where that can be told, else a line a line."""
    soft = _soft(lines)
    parts: list[str] = []
    for number, line in enumerate(lines):
        parts.append(line.text.rstrip(SOFT_HYPHEN))
        if not _torn(line) or number + 1 == len(lines):
            parts.append(" " if soft[number] else "\n")
    return "".join(parts)


def _soft(lines: list[Line]) -> list[bool]:
    """Whether each line goes on in the next."""
    follows = _follows(lines)
    soft = [False] * len(lines)
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) - 1 and follows[end]:
            end += 1
        margin = _margin(lines, lines[start : end + 1])
        for number in range(start, end):
            line, following = lines[number], lines[number + 1]
            fits = line.right + 0.2 * line.size + following.word <= margin
            soft[number] = _torn(line) or (not fits and _is_prose(line) and not _is_entry(line, following))
        # Most lines of prose had to break. Where few did, the longest of a list, that was by chance.
        if sum(soft[start:end]) * 5 < (end - start) * 2:
            soft[start:end] = [False] * (end - start)
        start = end + 1
    return soft


def _margin(lines: list[Line], block: list[Line]) -> float:
    """How far lines reach that begin where these do, in letters of their size: not the longest of a list of short ones."""
    left, size = min(line.left for line in block), block[0].size
    alike = [line.right for line in lines if abs(line.left - left) < 4 * size and abs(line.size - size) <= 0.1 * size]
    return max(alike, default=0.0)


def _follows(lines: list[Line]) -> list[bool]:
    """Whether the next line stands right below each, in letters of the same size and not set in."""
    pairs = list(zip(lines, lines[1:], strict=False))
    gaps = [a.base - b.base for a, b in pairs if a.size and b.size and 0 < a.base - b.base < 3 * a.size]
    usual = median(gaps) if gaps else 0.0
    found = [
        bool(a.size and b.size)
        and abs(a.size - b.size) <= 0.1 * a.size
        and 0.5 * a.size < a.base - b.base <= 1.3 * usual
        and -4 * a.size <= b.left - a.left <= (4 if ITEM.match(a.text) else 0.5) * a.size
        for a, b in pairs
    ]
    return [*found, False][: len(lines)]


def _torn(line: Line) -> bool:
    return line.torn or line.text.endswith(SOFT_HYPHEN)


def _is_prose(line: Line) -> bool:
    wide = (line.right - line.left) / max(1, len(line.text)) > WIDE * line.size
    return len(line.text) >= SHORT and not (wide and line.text.isascii())


def _is_entry(line: Line, following: Line) -> bool:
    """Whether two lines are two entries of a list or a table: numbered, both with a number at their end, or begun alike."""
    if ITEM.match(following.text) or (NUMBER.search(line.text) and NUMBER.search(following.text)):
        return True
    first = line.text.split(maxsplit=1)[0]
    return first == following.text.split(maxsplit=1)[0] and not first.islower()
