"""Where a fork leaves the run it comes from: what it keeps, what it may reuse, and the rows it begins with.

The rows before the cut are copied when a worker takes the fork up; the ordinary replay does the rest (docs/decisions/0003).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Q

from analyses import copying
from analyses.models import ENDED, FAILURES, Call, Cell, EarlierAnswer, FollowUp, Run, Status
from analyses.recorder import LeaseLost
from analyses.texts import answer_of
from rlm.recording import Reusable
from rlm.spec import Outcome

EDIT, AGAIN, RETRY = "edit", "again", "retry"
Row = Call | Cell | FollowUp | EarlierAnswer
RUN_WIDE = "The run's limit"  # how the reason of a call begins that a limit of its run ended

_COLUMNS = ("pk", "number", "parent_number", "parent_cell", "depth", "kind", "identity", "model", "status", "reason")


class ForkLost(RuntimeError):
    """The run that this one was forked from is not there any more, or not as it was."""


@dataclass(frozen=True)
class _Known:
    """A call of the other run, in short."""

    pk: int
    number: int
    parent: int | None
    cell: int | None
    depth: int
    kind: str
    identity: str
    model: str
    status: str
    reason: str


class Plan:
    """The calls of the other run: those that go on, those that are kept, and those that may be reused."""

    def __init__(self, source: Run, fork: Mapping[str, Any], run: Run | None = None) -> None:
        self.source, self.fork = source, fork
        rows = Call.objects.filter(run=source).order_by("number").values_list(*_COLUMNS)
        self.calls = {row[1]: _Known(*row) for row in rows.iterator(chunk_size=5000)}
        self.open: dict[int, int] = {}  # call -> its cell at which it goes on
        number: int | None = int(fork["call"])
        cell = int(fork["cell"])
        while number is not None:
            if number not in self.calls:
                raise ForkLost(f"Run {source.number} has no call {number}.")
            self.open[number] = cell
            number, cell = self.calls[number].parent, self.calls[number].cell or 0
        self.kept: set[int] = set()
        below: dict[int, list[int]] = {}
        for call in self.calls.values():
            if call.parent is None:
                continue
            below.setdefault(call.parent, []).append(call.number)
            before = (
                call.parent in self.open and call.number not in self.open and (call.cell or 0) < self.open[call.parent]
            )
            if call.parent in self.kept or (before and call.status in ENDED):
                self.kept.add(call.number)
        self._below = below
        self._other_models = run is not None and run.child_model != source.child_model
        self._other_limits = run is not None and run.limits != source.limits

    def may_be_reused(self, call: _Known) -> bool:
        """Whether its result stands for the same request in the fork."""
        if call.number in self.open or call.number in self.kept or call.status not in ENDED:
            return False
        if call.status == Status.DONE:
            return call.number not in self.fork.get("retried", ())
        if call.status == Status.STOPPED or call.reason.startswith(RUN_WIDE):
            return False
        if self.fork["kind"] == RETRY:
            return call.number not in self.fork.get("retried", ())
        return not self.fork.get("again") and not (call.status == Status.LIMIT and self._other_limits)

    def offered(self) -> list[_Known]:
        return [call for call in self.calls.values() if call.identity and self.may_be_reused(call)]

    def pool(self) -> dict[str, Reusable]:
        """By identity, what may be reused."""
        return {call.identity: self._reusable(call) for call in self.offered()}

    def _reusable(self, call: _Known) -> Reusable:
        tree = [call.number]
        for number in tree:
            tree += self._below.get(number, ())
        return Reusable(
            number=call.number,
            model=call.model,
            leaf=call.kind == "leaf",
            calls=len(tree),
            depth=max(self.calls[number].depth for number in tree),
            outcome=partial(_outcome, call.pk),
            notes=partial(_files, [self.calls[number].pk for number in tree])
            if self.source.strategy == "codeact_files"
            else tuple,
            models_of_run=len(tree) == 1 or not self._other_models,
        )


def _outcome(pk: int) -> Outcome:
    """How a call of the other run ended. In a thread of the engine: it closes its connection."""
    try:
        row = Call.objects.get(pk=pk)
        return Outcome(row.status, row.reason, answer_of(row), row.answer_name, row.partial)  # type: ignore[arg-type]
    finally:
        connection.close()


def _files(keys: list[int]) -> list[tuple[str, str]]:
    from analyses.recordings import files_of

    try:
        return [note for part in copying.parts(keys) for note in files_of(Cell.objects.filter(call_id__in=part))]
    finally:
        connection.close()


# — the rows that a fork begins with —


def begin(run: Run) -> None:
    """Copy what comes before the cut. Raises ForkLost, or LeaseLost where the run is another worker's now."""
    source = run.forked_from
    if source is None:
        raise ForkLost("The run that this one was forked from has been deleted before it began.")
    plan = Plan(source, run.fork, run)
    now = time.time()
    rows: list[Row] = [*_going_on(run, plan, now), *_kept(run, plan, now), *_further(run, plan)]
    rows.sort(key=_as_begun(rows))
    for seq, row in enumerate(rows, run.seq + 1):
        row.born = seq
        if isinstance(row, Call | Cell):
            row.seq = seq
    follow_ups = [row for row in rows if isinstance(row, FollowUp)]
    calls = [row for row in rows if isinstance(row, Call)]
    cells = [row for row in rows if isinstance(row, Cell)]
    taken_over: list[Call | Cell] = [row for row in calls if row.reused_at is not None]
    fields = {
        "seq": run.seq + len(rows),
        "calls": len(calls),
        "cells": sum(cell.kind in copying.COUNTED for cell in cells),
        "follow_ups": len(follow_ups),
        "depth": max(call.depth for call in calls),
        "failed_calls": sum(call.status in FAILURES for call in calls),
        "reused": copying.added({}, [*taken_over, *cells]),
    }
    with transaction.atomic():
        if not Run.objects.filter(pk=run.pk, lease_token=run.lease_token, calls=0).update(**fields):
            raise LeaseLost(f"run {run.pk} is held by another worker")
        insert(calls, cells)
        FollowUp.objects.bulk_create(follow_ups)
        EarlierAnswer.objects.bulk_create(row for row in rows if isinstance(row, EarlierAnswer))
    for name, value in fields.items():
        setattr(run, name, value)


