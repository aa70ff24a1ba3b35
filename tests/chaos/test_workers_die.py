"""Real processes, really killed: the quick part of the proof that a run outlives its worker."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import services
from tests.chaos.household import Household, halt
from tests.scripted.fixture import Scripted, scripted, scripted_server

__all__ = ["scripted", "scripted_server"]

pytestmark = pytest.mark.firejail

SUM = (
    "```repl\nparts = await batch_llm_query(*[llm_query('x' * n, 'how long?') for n in range(1, 7)])\nprint(parts)\n```"
)
FURTHER = (
    "```repl\nmore = await batch_llm_query(*[llm_query('x' * n, 'how long?') for n in range(7, 10)])\nprint(more)\n```"
)
LONG = "Take your time"  # its first cell runs for two seconds, so that its replay does too
SCRIPT = {
    "rules": [
        {
            "match": "# Instruction\nhow long",
            "turn": 0,
            "reply": {"text": "```repl\nn = len(context)\n```", "delay": 0.3},
        },
        {"match": "# Instruction\nhow long", "reply": {"text": "```repl\nFINAL(n)\n```", "delay": 0.3}},
        {"match": LONG, "turn": 0, "reply": "```repl\nimport time\ntime.sleep(2)\nbase = 100\n```"},
        {"match": LONG, "turn": 1, "reply": SUM},
        {"match": LONG, "reply": {"text": "```repl\nFINAL([base + sum(parts), parts])\n```", "delay": 0.3}},
        {"turn": 0, "reply": SUM},
        {"turn": 1, "reply": {"text": "```repl\nFINAL([sum(parts), parts])\n```", "delay": 0.3}},
        {"turn": 2, "reply": FURTHER},
        {"turn": 3, "reply": {"text": "```repl\nFINAL([sum(parts) + sum(more), more])\n```", "delay": 0.3}},
    ]
}


@pytest.fixture
def household(tmp_path: Path, scripted: Callable[..., Scripted]) -> Iterator[tuple[Household, Scripted]]:
    server = scripted(SCRIPT)
    # A lease as short as it may be: these tests wait for it.
    with services.installation() as environment:
        environment |= {"RLMWEB_LEASE_SECONDS": "3", "RLMWEB_SANDBOX_SPARE": "0"}
        one = Household(tmp_path, server.base_url, **environment)
        yield one, server
        one.close()


@pytest.mark.parametrize("replies", [1, 9])
def test_a_killed_workers_run_goes_on_in_another(household: tuple[Household, Scripted], replies: int) -> None:
    house, server = household
    house.ask("How long are they?")
    first = house.start_worker()
    answered = "select count(*) from analyses_cell where replied_at is not null"
    house.wait(lambda: house.rows(answered)[0][0] >= replies)
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    kept, asked = house.rows(answered)[0][0], server.stats()["requests"]
    house.start_worker()
    house.wait(lambda: house.rows("select status from analyses_run") != [("running",)])
    [(status, reason, answer, calls, token)] = house.rows(
        "select status, reason, answer_display, calls, lease_token from analyses_run"
    )
    assert (status, reason, json.loads(answer)) == ("done", "", [21, [1, 2, 3, 4, 5, 6]])
    assert (calls, token) == (7, "")
    assert server.stats()["requests"] - asked == 14 - kept  # what was answered and written down is not asked again
    identities = house.rows("select identity from analyses_call")
    assert len(set(identities)) == len(identities) == 7
    assert house.rows("select count(*) from analyses_call where status != 'done'") == [(0,)]
    assert house.rows("select count(*) from analyses_cell where status != 'done'") == [(0,)]


def test_a_killed_workers_fork_goes_on_in_another(household: tuple[Household, Scripted]) -> None:
    house, server = household
    source = house.ask("How long are they?")
    first = house.start_worker()
    house.wait(lambda: house.rows("select status from analyses_run") == [("done",)])
    asked = server.stats()["requests"]
    fork = house.fork(
        source, 1, "parts = await batch_llm_query(*[llm_query('x' * n, 'how long?') for n in range(4, 10)])"
    )
    new = f"select count(*) from analyses_cell where run_id = {fork} and replied_at is not null and not reused"
    house.wait(lambda: house.rows(new)[0][0] >= 2)
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    kept, before = house.rows(new)[0][0], server.stats()["requests"]
    house.start_worker()
    house.wait(lambda: house.rows(f"select status from analyses_run where id = {fork}") != [("running",)])
    [(status, reason, answer, calls)] = house.rows(
        f"select status, reason, answer_display, calls from analyses_run where id = {fork}"
    )
    assert (status, reason, json.loads(answer), calls) == ("done", "", [39, [4, 5, 6, 7, 8, 9]], 7)
    # 4, 5 and 6 are those of the other run; 7, 8 and 9 take two turns each, and the root one. Nothing answered is paid twice.
    reused = f"select count(*) from analyses_call where run_id = {fork} and reused_at is not null"
    assert house.rows(reused) == [(3,)]
    assert server.stats()["requests"] - before == 7 - kept
    assert before - asked >= kept


def test_a_fork_whose_worker_is_killed_while_it_replays_goes_on_in_another(
    household: tuple[Household, Scripted],
) -> None:
    house, server = household
    source = house.ask(f"{LONG}: how long are they?")
    first = house.start_worker()
    house.wait(lambda: house.rows("select status from analyses_run") == [("done",)])
    asked = server.stats()["requests"]
    fork = house.fork(
        source, 2, "parts = await batch_llm_query(*[llm_query('x' * n, 'how long?') for n in range(4, 10)])"
    )
    house.wait(lambda: house.rows(f"select count(*) from analyses_cell where run_id = {fork}")[0][0] >= 1)
    first.send_signal(signal.SIGKILL)  # its first cell runs again by now, or is about to
    first.wait(10)
    assert server.stats()["requests"] == asked
    house.start_worker()
    house.wait(lambda: house.rows(f"select status from analyses_run where id = {fork}")[0][0] in ("done", "failed"))
    found = f"select status, reason, answer_display, calls from analyses_run where id = {fork}"
    [(status, reason, answer, calls)] = house.rows(found)
    assert (status, reason, json.loads(answer), calls) == ("done", "", [139, [4, 5, 6, 7, 8, 9]], 7)
    assert server.stats()["requests"] - asked == 7


@pytest.mark.parametrize("replies", [0, 1, 4])
def test_a_worker_killed_in_a_follow_up_is_followed_by_another_that_builds_its_repl_anew(
    household: tuple[Household, Scripted], replies: int
) -> None:
    house, server = household
    run = house.ask("How long are they?")
    first = house.start_worker()
    house.wait(lambda: house.rows("select status, warm_worker != '' from analyses_run") == [("done", 1)])
    asked = server.stats()["requests"]
    answered = "select count(*) from analyses_cell where replied_at is not null"
    before = house.rows(answered)[0][0]
    house.further(run, "And those after them?")
    status = "select status from analyses_run"
    house.wait(lambda: house.rows(status) != [("queued",)] and house.rows(answered)[0][0] >= before + replies)
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    kept, now = house.rows(answered)[0][0] - before, server.stats()["requests"]
    house.start_worker()
    house.wait(lambda: house.rows("select status from analyses_run")[0][0] in ("done", "failed"))
    found = "select status, reason, answer_display, calls, lease_token from analyses_run"
    [(status, reason, answer, calls, token)] = house.rows(found)
    assert (status, reason, json.loads(answer)) == ("done", "", [45, [7, 8, 9]])
    assert (calls, token) == (10, "")
    [(number, first_answer)] = house.rows("select number, answer_display from analyses_earlieranswer")
    assert (number, json.loads(first_answer)) == (1, [21, [1, 2, 3, 4, 5, 6]])
    assert server.stats()["requests"] - now == 8 - kept  # two turns of the root, two of each of three children
    assert now - asked >= kept
    identities = house.rows("select identity from analyses_call")
    assert len(set(identities)) == len(identities) == 10
    assert house.rows("select count(*) from analyses_cell where status != 'done' or replay_differs") == [(0,)]


def test_a_worker_that_hung_past_its_lease_neither_writes_nor_pays(household: tuple[Household, Scripted]) -> None:
    house, server = household
    house.ask("How long are they?")
    first = house.start_worker()
    house.wait(lambda: house.rows("select count(*) from analyses_cell where replied_at is not null")[0][0] >= 2)
    halt(house.data, first.pid)
    try:
        house.start_worker()
        house.wait(lambda: house.rows("select status from analyses_run") != [("running",)])
    finally:
        first.send_signal(signal.SIGCONT)
    rows = house.rows("select * from analyses_call order by id"), house.rows("select * from analyses_cell order by id")
    asked = server.stats()["requests"]
    house.ask("And another?")  # when it is done, both have looked around since
    house.wait(lambda: house.rows("select status from analyses_run order by id")[-1] == ("done",))
    first_run = "run_id = (select min(id) from analyses_run)"
    assert house.rows(f"select * from analyses_call where {first_run} order by id") == rows[0]
    assert house.rows(f"select * from analyses_cell where {first_run} order by id") == rows[1]
    assert server.stats()["requests"] - asked == 14
