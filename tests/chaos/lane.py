"""Faults, one after another, on one installation: ``python -m tests.chaos.lane DATA BASE_URL OPTIONS-AS-JSON`` prints a line a case.

Options: ``cases``: [[number, kind, seed], …]; ``database``, ``redis_server``; ``lease``; ``workers``; ``quick``: faults as short as they may be.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos.house import House, Program, wait
from tests.chaos.household import halt
from tests.chaos.question import CHILDREN, LIMITS, QUESTION, place_of, replies
from tests.e2e.instance import descendants, processes
from tests.scripted.fixture import Scripted

KINDS = (
    "worker killed", "worker stopped", "redis emptied", "web restarted", "database cut off", "store full", "endpoint away",
    "clock stepped",
)  # fmt: skip
PATIENCE = 240.0  # seconds for a run to come to its end
LINES = 60  # of warnings and worse that a fault may bring
STOP_SECONDS = 2.0


def apart(function: Callable[..., Any], *given: Any) -> None:
    """Do something on a thread, as a view does it: on this one Playwright has an event loop at work."""

    def work() -> None:
        from django.db import connection

        try:
            function(*given)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(work).result()


class Lane:
    def __init__(self, data: Path, server: Scripted, options: dict[str, Any]) -> None:
        self.server, self.options = server, options
        self.quick = bool(options.get("quick"))
        self.replies = replies(options.get("children", CHILDREN))
        self.clocked: Program | None = None  # the worker whose clock can be set
        self.full = data / "full"
        environment = {"RLMWEB_LEASE_SECONDS": str(options.get("lease", 20)), "RLMWEB_SANDBOX_SPARE": "1"}
        environment |= {"RLMWEB_LOG": "INFO", "DJANGO_ALLOW_ASYNC_UNSAFE": "1", "RLMWEB_WARM_SECONDS": "0"}
        if options.get("database"):
            environment["DATABASE_URL"] = options["database"]
        self.house = House(data, server.base_url, redis_server=options.get("redis_server", ""), **environment)
        if options.get("mount") is False or not self.house.mount_blobs():
            self.house.environment["CHAOS_FULL"] = str(self.full)
        os.environ.update(self.house.environment)

    def start(self) -> None:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        self.house.start_redis()
        self.house.start_web()
        if self.options["cases"][0][1] == "clock stepped":
            self.clocked_worker()
        while len(self.house.workers) < self.options.get("workers", 2) and self.clocked is None:
            self.house.start_worker()
        self.house.wait_for_workers()
        from workspaces.models import User, Workspace

        self.workspace = Workspace.start("Desk", User.objects.create_user("a@example.org"))

    # — a run —

    def ask(self) -> Any:
        from analyses import actions

        self.server.forget()
        return actions.start_run(self.workspace, None, question=QUESTION, limits=dict(LIMITS), seed="1")

    def answered(self, run: Any) -> int:
        from analyses.models import Cell

        return Cell.objects.filter(run=run, replied_at__isnull=False).count()

    def ended(self, run: Any) -> bool:
        run.refresh_from_db()
        return bool(run.ended)

    def holder(self, run: Any) -> Program:
        """The worker that has the run: the last that has said so."""

        def look() -> Program | None:
            found: list[tuple[str, Program]] = []
            for worker in self.house.workers:
                found += [(line[:23], worker) for line in worker.lines if f"run {run.pk} is executed here" in line]
            return max(found, key=lambda pair: pair[0])[1] if found else None

        return wait(look, 60, "a worker that has the run")  # type: ignore[no-any-return]

    def reference(self) -> None:
        """The undisturbed run."""
        from tests.chaos.tree import tree

        run = self.ask()
        wait(lambda: self.ended(run), PATIENCE, "the undisturbed run")
        assert run.status == "done", run.reason
        self.expected = tree(run, notes=False)
        self.answer = run.answer_display
        asked = [place_of(request) for request in self.server.log()]
        assert len(asked) == len(set(asked)) == self.replies, Counter(asked).most_common(3)
        self.forget(run)

    def forget(self, run: Any) -> None:
        """The next run begins with nothing kept, and finds a store with room."""
        from analyses.models import LooseBlob, Run

        Run.objects.filter(pk=run.pk).delete()
        LooseBlob.objects.all().delete()
        for path in self.blobs():
            path.unlink(missing_ok=True)

    def blobs(self) -> list[Path]:
        return [path for path in (self.house.data / "blobs").rglob("*") if path.is_file() and len(path.name) == 64]

    # — a case —

    def case(self, number: int, kind: str, seed: int) -> dict[str, Any]:
        from analyses import actions
        from tests.chaos.viewers import Viewer, Window, same_page

        rng = random.Random(seed)
        at = rng.randrange(1, self.replies - 1)
        said: dict[str, Any] = {"case": number, "kind": kind, "at": at}
        began, lines = time.monotonic(), self.house.log_lines()
        why: list[str] = []
        # A worker whose clock can be set is started for the purpose.
        clock = self.clocked_worker() if kind == "clock stepped" else None
        run = self.ask()
        share = actions.share_run(run, None)
        viewer = Viewer(self.house.port, share.token)
        viewer.start()
        window = Window(self.browser, self.house.port, share.token) if kind == "web restarted" else None
        try:
            wait(lambda: self.answered(run) >= at or self.ended(run), PATIENCE, f"reply {at}")
            fault: Callable[..., dict[str, Any]] = getattr(self, "_" + kind.replace(" ", "_"))
            said |= fault(run, rng, *([clock] if clock else []))
            wait(lambda: self.ended(run), PATIENCE, "the end of the run")
            why += self.wrong_with(run, kind)
            wait(lambda: viewer.seq >= run.seq or viewer.over, 60, "the viewer's last frame")
            viewer.close()
            if viewer.seq < run.seq:
                why.append(f"the viewer stands at {viewer.seq}, the run at {run.seq}")
            why += [found for found in [same_page(self.browser, viewer)] if found]
            if window is not None:
                why += [found for found in [window.same_page(run.seq)] if found]
            said["lines"] = self.house.log_lines() - lines
            if said["lines"] > LINES:
                why.append(f"{said['lines']} warnings in the logs")
        except (TimeoutError, AssertionError) as error:
            run.refresh_from_db()
            why.append(f"{error} (the run is {run.status}: {run.reason})")
        finally:
            viewer.close()
        with contextlib.suppress(TimeoutError):
            wait(lambda: self.ended(run), 5, "the end")
        self.mend()
        self.forget(run)
        return said | {"survived": not why, "why": why, "seconds": round(time.monotonic() - began, 1)}

    def wrong_with(self, run: Any, kind: str) -> list[str]:
        """What is not as it is without a fault."""
        from analyses.ingest import loose
        from analyses.models import Call, Cell, LooseBlob, Run
        from tests.chaos.tree import difference, tree

        why = []
        if (run.status, run.reason, run.answer_display) != ("done", "", self.answer):
            why.append(f"the run ended as {run.status}: {run.reason}")
        if found := difference(self.expected, tree(run, notes=False)):
            why.append(f"the tree differs: {found}")
        rows = [*Call.objects.filter(run=run).order_by("number"), *Cell.objects.filter(run=run).order_by("born")]
        for row in [row for row in rows if row.status in ("failed", "limit", "stopped", "error")][:3]:
            said = row.reason if isinstance(row, Call) else f"{row.killed} {row.error}"
            why.append(f"{row} has {row.status}: {said[-300:]}")
        why += self.paid_twice(run, kind)
        if Run.objects.filter(status__in=["queued", "running", "waiting"]).exists():
            why.append("a run is left open")
        if Run.objects.exclude(lease_token="").exists():
            why.append("a lease is left")
        if any(row.status in ("queued", "running", "waiting", "writing") for row in rows):
            why.append("a call or a cell is left open")
        if len({row.seq for row in rows}) != len(rows):
            why.append("two rows have one seq")
        numbers = sorted(row.number for row in rows if isinstance(row, Call))
        if numbers != list(range(1, len(numbers) + 1)):
            why.append("the calls' numbers have gaps")
        kept = {path.name for path in self.blobs()}
        named = loose.named(sorted(kept)) | set(LooseBlob.objects.values_list("sha", flat=True))
        if kept - named:
            why.append(f"{len(kept - named)} blobs that nothing names")
        if missing := loose.of_runs(Run.objects.filter(pk=run.pk)) - kept:
            why.append(f"{len(missing)} blobs are missing")
        try:
            # One is kept ready by each worker; one that has just started tries another.
            wait(lambda: len(self.house.jails()) <= len(self.house.workers), 60, "jails")
        except TimeoutError:
            why.append(f"{len(self.house.jails())} jails are left")
        return why

    def paid_twice(self, run: Any, kind: str) -> list[str]:
        """Requests that went out although their answer was on record."""
        from analyses.models import Cell

        log = self.server.log()
        replied = {}
        for cell in Cell.objects.filter(run=run).select_related("call"):
            piece = int(cell.call.instruction.split()[-1].rstrip("?")) if cell.call.parent_number else -1
            replied[piece, cell.number] = cell.replied_at
        places = Counter(place_of(request) for request in log)
        why = [f"{place} was never asked for" for place in replied if place not in places]
        again = [f"{place} was asked for {count} times" for place, count in places.items() if count > 1]
        if kind == "clock stepped":  # what that worker wrote down as the time is not comparable
            return why + again
        for request in log:
            place = place_of(request)
            if places[place] > 1 and request["at"] > (replied.get(place) or 0) + 0.05:
                why.append(
                    f"{place} was paid again {request['at'] - (replied.get(place) or 0):.2f} s after its answer was there"
                )
        if kind in ("redis emptied", "web restarted"):  # nobody who pays was disturbed
            why += again
        return why

    def mend(self) -> None:
        """Everything is there again for the next case."""
        for worker in list(self.house.workers):
            if not worker.alive():
                self.house.workers.remove(worker)
        while len(self.house.workers) < self.options.get("workers", 2):
            self.house.start_worker()
        self.house.wait_for_workers()

    # — the faults —

    def _worker_killed(self, run: Any, rng: random.Random) -> dict[str, Any]:
        holder = self.holder(run)
        below = set(descendants(holder.pid))
        asked = self.answered(run)
        began = time.monotonic()
        holder.end(signal.SIGKILL)
        self.house.workers.remove(holder)
        self.house.start_worker()  # as the supervisor does
        wait(lambda: self.answered(run) > asked or self.ended(run), PATIENCE, "the run going on elsewhere")
        took = time.monotonic() - began
        wait(lambda: not below & processes().keys(), 20, "the dead worker's jails being gone")
        return {"went_on_s": round(took, 1)}

    def _worker_stopped(self, run: Any, rng: random.Random) -> dict[str, Any]:
        from analyses.models import Run

        holder = self.holder(run)
        token = Run.objects.values_list("lease_token", flat=True).get(pk=run.pk)
        moved = halt(self.house.data, holder.pid)
        try:
            wait(
                lambda: Run.objects.values_list("lease_token", flat=True).get(pk=run.pk) != token or self.ended(run),
                PATIENCE, "another worker taking the run",
            )  # fmt: skip
            late = rng.random() < 0.5
            if late:
                wait(lambda: self.ended(run), PATIENCE, "the end of the run")
        finally:
            before = self.rows(run) if self.ended(run) else None
            woke = time.time()
            holder.send(signal.SIGCONT)
        let_go = f"run {run.pk}: its lease is held elsewhere"
        wait(lambda: any(let_go in line for line in holder.lines) or token == "", 60, "the worker letting go")
        if before is not None:
            assert self.rows(run) == before, "the worker wrote after its lease was lost"
            paid = [f"{place_of(r)} after {r['at'] - woke:.3f} s" for r in self.server.log() if r["at"] > woke]
            assert not paid, f"the worker paid after its lease was lost: {paid}"
        return {"woke": "late" if late else "soon", **({"moved": moved} if moved else {})}

    def rows(self, run: Any) -> list[Any]:
        from analyses.models import Call, Cell, Run

        return [
            *Run.objects.filter(pk=run.pk).values(), *Call.objects.filter(run=run).order_by("pk").values(),
            *Cell.objects.filter(run=run).order_by("pk").values(),
        ]  # fmt: skip

    def _redis_emptied(self, run: Any, rng: random.Random) -> dict[str, Any]:
        assert self.house.redis is not None
        away = rng.uniform(0, 2 if self.quick else 10)
        self.house.redis.end(signal.SIGKILL)
        time.sleep(away)
        self.house.start_redis()
        return {"away_s": round(away, 1)}

    def _web_restarted(self, run: Any, rng: random.Random) -> dict[str, Any]:
        assert self.house.web is not None
        how = rng.choice([signal.SIGKILL, signal.SIGTERM])
        self.house.web.end(how, seconds=4)  # as the supervisor does
        self.house.start_web()
        return {"by": how.name}

    def _database_cut_off(self, run: Any, rng: random.Random) -> dict[str, Any]:
        if self.options.get("database"):
            import psycopg

            for _ in range(3):
                with psycopg.connect(self.options["database"], autocommit=True) as own:
                    cut = own.execute(
                        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                        "where datname = current_database() and pid != pg_backend_pid()"
                    ).fetchone()
                from django.db import connection

                connection.close()
                time.sleep(rng.uniform(0.2, 2))
            return {"cut": cut[0] if cut else 0}
        seconds = 3 if self.quick else 10
        with contextlib.closing(
            sqlite3.connect(self.house.data / "db.sqlite3", timeout=30, isolation_level=None)
        ) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            lock.execute("ROLLBACK")
        return {"locked_s": seconds}

    def _store_full(self, run: Any, rng: random.Random) -> dict[str, Any]:
        from analyses import actions

        with self.no_room():
            wait(lambda: self.ended(run) or run.status == "paused", PATIENCE, "a run that rests")
            rested = run.status == "paused"
            if rested:
                assert "no room left" in run.reason, run.reason
        if rested:
            apart(actions.resume_run, run)
        return {"rested": rested}

    @contextlib.contextmanager
    def no_room(self) -> Iterator[None]:
        filler = self.house.data / "blobs" / "filler" if self.house.mounted else self.full
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1) if self.house.mounted else ():
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size) == size:
                        pass
        try:
            yield
        finally:
            filler.unlink()

    def _endpoint_away(self, run: Any, rng: random.Random) -> dict[str, Any]:
        seconds = 4 if self.quick else 30
        self.server.leave(seconds)
        time.sleep(seconds + 0.5)
        return {"away_s": seconds}

    def clocked_worker(self) -> Path:
        """Have one worker alone, whose clock the file sets."""
        clock = self.house.data / "clock"
        if self.clocked is not None and self.house.workers == [self.clocked]:
            return clock
        clock.write_text("+0\n")
        for worker in list(self.house.workers):
            self.house.drop(worker)
        self.clocked = self.house.start_worker(clock=clock)
        self.house.wait_for_workers()
        return clock

    def _clock_stepped(self, run: Any, rng: random.Random, clock: Path) -> dict[str, Any]:
        """Its clock jumps while another worker, whose clock is right, looks on."""
        [stepped] = self.house.workers
        self.house.start_worker()
        step = rng.choice(["+3600", "-3600"])
        clock.write_text(f"{step}\n")
        wait(lambda: self.ended(run), PATIENCE, "the end of the run")
        self.house.drop(stepped)
        self.clocked = None
        return {"step": step}

    # — figures —

    def stop(self) -> dict[str, Any]:
        """How long it takes until a run that is stopped has no request and no jail any more."""
        from django.db import connections

        from analyses import actions

        connections.close_all()  # a fault may have cut one off that was not used since
        run = self.ask()
        wait(lambda: self.answered(run) >= 10, PATIENCE, "ten replies")
        spare = {worker.pid for worker in self.house.workers}
        holder = self.holder(run)
        jails = {pid for pid in self.house.jails() if pid in descendants(holder.pid)}
        began = time.monotonic()
        apart(actions.stop_run, run)
        wait(lambda: self.server.stats()["in_flight"] == 0, 60, "no request under way")
        streams = time.monotonic() - began
        wait(lambda: len(jails & self.house.jails()) <= len(jails) - 1, 60, "the run's jail being gone")
        gone = time.monotonic() - began
        wait(lambda: self.ended(run), 60, "the end")
        said = {
            "stop_streams_s": round(streams, 2),
            "stop_jail_s": round(gone, 2),
            "status": run.status,
            "of": len(spare),
        }
        self.forget(run)
        return said


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main(data: str, base_url: str, options: str) -> None:
    from tests.browser import chromium

    given = json.loads(options)
    lane = Lane(Path(data), Scripted(base_url, None), given)  # type: ignore[arg-type]
    # Whoever started this may go away: then everything here goes too.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        lane.start()
        lane.reference()
        with chromium() as browser:
            lane.browser = browser
            for number, kind, seed in given["cases"]:
                print(json.dumps(lane.case(number, kind, seed)), flush=True)
        if given.get("stop"):
            print(json.dumps({"figures": lane.stop()}), flush=True)
    finally:
        lane.house.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
