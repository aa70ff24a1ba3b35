"""Measures the sandbox: ``python -m benchmarks.sandbox --json``; ``--soak`` for 10,000 cells and 1,000 children.

Each figure is taken as a caller of ``sandbox`` would see it, beside two limits of the machine itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import peers
from sandbox import HostRequest, Jail, JailPool, Repl, ReplLimits, Value
from sandbox.install import install

MB = 1 << 20
LIMITS = ReplLimits(memory_mb=4096)
TARGETS = {
    "repl_start_ms_p50": 5.0, "repl_start_ms_p99": 20.0, "burst_100_s": 0.5, "cell_ms_p50": 0.2,
    "context_40mb_warm_ms": 60.0, "context_40mb_cold_ms": 700.0, "context_memory_ratio": 1.3, "slice_20mb_ms": 40.0,
    "idle_repl_mb": 4.0, "jails_20_s": 5.5,
}  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def child(jail: Jail, context: Value | None = None) -> Repl:
    return await jail.start_repl(context or Value.of("hello"), limits=LIMITS)


async def repl_start(jail: Jail) -> dict[str, float]:
    times = []
    for _ in range(200):
        began = time.perf_counter()
        repl = await child(jail)
        times.append((time.perf_counter() - began) * 1000)
        await repl.close()
    return {"repl_start_ms_p50": statistics.median(times), "repl_start_ms_p99": percentile(times, 0.99)}


async def burst(jail: Jail) -> float:
    began = time.perf_counter()
    repls = await asyncio.gather(*(child(jail) for _ in range(100)))
    took = time.perf_counter() - began
    for repl in repls:
        await repl.close()
    return took


async def cells(jail: Jail) -> float:
    repl = await child(jail)
    times = []
    for number in range(1, 1001):
        began = time.perf_counter()
        await repl.run("x = 1", number)
        times.append((time.perf_counter() - began) * 1000)
    await repl.close()
    return statistics.median(times)


def pss(pid: int, key: str = "Pss:") -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def descendants(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        try:
            children = [
                int(c) for t in Path(f"/proc/{parent}/task").iterdir() for c in (t / "children").read_text().split()
            ]
        except OSError:
            continue
        found += children
        todo += children
    return found


def beyond_idle(pid: int) -> float:
    """Memory of the REPL with the context, less that of an idle one beside it."""
    sizes = sorted((pss(p) for p in descendants(pid)), reverse=True)
    return sizes[0] - statistics.median(size for size in sizes[1:] if size > 5)


async def context_40mb(pool: JailPool) -> dict[str, float]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"The quick brown fox jumps over the lazy dog, said number 7.\n" * (40 * MB // 60))
        file.flush()
        path = Path(file.name)
        size = path.stat().st_size / MB
        warm = []
        ratio = 0.0
        for _ in range(5):
            jail = await pool.open()
            for _ in range(2):
                await (await child(jail)).run("x = 1", 1)
            began = time.perf_counter()
            repl = await child(jail, Value.text(path))
            result = await repl.run("print(len(context))", 1)
            warm.append((time.perf_counter() - began) * 1000)
            assert int(result.output) == path.stat().st_size, result
            ratio = max(ratio, beyond_idle(jail._launched.process.pid) / size)
            await jail.close()
        cold = []
        bare = JailPool(backend=pool.backend, spare=0)
        await (await bare.open()).close()  # the probe, once a pool, is not part of it
        for _ in range(5):
            await asyncio.sleep(0.3)
            began = time.perf_counter()
            jail = await bare.open()
            repl = await child(jail, Value.text(path))
            await repl.run("print(len(context))", 1)
            cold.append((time.perf_counter() - began) * 1000)
            await jail.close()
        await bare.close()
    return {
        "context_40mb_warm_ms": statistics.median(warm),
        "context_40mb_cold_ms": statistics.median(cold),
        "context_memory_ratio": ratio,
    }


async def slice_20mb(jail: Jail) -> float:
    """From ``await llm_query(slice)`` in the parent's cell to the slice usable in the child's first cell."""
    times = []

    async def answer(request: HostRequest) -> Value:
        assert request.context is not None
        repl = await child(jail, request.context)
        result = await repl.run("print(len(context))", 1)
        times.append((time.perf_counter() - float(request.options["instruction"])) * 1000)
        assert int(result.output) == 20 * MB
        await repl.close()
        return Value.of(None)

    parent = await jail.start_repl(Value.text(b"0123456789abcdef" * (40 * MB // 16)), limits=LIMITS, on_request=answer)
    for number in range(1, 8):
        # perf_counter is CLOCK_MONOTONIC: the same clock on both sides of the jail
        code = "import time; part = context[1000 : 1000 + (20 << 20)]; await llm_query(part, repr(time.perf_counter()))"
        result = await parent.run(code, number)
        assert not result.error, result.error
    await parent.close()
    return statistics.median(times)


async def idle_500(pool: JailPool) -> float:
    jail = await pool.open()
    root = jail._launched.process.pid
    before = sum(pss(p) for p in descendants(root))
    repls = []
    for _ in range(10):
        repls += await asyncio.gather(*(child(jail) for _ in range(50)))
    await asyncio.gather(*(repl.run("x = 1", 1) for repl in repls))
    each = (sum(pss(p) for p in descendants(root)) - before) / len(repls)
    await jail.close()
    return each


async def jails_20(backend: str) -> float:
    pool = JailPool(backend=backend, spare=0)
    await (await pool.open()).close()
    began = time.perf_counter()
    await asyncio.gather(*(pool.open() for _ in range(20)))
    took = time.perf_counter() - began
    await pool.close()
    return took


def fork_ms() -> float:
    """A bare fork and wait in a process with numpy and pandas loaded: the least a REPL could cost here."""
    code = (
        "import numpy, pandas, os, time, statistics\n"
        "t = []\n"
        "for _ in range(100):\n"
        "    b = time.perf_counter(); p = os.fork()\n"
        "    if not p: os._exit(0)\n"
        "    os.waitpid(p, 0); t.append((time.perf_counter() - b) * 1000)\n"
        "print(statistics.median(t))"
    )
    return float(peers.run([str(install() / "venv/bin/python"), "-I", "-c", code]))


def memcpy_ms() -> float:
    data = bytearray(40 * MB)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        bytes(data)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def measure(backend: str) -> dict[str, float]:
    pool = JailPool(backend=backend, spare=1)
    figures: dict[str, float] = {}
    jail = await pool.open()
    await asyncio.sleep(1.0)  # the spare one has started
    await child(jail)
    figures |= await repl_start(jail)
    figures["burst_100_s"] = await burst(jail)
    figures["cell_ms_p50"] = await cells(jail)
    figures["slice_20mb_ms"] = await slice_20mb(jail)
    await jail.close()
    figures |= await context_40mb(pool)
    figures["idle_repl_mb"] = await idle_500(pool)
    began = time.perf_counter()
    spare = await pool.open()
    figures["warm_open_ms"] = (time.perf_counter() - began) * 1000
    figures["spare_jail_mb"] = sum(pss(p) for p in descendants(spare._launched.process.pid))
    await pool.close()
    figures["jails_20_s"] = await jails_20(backend)
    figures["fork_ms_p50"] = fork_ms()
    figures["memcpy_40mb_ms"] = memcpy_ms()
    return figures


def host() -> tuple[float, int]:
    """Memory and open files of this process."""
    gc.collect()
    return pss(os.getpid()), len(list(Path("/proc/self/fd").iterdir()))


@dataclass
class Traces:
    """Where the jails of this process, and no others of the machine, could leave something behind."""

    scratch: Path  # the temporary directory of this process for as long as it runs
    pids: set[int] = field(default_factory=set)
    homes: set[Path] = field(default_factory=set)

    def add(self, jail: Jail) -> None:
        self.pids.add(jail._launched.process.pid)
        self.homes.add(Path(jail._launched.identity.home))

    def left(self) -> list[str]:
        """Files and directories: in our temporary directory, in the homes of jails, firejail's by the pid of a jail that is gone."""
        found = list(self.scratch.iterdir())
        if os.geteuid() == 0:  # else the home is that of a person
            found += [p for home in self.homes if home.is_dir() for p in home.iterdir()]
        for path in Path("/run/firejail").glob("*/*"):
            pid = path.name.split("-")[0]
            if pid.isdigit() and int(pid) in self.pids and not Path(f"/proc/{pid}").exists():
                found.append(path)
        return sorted(map(str, found))

    def alive(self) -> int:
        """Processes below this one, those of jails that were not reaped among them."""
        return len(descendants(os.getpid()))


