"""Nothing outlives its owner: not a REPL its jail, not a jail its pool, not any of them a worker that dies."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox import JailPool, SandboxError, SandboxUnavailable, Value
from sandbox.launcher import borrow_identity
from tests.sandbox.conftest import QUICK

pytestmark = pytest.mark.firejail

PROJECT = Path(__file__).resolve().parents[2]
WORKER = """
import asyncio, sys
from sandbox import JailPool, Value
async def main():
    pool = JailPool(backend=sys.argv[1], spare=1)
    jail = await pool.open()
    idle = await jail.start_repl(Value.of(1))
    busy = await jail.start_repl(Value.of(2))
    task = asyncio.create_task(busy.run("while True: pass", 1))
    await asyncio.sleep(0.5)
    print("ready", flush=True)
    await task
asyncio.run(main())
"""


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    todo = [pid]
    while todo:
        parent = todo.pop()
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
            children = {int(c) for t in tasks for c in (t / "children").read_text().split()}
        except OSError:
            continue
        found |= children
        todo += children
    return found


def alive(pids: set[int]) -> set[int]:
    return {p for p in pids if Path(f"/proc/{p}").exists() and ") Z " not in Path(f"/proc/{p}/stat").read_text()}


def wait_until_gone(pids: set[int], seconds: float) -> None:
    until = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(pids)


@pytest.mark.parametrize("backend", ["firejail", "bubblewrap"])
def test_jails_of_a_worker_that_is_killed_are_gone(backend: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, backend], stdout=subprocess.PIPE, cwd=PROJECT, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        pids = descendants(worker.pid)
        assert len(pids) >= 6
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    wait_until_gone(pids, 3)


async def test_close_of_a_jail_ends_all_of_it() -> None:
    pool = JailPool(spare=0)
    jail = await pool.open()
    repls = [await jail.start_repl(Value.of(i), limits=QUICK) for i in range(5)]
    running = asyncio.create_task(repls[0].run("while True: pass", 1))
    await asyncio.sleep(0.1)
    pids = {jail._launched.process.pid} | descendants(jail._launched.process.pid)
    began = time.perf_counter()
    await jail.close()
    assert time.perf_counter() - began < 30
    assert (await running).killed == "exit"
    assert not alive(pids)
    with pytest.raises(SandboxError, match="has ended"):
        await jail.start_repl(Value.of(1))
    await pool.close()


async def test_close_of_a_repl_ends_its_process() -> None:
    pool = JailPool(spare=0)
    jail = await pool.open()
    before = descendants(jail._launched.process.pid)
    repl = await jail.start_repl(Value.of(1), limits=QUICK)
    await repl.run("import os; os.getpid()", 1)
    await repl.close()
    await asyncio.sleep(0.5)
    after = descendants(jail._launched.process.pid)
    assert len(alive(after)) <= len(before) + 2  # spare ones may have been forked meanwhile
    assert not jail.repls
    await pool.close()


async def test_launcher_that_is_killed_is_noticed() -> None:
    pool = JailPool(spare=0)
    jail = await pool.open()
    repl = await jail.start_repl(Value.of(1), limits=QUICK)
    pids = descendants(jail._launched.process.pid)
    running = asyncio.create_task(repl.run("while True: pass", 1))
    await asyncio.sleep(0.1)
    os.kill(jail._launched.process.pid, signal.SIGKILL)
    result = await asyncio.wait_for(running, 3)
    assert result.killed == "exit"
    assert not repl.alive and not jail.alive
    wait_until_gone(pids, 3)
    await pool.close()


async def test_pool_goes_on_after_a_spare_jail_died() -> None:
    pool = JailPool(spare=1)
    first = await pool.open()
    while not pool._spares:
        await asyncio.sleep(0.05)
    os.kill(pool._spares[0]._launched.process.pid, signal.SIGKILL)
    await asyncio.sleep(0.3)
    second = await pool.open()
    assert second is not first and second.alive
    await pool.close()


async def test_warm_pool_has_been_probed_and_has_a_spare() -> None:
    pool = JailPool(spare=1)
    await pool.warm()
    assert pool.probe["ok"]
    began = time.perf_counter()
    jail = await pool.open()
    assert time.perf_counter() - began < 30
    assert jail.alive
    await pool.close()


async def test_spare_jail_is_handed_out_once() -> None:
    pool = JailPool(spare=1)
    seen = []
    for _ in range(3):
        jail = await pool.open()
        seen.append(jail._launched.process.pid)
        await jail.close()
    assert len(set(seen)) == 3
    await pool.close()
    with pytest.raises(SandboxUnavailable, match="closed"):
        await pool.open()


async def test_pool_closes_while_jails_start() -> None:
    others = descendants(os.getpid())  # of fixtures that outlive this test
    pool = JailPool(spare=2)
    await pool.open()
    opening = asyncio.create_task(pool.open())
    await asyncio.sleep(0.05)
    pids = descendants(os.getpid()) - others
    assert pids
    await pool.close()
    await asyncio.gather(opening, return_exceptions=True)
    wait_until_gone(pids - {os.getpid()}, 3)


async def test_each_jail_runs_as_a_user_of_its_own() -> None:
    pool = JailPool(spare=0)
    jails = [await pool.open() for _ in range(3)]
    uids = {jail._launched.identity.uid for jail in jails}
    assert len(uids) == (3 if os.geteuid() == 0 else 1)
    assert 0 not in uids
    await pool.close()
    if os.geteuid() == 0:
        again = borrow_identity()
        assert again.uid in uids or again.uid  # given back
        again.release()


async def test_nothing_is_left_on_disk_or_open(tmp_path: Path) -> None:
    """Runs, one after the other: no directory, no file, no descriptor, no zombie more than before."""
    places = [
        Path("/tmp"),
        Path("/run/firejail/profile"),
        Path("/run/firejail/name"),
        Path("/run/firejail/network"),
        Path("/dev/shm"),
    ]

    def state() -> tuple[int, int]:
        gc.collect()
        own = [p for place in places if place.is_dir() for p in place.iterdir() if "pytest" not in p.name]
        return len(own), len(list(Path("/proc/self/fd").iterdir()))

    async def grown() -> tuple[int, int]:
        before = state()
        for _ in range(4):
            jail = await pool.open()
            repls = await asyncio.gather(*(jail.start_repl(Value.of("x" * 100_000), limits=QUICK) for _ in range(5)))
            await asyncio.gather(*(r.run("FINAL(context * 5)", 1) for r in repls))
            await jail.close()
        del repls
        after = state()
        return after[0] - before[0], after[1] - before[1]

    pool = JailPool(spare=0)
    await (await pool.open()).close()
    for _ in range(5):  # other tests may be at work in these places; what jails leave they leave each time
        files, descriptors = await grown()
        assert descriptors <= 2
        if files <= 3:
            break
    else:
        pytest.fail(f"{files} files more after every four jails")
    assert not [p for p in descendants(os.getpid()) if p not in alive({p})]
    await pool.close()


def test_pool_works_in_a_thread_that_is_not_the_main_one() -> None:
    """As in a Celery worker with --pool threads."""
    results = []

    async def work() -> None:
        pool = JailPool(spare=0)
        jail = await pool.open()
        repl = await jail.start_repl(Value.of(20), limits=QUICK)
        results.append((await repl.run("print(context + 1)", 1)).output)
        await pool.close()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    thread.join()
    assert results == ["21\n"]


async def test_many_runs_at_once() -> None:
    pool = JailPool(spare=0)

    async def one(i: int) -> str:
        jail = await pool.open()
        repl = await jail.start_repl(Value.of(i), limits=QUICK)
        output = (await repl.run("print(context)", 1)).output
        await jail.close()
        return output

    assert await asyncio.gather(*(one(i) for i in range(8))) == [f"{i}\n" for i in range(8)]
    await pool.close()
