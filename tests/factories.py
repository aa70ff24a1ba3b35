"""Rows for tests: people, workspaces, and runs as the recorder would have written them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from analyses.follow_ups import ask_follow_up
from analyses.models import Call, Cell, Run
from analyses.texts import NO_ANSWER
from rlm.endpoints import Endpoint
from workspaces.models import Member, User, Workspace

_numbers = itertools.count(1)


def make_user(email: str = "", password: str = "a long enough password", **fields: Any) -> User:
    return User.objects.create_user(email or f"person{next(_numbers)}@example.org", password, **fields)


def make_workspace(owner: User | None = None, name: str = "Harbour Desk", **members: User) -> Workspace:
    """A workspace; ``members`` maps roles to users."""
    workspace = Workspace.start(name, owner or make_user())
    for role, user in members.items():
        workspace.members.create(user=user, role=Member.Role(role))
    return workspace


def make_run(workspace: Workspace | None = None, shape: str = "", **fields: Any) -> Run:
    """A run. ``shape``: "" (queued, no rows), running, done, failed, crowd (100 children, ended), fifteen, growing (fifteen so far),
    further (done, with follow-ups)."""
    workspace = workspace or make_workspace()
    newest = Run.objects.filter(workspace=workspace).count()
    values: dict[str, Any] = {
        "number": newest + 1,
        "question": "Which guests saw the Gullwick light go dark, and what hour does each give?",
        "endpoint": "default",
        "root_model": "atlas-large",
        "child_model": "atlas-mini",
        "seed": "00",
    }
    run = Run.objects.create(workspace=workspace, **values | fields)
    if shape:
        for _ in steps(run, shape):
            pass
        run.refresh_from_db()
    return run


def make_call(rows: Rows, parent: Call | None = None, cell: int = 1, **fields: Any) -> Call:
    return rows.call(parent, cell, **fields)


def make_cell(rows: Rows, call: Call, **fields: Any) -> Cell:
    """A cell that has run."""
    cell = rows.turn(call)
    rows.reply(cell)
    rows.ran(cell, **fields)
    return cell


CODE = 'hits = [d for d in context if "gullwick" in d["text"].lower()]\nprint(len(hits), "of", len(context))'
REPLY = "I look for the light first.\n\n```repl\n{}\n```"


class Rows:
    """Writes a run's rows one at a time, each write taking the run's next seq: a recorder without an engine."""

    def __init__(self, run: Run, *, clock: float | None = None, on_write: Callable[[], None] = lambda: None) -> None:
        self.run = run
        self.on_write = on_write  # called when a row and its seq are both there
        self.clock = clock or time.time() - 60
        self.number = Call.objects.filter(run=run).count()

    def _tick(self, seconds: float = 0.7) -> float:
        self.clock += seconds
        return self.clock

    def _seq(self, **fields: Any) -> int:
        self.run.seq += 1
        for name, value in fields.items():
            setattr(self.run, name, value)
        self.run.save(update_fields=["seq", *fields])
        return self.run.seq

    def change(self, row: Call | Cell, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(row, name, value)
        row.seq = self._seq()
        row.save(update_fields=["seq", *fields])
        self.on_write()

    def change_run(self, **fields: Any) -> None:
        self._seq(**fields)
        self.on_write()

    def begin(self) -> None:
        self.change_run(status="running", started_at=timezone.now())

    def call(self, parent: Call | None = None, cell: int = 1, **fields: Any) -> Call:
        self.number += 1
        depth = parent.depth + 1 if parent else 0
        values: dict[str, Any] = {
            "number": self.number,
            "parent": parent,
            "parent_number": parent.number if parent else None,
            "parent_cell": cell if parent else None,
            "order": Call.objects.filter(parent=parent, parent_cell=cell).count() if parent else 0,
            "depth": depth,
            "kind": "child" if parent else "root",
            "strategy": self.run.strategy,
            "model": self.run.child_model if parent else self.run.root_model,
            "dialect": "async",
            "title": f"S1E{self.number:02} A door with no house" if parent else "",
            "instruction": "Find each person who says that they saw the light go dark."
            if parent
            else self.run.question,
            "context_type": "dict" if parent else "list",
            "context_shape": "dict · 39,275 ch" if parent else "list[100] of dict · 4.12 M ch",
            "queued_at": self._tick(0.01),
        }
        seq = self._seq(calls=self.run.calls + 1, depth=max(self.run.depth, depth))
        row = Call.objects.create(run=self.run, born=seq, seq=seq, **values | fields)
        self.on_write()
        if parent and (asked := Cell.objects.filter(call=parent, number=cell).first()):
            self.change(asked, children_total=asked.children_total + 1)
        return row

    def start(self, call: Call) -> None:
        self.change(call, status="running", started_at=self._tick(0.05))

    def turn(self, call: Call) -> Cell:
        number = call.turns + 1
        seq = self._seq()
        messages = [{"role": "user", "content": "probe" if number == 1 else "output"}]
        if before := Cell.objects.filter(call=call, number=number - 1).first():
            messages.insert(0, {"role": "assistant", "content": before.reply})
        cell = Cell.objects.create(
            run=self.run,
            call=call,
            call_number=call.number,
            number=number,
            messages=messages,
            started_at=self._tick(0.1),
            born=seq,
            seq=seq,
        )
        self.on_write()
        self.change(call, turns=number)
        return cell

    def reply(self, cell: Cell, code: str = CODE, prose: str = "", kind: str = "code", **fields: Any) -> None:
        now = self._tick(1.4)
        values: dict[str, Any] = {
            "kind": kind,
            "status": "running" if kind == "code" else "done",
            "reply": prose + REPLY.format(code) if kind == "code" else prose,
            "code": code if kind == "code" else "",
            "replied_at": now,
            "ended_at": None if kind == "code" else now,
            "prompt_tokens": 2100,
            "completion_tokens": 140,
            "cost": 0.009,
        }
        self.change(cell, **values | fields)
        call = cell.call
        self.change(
            call,
            prompt_tokens=call.prompt_tokens + cell.prompt_tokens,
            completion_tokens=call.completion_tokens + cell.completion_tokens,
            cost=None if call.cost is None or cell.cost is None else call.cost + cell.cost,
            model_seconds=call.model_seconds + now - cell.started_at,
        )
        self.change_run(
            cells=self.run.cells + (kind == "code"),
            prompt_tokens=self.run.prompt_tokens + cell.prompt_tokens,
            completion_tokens=self.run.completion_tokens + cell.completion_tokens,
            cost=(self.run.cost or 0) + (cell.cost or 0),
        )

    def wait(self, cell: Cell, waiting: bool = True) -> None:
        state = "waiting" if waiting else "running"
        self.change(cell, status=state)
        self.change(cell.call, status=state)

    def ran(self, cell: Cell, shown: str = "Output of cell 1:\n31 of 100\n", error: str = "", **fields: Any) -> None:
        now = self._tick(0.4)
        values: dict[str, Any] = {
            "status": "error" if error else "done",
            "shown": shown + error,
            "output": "31 of 100\n",
            "output_chars": 10,
            "shown_chars": 10,
            "error": error,
            "seconds": now - (cell.replied_at or now),
            "ended_at": now,
            "variables": [{"name": "hits", "type": "list", "size": "list[31]", "preview": "[{'title': …"}],
        }
        self.change(cell, **values | fields)
        call = cell.call
        self.change(call, status="running", exec_seconds=call.exec_seconds + cell.seconds - cell.waited)

    def finish(
        self, call: Call, status: str = "done", reason: str = "", answer: Any = None, name: str = "", **fields: Any
    ) -> None:
        values: dict[str, Any] = {"status": status, "reason": reason, "finished_at": self._tick(0.05)}
        if answer is not None:
            values |= _answer(answer, name)
        self.change(call, **values | fields)
        if call.parent and (cell := Cell.objects.filter(call=call.parent, number=call.parent_cell or 0).first()):
            counter = "children_done" if status == "done" else "children_failed"
            self.change(cell, **{counter: getattr(cell, counter) + 1})
        if status != "done":
            self.change_run(failed_calls=self.run.failed_calls + 1)

    def further(self, question: str = "And who was it not?") -> None:
        """A follow-up is asked, an hour later."""
        offline = Endpoint(name="offline", base_url="", api_key="", root_model="", child_model="", offline=True)
        asked = ask_follow_up(self.run, None, question, endpoint=offline, wake=False)
        asked.asked_at = _date(self._tick(3600))
        asked.save(update_fields=["asked_at"])
        self.on_write()

    def end(self, status: str = "done", reason: str = "", answer: Any = None, name: str = "", **fields: Any) -> None:
        values: dict[str, Any] = {
            "status": status,
            "reason": reason,
            "finished_at": _date(self.clock),
            "seconds": 47.2,
        }
        if answer is not None:
            values |= _answer(answer, name)
        self.change_run(**values | fields)


def _date(clock: float) -> datetime:
    return datetime.fromtimestamp(clock, UTC)


def _answer(answer: Any, name: str) -> dict[str, Any]:
    kind = type(answer).__name__
    size = f"{kind}[{len(answer)}]" if isinstance(answer, str | list | dict) else kind
    return {"answer_display": answer, "answer_name": name, "answer_type": kind, "answer_shape": size}


ANSWER = "**Five guests say they saw it themselves.**\n\n- Perpetua Vane: 02:10\n- Ignatius Plum: 02:05\n"
KEY_ERROR = 'Traceback (most recent call last):\n  cell 3, line 1\n    speakers = {d["name"]: d["meta"]["speakers"]}\nKeyError: \'speakers\'\n'


def steps(run: Run, shape: str = "done", rows: Rows | None = None) -> Iterator[int]:
    """Write a run of this shape, row by row; yields its seq after each write."""
    rows = rows or Rows(run)
    for write in _story(rows, shape):
        write()
        yield run.seq


def _story(rows: Rows, shape: str) -> Iterator[Any]:
    made: dict[str, Any] = {}

    def keep(name: str, make: Any, *args: Any, **fields: Any) -> Any:
        return lambda: made.__setitem__(name, make(*args, **fields))

    yield rows.begin
    yield keep("root", rows.call)
    root = made["root"]
    yield lambda: rows.start(root)
    yield keep("one", rows.turn, root)
    yield lambda: rows.reply(made["one"], prose="Looks at the shape of context. ")
    yield lambda: rows.ran(made["one"])
    yield keep("two", rows.turn, root)
    long = "Output of cell 2 (61,348 characters, 57,348 of them cut):\n31 documents\n[… 57,348 characters cut; all of it is history[1] …]\ns4e22.vtt 388 a letter\n"
    yield lambda: rows.reply(made["two"], reasoning="A hundred transcripts. I should not print them.\n\nI count first.")
    yield lambda: rows.ran(made["two"], shown=long, output_chars=61348, shown_chars=4000)
    yield keep("three", rows.turn, root)
    yield lambda: rows.reply(
        made["three"], code='speakers = {d["name"]: d["meta"]["speakers"] for d in context}\nprint(speakers)'
    )
    yield lambda: rows.ran(
        made["three"], shown="Cell 3 raised an error:\n", error=KEY_ERROR, output_chars=0, shown_chars=0
    )
    if shape == "failed":
        yield lambda: rows.finish(root, "failed", "The endpoint refused the key (401).")
        yield lambda: rows.end("failed", "The endpoint refused the key (401).")
        return
    yield keep("four", rows.turn, root)
    yield lambda: rows.reply(
        made["four"],
        code="# Asks one child per episode\nclaims = await batch_llm_query(*[llm_query(d, ask) for d in context])",
    )
    yield lambda: rows.wait(made["four"])
    crowd = {"crowd": 100, "fifteen": 15, "growing": 15}.get(shape, 0)
    for n in range(crowd or 4):
        yield keep(f"child{n}", rows.call, root, 4)
    for n in range(crowd or (3 if shape == "running" else 4)):
        child = made[f"child{n}"]
        yield lambda child=child: rows.start(child)
        if crowd and n > (20 if crowd == 100 else 3):
            outcome = ("failed", "It never called FINAL.") if n % 30 == 0 else ("done", "")
            yield lambda child=child, n=n, outcome=outcome: rows.finish(child, *outcome, answer=n)
            continue
        yield keep("turn", rows.turn, child)
        yield lambda: rows.reply(made["turn"], code="print(len(context))")
        if n == 2 and shape == "running":
            continue
        yield lambda: rows.ran(made["turn"])
        if n == 1:
            yield lambda child=child: rows.finish(
                child, "limit", "It reached its limit of 20 turns.", partial=True, answer=["a"], name="found"
            )
        else:
            yield lambda child=child, n=n: rows.finish(
                child, answer=[{"speaker": "Vane", "hour": "02:10"}][: n % 2], name="claims"
            )
    if shape in ("running", "growing"):
        return
    yield lambda: rows.wait(made["four"], False)
    yield lambda: rows.ran(made["four"], waited=3.0)
    yield keep("five", rows.turn, root)
    yield lambda: rows.reply(made["five"], prose="I think the answer is clear now.", kind="reply")
    yield keep("six", rows.turn, root)
    yield lambda: rows.reply(made["six"], code="FINAL(answer)")
    yield lambda: rows.ran(made["six"], shown="", final=True, output_chars=0, shown_chars=0)
    yield lambda: rows.finish(root, answer=ANSWER, name="answer")
    yield lambda: rows.end(answer=ANSWER, name="answer")
    if shape != "further":
        return
    yield rows.further
    yield lambda: rows.change_run(status="running", resumed_at=timezone.now())
    yield lambda: rows.change(root, status="running", finished_at=None, **NO_ANSWER)
    yield keep("seven", rows.turn, root)
    yield lambda: rows.reply(made["seven"], code="others = FINAL(sorted(set(guests) - set(answer)))")
    yield lambda: rows.ran(made["seven"], shown="", final=True, output_chars=0, shown_chars=0)
    yield lambda: rows.finish(root, answer=["Perpetua Vane"], name="others")
    yield lambda: rows.end(answer=["Perpetua Vane"], name="others")
    yield lambda: rows.further("And what of the harbour?")
