"""Past a limit a cell is interrupted, then killed; it takes neither its siblings nor its host along."""

from __future__ import annotations

import asyncio
import time

import pytest

from sandbox import HostRequest, Jail, JailPool, ReplLimits, Value
from tests.sandbox.conftest import QUICK, RunCells, Start

pytestmark = [pytest.mark.firejail, pytest.mark.asyncio(loop_scope="module")]

SHORT = ReplLimits(cell_seconds=0.4, cpu_seconds=5, grace_seconds=0.2, memory_mb=1024)


@pytest.mark.parametrize(
    "loop",
    [
        "while True: pass",
        "import time\ntime.sleep(100)",
        "import asyncio\nawait asyncio.sleep(100)",
        "import asyncio\nasync def spin():\n    while True: await asyncio.sleep(0)\nawait asyncio.gather(*[spin() for _ in range(10)])",
        "pow(3, 10**8)",
        "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
        "import threading\nthreading.Event().wait()",
    ],
    ids=["busy", "sleep", "await", "tasks", "bignum", "regex", "lock"],
)
async def test_endless_cell_is_interrupted_and_names_survive(start: Start, loop: str) -> None:
    repl = await start(limits=SHORT)
    await repl.run("kept = 42", 1)
    began = time.perf_counter()
    result = await repl.run(loop, 2)
    assert time.perf_counter() - began < 30
    assert not result.killed
    assert "Interrupted" in result.error
    assert "ran longer than its 0.4 s" in result.error
    assert (await repl.run("print(kept)", 3)).output == "42\n"


@pytest.mark.parametrize(
    "stubborn",
    [
        "import time\nwhile True:\n    try:\n        while True: time.sleep(0.01)\n    except BaseException: pass",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        "import ctypes\nctypes.CDLL(None).sleep(100) if not ctypes.CDLL(None).sigignore(2) else 0",
        "sum(iter(int, 1))",
    ],
    ids=["swallowed", "ignored", "blocked", "c-call", "c-loop"],
)
async def test_cell_that_resists_interrupts_is_killed(start: Start, stubborn: str) -> None:
    repl, sibling = await start(limits=SHORT), await start(limits=SHORT)
    began = time.perf_counter()
    result = await repl.run(stubborn, 1)
    assert time.perf_counter() - began < 30
    assert result.killed == "time"
    assert "All its variables are lost" in result.error
    assert not repl.alive
    assert (await sibling.run("print(1)", 1)).output == "1\n"


async def test_cpu_limit_interrupts(start: Start) -> None:
    repl = await start(limits=ReplLimits(cell_seconds=20, cpu_seconds=0.3, memory_mb=1024))
    result = await repl.run("x = 1\nwhile True: pass", 1)
    assert "CPU limit" in result.error
    assert not result.killed
    assert (await repl.run("print(x)", 2)).output == "1\n"


async def test_cpu_limit_kills_what_swallows_it(start: Start) -> None:
    repl = await start(limits=ReplLimits(cell_seconds=60, cpu_seconds=0.2, grace_seconds=0.1, memory_mb=1024))
    result = await repl.run("import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nwhile True: pass", 1)
    assert result.killed == "cpu"


async def test_spinning_while_a_request_waits_is_killed_by_cpu(start: Start) -> None:
    """The wall clock stands still while the host is asked: processor time does not."""

    async def never(request: HostRequest) -> Value:
        await asyncio.sleep(100)
        return Value.of(None)

    repl = await start(
        limits=ReplLimits(cell_seconds=0.3, cpu_seconds=0.2, grace_seconds=0.1, memory_mb=1024), on_request=never
    )
    result = await repl.run(
        "import asyncio, signal\nsignal.setitimer(signal.ITIMER_PROF, 0)\nt = asyncio.create_task(llm_query('x'))\n"
        "await asyncio.sleep(0.01)\nwhile True: pass",
        1,
    )
    assert result.killed == "cpu"


@pytest.mark.parametrize(
    "hog",
    [
        "x = [0] * 10**10",
        "x = bytearray(8 << 30)",
        "import numpy\nx = numpy.ones(10**9)",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "x = 'a'\nwhile True: x += x",
        "import mmap\nx = mmap.mmap(-1, 8 << 30)",
    ],
    ids=["list", "bytearray", "numpy", "growth", "doubling", "mmap"],
)
async def test_memory_hog_gets_a_memory_error(start: Start, hog: str) -> None:
    repl = await start()
    await repl.run("kept = 1", 1)
    result = await repl.run(hog, 2)
    assert "Error" in result.error
    assert not result.killed
    assert (await repl.run("x = None; print(kept)", 3)).output == "1\n"


async def test_run_out_of_memory_kills_its_biggest_repl_alone() -> None:
    pool = JailPool(spare=0, run_memory_mb=300)
    jail = await pool.open()
    small = await jail.start_repl(Value.of(1), limits=QUICK)
    big = await jail.start_repl(Value.of(2), limits=QUICK)
    await small.run("x = bytearray(100 << 20); x[::4096] = b'x' * len(x[::4096])", 1)
    result = await big.run("import time\ny = bytearray(290 << 20); y[::4096] = b'x' * len(y[::4096])\ntime.sleep(3)", 1)
    assert result.killed == "memory"
    assert (await small.run("print(len(x))", 2)).output == f"{100 << 20}\n"
    await pool.close()