def _as_begun(rows: Iterable[Row]) -> Callable[[Row], tuple[float, ...]]:
    """As they began in the other run, parents first; what was asked further, and the answer before it, at the cell that followed.

    Not by when these were born there: calls and cells that came back from the archive are born anew.
    """
    rows = list(rows)
    after = {row.number: row.after_cell for row in rows if isinstance(row, FollowUp)}
    root = sorted((row.number, row.born) for row in rows if isinstance(row, Cell) and row.call_number == 1)

    def key(row: Row) -> tuple[float, ...]:
        if isinstance(row, Call | Cell):
            return (row.born, 1)
        asked = row.number + isinstance(row, EarlierAnswer)
        following = next((born for number, born in root if number > after[asked]), math.inf)
        return (following, 0, asked, isinstance(row, FollowUp))

    return key


def insert(calls: Iterable[Call], cells: Iterable[Cell]) -> None:
    """Write new rows of one run, parents before children."""
    calls = list(calls)
    keys: dict[int, int] = {}
    for depth in sorted({call.depth for call in calls}):
        level = [call for call in calls if call.depth == depth]
        for call in level:
            call.parent_id = keys[call.parent_number] if call.parent_number is not None else None
        Call.objects.bulk_create(level, batch_size=500)
        keys |= {call.number: call.pk for call in level}
    ready = list(cells)
    for cell in ready:
        cell.call_id = keys[cell.call_number]
    Cell.objects.bulk_create(ready, batch_size=500)


def _further(run: Run, plan: Plan) -> Iterable[FollowUp | EarlierAnswer]:
    """The follow-ups that the root call had been asked before the cut, and the answers before them."""
    for follow_up in FollowUp.objects.filter(run=plan.source, after_cell__lt=plan.open[1]):
        yield FollowUp(
            run=run, number=follow_up.number, question=follow_up.question, asked_by=run.created_by,
            asked_at=run.created_at, after_cell=follow_up.after_cell, limits=run.limits, born=follow_up.born,
        )  # fmt: skip
        yield copying.copy_row(EarlierAnswer.objects.get(run=plan.source, number=follow_up.number - 1), run)


def _kept(run: Run, plan: Plan, now: float) -> list[Call | Cell]:
    keys = [plan.calls[number].pk for number in sorted(plan.kept)]
    calls = [call for part in copying.parts(keys) for call in Call.objects.filter(pk__in=part)]
    copies = copying.copy_ended(run, calls, {number: number for number in plan.kept}, now)
    return copies


