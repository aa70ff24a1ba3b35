"""A database and blobs of their own, and worker processes over them that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import set_json_loads

PROJECT = Path(__file__).resolve().parent.parent.parent
OURS = ("RLMWEB_", "OPENAI_", "DJANGO_", "PYTEST_", "REDIS_", "DATABASE_")
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
STEADY = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


def faketime() -> Path:
    found = [FAKETIME, *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    return next(path for path in found if path.exists())


class Household:
    """``environment`` may name a PostgreSQL; without, it is SQLite."""

    def __init__(self, data: Path, base_url: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.environment = clean | environment
        self.environment |= {"RLMWEB_DATA": str(data), "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "k"}
        self.data = data
        self.workers: list[subprocess.Popen[str]] = []
        self._call(PROJECT / "manage.py", "migrate", "--verbosity", "0")

    def _call(self, *words: Any) -> str:
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, cwd=PROJECT, env=self.environment, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    def ask(self, question: str) -> int:
        return int(self._call("-m", "tests.chaos.process", "ask", question).split()[-1])

    def further(self, run: int, question: str) -> None:
        self._call("-m", "tests.chaos.process", "further", run, question)

    def fork(self, run: int, cell: int, code: str) -> int:
        return int(self._call("-m", "tests.chaos.process", "fork", run, cell, code).split()[-1])

    def upload(self, *paths: Path) -> int:
        return int(self._call("-m", "tests.chaos.process", "upload", *paths).split()[-1])

    def start_worker(self, *, clock: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start a worker and wait until it sweeps; ``clock``: how its clock is set, "+1h" and the like."""
        command = [sys.executable, "-m", "tests.chaos.process", "worker"]
        environment = self.environment | environment
        if clock:
            environment |= {"LD_PRELOAD": str(faketime()), "FAKETIME": clock, **STEADY}
        worker = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds; JSON as text."""
        if postgres := self.environment.get("DATABASE_URL"):
            with psycopg.connect(postgres, autocommit=True) as connection:
                set_json_loads(bytes.decode, connection)
                return connection.execute(query).fetchall()  # type: ignore[arg-type]
        [file] = list(self.data.rglob("*.sqlite3"))
        with sqlite3.connect(file, timeout=10) as database:
            found = database.execute(query).fetchall()
        database.close()
        return found

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> float:
        """Wait until it holds; return how long that took."""
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > seconds:
                raise TimeoutError(
                    f"waited {seconds:g} s in vain: {self.rows('select status, reason from analyses_run')}"
                )
            time.sleep(0.05)
        return time.monotonic() - begun

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait(10)
            if worker.stdout is not None:
                worker.stdout.close()


def halt(data: Path, pid: int) -> int:
    """Have a process stopped, but not in the middle of a write: on SQLite nobody could write until it goes on.

    Returns how often it was let go on for that.
    """
    stop(pid)
    moved = 0
    while is_locked(data):
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.02)
        stop(pid)
        moved += 1
    return moved


def stop(pid: int) -> None:
    """Have a process stopped; return when it is. Until then a thread in the kernel may yet be given a lock there."""
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + 30
    while any(state not in "TZX" for state in _states(pid)):
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} does not stop")
        time.sleep(0.005)


def _states(pid: int) -> Iterator[str]:
    """Of each thread, as the kernel says: T is stopped."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            yield (thread / "stat").read_text().rpartition(")")[2].split()[0]


def is_locked(data: Path) -> bool:
    """Whether somebody is in the middle of writing to SQLite, and does not come to its end."""
    for file in data.rglob("db.sqlite3"):  # on PostgreSQL there is none
        with contextlib.closing(sqlite3.connect(file, timeout=1, isolation_level=None)) as probe:
            try:
                probe.execute("BEGIN IMMEDIATE")
                probe.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
    return False
