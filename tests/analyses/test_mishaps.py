"""What a run needs is missing for a while: room for long texts, a sandbox, Redis. Nothing is lost by it."""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.db import DataError, OperationalError

from analyses import actions, blobs, execution, live, outage, recorder
from analyses.execution import NO_ROOM, REFUSED
from analyses.leases import lease_of
from analyses.models import Call, Cell, Run
from analyses.recorder import RunRecord
from analyses.runpage import RunState
from analyses.worker import Worker
from rlm.endpoints import Endpoint
from sandbox import JailPool, SandboxUnavailable
from tests.factories import make_workspace
from tests.scripted.fixture import Scripted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.firejail]

LONG = "```repl\nprint('0123456789' * 2000)\n```"


@pytest.fixture
def workers(transactional_db: None) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def start(**options: Any) -> Worker:
        made.append(Worker(**{"serving": False, **options}))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


def ask(server: Scripted, **limits: Any) -> Run:
    return actions.start_run(
        make_workspace(), None, question="What is asked?", endpoint=endpoint_of(server), wake=False, seed="1"
    )


def endpoint_of(server: Scripted) -> Endpoint:
    return Endpoint(name="scripted", base_url=server.base_url, api_key="k", root_model="m", child_model="m")


def execute(worker: Worker, run: Run, server: Scripted) -> Run:
    done = worker.take(run.pk, endpoint=endpoint_of(server))
    assert done is not None
    done.result(timeout=60)
    run.refresh_from_db()
    return run


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("which", ["an output", "messages", "the answer"])
def test_a_run_rests_where_the_store_is_full_and_goes_on_when_there_is_room(
    which: str, workers: Callable[..., Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {
        "an output": LONG,
        "messages": "```repl\nprint('0123456789' * 1000)\n```",  # shown to the model, too long for a row
        "the answer": "```repl\nx = 1\n```",
    }[which]
    last = "```repl\nFINAL('a' * 20_000)\n```" if which == "the answer" else "```repl\nFINAL('done')\n```"
    server, worker = scripted({"replies": [first, last]}), workers()
    room, put = [True], blobs.put

    def keep(data: bytes, **how: Any) -> str:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(data, **how)

    monkeypatch.setattr(blobs, "put", keep)
    expected = execute(worker, ask(server), server)
    assert expected.status == "done"
    monkeypatch.setattr(blobs, "renew", lambda sha, size: False)  # a first run's: nothing of it is kept yet
    server = scripted({"replies": [{"text": first, "delay": 0.3}, last]})
    run = ask(server)
    done = worker.take(run.pk, endpoint=endpoint_of(server))
    assert done is not None
    wait_for(lambda: Cell.objects.filter(run=run).exists())  # the first messages are kept
    room[0] = False
    done.result(timeout=60)
    run.refresh_from_db()
    assert (run.status, run.lease_token) == ("paused", "") and run.pause_requested_at is not None
    assert "there is no room left" in run.reason and "let it go on" in run.reason
    assert RunState(run, None, None).now == run.reason  # type: ignore[arg-type]
    assert Call.objects.get(run=run).status == "running"  # nothing is closed
    room[0] = True
    actions.resume_run(run)
    run = execute(workers(), run, server)
    assert (run.status, run.reason, run.answer_display) == ("done", "", expected.answer_display)
    assert server.stats()["requests"] == 2 or which == "messages"
    rows = [
        list(Cell.objects.filter(run=one).order_by("number").values("status", "reply", "output", "output_blob", "messages"))
        for one in (expected, run)
    ]  # fmt: skip
    assert rows[0] == rows[1] and not Cell.objects.filter(run=run, replay_differs=True).exists()


def test_a_run_rests_where_the_database_is_full(
    workers: Callable[..., Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, worker = scripted({"replies": ["```repl\nx = 1\n```"], "default": "```repl\nFINAL(x + 1)\n```"}), workers()
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 0.1)
    write = RunRecord.write

    def full(self: RunRecord) -> None:
        if self.run.cells:
            raise OperationalError("database or disk is full")
        write(self)

    with monkeypatch.context() as patched:
        patched.setattr(RunRecord, "write", full)
        run = execute(worker, ask(server), server)
    assert (run.status, run.lease_token, run.reason) == ("paused", "", NO_ROOM)
    actions.resume_run(run)
    run = execute(worker, run, server)
    assert (run.status, run.reason, run.answer_display) == ("done", "", 2)


def test_a_run_whose_rows_the_database_refuses_fails_and_says_so(
    workers: Callable[..., Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, worker = scripted({"replies": ["```repl\nx = 1\n```"], "default": "```repl\nFINAL(x + 1)\n```"}), workers()
    write = RunRecord.write

    def refused(self: RunRecord) -> None:
        if self.run.cells:
            raise DataError("value too long for type character varying(80)")
        write(self)

    monkeypatch.setattr(RunRecord, "write", refused)
    run = execute(worker, ask(server), server)
    assert (run.status, run.lease_token, run.reason) == ("failed", "", REFUSED)
    assert not run.call_set.exclude(status="failed").exists()


def test_a_run_whose_worker_cannot_read_the_database_is_left_to_who_can(
    workers: Callable[..., Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, worker = scripted("hello"), workers()

    def cut(*_: Any) -> None:
        raise OperationalError("terminating connection due to administrator command")

    with monkeypatch.context() as patched:
        patched.setattr(execution, "_read", cut)
        run = execute(worker, ask(server), server)
    lease = lease_of(run.pk)
    assert run.status == "running" and lease is not None  # until it runs out
    done = worker.take(run.pk, endpoint=endpoint_of(server), orphan=lease)
    assert done is not None
    done.result(timeout=60)
    run.refresh_from_db()
    assert (run.status, run.answer_display) == ("done", "hello")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """From when it is [True] on, no jail is to be had."""
    state, open_jail = [False], JailPool.open

    async def refuse(self: JailPool) -> Any:
        if state[0]:
            raise SandboxUnavailable("firejail could not be started")
        return await open_jail(self)

    monkeypatch.setattr(JailPool, "open", refuse)
    return state


class FakeRedis:
    """What other workers have said of themselves."""

    def __init__(self, *others: bool) -> None:
        self.words = {
            f"rlmweb:worker:other:{n}".encode(): json.dumps({"sandbox": {"ok": ok}}) for n, ok in enumerate(others)
        }

    def scan_iter(self, match: str, count: int) -> list[bytes]:
        return list(self.words)

    def get(self, key: bytes) -> str:
        return self.words[key]

    def set(self, *words: Any, **how: Any) -> None: ...
    def delete(self, *keys: Any) -> None: ...


def serve(worker: Worker, monkeypatch: pytest.MonkeyPatch, *others: bool) -> None:
    monkeypatch.setattr(worker, "_tell_redis", lambda say: say(FakeRedis(*others), "rlmweb:worker:own:1"))


def test_a_run_is_given_back_where_another_worker_has_a_sandbox(
    workers: Callable[..., Worker], scripted: Callable[..., Scripted], broken: list[bool], monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr("analyses.worker.sweep_seconds", lambda: 3600.0)
    server = scripted({"replies": ["```repl\nx = 1\n```"], "default": "```repl\nFINAL(x + 1)\n```"})
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = server.base_url, "k"
    one = workers(serving=True)
    wait_for(lambda: one.sandbox["ok"])
    serve(one, monkeypatch, False, True)
    run = ask(server)
    broken[0] = True
    execute(one, run, server)
    assert (run.status, run.lease_token, run.reason) == ("queued", "", "")
    assert Call.objects.get(run=run).status not in ("failed", "stopped")
    assert one.sandbox == {"ok": False, "reason": "firejail could not be started"}  # /healthz says so
    assert one.take(run.pk, endpoint=endpoint_of(server)) is None  # it leaves runs to the other
    broken[0] = False
    run = execute(workers(), run, server)
    assert (run.status, run.answer_display) == ("done", 2)


def test_a_run_that_has_begun_rests_where_nobody_has_a_sandbox(
    workers: Callable[..., Worker],
    scripted: Callable[..., Scripted],
    broken: list[bool],
    monkeypatch: pytest.MonkeyPatch,
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
    done.result(timeout=60)
    actions.resume_run(run)
    broken[0] = True
    run = execute(worker, run, server)
    assert run.status == "paused" and run.reason == (
        "It was paused because it needs a sandbox. Firejail could not be started."
    )
    broken[0] = False
    actions.resume_run(run)
    run = execute(worker, run, server)
    assert (run.status, run.reason, run.answer_display) == ("done", "", 3)
    assert server.stats()["requests"] == 3


async def test_redis_that_is_away_is_one_line_in_the_log(
    settings: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    monkeypatch.setattr(outage, "REDIS", outage.Outage("Redis cannot be reached"))
    caplog.set_level(logging.INFO)
    run = live.LiveRun(1)
    for n in range(20):
        run.append(1, 1, "reply", f"word {n} ")
        await run.flush()
        assert await live.read(1) == {}
    await run.close()
    await live.close()
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["Redis cannot be reached"]
    outage.REDIS.over()
    outage.REDIS.over()
    assert len(caplog.records) == 2 and "this is over after" in caplog.text


def test_the_channel_layer_says_no_more_of_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "REDIS", outage.Outage("Redis cannot be reached"))
    channels = logging.getLogger("channels_redis.pubsub")
    for error in [redis.ConnectionError("refused"), ConnectionResetError("gone"), KeyError("a bug")] * 3:
        try:
            raise error
        except Exception:
            channels.exception("Unexpected exception in receive task")
    said = [record.name for record in caplog.records]
    assert sorted(said) == ["analyses.outage", *["channels_redis.pubsub"] * 3]
