"""Differences between two texts, line by line and word by word, as safe HTML; the work put into one page is bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from analyses.markup import code_lines
from analyses.texts import clean

LINES_MOST = 600  # of each side; more are shown without marks
LINE_MOST = 2_000  # characters of a line
WORDS_MOST = 240  # of a line's pieces; a longer line is marked as a whole
EFFORT = 2_000_000  # pairs of lines or words that one page compares
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


class Effort:
    """What is left of the comparing that one page may do: hostile texts make it take long."""

    def __init__(self, most: int = EFFORT) -> None:
        self.left = most

    def spend(self, one: int, other: int) -> bool:
        if one * other > self.left:
            return False
        self.left -= one * other
        return True


@dataclass(frozen=True)
class Line:
    """A line of one side. ``sign`` is "", "−" or "+"."""

    html: SafeString
    sign: str = ""

    @property
    def css(self) -> str:
        return {"−": " is-del", "+": " is-ins"}.get(self.sign, "")


@dataclass(frozen=True)
class Sides:
    """Both texts, with what is in one alone marked."""

    left: list[Line]
    right: list[Line]
    same: bool
    marked: bool = True  # False: too long to compare

    @property
    def differs(self) -> bool:
        return not self.same


def opcodes(one: list[Any], other: list[Any], effort: Effort) -> list[tuple[str, int, int, int, int]] | None:
    """As difflib's, after what both begin and end with is taken off; None where the effort does not last."""
    head = 0
    while head < min(len(one), len(other)) and one[head] == other[head]:
        head += 1
    tail = 0
    while tail < min(len(one), len(other)) - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    a, b = one[head : len(one) - tail], other[head : len(other) - tail]
    if not effort.spend(max(1, len(a)), max(1, len(b))):
        return None
    found = [("equal", 0, head, 0, head)] if head else []
    for tag, a1, a2, b1, b2 in SequenceMatcher(None, a, b).get_opcodes():
        found.append((tag, a1 + head, a2 + head, b1 + head, b2 + head))
    if tail:
        found.append(("equal", len(one) - tail, len(one), len(other) - tail, len(other)))
    return found


def code_sides(one: str, other: str, effort: Effort) -> Sides:
    """Two cells' code: equal lines highlighted, changed ones with their words marked."""
    return _sides(one.rstrip("\n"), other.rstrip("\n"), effort, code_lines)


def text_sides(one: str, other: str, effort: Effort) -> Sides:
    return _sides(one, other, effort, lambda text: tuple(escape(line) for line in text.split("\n")))


def _sides(one: str, other: str, effort: Effort, draw: Any) -> Sides:
    one, other = _bounded(one), _bounded(other)
    left, right = one.split("\n"), other.split("\n")
    drawn_left, drawn_right = draw(one), draw(other)
    same = one == other
    found = None if len(left) > LINES_MOST or len(right) > LINES_MOST else opcodes(left, right, effort)
    if same or found is None:
        return Sides(_plain(drawn_left), _plain(drawn_right), same, same)
    a: list[Line] = []
    b: list[Line] = []
    for tag, a1, a2, b1, b2 in found:
        if tag == "equal":
            a += _plain(drawn_left[a1:a2])
            b += _plain(drawn_right[b1:b2])
            continue
        for at in range(max(a2 - a1, b2 - b1)):
            mine = left[a1 + at] if a1 + at < a2 else None
            theirs = right[b1 + at] if b1 + at < b2 else None
            words = words_marked(mine, theirs, effort) if mine is not None and theirs is not None else None
            if mine is not None:
                a.append(Line(words[0] if words else mark_safe(drawn_left[a1 + at]), "−"))  # noqa: S308
            if theirs is not None:
                b.append(Line(words[1] if words else mark_safe(drawn_right[b1 + at]), "+"))  # noqa: S308
    return Sides(a, b, False)


def words_marked(one: str, other: str, effort: Effort) -> tuple[SafeString, SafeString] | None:
    """Two texts with del and ins around the words that differ; None where they have little in common, or are too long."""
    a, b = _WORD.findall(one), _WORD.findall(other)
    if len(a) > WORDS_MOST or len(b) > WORDS_MOST:
        return None
    found = opcodes(a, b, effort)
    if found is None or sum(len("".join(a[i:j]).strip()) for tag, i, j, _, _ in found if tag == "equal") < 0.25 * len(
        one
    ):
        return None
    left, right = [], []
    for tag, a1, a2, b1, b2 in found:
        mine, theirs = escape("".join(a[a1:a2])), escape("".join(b[b1:b2]))
        left.append(mine if tag == "equal" or not mine else f"<del>{mine}</del>")
        right.append(theirs if tag == "equal" or not theirs else f"<ins>{theirs}</ins>")
    return mark_safe("".join(left)), mark_safe("".join(right))  # noqa: S308  every piece is escaped


def _plain(lines: Any) -> list[Line]:
    return [Line(mark_safe(line)) for line in lines]  # noqa: S308  highlighted or escaped above


def _bounded(text: str) -> str:
    text = clean(text).replace("\r\n", "\n")
    if not any(len(line) > LINE_MOST for line in text.split("\n")):
        return text
    return "\n".join(line if len(line) <= LINE_MOST else line[:LINE_MOST] + "…" for line in text.split("\n"))
