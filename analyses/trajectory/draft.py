"""A run read from a log, before it is one: calls in memory, cells on disk, and at the end all of it in one transaction."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from analyses.ingest.loose import let_go
from analyses.models import ENDED, FAILURES, Call, Cell, EarlierAnswer, FollowUp, ForeignCorpus, Run, Status
from analyses.texts import ROW_MOST, bounded_answer, clean, stored_messages, stored_output
from analyses.trajectory.limits import LIMITS, ImportLimits, LogRefused
from rlm.events import Message, Usage
from sandbox.values import CrossingError, Value
from workspaces.models import Workspace

NO_ANSWER = object()
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
COUNTED = (Cell.Kind.CODE, Cell.Kind.TOOL)
NOT_KEPT = "… the rest is not in the file …"
SPOOL_IN_MEMORY = 8 << 20
CELLS_AT_ONCE = 500


class Draft:
    """Grows by `call`, `cell` and `end`, each parent before its children; `save` makes the rows, or nothing."""

    def __init__(self, format_name: str, file_name: str, limits: ImportLimits = LIMITS) -> None:
        self.limits = limits
        self.run = Run(
            imported_from=format_name, imported_file=clean(file_name)[-200:], imported_at=timezone.now(),
            status=Status.STOPPED, strategy="rlm", endpoint="", seed="",
        )  # fmt: skip
        self.calls: list[Call] = []
        self.follow_ups: list[FollowUp] = []
        self.earlier_answers: list[EarlierAnswer] = []
        self.corpus: dict[str, Any] | None = None
        self.blobs: set[str] = set()  # of outputs and answers, put for this run
        self.errors = 0
        self.cut = ""  # why not all of the run is here
        self._numbers: dict[int, set[int]] = {}  # cells of each call
        self._orders: dict[tuple[int, int], int] = {}  # of the newest request of a cell
        self._cells = self._counted = 0
        self._born = 0
        self._gone: set[str] = set()
        self._saved = False
        self._spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_IN_MEMORY)  # noqa: SIM115  closed by close()

    def close(self) -> None:
        """Forget it. What was put for a run that was not saved may go."""
        self._spool.close()
        if not self._saved:
            let_go(self.blobs)

    # — growing —

    def call(
        self, parent: Call | None, parent_cell: int | None, *, at: float, started: float | None = None, **fields: Any
    ) -> Call:
        """Add a call that the given cell of its parent asked for; the first one is the root."""
        depth = 0 if parent is None else parent.depth + 1
        kind = "root" if parent is None else "child"
        texts = {"title": 200, "instruction": 20_000, "context_type": 80, "context_shape": 160, "model": 120}
        for name, most in texts.items():
            fields[name] = clean(str(fields.get(name, "")))[:most]
        asked_by = (parent.number if parent else 0, parent_cell or 0)
        order = self._orders[asked_by] = self._orders.get(asked_by, -1) + 1
        fields = {"kind": kind, "strategy": "rlm", "dialect": self.run.dialect, "order": order} | fields
        return self.add_call(
            Call(
                number=len(self.calls) + 1,
                parent_number=parent.number if parent else None,
                parent_cell=parent_cell,
                depth=depth,
                queued_at=at,
                started_at=at if started is None else started,
                status=Status.STOPPED,
                **fields,
            )  # fmt: skip
        )

    def add_call(self, call: Call) -> Call:
        """Add a call as it is. Raises LogRefused where it does not fit to those before it."""
        if len(self.calls) >= self.limits.calls:
            raise LogRefused(f"A run of more than {self.limits.calls:,} calls is not imported.")
        if call.depth > self.limits.depth:
            raise LogRefused(f"Calls are nested deeper than {self.limits.depth}.")
        if call.parent_number is not None and call.parent_cell not in self._numbers.get(call.parent_number, ()):
            raise LogRefused(f"Call {call.number} names a cell as its parent that is not before it.")
        self._born += 1
        call.born = call.seq = self._born
        self.calls.append(call)
        self._numbers[call.number] = set()
        return call

    def cell(
        self, call: Call, number: int, *, started: float, kind: str = Cell.Kind.CODE, status: str = Cell.Status.DONE,
        reply: str = "", reasoning: str = "", code: str = "", output: str = "", shown: str | None = None, error: str = "",
        messages: Sequence[Message] = (), usage: Usage = Usage(), replied: float | None = None, ended: float | None = None,  # noqa: B008
        seconds: float = 0.0, final: bool = False, variables: Sequence[dict[str, Any]] = (),
    ) -> None:  # fmt: skip
        """Add a turn of a call that is the newest of its tree branch, and count what it used."""
        usage = dataclasses.replace(usage, cached_tokens=min(usage.cached_tokens, usage.prompt_tokens))
        output = self.text(output)
        stored, blob = stored_output(output)
        self.blobs.update(filter(None, [blob]))
        shown = output if shown is None else self.text(shown)
        call.turns = max(call.turns, number)
        over = ended if ended is not None else started
        call.model_seconds += max(0.0, (over - seconds if replied is None else replied) - started)
        call.exec_seconds += seconds
        for name in TOKENS:
            setattr(call, name, getattr(call, name) + getattr(usage, name))
        call.cost = None if call.cost is None or usage.cost is None else call.cost + usage.cost
        self.add_cell(
            call,
            {
                "number": number, "kind": kind, "status": status, "messages": stored_messages([self._message(m) for m in messages]),
                "reply": self.text(reply), "reasoning": self.text(reasoning), "code": self.text(code), "shown": _ends(shown),
                "output": stored, "output_blob": blob, "output_chars": len(output), "shown_chars": min(len(shown), 2 * ROW_MOST),
                "error": _ends(self.text(error)), "final": final, "started_at": started, "replied_at": replied,
                "ended_at": ended, "seconds": seconds, "variables": self.json(list(variables)), "cost": usage.cost,
                **{name: getattr(usage, name) for name in TOKENS},
            },
        )  # fmt: skip

    def add_cell(self, call: Call, fields: dict[str, Any]) -> None:
        """Add a cell by the values of its columns."""
        if self._cells >= self.limits.cells:
            raise LogRefused(f"A run of more than {self.limits.cells:,} cells is not imported.")
        if fields["number"] in self._numbers[call.number]:
            raise LogRefused(f"There are two cells {call.number}.{fields['number']}.")
        self._numbers[call.number].add(fields["number"])
        self._cells += 1
        self._born += 1
        self.errors += fields["status"] == Cell.Status.ERROR
        self._counted += fields["kind"] in COUNTED
        line = json.dumps(fields | {"call_number": call.number, "born": self._born, "seq": self._born}, allow_nan=False)
        self._spool.write(line.encode() + b"\n")

    @property
    def cells(self) -> int:
        """How many cells there are, those that count as none included."""
        return self._cells

    def drop(self, blobs: set[str]) -> None:
        """Forget these blobs: nobody has their bytes."""
        self._gone |= blobs

    def has_cell(self, call: Call, number: int) -> bool:
        return number in self._numbers[call.number]

    def end(
        self,
        call: Call,
        status: str,
        reason: str = "",
        *,
        answer: Any = NO_ANSWER,
        name: str = "",
        at: float | None = None,
    ) -> None:
        """Say how a call ended, and with which value."""
        call.status, call.reason = status, clean(reason)
        call.finished_at = max(at if at is not None else call.queued_at, call.queued_at)
        if answer is not NO_ANSWER:
            for column, found in bounded_answer(_value(answer), clean(name)).items():
                setattr(call, column, found)
            self.blobs.update(filter(None, [call.answer_blob]))

    def note(self, call: Call, text: str) -> None:
        call.notes = [*call.notes, clean(text)[:500]][-50:]

    def text(self, text: str) -> str:
        """A text made harmless, its end cut where it is too long for a row."""
        most = self.limits.text_chars
        text = clean(text)
        return text if len(text) <= most else f"{text[:most]}\n… {len(text) - most:,} characters more were in the log …"

    def _message(self, message: Message) -> Message:
        return Message(clean(message.role)[:40], self.text(message.content), message.extra)

    def json(self, value: Any) -> Any:
        """A JSON-like value that every database takes; one too large becomes the text of its beginning."""
        value = harmless(value)
        text = json.dumps(value, ensure_ascii=False)
        return value if len(text) <= self.limits.json_chars else [f"{text[:1000]}… {len(text):,} characters in the log"]

    # — ending —

    def finish(self) -> None:
        """Take the run's own columns from its calls."""
        run, root = self.run, self.calls[0]
        run.status, run.reason = root.status, root.reason
        if self.cut and self.cut not in run.reason:
            run.reason = f"{self.cut} {run.reason}".strip()
        for column in (
            "answer_value",
            "answer_blob",
            "answer_display",
            "answer_cut",
            "answer_name",
            "answer_type",
            "answer_shape",
        ):
            setattr(run, column, getattr(root, column))
        for call in self.calls:
            call.model = clean(call.model)[:120]
        run.root_model = clean(run.root_model or root.model)[:120]
        children = next((call.model for call in self.calls[1:] if call.model), run.root_model)
        run.child_model = clean(run.child_model or children)[:120]
        run.question = clean(run.question)[:20_000]
        run.created_at = run.started_at = datetime.datetime.fromtimestamp(root.queued_at, datetime.UTC)
        over = max(call.finished_at or call.queued_at for call in self.calls)
        run.finished_at = datetime.datetime.fromtimestamp(over, datetime.UTC)
        run.seconds = over - root.queued_at
        self.count()

    def count(self) -> None:
        """Count the run's totals from its calls, as the recorder does."""
        run = self.run
        run.calls, run.cells = len(self.calls), self._counted
        run.depth = max(call.depth for call in self.calls)
        run.failed_calls = sum(call.status in FAILURES for call in self.calls)
        for name in TOKENS[:3]:
            setattr(run, name, sum(getattr(call, name) for call in self.calls))
        costs = [call.cost for call in self.calls]
        run.cost = None if None in costs else math.fsum(cost for cost in costs if cost is not None)

    def save(self, workspace: Workspace, user: Any) -> Run:
        """Make the rows, all or none."""
        if not self.calls:
            raise LogRefused("There is no call in it.")
        for attempt in range(5):
            try:
                with transaction.atomic():
                    run = self._insert(workspace, user)
                self._saved = True
                return run
            except IntegrityError:
                # Somebody else took the run's number just now.
                if attempt == 4:
                    raise
                for row in [self.run, *self.calls]:
                    row.pk = None
        raise AssertionError("unreachable")

    def _insert(self, workspace: Workspace, user: Any) -> Run:
        run = self.run
        newest = Run.objects.filter(workspace=workspace).aggregate(newest=Max("number"))["newest"] or 0
        run.workspace, run.number, run.created_by, run.seq = workspace, newest + 1, user, self._born
        run.follow_ups = len(self.follow_ups)
        run.save(force_insert=True)
        for follow_up in self.follow_ups:
            follow_up.run = run
        for earlier in self.earlier_answers:
            earlier.run = run
        FollowUp.objects.bulk_create(self.follow_ups)
        EarlierAnswer.objects.bulk_create(self.earlier_answers)
        self._insert_tree(run)
        if self.corpus is not None:
            ForeignCorpus.objects.create(run=run, described=self.corpus)
        return run

    def put_back(self, run: Run) -> None:
        """Make the calls and cells of a run that is here already, and has none. Within the caller's transaction."""
        self._insert_tree(run)
        self._saved = True

    def _insert_tree(self, run: Run) -> None:
        by_number: dict[int, Call] = {}
        for call in self.calls:
            call.run = run
            by_number[call.number] = call
        for depth in range(max(call.depth for call in self.calls) + 1):
            level = [call for call in self.calls if call.depth == depth]
            for call in level:
                call.parent = by_number[call.parent_number] if call.parent_number else None
            Call.objects.bulk_create(level)
        children = self._children()
        for some in batched_cells(self._stored(), CELLS_AT_ONCE):
            for cell in some:
                cell.run, cell.call = run, by_number[cell.call_number]
                if counts := children.get((cell.call_number, cell.number)):
                    cell.children_total, cell.children_done, cell.children_failed = counts
            Cell.objects.bulk_create(some)

    def _children(self) -> dict[tuple[int, int], list[int]]:
        counts: dict[tuple[int, int], list[int]] = {}
        for call in self.calls:
            if call.parent_number is not None and call.parent_cell is not None:
                count = counts.setdefault((call.parent_number, call.parent_cell), [0, 0, 0])
                count[0] += 1
                count[1] += call.status == Status.DONE
                count[2] += call.status in ENDED and call.status != Status.DONE
        return counts

    def _stored(self) -> Iterator[Cell]:
        self._spool.seek(0)
        for line in self._spool:
            fields = json.loads(line)
            if fields["output_blob"] in self._gone:
                fields |= {"output_blob": "", "output": NOT_KEPT}
            for message in fields["messages"]:
                if message.get("blob") in self._gone:
                    message["content"] = f"{message.get('head', '')}\n{NOT_KEPT}"
                    del message["blob"]
            yield Cell(**fields)


def _value(answer: Any) -> Value:
    """An answer as it was, but for halves of surrogate pairs: nothing that is UTF-8 holds those."""
    whole = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")
    try:
        return Value.of(json.loads(whole))
    except CrossingError as error:
        raise LogRefused(f"An answer in it cannot be kept: {error}.") from None


def batched_cells(cells: Iterator[Cell], size: int) -> Iterator[list[Cell]]:
    batch: list[Cell] = []
    for cell in cells:
        batch.append(cell)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def harmless(value: Any) -> Any:
    """A JSON-like value whose texts are clean and whose numbers are finite."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {clean(str(key)): harmless(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(item) for item in value]
    return value


def _ends(text: str) -> str:
    """Head and tail of a text that is kept whole elsewhere, or by nobody."""
    if len(text) <= 2 * ROW_MOST:
        return text
    return f"{text[:ROW_MOST]}\n[… {len(text) - 2 * ROW_MOST:,} characters cut …]\n{text[-ROW_MOST:]}"
