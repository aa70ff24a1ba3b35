"""The limits of a run, with their names, units and defaults: the one place they are written."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


class LimitsError(ValueError):
    """A limit's name or value is wrong; the message says which, and what would be right."""


@dataclass(frozen=True)
class Limits:
    """What a run may use. None means no limit of that kind."""

    turns: int = 20  # a call
    depth: int = 2  # root 0; a call at this depth is a leaf
    calls: int = 500  # a run, the root included
    calls_in_flight: int = 8  # model requests under way at once, a run
    prompt_tokens: int | None = 3_000_000  # a run
    completion_tokens: int | None = 500_000  # a run
    cost: float | None = 2.0  # dollars, a run
    request_seconds: float = 300.0  # one request to the model
    cell_seconds: float = 60.0  # one cell, waiting for children not counted
    run_seconds: float = 600.0
    errors: int = 5  # consecutive cells that raised, a call
    shown_chars: int = 4_000  # of a cell's output that the model sees
    output_bytes: int = 1_000_000  # of a cell's output that is kept
    memory_mb: int = 2048  # one REPL
    reply_tokens: int = 8_192  # max_tokens of one request
    question_chars: int = 20_000

    @classmethod
    def of(cls, given: dict[str, Any]) -> Limits:
        """Make limits from a mapping of names to values; raises LimitsError naming what is wrong."""
        known = {f.name: f for f in fields(cls)}
        clean: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise LimitsError(f"there is no limit {name!r}; there are: {', '.join(sorted(known))}")
            optional = "None" in str(known[name].type)
            if value is None and optional:
                clean[name] = None
                continue
            whole = str(known[name].type).startswith("int")
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise LimitsError(f"the limit {name} must be a number, not {value!r}")
            if value in (float("inf"), float("-inf")) or (whole and value != int(value)):
                raise LimitsError(f"the limit {name} must be a {'whole ' if whole else 'finite '}number, not {value!r}")
            least = 0 if name in ("depth", "prompt_tokens", "completion_tokens", "cost") else 1 if whole else 0.01
            if value < least:
                raise LimitsError(f"the limit {name} must be at least {least}, not {value!r}")
            clean[name] = int(value) if whole else float(value)
        return cls(**clean)

    def as_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}