def _going_on(run: Run, plan: Plan, now: float) -> list[Call | Cell]:
    """The call that was forked and those above it, open again, with their cells up to the cut."""
    fork = plan.fork
    rows: list[Call | Cell] = []
    for call in Call.objects.filter(run=plan.source, number__in=list(plan.open)):
        last = plan.open[call.number]
        here = call.number == fork["call"]
        upto = last - 1 if here and fork["kind"] == AGAIN else last
        cells = [copying.copy_row(cell, run, reused=True) for cell in Cell.objects.filter(call=call, number__lte=upto)]
        for cell in cells:
            if cell.number == last:
                reopen(cell, plan, now, edited=here and fork["kind"] == EDIT, code=fork.get("code"))
                cell.children_total = int(not here)  # the one that goes on
        copied = copying.copy_row(
            call, run, status=Status.RUNNING, reason="", queued_at=now, started_at=now, finished_at=None, reused_at=None,
            answer_value=b"", answer_blob="", answer_display=None, answer_cut=False, answer_name="", answer_type="",
            answer_shape="", partial=False, turns=max((cell.number for cell in cells), default=0),
            notes=call.notes if upto else [],
        )  # fmt: skip
        _count(copied, cells)
        if here:
            copied.model = fork.get("model") or copied.model
            copied.instruction = str(fork.get("instruction", copied.instruction))[:20_000]
        rows += [copied, *cells]
    return rows


def reopen(cell: Cell, plan: Plan, now: float, *, edited: bool, code: str | None) -> None:
    """Make a cell one whose reply is there and whose code has not run."""
    if not cell.code:
        raise ForkLost(f"Cell {cell.call_number}.{cell.number} of run {plan.source.number} has no code to run.")
    # Where its code is as it was, what it asks for is answered in the order of that time.
    cell.exchange = [] if edited else _order(cell.exchange, plan)
    if edited and code is not None and code != cell.code:
        cell.code, cell.edited = code, True
    cell.status = Cell.Status.RUNNING
    # As if its reply had come just now: a cell lasts from its request to its end.
    later = now - (cell.replied_at or cell.started_at)
    cell.started_at, cell.replied_at = cell.started_at + later, now
    cell.first_token_at = cell.first_token_at + later if cell.first_token_at else None
    cell.shown = cell.output = cell.output_blob = cell.error = cell.killed = ""
    cell.output_chars = cell.shown_chars = cell.children_done = cell.children_failed = 0
    cell.seconds = cell.waited = 0.0
    cell.ended_at, cell.variables, cell.final, cell.replay_differs = None, [], False, False


def _order(exchange: list[list[Any]], plan: Plan) -> list[list[Any]]:
    """The requests and deliveries of a cell as far as they come again: not what followed on a result that is to be another."""
    known = {call.identity for call in plan.offered()}
    asked = {order: text for kind, order, text in exchange if kind == "ask"}
    steps: list[list[Any]] = []
    other = False
    for kind, order, text in exchange:
        if kind == "give" and asked.get(order) not in known:
            other = True
        elif kind == "give" or (kind == "ask" and not other):
            steps.append([kind, order, text])
    if other:  # a request that only followed on the other result is not waited for, nor is its answer held back
        orders = {order for kind, order, _ in steps if kind == "ask"}
        steps = [step for step in steps if step[1] in orders]
    return steps


def _count(call: Call, cells: list[Cell]) -> None:
    """A call's figures are those of its cells."""
    for name in (*copying.TOKENS, "reasoning_tokens"):
        setattr(call, name, sum(getattr(cell, name) for cell in cells))
    costs = [cell.cost for cell in cells]
    call.cost = None if None in costs else sum(cost or 0.0 for cost in costs)
    call.model_seconds = sum(max(0.0, (c.replied_at or c.ended_at or c.started_at) - c.started_at) for c in cells)
    call.exec_seconds = sum(max(0.0, c.seconds - c.waited) for c in cells)


# — what a person is told before —


@dataclass(frozen=True)
class Forecast:
    """What a fork would keep, reuse and ask anew."""

    cells: int  # run again without a model request
    kept: int  # calls taken over as they are, before the cut
    reusable: int  # calls after it whose results stand where they are asked for again
    anew: int  # calls after it that are asked again

    @property
    def after(self) -> int:
        return self.reusable + self.anew


def forecast(source: Run, fork: Mapping[str, Any]) -> Forecast:
    plan = Plan(source, fork)
    wanted = Q(pk__in=[])
    for number, last in plan.open.items():
        wanted |= Q(call_id=plan.calls[number].pk, number__lt=last)
    cells = Cell.objects.filter(wanted, kind__in=copying.COUNTED).aggregate(count=Count("pk"))["count"]
    offered = len(plan.offered())
    return Forecast(
        cells=cells + (fork["kind"] != AGAIN) + len(plan.open) - 1,
        kept=len(plan.kept),
        reusable=offered,
        anew=len(plan.calls) - len(plan.open) - len(plan.kept) - offered,
    )