def zombies() -> int:
    states = []
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            states.append(Path(f"/proc/{pid}/stat").read_text())
    return sum(") Z " in state for state in states)


async def soak_runs(backend: str, runs: int) -> dict[str, Any]:
    """Whole runs, one after the other: a jail, a REPL with a context, a cell, the end."""
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        tempfile.tempdir = scratch
        traces = Traces(Path(scratch))
        pool = JailPool(backend=backend, spare=0)
        await (await pool.open()).close()
        memory, files = host()
        began = time.perf_counter()
        for _ in range(runs):
            jail = await pool.open()
            traces.add(jail)
            repl = await child(jail, Value.of("x" * 200_000))
            result = await repl.run("FINAL(context)", 1)
            assert result.finished, result
            await jail.close()
        took = time.perf_counter() - began
        await pool.close()
        await asyncio.sleep(1.0)
        memory_after, files_after = host()
        tempfile.tempdir = None
        return {
            "runs": runs,
            "runs_seconds": round(took, 1),
            "left": traces.left(),
            "processes_left": traces.alive(),
            "zombies": zombies(),
            "runs_host_mb": [round(memory, 1), round(memory_after, 1)],
            "runs_host_files": [files, files_after],
        }


async def soak(backend: str, runs: int, cells_total: int = 10_000, children_total: int = 1_000) -> dict[str, Any]:
    """Cells and children in one jail, then whole runs: what is left over must not grow."""
    pool = JailPool(backend=backend, spare=0)
    jail = await pool.open()
    root = jail._launched.process.pid
    repl = await child(jail)
    samples = []
    began = time.perf_counter()
    for step in range(10):
        for number in range(cells_total // 10):
            result = await repl.run(
                f"y = [str(i) for i in range(100)]; print({number}, len(y))", step * cells_total + number + 1
            )
            assert result.output_chars and not result.error, result
        for _ in range(children_total // 100):
            for other in await asyncio.gather(*(child(jail) for _ in range(10))):
                await other.run("z = context * 10", 1)
                await other.close()
        await asyncio.sleep(0.1)
        memory, files = host()
        inside = sum(pss(p) for p in descendants(root))
        samples.append(
            {
                "host_mb": round(memory, 1),
                "host_files": files,
                "jail_mb": round(inside, 1),
                "processes": len(descendants(root)),
            }
        )
    took = time.perf_counter() - began
    await pool.close()
    return {
        "seconds": round(took, 1),
        "cells": cells_total,
        "children": children_total,
        "samples": samples,
        **await soak_runs(backend, runs),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--backend", default="firejail")
    parser.add_argument("--soak", action="store_true", help="10,000 cells and 1,000 children instead of the figures")
    parser.add_argument("--runs", type=int, default=50, help="whole runs of the soak; 1000 takes some minutes")
    parser.add_argument(
        "--peers", action="store_true", help="also a Deno + Pyodide REPL, installed into a temporary directory"
    )
    options = parser.parse_args()
    install()
    if options.soak:
        print(json.dumps(asyncio.run(soak(options.backend, options.runs)), indent=None if options.json else 2))
        return 0
    figures: dict[str, Any] = {k: round(v, 3) for k, v in asyncio.run(measure(options.backend)).items()}
    if options.peers:
        figures |= peers.deno_pyodide()
    if options.json:
        print(json.dumps(figures))
        return 0
    for name, figure in figures.items():
        target = TARGETS.get(name)
        verdict = "" if target is None else f"  to reach {target:g}{'' if figure <= target else '   MISSED'}"
        print(f"{name:26} {figure}{verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
