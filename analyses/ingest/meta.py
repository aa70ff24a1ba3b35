"""What a text says of itself: title, speakers, date, columns; taken from its head, its front matter and its name."""

from __future__ import annotations

import csv
import datetime
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import frontmatter
import yaml

HEAD = 1 << 18  # characters looked at
TITLE_MOST = 300
MARKS_MOST = 200_000
FRONT_MOST = 1 << 14  # characters of front matter

FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*$\n?", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
UNDERLINED = re.compile(r"\A\s*(\S[^\n]{0,200})\n={3,}[ \t]*$", re.MULTILINE)
BOLD_TURN = re.compile(r"^\*\*([^*:\n]{1,60}):\*\*", re.MULTILINE)
PLAIN_TURN = re.compile(
    r"^(?:\[?\(?\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?\]?\)?\s+)?([^\W\d_][\w.’'-]*(?: [\w.’'-]+){0,3}):[ \t]", re.MULTILINE
)
MOMENT = re.compile(r"(?:^|\[)(?:(\d{1,2}):)?(\d{1,2}):(\d{2})(?:\.\d+)?(?=\\?\]|\s)", re.MULTILINE)
ORDINAL = re.compile(r"(\d)(st|nd|rd|th)\b")
DATES = ("%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%Y/%m/%d", "%d.%m.%Y")
NOT_A_NAME = {
    "break",
    "music",
    "transcript",
    "note",
    "http",
    "https",
    "re",
    "ps",
    "nb",
    "eg",
    "ie",
    "example",
    "warning",
    "tip",
    "title",
    "date",
    "link",
    "links",
}


# Underscores that mean emphasis; those of a name such as __init__ or snake_case are its own.
EMPHASIS = re.compile(r"(?<!\w)(_{1,2})(?=\S)([^_]*\s[^_]*)(?<=\S)\1(?!\w)")


def title_from_name(name: str) -> str:
    """A file name made readable: "2020-01-28-pieter-wuille_part1.md" → "2020-01-28 pieter wuille part1"."""
    stem = PurePosixPath(name).name
    while (
        (suffix := PurePosixPath(stem).suffix)
        and 1 < len(suffix) <= 9
        and suffix[1:].isalnum()
        and not suffix[1:].isdigit()
    ):
        stem = stem[: -len(suffix)]
    if "__" in stem:
        return shortened(stem, TITLE_MOST)  # the name of a module or of a test: its underscores are no spaces
    stem = re.sub(r"(?<!\d)(\d{4})[-_](\d{2})[-_](\d{2})(?!\d)", "\\1\0\\2\0\\3", stem)
    stem = re.sub(r"[\s_-]+", " ", stem).replace("\0", "-").strip()
    if stem.partition(" ")[0].islower():
        stem = stem[0].upper() + stem[1:]
    return shortened(stem or PurePosixPath(name).name or "Untitled", TITLE_MOST)


def shortened(text: str, most: int) -> str:
    """One line of at most so many characters, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def readable_date(value: Any) -> str:
    """An ISO date where it can be told, else the words that stood there."""
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()[:10]
    words = " ".join(str(value).split())
    if re.match(r"\d{4}-\d{2}-\d{2}", words):
        return words[:10]
    plain = ORDINAL.sub(r"\1", words)
    for shape in DATES:
        try:
            return datetime.datetime.strptime(plain, shape).date().isoformat()  # noqa: DTZ007 — a day, not a moment
        except ValueError:
            continue
    return words[:60]


def front_of(head: str) -> dict[str, Any]:
    """The YAML front matter, plain and bounded; {} where there is none or it is not sound."""
    found = FRONT.match(head)
    if not found or len(found[1]) > FRONT_MOST:
        return {}
    try:
        if not _harmless(found[1]):
            return {}
        raw = frontmatter.loads(found[0]).metadata
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _harmless(text: str) -> bool:
    """No alias, which may unfold to gigabytes ("billion laughs"), and no depth: front matter has no use for either."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 8 or isinstance(event, yaml.AliasEvent):
            return False
    return True


def plain_meta(front: dict[str, Any]) -> dict[str, Any]:
    """Front matter as a model may see it: few keys, short values, nothing nested."""
    meta: dict[str, Any] = {}
    for key, value in list(front.items())[:24]:
        name = shortened(str(key), 40)
        if name.lower() in ("title", "format", "speakers", "minutes"):
            continue
        if name.lower() in ("date", "pub_date", "published", "pubdate"):
            meta["date"] = readable_date(value)
        elif isinstance(value, bool | int | float) or value is None:
            meta[name] = value if value == value and value not in (float("inf"), float("-inf")) else str(value)
        elif isinstance(value, str | datetime.date):
            meta[name] = shortened(str(value), 500)
        elif isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
            meta[name] = [shortened(str(item), 80) for item in value[:30]]
    return meta


