"""The recorder: events in, rows out, in the order and with the numbers that pages rely on."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import FieldError
from django.db import DataError, IntegrityError, OperationalError, transaction

from analyses import recorder
from analyses.models import Call, Cell, Run, Status
from analyses.recorder import LeaseLost, RunRecord, Writer, close_rows
from rlm import events
from rlm.engine import RunResult
from rlm.events import Usage
from sandbox import Value
from workspaces.models import User, Workspace

pytestmark = pytest.mark.django_db(transaction=True)


def queued(
    number: int, parent: int | None = None, cell: int | None = None, depth: int = 0, **over: object
) -> events.CallQueued:
    fields: dict[str, object] = {
        "call": number, "parent": parent, "cell": cell, "order": 0, "depth": depth,
        "kind": "root" if parent is None else "child", "identity": f"{number:064x}", "instruction": "look",
        "schema": None, "context": Value.of("abc"), "context_type": "str", "context_shape": "str · 3 ch",
        "context_chars": 3, "model": "m", "dialect": "async", "strategy": "rlm", "time": time.time(),
    }  # fmt: skip
    return events.CallQueued(**(fields | over))  # type: ignore[arg-type]


def turn(call: int, cell: int, content: str = "hello") -> events.TurnStarted:
    return events.TurnStarted(call, cell, [events.Message("user", content)], time.time())


def replied(call: int, cell: int, usage: Usage = Usage(10, 5, cost=0.25)) -> events.ReplyDone:  # noqa: B008
    return events.ReplyDone(call, cell, "code", "Look.\n```repl\nprint(1)\n```", "", "print(1)", usage, time.time())


def ran(call: int, cell: int, output: str = "1\n", error: str = "") -> events.CellDone:
    return events.CellDone(
        call, cell, output, output, len(output), len(output), error, "", 0.1, 0.0, False, time.time()
    )


def finished(call: int, status: str = "done", answer: object = "yes") -> events.CallFinished:
    return events.CallFinished(call, status, "", Value.of(answer), "answer", False, time.time())  # type: ignore[arg-type]


def result(answer: object = "yes", status: str = "done") -> RunResult:
    return RunResult(status=status, reason="", answer=Value.of(answer), answer_name="answer", partial=False, usage=Usage(),
                     calls=1, cells=1, depth=0, seconds=0.1)  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture
def run(transactional_db: None) -> Run:
    workspace = Workspace.start("Desk", User.objects.create_user("a@example.org"))
    return Run.objects.create(
        workspace=workspace,
        number=1,
        question="?",
        endpoint="offline",
        status=Status.RUNNING,
        lease_token="mine",
        seed="1",
    )


@pytest.fixture
async def record(run: Run) -> AsyncIterator[RunRecord]:
    writer = Writer()
    yield RunRecord(run, writer)
    await asyncio.to_thread(writer.close)


@sync_to_async
def rows(run: Run) -> tuple[Run, list[Call], list[Cell]]:
    return Run.objects.get(pk=run.pk), list(run.call_set.order_by("number")), list(run.cell_set.order_by("born"))


async def test_events_become_rows_parents_first(record: RunRecord, run: Run) -> None:
    for event in [queued(1), events.CallStarted(1, 1.0), turn(1, 1), replied(1, 1)]:
        record(event)
    await record.commit()
    for event in [
        queued(2, 1, 1, 1),
        queued(3, 1, 1, 1),
        events.CallStarted(2, 2.0),
        turn(2, 1),
        replied(2, 1),
        ran(2, 1),
    ]:
        record(event)
    for event in [finished(2), finished(3, "failed"), ran(1, 1), finished(1)]:
        record(event)
    await record.finish(result())
    row, calls, cells = await rows(run)
    assert [call.number for call in calls] == [1, 2, 3]
    assert calls[1].parent_id == calls[0].pk
    assert calls[0].born < cells[0].born < calls[1].born < calls[2].born < cells[1].born
    assert [call.status for call in calls] == ["done", "done", "failed"]
    assert (cells[0].children_total, cells[0].children_done, cells[0].children_failed) == (2, 1, 1)
    assert (row.status, row.calls, row.cells, row.depth, row.failed_calls) == ("done", 3, 2, 1, 1)
    assert (row.prompt_tokens, row.completion_tokens, row.cost) == (20, 10, 0.5)
    assert row.answer_display == "yes" and row.lease_token == ""
    assert row.seq >= max(thing.seq for thing in [*calls, *cells])


async def test_every_seq_is_used_by_one_write(record: RunRecord, run: Run) -> None:
    """No two rows may carry the same seq: an interval (N, M] would then hold one of them twice or never."""
    record(queued(1))
    for number in range(1, 30):
        record(turn(1, number))
        record(replied(1, number))
        record(ran(1, number))
        if number % 7 == 0:
            await record.commit()
    record(finished(1))
    await record.commit()
    row, calls, cells = await rows(run)
    seqs = [thing.seq for thing in [*calls, *cells]]
    assert len(set(seqs)) == len(seqs) and max(seqs) <= row.seq
    assert all(0 < thing.born <= thing.seq for thing in [*calls, *cells])
    assert len({cell.born for cell in cells}) == 29


async def test_commit_returns_only_when_rows_are_there(record: RunRecord, run: Run) -> None:
    record(queued(1))
    await record.commit()
    assert await Call.objects.filter(run=run).acount() == 1
    await record.commit()  # nothing new: returns at once


async def test_a_worker_that_lost_its_lease_writes_nothing(record: RunRecord, run: Run) -> None:
    record(queued(1))
    await record.commit()
    await Run.objects.filter(pk=run.pk).aupdate(lease_token="another's")
    record(turn(1, 1))
    with pytest.raises(LeaseLost):
        await record.commit()
    record(turn(1, 2))
    with pytest.raises(LeaseLost):
        await record.commit()
    assert await Cell.objects.filter(run=run).acount() == 0


async def test_a_worker_that_hung_right_after_its_commit_does_not_go_on(
    record: RunRecord, run: Run, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are durable, and before anybody hears of it the lease goes elsewhere: what follows would be paid twice."""
    settings.LEASE_SECONDS = 0.4
    hung = []

    def hang() -> None:
        if not hung:
            hung.append(Run.objects.filter(pk=run.pk).update(lease_token="another's"))
            time.sleep(settings.LEASE_SECONDS)

    write = RunRecord.write

    def write_and_hang(record: RunRecord) -> None:
        write(record)
        transaction.on_commit(hang)

    monkeypatch.setattr(RunRecord, "write", write_and_hang)
    record(queued(1))
    with pytest.raises(LeaseLost):
        await record.commit()
    assert hung == [1]


