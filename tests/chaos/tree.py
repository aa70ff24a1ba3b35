"""A run as two of them are compared: by identity, without seq, number, times and usage."""

from __future__ import annotations

from typing import Any

from analyses.models import Call, Cell, Run
from analyses.texts import answer_of

CALL = (
    "parent_cell", "order", "depth", "kind", "strategy", "model", "dialect", "title", "instruction", "schema", "context_type",
    "context_shape", "context_chars", "context_digest", "status", "reason", "turns", "partial", "answer_name", "answer_type",
    "answer_shape",
)  # fmt: skip
CELL = (
    "kind", "status", "messages", "reply", "reasoning", "code", "shown", "output", "output_blob", "output_chars", "shown_chars",
    "error", "killed", "final", "finish_reason", "replay_differs", "variables", "children_total", "children_done",
    "children_failed",
)  # fmt: skip


def tree(run: Run, *, notes: bool = True) -> dict[str, Any]:
    """Every call by its identity, with its cells by their number."""
    calls = {call.number: call for call in Call.objects.filter(run=run)}
    found: dict[str, Any] = {}
    for call in calls.values():
        answer = answer_of(call)
        found[call.identity] = {
            "parent": calls[call.parent_number].identity if call.parent_number else "",
            "answer": answer.python() if answer is not None else None,
            **{name: getattr(call, name) for name in CALL},
            **({"notes": call.notes} if notes else {}),
        }
    for cell in Cell.objects.filter(run=run):
        found[calls[cell.call_number].identity][cell.number] = {
            **{name: getattr(cell, name) for name in CELL},
            "asked": sorted(text for kind, _, text in cell.exchange if kind == "ask"),
        }
    return found


def difference(expected: Any, found: Any, at: str = "") -> str:
    """The first place where two trees differ, or ""."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            if key not in expected or key not in found:
                return f"{at}/{key} is {'missing' if key in expected else 'new'}"
            if said := difference(expected[key], found[key], f"{at}/{key}"):
                return said
        return ""
    return "" if expected == found else f"{at}: {str(expected)[:120]!r} became {str(found)[:120]!r}"
