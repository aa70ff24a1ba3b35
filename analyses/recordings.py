"""The rows of a run as the engine replays them: what was told, answered and computed before its worker died or let go."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

from django.db.models import QuerySet, Sum

from analyses import blobs
from analyses.forking import Plan
from analyses.models import ENDED, Call, Cell, Run
from analyses.texts import answer_of, clean
from analyses.worked import seconds_uncounted
from rlm.events import Message, Usage
from rlm.recording import RecordedCall, RecordedCell, Recording, Reusable
from rlm.spec import Outcome


def recording_of(run: Run) -> Recording:
    """Read a run's record: every call, and the cells of those that are open."""
    rows = list(Call.objects.filter(run=run).defer("answer_display", "schema").order_by("number"))
    calls = {row.number: _call(row) for row in rows}
    read = cache(_blob)
    still_open = [row.pk for row in rows if not row.ended]
    for start in range(0, len(still_open), 500):
        for cell in Cell.objects.filter(call__in=still_open[start : start + 500]).defer("variables"):
            calls[cell.call_number].cells[cell.number] = _cell(cell, read)
    if run.fork:  # a person may have given them another one than their parent asked with, here or before that
        for row in rows:
            if not row.ended and row.parent_number is not None:
                calls[row.number] = replace(calls[row.number], instruction=row.instruction)
    follow_up = run.newest_follow_up()
    used = follow_up or run  # each question has the limits anew
    cells = Cell.objects.filter(run=run, reused=False, born__gt=follow_up.born if follow_up else 0)
    known_cost = cells.aggregate(sum=Sum("cost"))["sum"] or 0.0
    return Recording(
        calls.values(),
        usage=Usage(used.prompt_tokens, used.completion_tokens, used.cached_tokens, cost=used.cost),
        known_cost=known_cost,
        seconds=used.seconds + seconds_uncounted(run),
        cells=used.cells,
        depth=run.depth,
        clean=clean,
        notes=files_of(Cell.objects.filter(run=run)) if run.strategy == "codeact_files" else (),
        reusable=_reusable(run, {row.identity for row in rows}),
        calls_before=sum(not call.reused for call in calls.values()) - follow_up.calls - 1 if follow_up else 0,
    )


def _reusable(run: Run, here: set[str]) -> dict[str, Reusable]:
    """The calls of the run that this one was forked from, less those that it has already.

    That run may have gone to the archive since this one had ended; a follow-up goes on without it.
    """
    source = run.forked_from
    if source is None or source.archived or not run.fork:
        return {}
    pool = Plan(source, run.fork, run).pool()
    return {identity: found for identity, found in pool.items() if identity not in here}


def files_of(cells: QuerySet[Cell]) -> list[tuple[str, str]]:
    """What these cells wrote to the run's files, in order."""
    found = []
    for exchange in cells.order_by("ended_at").values_list("exchange", flat=True):
        found += [json.loads(text) for kind, _, text in exchange if kind == "write"]
    return [(name, text) for name, text in found]


def _call(row: Call) -> RecordedCall:
    return RecordedCall(
        number=row.number,
        parent=row.parent_number,
        cell=row.parent_cell,
        identity=row.identity,
        model=row.model,
        started=row.started_at is not None,
        outcome=partial(_outcome, row) if row.status in ENDED else None,
        notes=row.notes,
        # What was taken over was asked for and given in one moment of this run.
        queued_at=row.reused_at or row.queued_at,
        finished_at=row.reused_at or row.finished_at,
        reused=row.reused_at is not None,
    )


def _outcome(row: Call) -> Outcome:
    return Outcome(row.status, row.reason, answer_of(row), row.answer_name, row.partial)  # type: ignore[arg-type]


def _cell(row: Cell, read: Callable[[str], str]) -> RecordedCell:
    replied = row.replied_at is not None
    code = row.kind in (Cell.Kind.CODE, Cell.Kind.TOOL)
    return RecordedCell(
        number=row.number,
        messages=[_message(entry, read) for entry in row.messages],
        replied=replied,
        kind=row.kind,  # type: ignore[arg-type]
        reply=row.reply,
        reasoning=row.reasoning,
        code=row.code,
        finish_reason=row.finish_reason or "stop",
        usage=Usage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.reasoning_tokens, row.cost),
        done=replied and code and row.status in (Cell.Status.DONE, Cell.Status.ERROR),
        shown=row.shown,
        output=read(row.output_blob) if row.output_blob else row.output,
        output_chars=row.output_chars,
        error=row.error,
        killed=row.killed,
        final=row.final,
        seconds=row.seconds,
        differs=row.replay_differs,
        edited=row.edited,
        exchange=[(str(kind), int(order), str(text)) for kind, order, text in row.exchange],
    )


def _message(entry: dict[str, Any], read: Callable[[str], str]) -> Message:
    content = read(entry["blob"]) if "blob" in entry else entry["content"]
    extra = {k: v for k, v in entry.items() if k not in ("role", "content", "blob", "chars", "head")}
    return Message(entry["role"], content, extra)


def _blob(sha: str) -> str:
    return blobs.read(sha).decode()