async def test_one_lost_lease_does_not_lose_the_other_runs_rows(record: RunRecord, run: Run) -> None:
    other = await Run.objects.acreate(
        workspace_id=run.workspace_id, number=2, question="?", endpoint="offline", lease_token="theirs", seed="2"
    )
    theirs = RunRecord(other, record._writer)
    await Run.objects.filter(pk=run.pk).aupdate(lease_token="another's")
    record(queued(1))
    theirs(queued(1))
    results = await asyncio.gather(record.commit(), theirs.commit(), return_exceptions=True)
    assert isinstance(results[0], LeaseLost) and results[1] is None
    assert [await Call.objects.filter(run=each).acount() for each in (run, other)] == [0, 1]


async def test_a_locked_database_is_tried_again_without_applying_twice(
    record: RunRecord, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OperationalError("database is locked")] * 2)
    write = RunRecord.write

    def sometimes(self: RunRecord) -> None:
        write(self)
        if error := next(failures, None):
            raise error  # after the rows were inserted: the transaction takes them back

    monkeypatch.setattr(RunRecord, "write", sometimes)
    record(queued(1))
    record(turn(1, 1))
    record(replied(1, 1))
    await record.commit()
    row, calls, cells = await rows(run)
    assert (len(calls), len(cells), row.calls, row.prompt_tokens) == (1, 1, 1, 10)


async def test_a_database_that_stays_away_ends_the_run(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: RunRecord) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(RunRecord, "write", never)
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 0.1)
    record(queued(1))
    with pytest.raises(OperationalError):
        await record.commit()


