"""Rows of one run, copied into another: blobs go by their content, so that both name the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from analyses.models import Call, Cell, EarlierAnswer, Run

R = TypeVar("R", Call, Cell, EarlierAnswer)
COUNTED = (Cell.Kind.CODE, Cell.Kind.TOOL)
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
AT_ONCE = 400  # numbers in one query


def copy_row(row: R, run: Run, **changes: Any) -> R:
    """A row that is not saved yet, with everything that the other holds but its places in tables."""
    values = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields if not f.primary_key}
    values |= {"run_id": run.pk} | changes
    if isinstance(row, Call):
        values["parent_id"] = None
    elif isinstance(row, Cell):
        values["call_id"] = None
    return type(row)(**values)


def subtree(run_id: int, number: int) -> list[Call]:
    """A call with all below it, in the order of their numbers."""
    level = list(Call.objects.filter(run_id=run_id, number=number))
    found = list(level)
    while level:
        keys = [call.pk for call in level]
        level = [call for part in parts(keys) for call in Call.objects.filter(parent_id__in=part)]
        found += level
    return sorted(found, key=lambda call: call.number)


def cells_of(calls: Iterable[Call]) -> list[Cell]:
    keys = [call.pk for call in calls]
    return [cell for part in parts(keys) for cell in Cell.objects.filter(call_id__in=part).order_by("call", "number")]


def parts(keys: Sequence[int]) -> Iterable[Sequence[int]]:
    return (keys[at : at + AT_ONCE] for at in range(0, len(keys), AT_ONCE))


def copy_ended(run: Run, calls: Sequence[Call], numbers: Mapping[int, int], at: float) -> list[Call | Cell]:
    """Copy calls that have ended, with their cells, under other numbers: parents first, a call's cells after it."""
    by_call: dict[int, list[Cell]] = {}
    for cell in cells_of(calls):
        by_call.setdefault(cell.call_number, []).append(cell)
    copies: list[Call | Cell] = []
    for call in calls:
        number = numbers[call.number]
        parent = numbers.get(call.parent_number or 0, call.parent_number)
        copies.append(copy_row(call, run, number=number, parent_number=parent, reused_at=at))
        copies += [copy_row(cell, run, call_number=number, reused=True) for cell in by_call.get(call.number, ())]
    return copies


def added(reused: Mapping[str, Any], rows: Iterable[Call | Cell]) -> dict[str, Any]:
    """What a run has taken over, with these rows: calls that are whole, and cells whoever's they are."""
    found: dict[str, Any] = {"calls": 0, "cells": 0, "cost": 0.0} | dict.fromkeys(TOKENS, 0) | dict(reused)
    for row in rows:
        if isinstance(row, Call):
            found["calls"] += 1
            continue
        found["cells"] += row.kind in COUNTED
        for name in TOKENS:
            found[name] += getattr(row, name)
        found["cost"] = None if found["cost"] is None or row.cost is None else found["cost"] + row.cost
    return found
