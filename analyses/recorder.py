"""The only writer of Call and Cell rows: events in, rows out, each write taking its run's next seq.

One thread a process writes for all its runs. It takes whatever has gathered since its last transaction,
so a lone turn is written at once and a hundred parallel children share a commit (design.md, decisions 1 and 4).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from django.conf import settings
from django.db import DataError, IntegrityError, close_old_connections, connection, transaction
from django.db import Error as DatabaseError
from django.db.models import Q
from django.utils import timezone

from analyses import copying, outage
from analyses.leases import WRITER, expiry
from analyses.live import LiveRun, left_over
from analyses.models import ENDED, FAILURES, Call, Cell, FollowUp, Run, Status
from analyses.texts import Unkept, bounded_answer, clean, clean_json, stored_messages, stored_output
from analyses.worked import seconds_uncounted
from rlm import events
from rlm.engine import RunResult

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_SECONDS = 60.0  # how long a busy or cut-off database is tried again before the runs at hand are given up
OPEN_CELLS = (Cell.Status.WRITING, Cell.Status.RUNNING, Cell.Status.WAITING)
REFUSALS = (DataError, IntegrityError)  # no other try of the same ends otherwise
CHECK_SECONDS = 1.0  # a lease that was checked so lately is not checked again where nothing is to be written


class LeaseLost(RuntimeError):
    """Another worker holds this run now, or its rows are gone: this process may not write to it any more."""


@dataclasses.dataclass(frozen=True)
class LetGo:
    """The run is to be taken up again from its rows: by any worker (queued), or when a person says so (paused).

    With a ``reason`` it was not a person who paused it.
    """

    status: str
    reason: str = ""


class RunRecord:
    """The rows of one run while it is executed here. Called with events on the loop, it is the engine's ``Emit``."""

    def __init__(
        self, run: Run, writer: Writer, *, live: LiveRun | None = None, tap: Callable[[Any], None] | None = None
    ):
        self.run = run
        self.token = run.lease_token
        self.live = live
        self.lost: Exception | None = None
        self._tap = tap
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._unwritten = 0  # events put and not yet durable
        self._checked = 0.0  # monotonic: the lease was ours
        # Owned by the writer's thread from here on.
        self._calls: dict[int, Call] = {}
        self._cells: dict[tuple[int, int], Cell] = {}
        self._born: list[Call | Cell] = []  # in the order of their events: parents first
        self._changed: dict[tuple[type, int, int], tuple[Call | Cell, set[str]]] = {}
        self._run_fields: set[str] = set()
        self._follow_up: FollowUp | None = None  # the question that is being answered, if it is not the run's own
        self._follow_up_fields: set[str] = set()
        self._over: list[tuple[int, int, Iterable[str]]] = []  # live texts that rows now hold
        self._seq = run.seq
        self._begun = self._renewed = time.monotonic()

    # — on the loop —

    def __call__(self, event: events.Event) -> None:
        if self._tap:
            self._tap(event)
        match event:
            case events.ReplyDelta():
                if self.live:
                    if event.restart:
                        self.live.drop(event.call, event.cell, ("reply", "reasoning"))
                    if event.text:
                        self.live.append(event.call, event.cell, "reply", event.text)
                    if event.reasoning:
                        self.live.append(event.call, event.cell, "reasoning", event.reasoning)
            case events.OutputDelta():
                if self.live:
                    self.live.append(event.call, event.cell, "output", event.text)
            case _:
                self._unwritten += 1
                self._writer.put(self, event, None)

    async def commit(self) -> None:
        """Return when every event so far is durable. Raises LeaseLost."""
        if self.lost:
            raise self.lost
        if not self._unwritten and time.monotonic() - self._checked < CHECK_SECONDS:
            return
        while True:
            done = self._loop.create_future()
            self._writer.put(self, None, done)
            await done
            if time.monotonic() - self._checked < settings.LEASE_SECONDS / 4:
                return
            # This process has hung since the lease was looked at: whose it is now nobody knows.

    async def finish(self, result: RunResult | LetGo) -> None:
        """Write the run's end, or that it is let go of, and give the lease back. Raises LeaseLost."""
        self._unwritten += 1
        self._writer.put(self, result, None)
        await self.commit()
        if self.live:
            await self.live.close()

    def _written(self, when: float, count: int, over: Sequence[tuple[int, int, Iterable[str]]]) -> None:
        self._unwritten -= count
        self._checked = when
        if self.live:
            for call, cell, whats in over:
                self.live.drop(call, cell, whats)
            self.live.advance()

    # — before the first event: on any thread —

    def take_up(self) -> None:
        """Go on with the rows that are there: those of open calls, and their cells that are not over."""
        self._follow_up = self.run.newest_follow_up()
        self._calls = {call.number: call for call in Call.objects.filter(run=self.run).exclude(status__in=ENDED)}
        # A request that was cut off goes out once more, if it was the newest turn of its call.
        cells = Cell.objects.filter(Q(status__in=OPEN_CELLS) | Q(replied_at=None), run=self.run)
        self._cells = {
            (cell.call_number, cell.number): cell
            for cell in cells
            if cell.call_number in self._calls
            and (cell.replied_at or cell.number == self._calls[cell.call_number].turns)
        }
        for cell in self._cells.values():
            if cell.status == Cell.Status.STOPPED:
                self._set(cell, status=Cell.Status.WRITING, ended_at=None)

    def has_worked(self, seconds: float) -> None:
        """Count time that passed before this process took the run up, for the question that is being answered."""
        if self._follow_up is not None:
            self._follow_up.seconds += seconds
            FollowUp.objects.filter(pk=self._follow_up.pk).update(seconds=self._follow_up.seconds)

    # — on the writer's thread: memory first —

    def apply(self, event: events.Event | RunResult | LetGo) -> None:
        """Change the rows in memory as this event says."""
        match event:
            case events.CallQueued():
                self._call_queued(event)
            case events.CallReused():
                self._call_reused(event)
            case events.CallStarted():
                self._set(self._calls[event.call], status=Status.RUNNING, started_at=event.time)
            case events.TurnStarted():
                self._turn_started(event)
            case events.ReplyDone():
                self._reply_done(event)
            case events.ReplyCut():
                self._reply_cut(event)
            case events.CellWaiting():
                state = Cell.Status.WAITING if event.waiting else Cell.Status.RUNNING
                self._set(self._cells[event.call, event.cell], status=state)
                self._set(self._calls[event.call], status=Status.WAITING if event.waiting else Status.RUNNING)
            case events.CellDone():
                self._cell_done(event)
            case events.CallFinished():
                self._call_finished(event)
            case events.Note():
                call = self._calls[event.call]
                self._set(call, notes=[*call.notes, clean(event.text)[:500]][-50:])
            case events.CellDiffers():
                self._set(self._cell_of(event.call, event.cell), replay_differs=True)
            case RunResult():
                self._run_finished(event)
            case LetGo():
                self._set_run(status=event.status, lease_token="", lease_expires_at=None)
                if event.reason:
                    self._set_run(reason=clean(event.reason), pause_requested_at=timezone.now())

    def _set(self, row: Call | Cell, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(row, name, value)
        if row._state.adding:
            return  # a newborn is inserted whole
        key = (type(row), row.number, row.call_number if isinstance(row, Cell) else 0)
        self._changed.setdefault(key, (row, set()))[1].update(fields)

    def _add(self, row: Call | Cell | Run | FollowUp, usage: events.Usage, *names: str) -> None:
        fields: dict[str, Any] = {name: getattr(row, name) + getattr(usage, name) for name in names}
        fields["cost"] = None if row.cost is None or usage.cost is None else row.cost + usage.cost
        if isinstance(row, Run):
            self._set_run(**fields)
        elif isinstance(row, FollowUp):
            self._set_follow_up(**fields)
        else:
            self._set(row, **fields)

    def _set_run(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self.run, name, value)
        self._run_fields.update(fields)

    def _set_follow_up(self, **fields: Any) -> None:
        assert self._follow_up is not None
        for name, value in fields.items():
            setattr(self._follow_up, name, value)
        self._follow_up_fields.update(fields)

    def _call_queued(self, event: events.CallQueued) -> None:
        call = Call(
            run=self.run,
            number=event.call,
            parent_number=event.parent,
            parent_cell=event.cell,
            order=event.order,
            depth=event.depth,
            kind=event.kind,
            identity=event.identity,
            strategy=event.strategy,
            model=event.model[:120],
            dialect=event.dialect,
            title=clean(event.title)[:200],
            instruction=clean(event.instruction)[:20_000],
            schema=clean_json(event.schema),
            context_type=clean(event.context_type)[:80],
            context_shape=clean(event.context_shape)[:160],
            context_chars=event.context_chars,
            context_digest=event.context.digest,
            queued_at=event.time,
        )
        self._calls[event.call] = call
        self._born.append(call)
        self._set_run(calls=self.run.calls + 1, depth=max(self.run.depth, event.depth))
        if self._follow_up is not None:
            self._set_follow_up(calls=self._follow_up.calls + 1)
        if event.parent is not None and event.cell is not None:
            cell = self._cell_of(event.parent, event.cell)
            self._set(cell, children_total=cell.children_total + 1)

    def _call_reused(self, event: events.CallReused) -> None:
        """Copy a call of the run that this one was forked from, with all below it, as it ended there."""
        source = self.run.forked_from_id
        assert source is not None
        calls: list[Call] = patiently(lambda: copying.subtree(source, event.source))
        numbers = {call.number: event.call + at for at, call in enumerate(calls)}
        rows = patiently(lambda: copying.copy_ended(self.run, calls, numbers, event.time))
        top = rows[0]
        assert isinstance(top, Call)
        top.parent_number, top.parent_cell, top.order = event.parent, event.cell, event.order
        self._born.extend(rows)
        self._set_run(
            calls=self.run.calls + len(calls),
            cells=self.run.cells + sum(isinstance(row, Cell) and row.kind in copying.COUNTED for row in rows),
            depth=max(self.run.depth, *(call.depth for call in calls)),
            failed_calls=self.run.failed_calls + sum(call.status in FAILURES for call in calls),
            reused=copying.added(self.run.reused, rows),
        )
        cell = self._cell_of(event.parent, event.cell)
        counted = "children_done" if top.status == Status.DONE else "children_failed"
        self._set(cell, **{"children_total": cell.children_total + 1, counted: getattr(cell, counted) + 1})

    def _cell_of(self, call: int, number: int) -> Cell:
        """A cell; one that is over is asked for again only where its replay strays from the record."""
        if (call, number) in self._cells:
            return self._cells[call, number]
        key = (Cell, number, call)
        changed = self._changed.get(key)
        if changed is not None and isinstance(changed[0], Cell):
            return changed[0]
        return Cell.objects.defer("messages", "output", "variables").get(run=self.run, call_number=call, number=number)

    def _progress(self) -> None:
        """Something new: whoever takes the run up again does not try in vain."""
        if self.run.attempts:
            self._set_run(attempts=0)

    def _turn_started(self, event: events.TurnStarted) -> None:
        call = self._calls[event.call]
        cell = Cell(
            run=self.run,
            call_number=event.call,
            number=event.cell,
            messages=stored_messages(event.messages),
            started_at=event.time,
        )
        self._cells[event.call, event.cell] = cell
        self._born.append(cell)
        self._set(call, turns=event.cell)

    def _reply_done(self, event: events.ReplyDone) -> None:
        call, cell = self._calls[event.call], self._cells[event.call, event.cell]
        self._progress()
        runs_code = event.kind in (Cell.Kind.CODE, Cell.Kind.TOOL)
        self._set(
            cell,
            kind=event.kind,
            status=Cell.Status.RUNNING if runs_code else Cell.Status.DONE,
            reply=clean(event.reply),
            reasoning=clean(event.reasoning),
            code=clean(event.code),
            finish_reason=clean(event.finish_reason)[:20],
            first_token_at=event.first_token,
            replied_at=event.time,
        )
        if not runs_code:
            self._set(cell, ended_at=event.time)
        self._spent(call, cell, event.usage, event.time)
        if runs_code:
            self._set_run(cells=self.run.cells + 1)
            if self._follow_up is not None:
                self._set_follow_up(cells=self._follow_up.cells + 1)
        self._over.append((event.call, event.cell, ("reply", "reasoning")))

    def _spent(self, call: Call, cell: Cell, usage: events.Usage, now: float) -> None:
        """Count a request at its cell, its call and the run."""
        tokens = ("prompt_tokens", "completion_tokens", "cached_tokens")
        self._add(cell, usage, *tokens, "reasoning_tokens")
        self._add(call, usage, *tokens, "reasoning_tokens")
        self._set(call, model_seconds=call.model_seconds + max(0.0, now - cell.started_at))
        self._add(self.run, usage, *tokens)
        if self._follow_up is not None:
            self._add(self._follow_up, usage, *tokens)

    def _reply_cut(self, event: events.ReplyCut) -> None:
        call, cell = self._calls[event.call], self._cells.pop((event.call, event.cell))
        self._set(
            cell,
            status=Cell.Status.STOPPED,
            reply=clean(event.reply),
            reasoning=clean(event.reasoning),
            ended_at=event.time,
        )
        self._spent(call, cell, event.usage, event.time)
        self._over.append((event.call, event.cell, ("reply", "reasoning")))

    def _cell_done(self, event: events.CellDone) -> None:
        call, cell = self._calls[event.call], self._cells.pop((event.call, event.cell))
        self._progress()
        output, blob = stored_output(event.output)
        self._set(
            cell,
            status=Cell.Status.ERROR if event.error or event.killed else Cell.Status.DONE,
            shown=clean(event.shown),
            output=output,
            output_blob=blob,
            output_chars=event.output_chars,
            shown_chars=event.shown_chars,
            error=clean(event.error),
            killed=event.killed,
            final=event.final,
            seconds=event.seconds,
            waited=event.waited,
            ended_at=event.time,
            variables=clean_json(list(event.variables)),
            exchange=[list(step) for step in event.exchange],
        )
        self._set(call, exec_seconds=call.exec_seconds + max(0.0, event.seconds - event.waited), status=Status.RUNNING)
        self._over.append((event.call, event.cell, ("output",)))

    def _call_finished(self, event: events.CallFinished) -> None:
        call = self._calls.pop(event.call)
        self._set(
            call,
            status=event.status,
            reason=clean(event.reason),
            finished_at=event.time,
            partial=event.partial,
            **bounded_answer(event.answer, event.answer_name),
        )
        for key in [key for key in self._cells if key[0] == event.call]:
            cell = self._cells.pop(key)
            if cell.status in OPEN_CELLS:
                self._set(cell, status=Cell.Status.STOPPED, ended_at=event.time)
                self._over.append((*key, ("reply", "reasoning", "output")))
        if event.status in FAILURES:
            self._set_run(failed_calls=self.run.failed_calls + 1)
        self._count_child(call)

    def _count_child(self, call: Call) -> None:
        """Count a call that has ended at the cell that asked for it."""
        if call.parent_number is not None and (cell := self._cells.get((call.parent_number, call.parent_cell or 0))):
            counted = "children_done" if call.status == Status.DONE else "children_failed"
            self._set(cell, **{counted: getattr(cell, counted) + 1})

    def _run_finished(self, result: RunResult) -> None:
        answer = bounded_answer(result.answer, result.answer_name)  # first: it may not be kept
        worked = time.monotonic() - self._begun  # whatever became of the clock meanwhile
        self._close_rows(result)
        if self._follow_up is not None:
            self._set_follow_up(seconds=self._follow_up.seconds + worked)
        self._set_run(
            status=result.status,
            reason=clean(result.reason),
            partial=result.partial,
            finished_at=timezone.now(),
            seconds=self.run.seconds + worked,
            lease_token="",
            lease_expires_at=None,
            **answer,
        )

    def _close_rows(self, result: RunResult) -> None:
        """No row outlives its run: one that could not even be taken up again leaves calls open."""
        now = time.time()
        if result.status in FAILURES:
            self._set_run(failed_calls=self.run.failed_calls + len(self._calls))
        for number in sorted(self._calls, reverse=True):
            call = self._calls.pop(number)
            self._set(call, status=result.status, reason=clean(result.reason), finished_at=now)
            self._count_child(call)
        for cell in self._cells.values():
            if cell.status in OPEN_CELLS:
                self._set(cell, status=Cell.Status.STOPPED, ended_at=now)
        self._cells.clear()

    # — on the writer's thread: the database —

    def write(self) -> None:
        """Write what has changed, inside the writer's transaction. Raises LeaseLost where the lease is another's."""
        seq = self._seq
        for row in self._born:
            seq += 1
            row.born = row.seq = seq
        changed = list(self._changed.values())
        for row, _ in changed:
            seq += 1
            row.seq = seq
        if seq == self._seq and self._run_fields:
            seq += 1  # the run's own line changed: that is a write too
        self.run.seq = seq
        fields = {name: getattr(self.run, name) for name in self._run_fields} | {"seq": seq}
        now = time.monotonic()
        if now - self._renewed > settings.LEASE_SECONDS / 5 and "lease_expires_at" not in fields:
            fields["lease_expires_at"] = expiry()  # a run that writes needs no renewals beside
            self._renewed = now
        if not Run.objects.filter(pk=self.run.pk, lease_token=self.token).update(**fields):
            raise LeaseLost(f"run {self.run.pk} is held by another worker")
        if self._follow_up is not None and self._follow_up_fields:
            fields = {name: getattr(self._follow_up, name) for name in self._follow_up_fields}
            FollowUp.objects.filter(pk=self._follow_up.pk).update(**fields)
        calls = [row for row in self._born if isinstance(row, Call)]
        born: dict[int, int] = {}
        for depth in sorted({call.depth for call in calls}):
            level = [call for call in calls if call.depth == depth]
            for call in level:
                if call.parent_number is not None:
                    call.parent_id = self._pk_of(call.parent_number, born)
            Call.objects.bulk_create(level)
            born |= {call.number: call.pk for call in level}
        cells = [row for row in self._born if isinstance(row, Cell)]
        for cell in cells:
            cell.call_id = self._pk_of(cell.call_number, born)
        Cell.objects.bulk_create(cells)
        for row, names in changed:
            type(row).objects.filter(pk=row.pk).update(seq=row.seq, **{name: getattr(row, name) for name in names})

    def _pk_of(self, number: int, born: dict[int, int]) -> int:
        """A call's primary key; one that has already ended is out of memory but not out of the table."""
        if (call := self._calls.get(number)) and call.pk:
            return call.pk
        if number in born:
            return born[number]
        return Call.objects.values_list("pk", flat=True).get(run=self.run, number=number)

    def undo(self) -> None:
        """The transaction did not hold: what was inserted in it is not there."""
        for row in self._born:
            row.pk, row._state.adding = None, True
        self.run.seq = self._seq
        self._renewed = 0.0

    def wrote(self) -> list[tuple[int, int, Iterable[str]]]:
        """The transaction held: start afresh. Returns the live texts that rows now hold."""
        self._seq = self.run.seq
        over, self._over = self._over, []
        self._born.clear()
        self._changed.clear()
        self._run_fields.clear()
        self._follow_up_fields.clear()
        return over


@dataclasses.dataclass
class _Put:
    record: RunRecord
    event: Any
    done: asyncio.Future[None] | None


class Writer:
    """The thread that writes. ``close`` returns when all that was put has been written."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=WRITER, daemon=True)
        self._thread.start()

    def put(self, record: RunRecord, event: Any, done: asyncio.Future[None] | None) -> None:
        self._queue.put(_Put(record, event, done))

    def close(self, timeout: float = 2.0) -> None:
        self._queue.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        open_ = True
        while open_:
            batch = [self._queue.get()]
            while True:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            open_ = None not in batch
            try:
                self._write([put for put in batch if put is not None])
            except Exception:  # a bug of ours: say it, fail the runs at hand, keep the thread for the others
                log.exception("the writer failed")
                self._give_up([put for put in batch if put], RuntimeError("the recorder failed; its log says why"))
        connection.close()

    def _write(self, batch: list[_Put]) -> None:
        records: dict[RunRecord, list[_Put]] = {}
        unkept: dict[RunRecord, Unkept] = {}
        for put in batch:
            records.setdefault(put.record, []).append(put)
        for record, puts in list(records.items()):
            if record.lost:
                self._give_up(records.pop(record), record.lost)
                continue
            try:
                for put in puts:
                    if put.event is not None:
                        record.apply(put.event)
            except Unkept as error:
                unkept[record] = error  # what came before it is written still
            except Exception as error:
                log.exception("run %s: an event could not be applied", record.run.pk)
                self._give_up(records.pop(record), error)
        checked: dict[RunRecord, float] = {}
        try:
            checked = dict.fromkeys(records, self._store(list(records)))
        except (LeaseLost, *REFUSALS):
            # One of them; find which, each in a transaction of its own.
            for record in list(records):
                try:
                    checked[record] = self._store([record])
                except (LeaseLost, DatabaseError) as error:
                    if isinstance(error, REFUSALS):
                        log.error("run %s: what is to be written is refused: %s", record.run.pk, error)
                    self._give_up(records.pop(record), error)
        except DatabaseError as error:
            log.error("the database could not be written for %d s: %s", RETRY_SECONDS, error)
            for record in list(records):
                self._give_up(records.pop(record), error)
        for record, puts in records.items():
            over = record.wrote()
            if record in unkept:
                self._give_up(puts, unkept[record])
                continue
            count = sum(put.event is not None for put in puts)
            self._call(record, record._written, checked[record], count, over)
            for put in puts:
                if put.done:
                    self._call(record, _succeed, put.done)

    def _store(self, records: list[RunRecord]) -> float:
        """Write all in one transaction; return when (monotonic) the leases were ours for certain."""

        def write() -> float:
            try:
                with transaction.atomic():
                    for record in records:
                        record.write()
                    # Not after the commit: this process may hang between the two, and the leases go elsewhere.
                    return time.monotonic()
            except (LeaseLost, DatabaseError):
                for record in records:
                    record.undo()
                raise

        return patiently(write)

    def _give_up(self, puts: list[_Put], error: Exception) -> None:
        for record in {put.record for put in puts}:
            record.lost = error
        for put in puts:
            if put.done:
                self._call(put.record, _fail, put.done, error)

    @staticmethod
    def _call(record: RunRecord, function: Callable[..., None], *args: Any) -> None:
        try:
            record._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def patiently(work: Callable[[], T]) -> T:
    """Do something with the database; where it is locked or cannot be reached, try again for a while."""
    give_up = time.monotonic() + RETRY_SECONDS
    pause = 0.05
    while True:
        try:
            done = work()
            outage.DATABASE.over()
            return done
        except REFUSALS:
            raise  # it is there, and refuses what it is given: now and ever
        except DatabaseError as error:
            if time.monotonic() > give_up:
                raise
            outage.DATABASE.met(error)
            close_old_connections()
            time.sleep(pause)
            pause = min(pause * 2, 2.0)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


@transaction.atomic
def close_unheld(run_id: int, reason: str) -> None:
    """End a run that waits or rests, so that nobody holds it; one that a worker was first to take stays as it is."""
    waiting = Run.objects.filter(pk=run_id, status__in=[Status.QUEUED, Status.PAUSED], lease_token="")
    if (run := waiting.select_for_update().first()) is not None:
        close_rows(run, Status.STOPPED, reason if run.calls else "Stopped before it began.", "")


@transaction.atomic
def close_rows(run: Run, status: str, reason: str, token: str) -> bool:
    """End a run whose worker is gone, keeping every row: open calls and cells are closed with it.

    Returns False where somebody else took the run meanwhile.
    """
    now = time.time()
    seq = run.seq
    worked = seconds_uncounted(run)  # nobody was at work since
    calls = list(Call.objects.filter(run=run).exclude(status__in=ENDED).order_by("number"))
    for call in calls:
        seq += 1
        Call.objects.filter(pk=call.pk).update(status=status, reason=reason, finished_at=now, seq=seq)
    children = Counter((call.parent_number, call.parent_cell) for call in calls)
    cells = list(Cell.objects.filter(run=run, status__in=OPEN_CELLS).order_by("call_number", "number"))
    texts = left_over(run.pk) if cells else {}
    for cell in cells:
        seq += 1
        fields: dict[str, Any] = {
            what: clean(texts[cell.call_number, cell.number, what])
            for what in ("reply", "reasoning", "output")
            if (cell.call_number, cell.number, what) in texts
        }
        if count := children[cell.call_number, cell.number]:
            fields["children_failed"] = cell.children_failed + count
        Cell.objects.filter(pk=cell.pk).update(status=Cell.Status.STOPPED, ended_at=now, seq=seq, **fields)
    if (follow_up := run.newest_follow_up()) is not None:
        FollowUp.objects.filter(pk=follow_up.pk).update(seconds=follow_up.seconds + worked)
    finished = timezone.now()
    taken = (
        Run.objects.filter(pk=run.pk, lease_token=token)
        .exclude(status__in=ENDED)
        .update(
            status=status,
            reason=reason,
            finished_at=finished,
            seconds=run.seconds + worked,
            failed_calls=run.failed_calls + (len(calls) if status in FAILURES else 0),
            seq=seq + 1,
            lease_token="",
            lease_expires_at=None,
        )
    )
    if not taken:
        transaction.set_rollback(True)
    return bool(taken)