@pytest.mark.parametrize("refused", ["too long", "there already"])
async def test_what_the_database_refuses_ends_its_own_run_alone_and_at_once(
    record: RunRecord, run: Run, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 3600.0)  # it is no outage: this would hang
    other = await Run.objects.acreate(
        workspace_id=run.workspace_id, number=2, question="?", endpoint="offline", lease_token="theirs", seed="2"
    )
    theirs = RunRecord(other, record._writer)
    record(queued(1, dialect="longer than its column" if refused == "too long" else "async"))
    if refused == "there already":
        record(queued(1))
    theirs(queued(1))
    async with asyncio.timeout(60):
        results = await asyncio.gather(record.commit(), theirs.commit(), return_exceptions=True)
    assert isinstance(results[0], DataError | IntegrityError) and results[1] is None
    assert [await Call.objects.filter(run=each).acount() for each in (run, other)] == [0, 1]


async def test_unknown_cost_stays_unknown(record: RunRecord, run: Run) -> None:
    for event in [queued(1), turn(1, 1), replied(1, 1, Usage(1, 1, cost=None)), ran(1, 1), turn(1, 2), replied(1, 2)]:
        record(event)
    await record.commit()
    row, calls, _ = await rows(run)
    assert row.cost is None and calls[0].cost is None
    assert row.prompt_tokens == 11


async def test_hostile_text_is_made_harmless(record: RunRecord, run: Run) -> None:
    record(queued(1, title="a\x00b\x1b[31m\u202e", schema={"k\x00": ["\ud800"]}))
    record(turn(1, 1, "\x00"))
    record(replied(1, 1))
    record(ran(1, 1, "x\x00y\u2066\n"))
    record(finished(1, answer={"a": "\x00\x1b"}))
    await record.finish(result("\x00"))
    row, calls, cells = await rows(run)
    everything = repr([calls[0].title, calls[0].schema, calls[0].answer_display, cells[0].output, cells[0].messages])
    assert not any(bad in everything for bad in ("\\x00", "\\x1b", "\\u202e", "\\u2066", "\\ud800"))
    assert row.answer_display == "\N{SYMBOL FOR NULL}"


async def test_an_answer_comes_back_as_it_was_given(record: RunRecord, run: Run) -> None:
    """jsonb would sort the keys, and make an integer of 1e22."""
    answer = {"who": "Zürich", "n": 1e22, "it": [{"long name": -0.0, "b": 1, "a": 2}]}
    record(queued(1, schema={"properties": {"who": {}, "it": {}, "a": {}}}))
    record(finished(1, answer=answer))
    await record.finish(result(answer))
    row, calls, _ = await rows(run)
    assert json.dumps(row.answer_display) == json.dumps(calls[0].answer_display) == json.dumps(answer)
    assert list(calls[0].schema["properties"]) == ["who", "it", "a"]
    assert await Run.objects.filter(answer_display__icontains="Zürich").aexists()


async def test_a_message_keeps_what_no_text_column_takes(record: RunRecord, run: Run) -> None:
    extra = {"tool_calls": [{"function": {"name": "\x00", "arguments": "\ud800\ue000"}}]}
    record(queued(1))
    record(events.TurnStarted(1, 1, [events.Message("assistant", "", extra)], time.time()))
    await record.commit()
    assert (await rows(run))[2][0].messages == [{"role": "assistant", "content": "", **extra}]


async def test_names_of_values_are_made_harmless_and_short(record: RunRecord, run: Run) -> None:
    record(queued(1))
    given = dataclasses.replace(result(), answer_name="n\x00" * 200)
    await record.finish(given)
    row, _, _ = await rows(run)
    assert row.answer_name == "n\N{SYMBOL FOR NULL}" * 60


async def test_a_long_output_goes_to_a_blob_and_comes_back_whole(record: RunRecord, run: Run) -> None:
    from analyses import blobs

    text = "é" * 100_000
    for event in [queued(1), turn(1, 1, "p" * 50_000), replied(1, 1), ran(1, 1, text)]:
        record(event)
    await record.commit()
    _, _, cells = await rows(run)
    assert cells[0].output == "" and blobs.read(cells[0].output_blob).decode() == text
    assert cells[0].messages[0]["chars"] == 50_000
    assert blobs.read(cells[0].messages[0]["blob"]).decode() == "p" * 50_000


