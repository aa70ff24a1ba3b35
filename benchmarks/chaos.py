"""What runs survive, and what a death costs: ``python -m benchmarks.chaos --json`` prints a line a fault, then the total.

50 faults (tests/chaos/lane.py), each at a random moment of a run with 40 children; ``--seed`` gives the same again. ``tried``
and ``survived`` count them: survived is what ends with the tree, the answer, the requests and the page of an undisturbed run,
and leaves nothing behind. ``replay_50_cells_s``: a call of 50 cells over a context of 40 MB, taken up from its record in warm
jails, from ``solve`` to its next request. ``failover_s``: from the SIGKILL of a worker to the next reply in the database, with
the default settings. ``lease_share``: of a busy run's database time, what the renewals of its lease took.
``--database postgres`` does it on PostgreSQL and Redis as Debian packages them, started for it and ended after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlm.endpoints import Endpoint
from rlm.engine import Control, Released, RunSpec, solve
from rlm.events import Event, TurnStarted
from rlm.limits import Limits
from rlm.replies import ModelReply
from sandbox import JailPool, Value
from tests.chaos import question
from tests.chaos.household import PROJECT, Household, halt
from tests.chaos.lane import KINDS
from tests.rlm.recorded import recording_of
from tests.scripted.fixture import Scripted, start

PG_PORT = 5433

CELLS = 50
BYTES = 40 << 20


class Told(list[Event]):
    def __call__(self, event: Event) -> None:
        self.append(event)

    async def commit(self) -> None:
        pass


class Writer:
    """A model that answers at once: a cell that works on the whole context a little, or that nobody is to ask."""

    endpoint = Endpoint(name="bench", base_url="", root_model="m")

    def __init__(self, control: Control, most: int) -> None:
        self.asked = 0
        self.control = control
        self.most = most

    async def complete(self, *_: Any, **__: Any) -> ModelReply:
        self.asked += 1
        if self.asked > self.most:
            self.control.release()
            await asyncio.sleep(60)
        n = self.asked
        return ModelReply(f"```repl\nn{n} = context.count('a', {n}, {n}00000)\nprint({n}, n{n})\n```")

    async def close(self) -> None:
        pass


async def replay() -> float:
    """Seconds from taking a call of 50 cells up to its next request, the best of three."""
    pool = JailPool(spare=1)
    context = Value.text(b"abcdefgh" * (BYTES // 8))
    spec = RunSpec("How many?", limits=Limits.of({"turns": CELLS + 10, "run_seconds": 600}), seed="1")

    async def once(most: int, before: list[Event] | None) -> tuple[list[Event], float]:
        control, told = Control(), Told()
        record = recording_of(before) if before is not None else None
        began = time.perf_counter()
        took = [0.0]
        client = Writer(control, most)
        control_release = control.release

        def stop() -> None:
            took[0] = time.perf_counter() - began
            control_release()

        control.release = stop  # type: ignore[method-assign]
        try:
            await solve(spec, context=context, pool=pool, client=client, emit=told, control=control, record=record)
        except Released:
            pass
        return told, took[0]

    try:
        before, _ = await once(CELLS, None)
        assert isinstance(before[-1], TurnStarted)
        await asyncio.sleep(1)  # the spare jail
        times = []
        for _ in range(3):
            after, seconds = await once(0, before)
            assert not after, after
            times.append(seconds)
        return min(times)
    finally:
        await pool.close()


def failover() -> float:
    """Seconds from the death of a worker until its run goes on elsewhere."""
    look = "```repl\nprint(len(context))\n```"
    script = Path(tempfile.mkstemp(suffix=".json")[1])
    script.write_text(json.dumps({"default": {"text": look, "delay": 1.0}}))
    server = start(str(script))
    with tempfile.TemporaryDirectory() as data:
        house = Household(Path(data), server.base_url)
        replies = "select count(*) from analyses_cell where replied_at is not null"
        try:
            house.ask("How long?")
            first, _ = house.start_worker(), house.start_worker()
            house.wait(lambda: house.rows(replies)[0][0] >= 2)
            holders = house.workers
            before = house.rows(replies)[0][0]
            token = house.rows("select lease_token from analyses_run")[0][0]
            # Which of the two has it is not known from outside: stop the first, see whether it goes on.
            halt(house.data, first.pid)
            time.sleep(3)
            victim = first if house.rows(replies)[0][0] <= before + 1 else holders[1]
            if victim is not first:
                first.send_signal(signal.SIGCONT)
            began = time.monotonic()
            victim.send_signal(signal.SIGKILL)
            house.wait(lambda: house.rows("select lease_token from analyses_run")[0][0] != token, 120)
            known = house.rows(replies)[0][0]
            house.wait(lambda: house.rows(replies)[0][0] > known, 120)
            return time.monotonic() - began
        finally:
            house.close()
            server.stop()
            script.unlink()


def lease_share() -> dict[str, float]:
    """How much of the database time of a worker with a busy run went into its lease, with the default settings."""
    file = Path(tempfile.mkstemp(suffix=".json")[1])
    busy = Path(tempfile.mkstemp(suffix=".json")[1])
    busy.write_text(json.dumps(question.script(delay=0.5)))
    server = start(str(busy))
    with tempfile.TemporaryDirectory() as data:
        house = Household(Path(data), server.base_url, CHAOS_TIMES=str(file))
        try:
            house.start_worker()
            house.ask(question.QUESTION)
            house.wait(lambda: house.rows("select status from analyses_run") == [("done",)], 240)
            spent = json.loads(file.read_text())
        finally:
            house.close()
            server.stop()
            file.unlink()
            busy.unlink()
    return {
        "lease_share": round(spent["renewals"] / spent["all"], 4),
        "stop_looks_share": round(spent["looks"] / spent["all"], 4),
        "database_s": round(spent["all"], 2),
    }


def cases(count: int, seed: int) -> list[tuple[int, str, int]]:
    """The faults of a seed: every kind as often as the others, give or take one."""
    rng = random.Random(seed)
    kinds = [KINDS[n % len(KINDS)] for n in range(count)]
    rng.shuffle(kinds)
    return [(number, kind, rng.randrange(1 << 30)) for number, kind in enumerate(kinds, 1)]


class Cluster:
    """PostgreSQL from Debian's package on a cluster of its own, for the time of the benchmark."""

    def __init__(self) -> None:
        [self.bin] = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
        self.place = Path(tempfile.mkdtemp(prefix="chaos-pg-", dir="/tmp"))
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it does not run as root
        if self.as_user:
            shutil.chown(self.place, "postgres")
        data = self.place / "data"
        self._do(self.bin / "initdb", "-D", data, "-U", "rlmweb", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={PG_PORT} -c unix_socket_directories={self.place} -c max_connections=200"
        self._do(self.bin / "pg_ctl", "-D", data, "-w", "-l", self.place / "log", "-o", options, "start")

    def _do(self, *command: Any) -> None:
        subprocess.run(
            [*self.as_user, *map(str, command)], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            cwd=self.place,
        )  # fmt: skip

    def database(self, name: str) -> str:
        self._do(self.bin / "createdb", "-h", "127.0.0.1", "-p", PG_PORT, "-U", "rlmweb", name)
        return f"postgresql://rlmweb@127.0.0.1:{PG_PORT}/{name}"

    def close(self) -> None:
        self._do(self.bin / "pg_ctl", "-D", self.place / "data", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.place, ignore_errors=True)


def faults(todo: list[tuple[int, str, int]], lanes: int, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run the cases in so many lanes side by side; yields what each says, as it comes."""
    script = Path(tempfile.mkstemp(suffix=".json")[1])
    script.write_text(json.dumps(question.script(children=options.get("children", question.CHILDREN))))
    said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    cluster = Cluster() if options.pop("postgres", False) else None
    started: list[tuple[subprocess.Popen[str], Scripted]] = []

    def read(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                said.put(json.loads(line))
        said.put(None)

    try:
        for lane in range(lanes):
            own: dict[str, Any] = {**options, "cases": todo[lane::lanes], "stop": lane == 0}
            if cluster is not None:
                own |= {"database": cluster.database(f"lane{lane}"), "redis_server": "/usr/bin/redis-server"}
            server = start(str(script), log=True)
            data = tempfile.mkdtemp(prefix="chaos-", dir="/tmp")
            command = [sys.executable, "-m", "tests.chaos.lane", data, server.base_url, json.dumps(own)]
            process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started.append((process, server))
            threading.Thread(target=read, args=(process,), daemon=True).start()
        over = 0
        while over < lanes:
            line = said.get()
            if line is None:
                over += 1
            else:
                yield line
    finally:
        for process, server in started:
            assert process.stdin is not None
            process.stdin.close()  # a lane ends with whoever started it
            process.wait(60)
            server.stop()
        if cluster is not None:
            cluster.close()
        script.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON on standard output: a line a fault, then the total")
    parser.add_argument("--only", choices=["faults", "replay", "failover", "leases"])
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--kind", choices=KINDS, action="append", help="faults of this kind alone; may be given again")
    parser.add_argument("--case", type=int, action="append", help="the case of this number alone; may be given again")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--lanes", type=int, default=2, help="installations that are broken side by side")
    parser.add_argument("--lease", type=int, default=12, help="seconds; longer than the database is locked")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 20)
    figures: dict[str, Any] = {"database": given.database, "seed": seed}
    began = time.monotonic()

    def say(line: dict[str, Any]) -> None:
        words = json.dumps(line) if given.json else "  ".join(f"{name}: {value}" for name, value in line.items())
        sys.stdout.write(words + "\n")
        sys.stdout.flush()

    if given.only in (None, "faults"):
        todo = [one for one in cases(given.cases, seed) if given.kind is None or one[1] in given.kind]
        todo = [one for one in todo if given.case is None or one[0] in given.case]
        say({"seed": seed, "cases": len(todo)})
        survived = 0
        for line in faults(todo, given.lanes, {"lease": given.lease, "postgres": given.database == "postgres"}):
            if "figures" in line:
                figures |= line["figures"]
                continue
            say(line)
            survived += line["survived"]
        # A lane that came to grief has not survived what it was to try.
        figures |= {"tried": len(todo), "survived": survived, "faults_s": round(time.monotonic() - began)}
    if given.only in (None, "leases"):
        figures |= lease_share()
    if given.only in (None, "replay"):
        figures["replay_50_cells_s"] = round(asyncio.run(replay()), 2)
    if given.only in (None, "failover"):
        figures["failover_s"] = round(failover(), 1)
    say(figures)


if __name__ == "__main__":
    main()
