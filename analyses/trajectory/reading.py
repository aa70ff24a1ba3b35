"""Lines of a log, one JSON object at a time: never more than one line in memory, and what cannot be read is counted."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from analyses.trajectory.limits import LIMITS, ImportLimits, LogRefused

UTC = datetime.UTC
SEEN_EVERY = 1 << 20  # bytes
EARLIEST, LATEST = 100_000_000.0, 7_258_118_400.0  # 1973 and 2200: what lies outside is no time
# How the prompts of rlm, and of what came from it, repeat the question.
ASKED = re.compile(
    r'answer the (?:original |following )?(?:prompt|query|question): "(.+?)"\.?\s*(?:\n\s*\n|\Z)', re.DOTALL
)
BOM = b"\xef\xbb\xbf"
PACKED = {
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
}


@dataclass
class Log:
    """A file being imported: its lines as objects, and what went wrong on the way."""

    file: BinaryIO
    name: str
    limits: ImportLimits = LIMITS
    good: int = 0
    bad: int = 0
    cut: bool = False  # the last line is not whole
    notes: list[str] = field(default_factory=list)
    seen: Callable[[int], None] = lambda at: None  # told now and then up to which byte it is read

    def check(self) -> None:
        """Refuse what no log can be, by its first bytes and its size."""
        size = self.file.seek(0, 2)
        self.file.seek(0)
        head = self.file.read(4096)
        if not head.strip():
            raise LogRefused("The file is empty.")
        for start, what in PACKED.items():
            if head.startswith(start):
                raise LogRefused(f"The file is {what}. Unpack it first.")
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise LogRefused("The file is UTF-16 text. Logs are UTF-8: save it as that.")
        if b"\0" in head:
            raise LogRefused("The file is binary, not a log.")
        if size > self.limits.file_bytes:
            raise LogRefused(f"The file has {size:,} bytes; at most {self.limits.file_bytes:,} are read.")

    def whole(self) -> Any:
        """The file as one JSON text, where it is one and not too long; else None."""
        self.file.seek(0)
        data = self.file.read(self.limits.line_bytes + 1)
        return None if len(data) > self.limits.line_bytes else parse(data.removeprefix(BOM))

    def objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each line that holds a JSON object, with where it begins. Counts start again."""
        self.good = self.bad = 0
        self.cut = False
        self.file.seek(0)
        at = 0
        for number in range(self.limits.lines + 1):
            line = self.file.readline(self.limits.line_bytes + 1)
            if not line:
                break
            if number == self.limits.lines:
                raise LogRefused(f"The file has more than {self.limits.lines:,} lines.")
            if len(line) > self.limits.line_bytes:
                raise LogRefused(f"Line {number + 1} is longer than {self.limits.line_bytes:,} bytes.")
            text = line.removeprefix(BOM) if number == 0 else line
            if text.strip():
                found = parse(text)
                if isinstance(found, dict):
                    self.good += 1
                    self.cut = False
                    yield at, found
                else:
                    self.bad += 1
                    self.cut = not line.endswith(b"\n")
            if (at + len(line)) // SEEN_EVERY != at // SEEN_EVERY:
                self.seen(at + len(line))
            at += len(line)

    def at(self, offset: int) -> dict[str, Any]:
        """The object of the line that begins there."""
        self.file.seek(offset)
        found = parse(self.file.readline(self.limits.line_bytes + 1).removeprefix(BOM))
        if not isinstance(found, dict):
            raise LogRefused("The file changed while it was read.")
        return found

    def damage(self) -> str:
        """A sentence on lines that could not be read; "" where all could."""
        others = self.bad - self.cut
        said = (
            [
                f"{others:,} line{'s' if others != 1 else ''} could not be read and {'were' if others != 1 else 'was'} left out."
            ]
            if others
            else []
        )
        if self.cut:
            said.append("Cut off: the last line of the file is not whole and was left out.")
        return " ".join(said)


def parse(data: bytes) -> Any:
    """JSON, or None for what is none: not UTF-8, not JSON, too deep, with numbers that no one can hold."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> float | None:
    # Python's writers put NaN and Infinity into logs; no database takes them.
    return None


# — reading a field from a log that may hold anything —


def text_of(value: Any) -> str:
    """A text; of anything else its JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def count_of(value: Any, most: int = 2_000_000_000) -> int:
    """A whole number from 0; of anything else 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return 0
    return int(value)


def number_of(value: Any) -> float | None:
    """A finite number from 0, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value)


def seconds_of(value: Any) -> float:
    """A duration, at most a month."""
    return min(number_of(value) or 0.0, 2_600_000.0)


def moment_of(value: Any) -> float | None:
    """Seconds since the epoch of an ISO 8601 text (UTC where it names no zone) or a number of (milli)seconds."""
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
            found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    else:
        number = number_of(value)
        if number is None:
            return None
        found = number / 1000 if number > LATEST else number
    return found if math.isfinite(found) and EARLIEST <= found < LATEST else None


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def asked_in(message: str) -> str:
    """The question that a prompt repeats, or ""."""
    found = ASKED.search(message[:20_000])
    return found[1].strip() if found else ""