async def test_a_reply_cut_off_keeps_its_text_and_its_estimated_usage(record: RunRecord, run: Run) -> None:
    cut = events.ReplyCut(1, 1, "half a sen", "think", Usage(100, 3, cost=0.5), time.time())
    for event in [queued(1), turn(1, 1), cut, finished(1, "stopped")]:
        record(event)
    await record.commit()
    row, calls, cells = await rows(run)
    assert (cells[0].status, cells[0].reply, cells[0].reasoning) == ("stopped", "half a sen", "think")
    assert (row.prompt_tokens, calls[0].completion_tokens, row.cost) == (100, 3, 0.5)
    assert row.failed_calls == 0  # who was stopped has not failed


async def test_open_cells_close_with_their_call(record: RunRecord, run: Run) -> None:
    for event in [queued(1), turn(1, 1), finished(1, "stopped")]:
        record(event)
    await record.commit()
    _, calls, cells = await rows(run)
    assert (calls[0].status, cells[0].status) == ("stopped", "stopped") and cells[0].ended_at


def test_what_a_dead_worker_was_writing_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call.objects.create(run=run, number=1, kind="root", queued_at=1.0, status="running", born=1, seq=1)
    Cell.objects.create(run=run, call=call, call_number=1, number=1, status="writing", started_at=1.0, born=2, seq=2)
    monkeypatch.setattr(recorder, "left_over", lambda run_id: {(1, 1, "reply"): "half a\x00 word"})
    assert close_rows(run, Status.FAILED, "It died.", "mine")
    assert Cell.objects.get(call=call).reply == "half a\N{SYMBOL FOR NULL} word"


def test_a_dead_workers_rows_are_closed_and_kept(run: Run) -> None:
    call = Call.objects.create(run=run, number=1, kind="root", queued_at=1.0, status="waiting", born=1, seq=1)
    Cell.objects.create(run=run, call=call, call_number=1, number=1, status="waiting", started_at=1.0, born=2, seq=2)
    Run.objects.filter(pk=run.pk).update(seq=2)
    run.refresh_from_db()
    assert not close_rows(run, Status.FAILED, "It died.", "not the token")
    call.refresh_from_db()
    assert call.status == "waiting"  # somebody else holds it: nothing was touched
    assert close_rows(run, Status.FAILED, "It died.", "mine")
    run.refresh_from_db()
    call.refresh_from_db()
    cell = Cell.objects.get(call=call)
    assert (run.status, call.status, cell.status, run.reason) == ("failed", "failed", "stopped", "It died.")
    assert sorted([call.seq, cell.seq, run.seq]) == [3, 4, 5]


@pytest.mark.parametrize("end", ["told", "left open", "worker gone"])
async def test_stopped_rows_are_the_same_whoever_ends_them(record: RunRecord, run: Run, end: str) -> None:
    for event in [queued(1), turn(1, 1), replied(1, 1), *(queued(n, 1, 1, 1) for n in (2, 3, 4)), turn(2, 1)]:
        record(event)
    for event in [events.CellWaiting(1, 1, True, time.time()), finished(4)]:
        record(event)
    await record.commit()
    if end == "worker gone":
        here, _, _ = await rows(run)
        assert await sync_to_async(close_rows)(here, Status.STOPPED, "Stopped.", "mine")
    else:
        for number in (3, 2, 1) if end == "told" else ():
            record(finished(number, "stopped"))
        await record.finish(result(status="stopped"))
    row, calls, cells = await rows(run)
    assert (row.status, row.failed_calls) == ("stopped", 0)
    assert [call.status for call in calls] == ["stopped", "stopped", "stopped", "done"]
    assert [cell.status for cell in cells] == ["stopped", "stopped"]
    assert (cells[0].children_total, cells[0].children_done, cells[0].children_failed) == (3, 1, 2)


def test_json_as_written_is_not_asked_by_key(run: Run) -> None:
    """PostgreSQL could not; so SQLite does not either."""
    with pytest.raises(FieldError):
        Run.objects.filter(fork__kind="retry").exists()
