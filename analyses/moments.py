"""When what happened in a run: each call and cell with its times, as columns of small numbers, for the page's replay."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from typing import Any

from analyses.models import Call, Cell, Run
from analyses.worked import Clock

CELLS_MOST = 100_000  # of a larger run the first, in the order of their calls
_CALLS = ("number", "parent_number", "parent_cell", "queued_at", "started_at", "finished_at", "status")
_CELLS = ("call_number", "number", "started_at", "first_token_at", "replied_at", "ended_at", "status")
_USED = ("prompt_tokens", "completion_tokens", "cost")
_TIMES = {name: name.removesuffix("_at") for name in (*_CALLS, *_CELLS) if name.endswith("_at")}


def moments(run: Run) -> dict[str, Any]:
    """Columns for ``calls`` and ``cells``. Times are milliseconds from ``begin``; -1 stands for none, of costs for unknown.

    Costs are millionths of a dollar. The time between an answer and the next question is left out; ``further``: when
    follow-ups were asked.
    """
    calls = list(Call.objects.filter(run=run).order_by("number").values_list(*_CALLS))
    cells = Cell.objects.filter(run=run).order_by("call_number", "number").values_list(*_CELLS, *_USED)
    rows = list(cells[:CELLS_MOST])
    # As the timeline counts: from the root's start. What was asked before lies at 0.
    begin = next((row[4] for row in calls if row[1] is None and row[4]), None)
    if begin is None:
        return {"span": 0, "calls": {}, "cells": {}, "further": [], "cut": False}
    clock = Clock.of(run, ((row[1], row[2], row[5]) for row in rows if row[0] == 1))
    found = {
        "calls": _columns(_CALLS, calls, begin, clock),
        "cells": _columns(_CELLS, rows, begin, clock)
        | {
            "tokens": [row[7] + row[8] for row in rows],
            "cost": [-1 if row[9] is None else round(1e6 * row[9]) for row in rows],
        },
    }
    times = (column for part in found.values() for name, column in part.items() if name in _TIMES.values())
    span = max(max(column, default=0) for column in times)
    return {"span": span, **found, "further": _further(run, found["cells"], span), "cut": len(rows) == CELLS_MOST}


def _further(run: Run, cells: dict[str, list[Any]], span: int) -> list[int]:
    """When each follow-up was asked: as the time before it is left out, when its first turn began."""
    asked = run.follow_up_set.order_by("number").values_list("after_cell", flat=True) if run.follow_ups else ()
    began = [row[1:] for row in zip(cells["call"], cells["number"], cells["started"], strict=True) if row[0] == 1]
    return [next((start for number, start in began if number > after), span) for after in asked]


def _columns(names: Sequence[str], rows: Iterable[Sequence[Any]], begin: float, clock: Clock) -> dict[str, list[Any]]:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    made: dict[str, list[Any]] = {}
    for name, column in zip(names, columns, strict=False):
        if name in _TIMES:
            made[_TIMES[name]] = [
                -1 if time is None else max(0, round(1000 * (clock(time) - begin))) for time in column
            ]
        else:
            made[name.removesuffix("_number")] = [0 if value is None else value for value in column]
    return made


def packed(run: Run) -> bytes:
    """The same as gzipped JSON: numbers that grow slowly become a tenth."""
    return gzip.compress(json.dumps(moments(run), separators=(",", ":")).encode(), compresslevel=5, mtime=0)
