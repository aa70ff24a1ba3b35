"""The limits of one REPL and its cells: every name, unit and default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

LOWEST = {"cell_seconds": 0.1, "cpu_seconds": 0.1, "grace_seconds": 0.05, "memory_mb": 256, "open_files": 16}


@dataclass(frozen=True)
class ReplLimits:
    """Limits of one REPL. Seconds of a cell do not run while it waits for the host."""

    cell_seconds: float = 60.0  # wall clock of a cell; then it is interrupted, its names survive
    grace_seconds: float = 1.0  # from the first interrupt to the second, and from that to the kill
    cpu_seconds: float = 60.0  # processor time of a cell
    call_cpu_seconds: float = 3600.0  # processor time of the whole REPL
    memory_mb: int = 2048  # address space of the REPL, beside its context
    threads: int = 64  # threads at once
    open_files: int = 64
    output_bytes: int = 200_000  # of a cell's output, kept: head and tail
    output_stop_bytes: int = 1 << 30  # of a cell's output, printed; then it is interrupted
    value_bytes: int = 256 << 20  # of one value that crosses
    requests: int = 10_000  # to the host, in one cell
    start_seconds: float = 60.0  # until the REPL is ready, its context decoded

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ValueError(f"{field.name} must be a {'whole ' if whole else ''}number, not {value!r}")
            if not LOWEST.get(field.name, 1) <= value < 1 << 50:
                raise ValueError(f"{field.name} must be at least {LOWEST.get(field.name, 1)}, not {value!r}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ReplLimits:
        """From names and numbers; raises ValueError for a name there is none of."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ValueError(f"there is no limit {unknown[0]!r}; there are {', '.join(sorted(known))}")
        return cls(**given)
