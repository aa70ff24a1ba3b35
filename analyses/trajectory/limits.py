"""How much of a log is read, and what a refusal says: the one place where an import's limits are written."""

from __future__ import annotations

from dataclasses import dataclass


class LogRefused(ValueError):
    """A file is not taken as a run; the message says why, in a sentence for a person."""


@dataclass(frozen=True)
class ImportLimits:
    """What one file may hold. Sizes are bytes in the file, texts are characters."""

    file_bytes: int = 512 << 20
    line_bytes: int = 16 << 20  # parsed, JSON takes up to twenty times as much
    lines: int = 2_000_000
    runs: int = 100  # in one file
    calls: int = 20_000  # a run
    cells: int = 50_000  # a run
    depth: int = 40  # calls below each other
    text_chars: int = 1_000_000  # of one reply, piece of code or message; a longer one is cut, and says so
    json_chars: int = 2_000_000  # of one structured field: variables, schema, what is shown of an answer
    blob_bytes: int = 256 << 20


LIMITS = ImportLimits()
