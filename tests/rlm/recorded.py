"""A Recording made of the events that a run told: what a database would give back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlm.events import (
    CallFinished,
    CallQueued,
    CallStarted,
    CellDiffers,
    CellDone,
    Event,
    Note,
    ReplyDone,
    TurnStarted,
    Usage,
)
from rlm.recording import RecordedCall, RecordedCell, Recording, Reusable
from rlm.spec import Outcome


def recording_of(events: Sequence[Event], earlier: int = 0) -> Recording:
    """``earlier``: so many of the events are of the questions before the newest."""
    calls: dict[int, RecordedCall] = {}
    usage = Usage()
    cells = depth = 0
    before = 0
    for place, event in enumerate(events):
        if place == earlier:
            usage, before = Usage(), max(0, len(calls) - 1)
        match event:
            case CallQueued():
                depth = max(depth, event.depth)
                calls[event.call] = RecordedCall(
                    event.call, event.parent, event.cell, event.identity, event.model, queued_at=event.time
                )
            case CallStarted():
                calls[event.call] = replace(calls[event.call], started=True)
            case Note():
                calls[event.call] = replace(calls[event.call], notes=[*calls[event.call].notes, event.text])
            case CallFinished() if event.call == 1 and place < earlier:
                pass  # the root goes on
            case CallFinished():
                outcome = Outcome(event.status, event.reason, event.answer, event.answer_name, event.partial)
                calls[event.call] = replace(
                    calls[event.call], outcome=lambda outcome=outcome: outcome, finished_at=event.time
                )
            case TurnStarted():
                calls[event.call].cells[event.cell] = RecordedCell(event.cell, event.messages)
            case ReplyDone():
                usage = usage + event.usage
                cells += event.kind in ("code", "tool")
                _set(
                    calls, event, replied=True, kind=event.kind, reply=event.reply, reasoning=event.reasoning,
                    code=event.code, usage=event.usage, finish_reason=event.finish_reason,
                )  # fmt: skip
            case CellDone():
                _set(
                    calls, event, done=True, shown=event.shown, output=event.output, output_chars=event.output_chars,
                    error=event.error, killed=event.killed, final=event.final, seconds=event.seconds,
                    exchange=event.exchange,
                )  # fmt: skip
            case CellDiffers():
                _set(calls, event, differs=True)
    steps = [step for event in events if isinstance(event, CellDone) for step in event.exchange]
    notes = [tuple(json.loads(text)) for kind, _, text in steps if kind == "write"]
    if len(events) == earlier:
        usage, before = Usage(), max(0, len(calls) - 1)
    return Recording(calls.values(), usage=usage, cells=cells, depth=depth, notes=notes, calls_before=before)


def fork_of(events: Sequence[Event], cell: int, code: str | None = None, *, but: Sequence[int] = ()) -> Recording:
    """What a fork at a cell of the root starts from: the cell with other code, as it was (""), or not there at all.

    ``but``: numbers of calls that are not to be reused.
    """
    whole = recording_of(events)
    root = whole.calls[1]
    cells = {number: kept for number, kept in root.cells.items() if number < cell}
    if code is not None:
        of_then = root.cells[cell]
        cells[cell] = RecordedCell(
            cell, of_then.messages, True, of_then.kind, of_then.reply, of_then.reasoning, code or of_then.code,
            usage=of_then.usage, edited=bool(code), exchange=() if code else of_then.exchange,
        )  # fmt: skip
    below = {1: 0}
    for call in whole.calls.values():
        if call.parent:
            below[call.number] = (call.cell or 0) if call.parent == 1 else below[call.parent]
    kept = [replace(c, reused=True) for c in whole.calls.values() if 0 < below[c.number] < cell]
    depths = {e.call: e.depth for e in events if isinstance(e, CallQueued)}
    pool = {}
    for call in whole.calls.values():
        if below[call.number] >= cell and call.number not in but and call.outcome is not None:
            tree = [call.number]
            tree += [c.number for c in whole.calls.values() if c.parent in tree]
            leaf = next(e.kind for e in events if isinstance(e, CallQueued) and e.call == call.number) == "leaf"
            pool[call.identity] = Reusable(
                call.number, call.model, leaf, len(tree), max(depths[n] for n in tree), call.outcome
            )
    return Recording([replace(root, outcome=None, cells=cells), *kept], reusable=pool)


def _set(calls: dict[int, RecordedCall], event: Any, **fields: Any) -> None:
    cells = calls[event.call].cells
    cells[event.cell] = replace(cells[event.cell], **fields)


def tree(events: Sequence[Event]) -> dict[str, Any]:
    """What a run comes to, by identity: all but numbers, times and usage."""
    calls = {e.call: e for e in events if isinstance(e, CallQueued)}
    found: dict[str, Any] = {
        c.identity: {
            "parent": calls[c.parent].identity if c.parent else "", "cell": c.cell, "instruction": c.instruction,
            "depth": c.depth, "started": 0, "turns": {}, "end": [],
        }
        for c in calls.values()
    }  # fmt: skip
    for event in events:
        call = found[calls[event.call].identity]
        match event:
            case CallStarted():
                call["started"] += 1
            case TurnStarted():
                assert event.cell not in call["turns"], "a turn was told of twice"
                call["turns"][event.cell] = {"messages": [(m.role, m.content, m.extra) for m in event.messages]}
            case ReplyDone():
                assert "reply" not in call["turns"][event.cell], "a reply was told of twice"
                call["turns"][event.cell] |= {"reply": event.reply, "code": event.code, "kind": event.kind}
            case CellDone():
                assert "output" not in call["turns"][event.cell], "a cell was told of twice"
                call["turns"][event.cell] |= {"shown": event.shown, "output": event.output, "error": event.error}
                call["turns"][event.cell] |= {"killed": event.killed, "final": event.final}
                call["turns"][event.cell]["asked"] = sorted(i for kind, _, i in event.exchange if kind == "ask")
            case CallFinished():
                value = event.answer.python() if event.answer is not None else None
                call["end"].append((event.status, event.reason, value))
            case CellDiffers():
                call["turns"][event.cell]["differs"] = True
            case Note():
                call.setdefault("notes", []).append(event.text)
    return found
