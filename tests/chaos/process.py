"""A worker, or a person who asks, in a process of its own:

``python -m tests.chaos.process worker | celery | ask QUESTION | further RUN QUESTION | fork RUN CELL CODE | upload FILE …``.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlmweb.settings")

RENEWAL = re.compile(r'UPDATE "analyses_run" SET "lease_expires_at" = .{0,200}? WHERE ', re.DOTALL)


def main(verb: str, *words: str) -> None:
    import django

    django.setup()
    if full := os.environ.get("CHAOS_FULL"):
        fill(Path(full))
    if times := os.environ.get("CHAOS_TIMES"):
        measure(Path(times))
    if slow := os.environ.get("CHAOS_SLOW"):
        dally(Path(slow))
    if verb == "celery":
        from rlmweb.celery import app

        app.worker_main(
            [
                "-q",
                "worker",
                "--pool",
                "threads",
                "-c",
                "4",
                "--without-gossip",
                "--without-mingle",
                "--loglevel",
                "INFO",
            ]
        )
    elif verb == "ask":
        sys.stdout.write(f"{ask(words[0])}\n")
    elif verb == "further":
        further(int(words[0]), words[1])
    elif verb == "fork":
        sys.stdout.write(f"{fork(int(words[0]), int(words[1]), words[2])}\n")
    elif verb == "upload":
        sys.stdout.write(f"{upload(words)}\n")
    else:
        from analyses.worker import Worker

        Worker().start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        threading.Event().wait()


def desk() -> Any:
    from workspaces.models import User, Workspace

    return Workspace.objects.first() or Workspace.start("Desk", User.objects.create_user("a@example.org"))


def upload(paths: Sequence[str]) -> int:
    """Files that are here, for whichever worker finds them."""
    from analyses.ingest import uploads

    made = uploads.start(desk(), None)
    for path in map(Path, paths):
        with path.open("rb") as file:
            uploads.receive(made, path.name, file)
    uploads.close(made)
    return made.pk


def ask(question: str) -> int:
    from analyses import actions

    return actions.start_run(desk(), None, question=question, wake=False, limits={"depth": 3}, seed="1").pk


def further(run: int, question: str) -> None:
    from analyses import follow_ups
    from analyses.models import Run

    follow_ups.ask_follow_up(Run.objects.get(pk=run), None, question, wake=False)


def fork(run: int, cell: int, code: str) -> int:
    from analyses import forks
    from analyses.models import Run

    change = forks.Change(1, cell, code=code)
    return forks.fork_run(Run.objects.get(pk=run), None, change, wake=False).pk


def fill(flag: Path) -> None:
    """While the file is there, the store of blobs is full: for those who may not mount a small one."""
    from analyses import blobs

    put = blobs.put

    def keep(data: bytes, **how: Any) -> str:
        if flag.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(data, **how)

    blobs.put = keep


def dally(flag: Path) -> None:
    """While the file is there, whoever reads a document of pages goes no further than the first."""
    from analyses.ingest import uploads

    extract, never = uploads.extract, threading.Event()

    def wait(look: Callable[[], None]) -> None:
        while flag.exists():
            look()
            never.wait(0.05)  # time.sleep fails where a clock is set wrong

    def slowly(*given: Any, look: Callable[[], None], on_page: Any = None, **how: Any) -> Any:
        def page(number: int, of: int) -> None:
            if on_page:
                on_page(number, of)
            wait(look)

        return extract(*given, look=look, on_page=page, **how)

    uploads.extract = slowly  # type: ignore[assignment]


def measure(file: Path) -> None:
    """Write down how long this process waited for the database, and how much of that for leases: [seconds, of them for leases]."""
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.signals import connection_created

    spent = {"all": 0.0, "renewals": 0.0, "looks": 0.0}
    lock = threading.Lock()

    def count(began: float, *kinds: str) -> None:
        took = time.perf_counter() - began
        with lock:
            for kind in ("all", *kinds):
                spent[kind] += took
            draft = file.with_suffix(".draft")
            draft.write_text(json.dumps(spent))
            draft.replace(file)  # whole, whenever it is read

    def timed(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            if RENEWAL.match(sql):
                count(began, "renewals")
            elif sql.startswith('SELECT "analyses_run"."id"') and '"stop_requested_at"' in sql and sql.count(",") < 6:
                count(began, "looks")
            else:
                count(began)

    commit = BaseDatabaseWrapper._commit

    def committed(self: Any) -> None:
        """A renewal commits by itself; what others wrote waits for the disk here."""
        began = time.perf_counter()
        try:
            commit(self)
        finally:
            count(began)

    BaseDatabaseWrapper._commit = committed

    def watch(connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(timed)

    connection_created.connect(watch, weak=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
