"""Runs from the queue to their end: claimed, executed in real jails against a scripted endpoint, recorded."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import IntegrityError

from analyses import actions
from analyses.leases import claim
from analyses.models import Call, Cell, Run
from analyses.worker import Worker
from rlm.endpoints import Endpoint
from tests.factories import make_run, make_workspace
from tests.scripted.fixture import Scripted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.firejail]


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker(serving=False)
    one.start()
    yield one
    one.close()


@pytest.fixture
def ask(worker: Worker, transactional_db: None) -> Callable[..., Run]:
    """Ask a question of a scripted endpoint and wait for the end of the run."""
    workspace = make_workspace()

    def ask(server: Scripted, question: str = "Go.", **fields: Any) -> Run:
        endpoint = Endpoint(name="scripted", base_url=server.base_url, api_key="k", root_model="m", child_model="m")
        run = actions.start_run(workspace, None, question=question, endpoint=endpoint, wake=False, **fields)
        done = worker.take(run.pk, endpoint=endpoint)
        assert done is not None
        done.result(timeout=60)
        run.refresh_from_db()
        return run

    return ask


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


def test_a_question_becomes_an_answer_with_its_whole_record(
    ask: Callable[..., Run], scripted: Callable[..., Scripted]
) -> None:
    server = scripted({"replies": [f"I look.\n{cell('print(context)')}", cell("found = {'n': 3}\nFINAL(found)")]})
    run = ask(server, "How many?")
    assert (run.status, run.reason, run.answer_display, run.answer_name) == ("done", "", {"n": 3}, "found")
    assert (run.calls, run.cells, run.depth, run.lease_token) == (1, 2, 0, "")
    call = Call.objects.get(run=run)
    first, second = Cell.objects.filter(call=call).order_by("number")
    assert first.code == "print(context)" and first.output == "How many?\n" and "How many?" in first.shown
    assert first.reply.startswith("I look.") and second.final
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert run.prompt_tokens == first.prompt_tokens + second.prompt_tokens > 0
    assert first.started_at <= first.replied_at <= first.ended_at <= second.started_at


def test_a_hundred_children_are_recorded_under_their_cell(
    ask: Callable[..., Run], scripted: Callable[..., Scripted]
) -> None:
    run = ask(scripted("fanout"), "start 100 children", limits={"calls_in_flight": 50})
    assert run.status == "done", run.reason
    assert run.answer_display == list(range(1, 101))
    parent = Cell.objects.get(run=run, call_number=1, number=1)
    assert (parent.children_total, parent.children_done, parent.children_failed) == (100, 100, 0)
    children = list(Call.objects.filter(run=run, parent_number=1).order_by("order"))
    assert [child.answer_display for child in children] == list(range(1, 101))
    assert {child.status for child in children} == {"done"} and run.calls == 101 and run.cells == 201
    assert sorted(child.number for child in children) == list(range(2, 102))


@pytest.mark.parametrize(
    ("replies", "limits", "status", "word"),
    [
        (["I will think about it."] * 30, {}, "failed", "no code"),
        (["\x00\udcff garbage ``` ```repl"] * 30, {"turns": 4}, "failed|limit", ""),
        ([cell("raise ValueError('no')")] * 30, {"errors": 3}, "limit", "3 cells in a row"),
        ([cell("while True: pass")] * 30, {"cell_seconds": 0.3, "errors": 2}, "limit", "2 cells in a row"),
        ([cell("x = 'a' * (20 << 30)"), cell("FINAL('alive')")], {}, "done", ""),
        ([cell("print('y' * (1 << 30))"), cell("FINAL('alive')")], {"cell_seconds": 20}, "done", ""),
        ([{"status": 401, "error": "bad key"}] * 3, {}, "failed", ""),
        (["<html>"] * 30, {"turns": 3}, "failed|limit", ""),
    ],
)
def test_what_models_and_cells_do_wrong_ends_with_a_sentence(
    ask: Callable[..., Run],
    scripted: Callable[..., Scripted],
    replies: list[Any],
    limits: dict[str, Any],
    status: str,
    word: str,
) -> None:
    run = ask(scripted({"replies": replies, "default": replies[-1]}), limits=limits)
    assert run.status in status.split("|"), run.reason
    assert word in run.reason
    if run.status != "done":
        assert run.reason.endswith(".")
    assert not Cell.objects.filter(run=run, status__in=["writing", "running", "waiting"]).exists()
    assert run.lease_token == ""


def test_stop_ends_a_run_within_two_seconds_and_keeps_what_is_there(
    worker: Worker, scripted: Callable[..., Scripted], transactional_db: None
) -> None:
    server = scripted({"replies": [cell("print('kept')"), cell("import time; time.sleep(30)")]})
    endpoint = Endpoint(name="s", base_url=server.base_url, api_key="k", root_model="m", child_model="m")
    run = actions.start_run(make_workspace(), None, question="?", endpoint=endpoint, wake=False)
    done = worker.take(run.pk, endpoint=endpoint)
    assert done
    wait_for(lambda: Cell.objects.filter(run=run, number=2, status="running").exists())
    actions.stop_run(run)
    done.result(timeout=25)
    run.refresh_from_db()
    assert (run.status, run.lease_token) == ("stopped", "") and "Stopped" in run.reason
    assert Cell.objects.get(run=run, number=1).output == "kept\n"
    interrupted = Cell.objects.get(run=run, number=2)
    assert interrupted.status in ("stopped", "error") and interrupted.ended_at


def test_a_reply_cut_off_by_stop_stays_readable_and_paid_for(
    worker: Worker, scripted: Callable[..., Scripted], transactional_db: None
) -> None:
    server = scripted({"default": {"text": "word " * 400, "piece": 20, "pause": 0.05}})
    endpoint = Endpoint(name="s", base_url=server.base_url, api_key="k", root_model="m", child_model="m")
    run = actions.start_run(make_workspace(), None, question="?", endpoint=endpoint, wake=False)
    done = worker.take(run.pk, endpoint=endpoint)
    assert done
    wait_for(lambda: Cell.objects.filter(run=run, number=1).exists())
    time.sleep(1)
    actions.stop_run(run)
    done.result(timeout=25)
    cell = Cell.objects.get(run=run, number=1)
    run.refresh_from_db()
    assert cell.reply.startswith("word word") and cell.status == "stopped"
    assert cell.completion_tokens > 0 and run.completion_tokens == cell.completion_tokens


def test_a_closing_worker_of_the_command_line_stops_its_run(
    scripted: Callable[..., Scripted], transactional_db: None
) -> None:
    one = Worker(serving=False)
    one.start()
    server = scripted({"replies": [cell("print('kept')")], "default": {"text": "slow", "delay": 60}})
    endpoint = Endpoint(name="s", base_url=server.base_url, api_key="k", root_model="m", child_model="m")
    run = actions.start_run(make_workspace(), None, question="?", endpoint=endpoint, wake=False)
    assert one.take(run.pk, endpoint=endpoint)
    wait_for(lambda: Cell.objects.filter(run=run, number=1, status="done").exists())
    begun = time.monotonic()
    one.close()
    assert time.monotonic() - begun < 30
    run.refresh_from_db()
    assert run.status == "stopped" and "shut down" in run.reason and run.lease_token == ""


def test_a_run_is_claimed_once(transactional_db: None) -> None:
    run = make_run()
    barrier = threading.Barrier(4)

    def grab(token: str) -> bool:
        from django.db import connection

        barrier.wait()
        try:
            return claim(run.pk, token, {}) is not None
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(grab, "abcd")) == 1


def test_a_sweep_finds_what_no_message_told_of(
    monkeypatch: pytest.MonkeyPatch, settings: Any, scripted: Callable[..., Scripted], transactional_db: None
) -> None:
    settings.OPENAI_BASE_URL = scripted("hello").base_url
    settings.OPENAI_API_KEY = "k"
    run = actions.start_run(make_workspace(), None, question="?", wake=False)
    one = Worker()
    one.start()
    try:
        wait_for(lambda: Run.objects.get(pk=run.pk).ended, 20)
    finally:
        one.close()
    run.refresh_from_db()
    assert (run.status, run.answer_display) == ("done", "hello")
    assert run.sandbox["ok"] is True


def test_a_run_that_cannot_be_claimed_keeps_no_other_waiting(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> None:
    asked: list[int] = []

    def refuse(run_id: int, *_: Any) -> None:
        asked.append(run_id)
        raise IntegrityError("a row of it is refused")

    monkeypatch.setattr("analyses.worker.claim", refuse)
    runs = {make_run().pk, make_run().pk}
    worker._sweep()
    assert set(asked) == runs


def test_a_run_taken_while_the_sandbox_is_probed_keeps_its_lease(
    monkeypatch: pytest.MonkeyPatch, settings: Any, transactional_db: None
) -> None:
    settings.LEASE_SECONDS = 1
    over = threading.Event()

    async def execute(*_: Any, **__: Any) -> None:
        while not over.is_set():
            await asyncio.sleep(0.05)

    monkeypatch.setattr("analyses.worker.execute", execute)
    monkeypatch.setattr(Worker, "_probe", lambda self: over.wait(60))
    run = make_run()
    one = Worker()
    one.start()
    try:
        assert one.take(run.pk) is not None
        first = Run.objects.get(pk=run.pk).lease_expires_at
        wait_for(lambda: Run.objects.get(pk=run.pk).lease_expires_at != first, 30)
    finally:
        over.set()
        one.close()


def test_an_endpoint_that_is_gone_is_said(worker: Worker, transactional_db: None) -> None:
    run = make_run(endpoint="no such endpoint")
    done = worker.take(run.pk)
    assert done
    done.result(timeout=10)
    run.refresh_from_db()
    assert run.status == "failed" and "no such endpoint" in run.reason


def test_without_a_sandbox_runs_are_refused_with_the_reason(
    settings: Any, scripted: Callable[..., Scripted], tmp_path: Any, transactional_db: None
) -> None:
    """There is no unsafe way out: a jail that cannot be had ends the run before a model is asked for anything to run."""
    settings.SANDBOX_PREFIX = str(tmp_path / "nowhere")
    server = scripted("hello")
    endpoint = Endpoint(name="s", base_url=server.base_url, api_key="k", root_model="m", child_model="m")
    one = Worker(serving=False)
    one.start()
    try:
        run = actions.start_run(make_workspace(), None, question="?", endpoint=endpoint, wake=False)
        done = one.take(run.pk, endpoint=endpoint)
        assert done
        done.result(timeout=30)
    finally:
        one.close()
    run.refresh_from_db()
    assert run.status == "failed" and "sandbox" in run.reason.lower()
    assert run.answer_display is None


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
