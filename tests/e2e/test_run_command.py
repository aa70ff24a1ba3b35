"""./run as a newcomer types it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.e2e.instance import PROJECT, Instance, clean_environment, wait_until
from tests.scripted.fixture import Scripted

pytestmark = [pytest.mark.serial, pytest.mark.firejail, pytest.mark.timeout(180)]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROJECT / "run", *arguments],
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with services.installation() as environment:
        one = Instance(tmp_path_factory.mktemp("instance") / "data", **environment).start()
        try:
            one.wait_for_line(r"rlmweb is at ")
            one.wait_until_well()
            yield one
        finally:
            one.end()


@pytest.fixture
def launch() -> Iterator[Callable[..., Instance]]:
    """Start an instance that is gone after the test, whatever became of the test."""
    launched: list[Instance] = []
    with services.installation() as own:

        def start(*arguments: Any, **environment: str) -> Instance:
            launched.append(Instance(*arguments, **own | environment))
            return launched[-1].start()

        yield start
        for one in launched:
            one.end()


def test_a_new_instance_says_its_address_and_the_owners_password_once(instance: Instance) -> None:
    assert f"rlmweb is at http://127.0.0.1:{instance.port}/" in instance.lines
    assert sum("owner@" in line for line in instance.lines) == 1
    assert "Traceback" not in instance.text
    status, page = instance.get("/accounts/login/")
    assert status == 200 and "<form" in page


def test_health_is_well_in_every_part(instance: Instance) -> None:
    status, _ = instance.get("/healthz")
    assert status == 200
    assert {name: part["ok"] for name, part in instance.health()["parts"].items()} == {
        "database": True,
        "redis": True,
        "worker": True,
        "sandbox": True,
    }


@pytest.mark.parametrize("name", ["web", "worker", pytest.param("valkey", marks=services.about_embedded_redis)])
def test_a_program_that_is_killed_starts_again(instance: Instance, name: str) -> None:
    instance.wait_until_well()
    before = instance.programs()
    os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: instance.programs().get(name, before[name]) != before[name], 15, lambda: instance.text)
    instance.wait_until_well()
    after = instance.programs()
    assert {other for other in before if before[other] != after[other]} == {name}, "the others went on"


def test_a_second_start_on_the_same_data_is_refused(instance: Instance) -> None:
    second = run(RLMWEB_DATA=str(instance.data), PORT="1")
    assert second.returncode == 1
    assert f"rlmweb already runs on {instance.data}" in second.stdout


def test_what_it_keeps_is_closed_to_others(instance: Instance) -> None:
    assert instance.data.stat().st_mode & 0o077 == 0
    assert (instance.data / "run").stat().st_mode & 0o077 == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 6379)), "Valkey listens on its Unix socket alone"


def test_ctrl_c_ends_everything_and_a_second_start_is_quick(tmp_path: Path, launch: Callable[..., Instance]) -> None:
    first = launch(tmp_path / "da ta#%s")  # a path that tools like to take for something else
    first.wait_for_line(r"rlmweb is at ")
    first.wait_until_well()
    assert set(first.programs()) == {"web", "worker"} | (set() if services.REDIS else {"valkey"})
    assert first.end(signal.SIGINT) < 5

    started = time.monotonic()
    second = launch(first.data)
    second.wait_for_line(r"rlmweb is at ")
    seconds, cpu_seconds = time.monotonic() - started, second.cpu_seconds()
    assert second.get("/accounts/login/")[0] == 200
    assert not any("owner@" in line for line in second.lines), "the password is said once"
    # On two cores that do nothing else it takes 2 s; where other tests run beside, CPU says it.
    assert seconds < 5 or cpu_seconds < 5, (seconds, cpu_seconds)


def test_a_run_killed_outright_leaves_nothing_behind(tmp_path: Path, launch: Callable[..., Instance]) -> None:
    one = launch(tmp_path / "data")
    one.wait_for_line(r"rlmweb is at ")
    one.wait_until_well()
    assert one.end(signal.SIGKILL) < 5


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = run(RLMWEB_DATA=str(tmp_path), PORT=str(port))
    assert refused.returncode == 1
    assert refused.stdout == f"rlmweb: port {port} is taken by another program. Choose another: PORT={port + 1} ./run\n"
    assert not (tmp_path / "db.sqlite3").exists()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"PORT": "eighty"}, "PORT must be a whole number, not 'eighty'"),
        ({"PORT": "70000"}, "PORT must be from 1 to 65535, not 70000"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL must start with"),
        ({"RLMWEB_LOCAL": "1", "RLMWEB_BIND": "0.0.0.0"}, "RLMWEB_LOCAL=1 signs everybody in"),
        ({"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}, "the database does not work"),
    ],
    ids=["port-word", "port-large", "redis", "local", "database"],
)
def test_a_bad_setting_ends_the_start_with_a_sentence(tmp_path: Path, environment: dict[str, str], says: str) -> None:
    refused = run(**{"RLMWEB_DATA": str(tmp_path / "data")} | environment)
    assert refused.returncode == 1
    assert says in refused.stdout
    assert "Traceback" not in refused.stdout


def test_setup_installs_and_migrates_and_starts_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        done = run("--setup", RLMWEB_DATA=str(tmp_path / "data"))
        assert done.returncode == 0, done.stdout
    assert (tmp_path / "data" / "db.sqlite3").exists()
    assert "Traceback" not in done.stdout


def test_help_and_wrong_arguments_are_answered_at_once() -> None:
    assert "RLMWEB_DATA" in run("--help").stdout
    wrong = run("--sett")
    assert wrong.returncode == 2 and "--setup" in wrong.stdout


def manage(instance: Instance, code: str) -> str:
    """Run a piece of Python in the instance's Django, and give what it prints."""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=PROJECT,
        env=instance.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_ctrl_c_closes_the_runs_under_way_and_keeps_what_they_have(
    tmp_path: Path, launch: Callable[..., Instance], scripted: Callable[..., Scripted]
) -> None:
    """One waits for a model that is silent, one is in a cell that never ends: neither holds up the end."""
    fence = "```"
    endpoint = scripted(
        {
            "rules": [
                {"match": "a silent model", "turn": 1, "reply": {"text": "never said", "delay": 300}},
                {"match": "an endless cell", "turn": 1, "reply": f"{fence}repl\nwhile True: pass\n{fence}"},
            ],
            "replies": [f"{fence}repl\nprint('so far')\n{fence}"],
        }
    )
    one = launch(tmp_path / "data", OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY="none", OPENAI_MODEL="m")
    one.wait_for_line(r"rlmweb is at ")
    one.wait_until_well()
    manage(
        one,
        "from analyses.actions import start_run; from workspaces.local import local_owner\n"
        "user, _ = local_owner(); workspace = user.memberships.first().workspace\n"
        "for question in ('a silent model', 'an endless cell'):\n"
        "    start_run(workspace, user, question=question)",
    )
    under_way = (
        "from analyses.models import Cell, Run\n"
        "print(*Run.objects.order_by('pk').values_list('status', flat=True), Cell.objects.count())"
    )
    wait_until(
        lambda: manage(one, under_way).split() == ["running", "running", "4"], 40, lambda: manage(one, under_way)
    )
    took = one.end(signal.SIGINT)
    assert took < 5
    assert set(manage(one, under_way).split()[:2]) <= {"stopped", "queued"}, "closed, or given back"
    kept = manage(
        one, "from analyses.models import Cell\nprint(Cell.objects.filter(output__contains='so far').count())"
    )
    assert kept.strip() == "2"
