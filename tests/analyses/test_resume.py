"""Runs that outlive their workers: taken up from their rows, wherever those end, without paying for anything twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from analyses import actions
from analyses.leases import lease_of
from analyses.models import ENDED, Call, Cell, Run
from analyses.recorder import LeaseLost, RunRecord
from analyses.worked import seconds_uncounted
from analyses.worker import MOST_ATTEMPTS, Worker
from rlm.endpoints import Endpoint
from rlm.events import OutputDelta, ReplyDelta
from tests.chaos.tree import tree
from tests.factories import make_run, make_workspace
from tests.rlm.test_replay import FAMILY
from tests.scripted.fixture import Scripted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.firejail]

LOST = "as if this process were gone"


@pytest.fixture
def workers(transactional_db: None) -> Iterator[Callable[[], Worker]]:
    """Start workers, as many as asked for."""
    made: list[Worker] = []

    def start() -> Worker:
        made.append(Worker(serving=False))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


def ask(server: Scripted, **limits: Any) -> Run:
    actions_endpoint = endpoint_of(server)
    return actions.start_run(
        make_workspace(), None, question="What is asked?", endpoint=actions_endpoint, wake=False, seed="1",
        limits={"depth": 3, **limits},
    )  # fmt: skip


def endpoint_of(server: Scripted) -> Endpoint:
    return Endpoint(name="scripted", base_url=server.base_url, api_key="k", root_model="m", child_model="m")


def cut(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """From the event after so many on, nothing is written: as if the process had been killed."""
    told = RunRecord.__call__

    def until(self: RunRecord, event: Any) -> None:
        if not isinstance(event, ReplyDelta | OutputDelta):
            count = self.__dict__.setdefault("count", 0)
            if count >= most:
                self.lost = self.lost or LeaseLost(LOST)
                return
            self.__dict__["count"] = count + 1
        told(self, event)

    monkeypatch.setattr(RunRecord, "__call__", until)


def execute(worker: Worker, run: Run, server: Scripted, *, orphaned: bool = False) -> Run:
    orphan = lease_of(run.pk) if orphaned else None
    done = worker.take(run.pk, endpoint=endpoint_of(server), orphan=orphan)
    assert done is not None
    done.result(timeout=60)
    run.refresh_from_db()
    return run


def abandon(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(lease_token="dead", lease_expires_at=timezone.now() - timedelta(seconds=9))


def test_a_run_cut_after_any_event_is_taken_up_by_another_worker(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, first, second = scripted(FAMILY), workers(), workers()
    whole = execute(first, ask(server), server)
    assert whole.status == "done", whole.reason
    expected, requests = tree(whole), server.stats()["requests"]
    total = (whole.calls, whole.cells, whole.depth, whole.failed_calls)
    tried = 0
    for most in range(1, 60, 4):
        server = scripted(FAMILY)
        with monkeypatch.context() as patched:
            cut(patched, most)
            run = execute(first, ask(server), server)
        assert run.status == "running"
        answered = Cell.objects.filter(run=run, replied_at__isnull=False).count()
        seqs = {call.number: call.born for call in Call.objects.filter(run=run)}
        asked = server.stats()["requests"]
        abandon(run)
        run = execute(second, run, server, orphaned=True)
        assert (run.status, run.reason, run.answer_display) == ("done", "", whole.answer_display), f"cut after {most}"
        assert tree(run) == expected, f"cut after {most}"
        assert (run.calls, run.cells, run.depth, run.failed_calls) == total
        assert (run.prompt_tokens, run.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)
        assert server.stats()["requests"] - asked == requests - answered
        rows = [*Call.objects.filter(run=run), *Cell.objects.filter(run=run)]
        assert len({row.seq for row in rows}) == len(rows) and run.lease_token == ""
        assert all(call.born == seqs.get(call.number, call.born) for call in Call.objects.filter(run=run))
        tried += 1
    assert tried == 15


def test_a_run_whose_root_has_ended_needs_only_its_own_end(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, worker = scripted("hello"), workers()
    run = ask(server)
    with monkeypatch.context() as patched:
        patched.setattr(RunRecord, "_run_finished", lambda *_: (_ for _ in ()).throw(LeaseLost(LOST)))
        execute(worker, run, server)
    assert Call.objects.get(run=run).status == "done" and run.status == "running"
    abandon(run)
    run = execute(workers(), run, server, orphaned=True)
    assert (run.status, run.answer_display) == ("done", "hello") and server.stats()["requests"] == 1


def test_what_ran_before_counts_against_the_limits_and_the_time(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted({"default": "```repl\nprint(budget()['calls'])\n```"})
    run = ask(server, completion_tokens=200, reply_tokens=100)
    with monkeypatch.context() as patched:
        cut(patched, 12)
        run = execute(workers(), run, server)
    abandon(run)
    hours = 5 * 3600  # nobody worked on it in the meantime
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(seconds=hours + 10))
    for name in ("queued_at", "started_at"):
        Call.objects.filter(run=run).update(**{name: F(name) - hours})
    for name in ("started_at", "replied_at", "ended_at"):
        Cell.objects.filter(run=run).update(**{name: F(name) - hours})
    run = execute(workers(), run, server, orphaned=True)
    assert run.status == "limit" and 8 < run.seconds < 60
    assert "completion tokens" in run.reason
    assert run.completion_tokens <= 200 and run.completion_tokens == sum(
        c.completion_tokens for c in run.cell_set.all()
    )


def test_the_time_of_a_worker_whose_clock_was_ahead_is_not_counted(db: None) -> None:
    run = make_run(shape="running")
    Cell.objects.filter(run=run).update(replied_at=time.time() + 3600)
    run.refresh_from_db()
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(seconds=30))
    run.refresh_from_db()
    assert 29 < seconds_uncounted(run) < 300


def test_a_sweep_takes_up_what_a_dead_worker_left_and_gives_up_in_the_end(
    scripted: Callable[..., Scripted], transactional_db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LEASE_SECONDS = 3
    server = scripted({"replies": ["```repl\nx = 1\nprint(x)\n```"], "default": "```repl\nFINAL(x + 1)\n```"})
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = server.base_url, "k"
    run = actions.start_run(make_workspace(), None, question="What is asked?", wake=False)
    lost = make_run(shape="running")
    stopped = make_run(shape="running")
    for each in (run, lost, stopped):
        abandon(each)
    Run.objects.filter(pk=run.pk).update(status="running")
    Run.objects.filter(pk=lost.pk).update(attempts=MOST_ATTEMPTS)
    actions.stop_run(stopped)
    one = Worker()
    one.start()
    try:
        wait_for(lambda: not Run.objects.filter(pk__in=[run.pk, lost.pk, stopped.pk], status="running").exists())
    finally:
        one.close()
    for each in (run, lost, stopped):
        each.refresh_from_db()
    assert (run.status, run.answer_display) == ("done", 2)
    assert lost.status == "failed" and "died 3 times" in lost.reason
    assert (stopped.status, stopped.reason) == ("stopped", "Stopped by a member.")
    assert not Call.objects.exclude(status__in=["done", "failed", "stopped", "limit"]).exists()
    assert not Cell.objects.filter(status__in=["writing", "running", "waiting"]).exists()


def test_a_serving_worker_that_closes_gives_its_runs_back_as_they_are(
    scripted: Callable[..., Scripted], transactional_db: None, settings: Any
) -> None:
    slow = {"attempt": 0, "turn": 1, "reply": {"text": "slow", "delay": 60}}
    script = {"rules": [slow, {"turn": 0, "reply": "```repl\nx = 1\n```"}, {"reply": "```repl\nFINAL(x + 1)\n```"}]}
    server = scripted(script)
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = server.base_url, "k"
    run = actions.start_run(make_workspace(), None, question="What is asked?", wake=False)
    one = Worker()
    one.start()
    wait_for(lambda: server.stats()["requests"] == 2)
    begun = time.monotonic()
    one.close()
    assert time.monotonic() - begun < 30
    run.refresh_from_db()
    assert (run.status, run.lease_token, run.reason, run.attempts) == ("queued", "", "", 0)
    assert Call.objects.get(run=run).status == "running"
    two = Worker()
    two.start()
    try:
        wait_for(lambda: Run.objects.get(pk=run.pk).ended)
    finally:
        two.close()
    run.refresh_from_db()
    assert (run.status, run.answer_display) == ("done", 2) and server.stats()["requests"] == 3


def test_a_pause_lets_go_of_the_run_and_resume_goes_on(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    script = {
        "replies": ["```repl\nx = 1\n```", {"text": "```repl\ny = 2\n```", "delay": 1.5}],
        "default": "```repl\nFINAL(x + y)\n```",
    }
    server, worker = scripted(script), workers()
    run = ask(server)
    done = worker.take(run.pk, endpoint=endpoint_of(server))
    assert done is not None
    wait_for(lambda: server.stats()["requests"] == 2)
    actions.pause_run(run)
    done.result(timeout=20)
    run.refresh_from_db()
    assert (run.status, run.lease_token) == ("paused", "")
    assert Cell.objects.filter(run=run, replied_at__isnull=False).count() == 2  # what was under way came in
    assert worker.take(run.pk, endpoint=endpoint_of(server)) is None
    actions.resume_run(run)
    run = execute(workers(), run, server)
    assert (run.status, run.answer_display, run.pause_requested_at) == ("done", 3, None)
    assert server.stats()["requests"] == 3


def test_a_paused_run_can_be_stopped(workers: Callable[[], Worker], scripted: Callable[..., Scripted]) -> None:
    server, worker = scripted({"default": {"text": "```repl\nx = 1\n```", "delay": 0.3}}), workers()
    run = ask(server)
    done = worker.take(run.pk, endpoint=endpoint_of(server))
    assert done is not None
    wait_for(lambda: server.stats()["requests"] == 2)
    actions.pause_run(run)
    done.result(timeout=20)
    actions.stop_run(run)
    run.refresh_from_db()
    assert (run.status, run.reason) == ("stopped", "Stopped by a member.")
    assert Call.objects.get(run=run).status == "stopped"


def test_a_stop_that_comes_in_the_moment_of_a_pause_is_not_lost(transactional_db: None) -> None:
    run = make_run(shape="running", stop_requested_at=timezone.now(), pause_requested_at=timezone.now())
    Run.objects.filter(pk=run.pk).update(status="paused", lease_token="", lease_expires_at=None)  # as its worker let go
    worker = Worker()
    worker.start()
    try:
        wait_for(lambda: Run.objects.get(pk=run.pk).ended, 30)
    finally:
        worker.close()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("stopped", "Stopped by a member.")
    assert not Call.objects.filter(run=run).exclude(status__in=ENDED).exists()


async def test_a_lease_is_looked_at_where_nothing_is_to_be_written(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that hung for a while must not pay for a request before it has seen that its run is another's."""
    from asgiref.sync import sync_to_async

    from analyses.recorder import Writer

    run = await sync_to_async(make_run)(shape="running")
    await Run.objects.filter(pk=run.pk).aupdate(lease_token="mine")
    await run.arefresh_from_db()
    writer = Writer()
    record = RunRecord(run, writer)
    await record.commit()
    await Run.objects.filter(pk=run.pk).aupdate(lease_token="another's")
    await record.commit()  # looked at a moment ago
    monkeypatch.setattr("analyses.recorder.CHECK_SECONDS", 0.0)
    with pytest.raises(LeaseLost):
        await record.commit()
    await sync_to_async(writer.close)()