def speakers_of(head: str) -> list[str]:
    """Who speaks, by how often: "**Name:** …" turns, or "Name: …" ones where the text is made of them."""
    bold = Counter(" ".join(name.split()) for name in BOLD_TURN.findall(head))
    for name in [name for name in bold if name.lower() in NOT_A_NAME]:
        del bold[name]
    if bold:
        return [name for name, _ in bold.most_common(30)]
    plain = Counter(PLAIN_TURN.findall(head))
    for name in list(plain):
        if name.lower() in NOT_A_NAME or plain[name] < 2 or not name[0].isupper():
            del plain[name]
    lines = sum(1 for line in head.split("\n") if line.strip())
    if sum(plain.values()) < 6 or sum(plain.values()) * 5 < lines:
        return []
    return [name for name, _ in plain.most_common(30)]


def minutes_of(text: str) -> float | None:
    """How long a recording is, where a text is set with moments ("00:12:03 …", "[04:05]") in rising order."""
    moments = [(int(h or 0) * 60 + int(m)) * 60 + int(s) for h, m, s in MOMENT.findall(text) if int(s) < 60]
    if len(moments) < 5 or sum(b >= a for a, b in zip(moments, moments[1:], strict=False)) < 0.9 * (len(moments) - 1):
        return None
    return round(max(moments) / 60, 1)


def marks_of(pieces: Iterable[str]) -> list[tuple[int, int]]:
    """Where in a text its written moments stand: (character, ms), for those in rising order.

    Looked for line by line: a moment is never torn by the edge of a piece.
    """
    marks: list[tuple[int, int]] = []
    at, rest = 0, ""
    for piece in _with_end(pieces):
        text = rest + piece
        cut = text.rfind("\n") + 1 if piece else len(text)
        for found in MOMENT.finditer(text, 0, cut):
            hours, minutes, seconds = (int(part or 0) for part in found.groups())
            ms = ((hours * 60 + minutes) * 60 + seconds) * 1000
            if seconds < 60 and (not marks or ms >= marks[-1][1]) and len(marks) < MARKS_MOST:
                marks.append((at + found.start(), ms))
        at += cut
        rest = text[cut:]
        if len(rest) > 4_000_000:
            return marks  # no transcript has such lines
    return marks


def _with_end(pieces: Iterable[str]) -> Iterator[str]:
    yield from pieces
    yield ""


def about(form: str, name: str, head: str, tail: str = "") -> tuple[str, dict[str, Any]]:
    """Title and metadata of a text kept as it stands, from its first HEAD characters and its last ones."""
    title = ""
    meta: dict[str, Any] = {"format": form}
    if form in ("md", "txt"):
        front = front_of(head)
        body = head[FRONT.match(head).end() :] if front and FRONT.match(head) else head  # type: ignore[union-attr]
        meta |= plain_meta(front)
        title = str(front.get("title") or "")
        if not title and form == "md" and (heading := HEADING.search(body[:20_000]) or UNDERLINED.match(body)):
            title = EMPHASIS.sub(r"\2", re.sub(r"[*`]{1,2}|\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]))
        named = front.get("speakers")
        speakers = [shortened(str(who), 80) for who in named[:30]] if isinstance(named, list) else speakers_of(body)
        if speakers:
            meta["speakers"] = speakers
        if (minutes := minutes_of(body + tail)) is not None:
            meta["minutes"] = minutes
    elif form in ("csv", "tsv"):
        meta |= _columns(head, "\t" if form == "tsv" else "")
    elif form == "json":
        title = _json_title(head) if not tail else ""
    elif form == "jsonl":
        meta |= _fields(head)
    return shortened(title, TITLE_MOST) or title_from_name(name), meta


def _columns(head: str, delimiter: str) -> dict[str, Any]:
    first = head.split("\n", 1)[0][:4000]
    try:
        delimiter = delimiter or csv.Sniffer().sniff(head[:8000], ",;\t|").delimiter
    except csv.Error:
        delimiter = ","
    row = next(csv.reader([first], delimiter=delimiter), [])
    return {"columns": [shortened(cell, 60) for cell in row[:40]]} if len(row) > 1 else {}


def _json_title(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    found = value.get("title") or value.get("name")
    return found if isinstance(found, str) else ""


def _fields(head: str) -> dict[str, Any]:
    try:
        first = json.loads(head.split("\n", 1)[0])
    except (ValueError, RecursionError):
        return {}
    return {"fields": [shortened(str(key), 60) for key in list(first)[:40]]} if isinstance(first, dict) else {}