async def test_threads_started_by_c_code_are_bounded(any_jail: Jail) -> None:
    """They pass Python's own count: the zygote's ends the REPL, and its siblings start all the while."""
    repl = await any_jail.start_repl(Value.of(1), limits=QUICK)
    flood = asyncio.create_task(
        repl.run(
            "import ctypes, time\nlibc = ctypes.CDLL(None)\nattributes = (ctypes.c_char * 64)()\n"
            "libc.pthread_attr_init(attributes)\nlibc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(16384))\n"
            "thread = ctypes.c_ulong()\n"
            "for i in range(5000): libc.pthread_create(ctypes.byref(thread), attributes, libc.pause, None)\ntime.sleep(4)",
            1,
        )
    )
    siblings = [await any_jail.start_repl(Value.of(i), limits=QUICK) for i in range(20)]
    result = await flood
    assert (result.killed, "more threads than it may" in result.error) == ("exit", True)
    for sibling in siblings:
        assert (await sibling.run("print(1)", 1)).output == "1\n"
        await sibling.close()


async def test_open_files_are_bounded(run: RunCells) -> None:
    result = await run("import os\nfds = []\nwhile True: fds.append(os.dup(1))")
    assert "Too many open files" in result.error


async def test_pipes_cannot_hide_memory(run: RunCells) -> None:
    """Pipe buffers count for no limit of a process; open files bound them."""
    result = await run("import os\npipes = []\nwhile True: pipes.append(os.pipe())")
    assert "Too many open files" in result.error


@pytest.mark.parametrize(
    "death",
    ["import os\nos._exit(3)", "import ctypes\nctypes.string_at(0)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
     "import os\nos.abort()", "import sys\nsys.setrecursionlimit(10**9)\nimport ctypes\ndef f(x): return ctypes.CFUNCTYPE(ctypes.c_int)(lambda: f(x))()\nf(1)"],
    ids=["exit", "segfault", "kill", "abort", "stack"],
)  # fmt: skip
async def test_death_of_a_repl_is_told_and_the_jail_goes_on(start: Start, death: str) -> None:
    repl, sibling = await start(), await start()
    result = await repl.run("print('before', flush=True)\n" + death, 1)
    assert result.killed == "exit"
    assert result.output == "before\n"
    assert (await sibling.run("print(1)", 1)).output == "1\n"


async def test_exit_of_a_script_is_only_an_exception(start: Start) -> None:
    repl = await start()
    for number, code in enumerate(("import sys; sys.exit(1)", "exit()", "raise SystemExit"), 1):
        result = await repl.run(code, number)
        assert "SystemExit" in result.error
    assert (await repl.run("print(1)", 4)).output == "1\n"


async def test_request_flood_is_bounded(start: Start) -> None:
    repl = await start(limits=ReplLimits(cell_seconds=10, requests=50, memory_mb=1024))
    result = await repl.run(
        "import asyncio\nr = await asyncio.gather(*[llm_query(i) for i in range(100)], return_exceptions=True)\n"
        "print(sum(isinstance(x, LLMQueryError) for x in r))",
        1,
    )
    assert result.output == "50\n"


async def test_requests_without_end_kill_the_repl(start: Start) -> None:
    repl = await start(limits=ReplLimits(cell_seconds=20, requests=10, memory_mb=1024))
    result = await repl.run("while True:\n    try: llm_query('x')\n    except LLMQueryError: pass", 1)
    assert result.killed == "protocol"


async def test_waiting_for_the_host_does_not_count(start: Start) -> None:
    async def slow(request: HostRequest) -> Value:
        await asyncio.sleep(0.8)
        return Value.of("late")

    waits: list[bool] = []
    repl = await start(limits=SHORT, on_request=slow)
    result = await repl.run("print(await llm_query('x'))", 1, on_waiting=waits.append)
    assert result.output == "late\n"
    assert 0.7 < result.waited < 1.5
    assert waits == [True, False]


async def test_clock_goes_on_after_waiting(start: Start) -> None:
    repl = await start(limits=SHORT)
    result = await repl.run("await llm_query('x')\nwhile True: pass", 1)
    assert "ran longer" in result.error


async def test_cancelled_run_ends_the_repl(start: Start) -> None:
    repl = await start()
    task = asyncio.create_task(repl.run("while True: pass", 1))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not repl.alive


async def test_requests_in_flight_are_cancelled_with_their_cell(start: Start) -> None:
    cancelled = asyncio.Event()

    async def never(request: HostRequest) -> Value:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Value.of(None)

    repl = await start(on_request=never)
    result = await repl.run("import asyncio\nt = asyncio.create_task(llm_query('x'))\nawait asyncio.sleep(0.05)", 1)
    await asyncio.wait_for(cancelled.wait(), 1)
    assert any("cancelled" in note for note in result.notes)
    result = await repl.run("await t", 2)
    assert "ended before the answer came" in result.error


async def test_large_values_on_their_way_are_bounded(jail: Jail) -> None:
    """Many large requests at once may not fill the host's memory."""
    room = jail._room
    jail._room = 100 << 20
    gate = asyncio.Event()

    async def hold(request: HostRequest) -> Value:
        await gate.wait()
        return Value.of("held")

    repl = await jail.start_repl(Value.of("x" * 30_000_000), limits=QUICK, on_request=hold)
    running = asyncio.create_task(
        repl.run(
            "import asyncio\nr = await asyncio.gather(*[llm_query(context + str(i)) for i in range(5)], return_exceptions=True)\n"
            "print([x if x == 'held' else 'refused' for x in r])",
            1,
        )
    )
    await asyncio.sleep(1)
    gate.set()
    result = await running
    assert "refused" in result.output or result.killed == "protocol"
    assert jail._room == 100 << 20
    jail._room = room
    await repl.close()