async def test_a_lease_looked_at_before_the_process_hung_is_looked_at_again(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's thread may have looked just before, and the loop hears of it when it wakes up."""
    from asgiref.sync import sync_to_async

    from analyses import recorder

    run = await sync_to_async(make_run)(shape="running")
    await Run.objects.filter(pk=run.pk).aupdate(lease_token="mine")
    await run.arefresh_from_db()
    writer = recorder.Writer()
    record = RunRecord(run, writer)
    written = record._written

    def hang(*given: Any) -> None:
        """What the writer says arrives an hour later, when the run is another's."""
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600, time=time.time, sleep=time.sleep)
        monkeypatch.setattr(recorder, "time", later)
        written(*given)

    monkeypatch.setattr(record, "_written", hang)
    store = writer._store

    def stored(records: Any) -> float:
        held = store(records)
        Run.objects.filter(pk=run.pk).update(lease_token="another's")
        return held

    monkeypatch.setattr(writer, "_store", stored)
    with pytest.raises(LeaseLost):
        await record.commit()
    await sync_to_async(writer.close)()


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


async def test_a_request_that_was_cut_off_goes_out_again_in_its_own_row(transactional_db: None) -> None:
    from asgiref.sync import sync_to_async

    from analyses.recorder import Writer
    from rlm import events

    @sync_to_async
    def started() -> Run:
        run = make_run()
        Run.objects.filter(pk=run.pk).update(lease_token="mine", status="running")
        run.refresh_from_db()
        call = Call.objects.create(
            run=run, number=1, kind="root", queued_at=1.0, status="running", born=1, seq=1, turns=1
        )
        Cell.objects.create(
            run=run, call=call, call_number=1, number=1, status="stopped", reply="wor", started_at=1.0, ended_at=2.0,
            completion_tokens=5, born=2, seq=2,
        )  # fmt: skip
        return run

    run = await started()
    writer = Writer()
    record = RunRecord(run, writer)
    await sync_to_async(record.take_up)()
    await record.commit()
    assert (await Cell.objects.aget(run=run)).status == "writing"
    record(events.ReplyDone(1, 1, "code", "word", "", "x = 1", events.Usage(1, 7), time.time()))
    await record.commit()
    cell = await Cell.objects.aget(run=run)
    assert (cell.status, cell.reply, cell.completion_tokens, cell.ended_at) == ("running", "word", 12, None)
    await sync_to_async(writer.close)()
