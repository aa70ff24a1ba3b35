"""What the engine's benchmarks share: a recorder that writes events to a file, a scripted endpoint, processor time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm.client import ModelClient
from rlm.endpoints import Endpoint
from rlm.engine import Control, RunResult, RunSpec, solve
from rlm.events import CallFinished, CallQueued, CellDone, Event, OutputDelta, ReplyDelta
from sandbox import JailPool, Value
from tests.scripted.fixture import Scripted, start


class FileRecorder:
    """Writes every lasting event as a JSON line, flushed at each commit; remembers what the benchmarks look at."""

    def __init__(self, path: Path, *, remember: bool = True) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._remember = remember
        self.queued: list[CallQueued] = []
        self.answers: dict[int, CallFinished] = {}
        self.cells: list[CellDone] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, ReplyDelta | OutputDelta):
            return
        self._file.write(json.dumps({"event": type(event).__name__, **vars(event)}, default=str) + "\n")
        if not self._remember:
            return
        if isinstance(event, CallQueued):
            self.queued.append(event)
        elif isinstance(event, CallFinished):
            self.answers[event.call] = event

    async def commit(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@dataclass
class Bed:
    """A warm pool and a client, as a worker has them between runs."""

    pool: JailPool
    client: ModelClient
    folder: Path
    recorders: list[FileRecorder] = field(default_factory=list)

    async def solve(self, spec: RunSpec, context: Value, *, remember: bool = True) -> tuple[RunResult, FileRecorder]:
        recorder = FileRecorder(self.folder / f"run-{len(self.recorders)}.jsonl", remember=remember)
        self.recorders.append(recorder)
        result = await solve(
            spec, context=context, pool=self.pool, client=self.client, emit=recorder, control=Control()
        )
        recorder.close()
        return result, recorder


@contextlib.contextmanager
def endpoint_at(base_url: str | None, script: str, latency_ms: float = 0.0) -> Iterator[str]:
    """Give the address of the endpoint to use: the one named, or a scripted one in a process of its own."""
    if base_url:
        yield base_url
        return
    server: Scripted = start(script, latency_ms=latency_ms)
    try:
        yield server.base_url
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def bed(base_url: str, *, window: int = 128_000, spare: int = 1) -> AsyncIterator[Bed]:
    """Make a warm pool and a client, and put them away."""
    pool = JailPool(spare=spare)
    client = ModelClient(Endpoint("scripted", base_url, root_model="scripted", window=window))
    try:
        jail = await pool.open()
        await jail.close()
        while len(pool._spares) < spare:
            await asyncio.sleep(0.05)
        with tempfile.TemporaryDirectory() as folder:
            yield Bed(pool, client, Path(folder))
    finally:
        await client.close()
        await pool.close()


def cpu_seconds() -> float:
    """Return the processor time so far of this process and of the jails that have ended; scripted servers are alive."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rss_mb() -> float:
    """Return the resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def cases(recorder: FileRecorder, result: RunResult) -> list[dict[str, Any]]:
    """Return a line for each child of the root: what it should have returned, and what the root's own cell got."""
    children = [q for q in recorder.queued if q.parent == 1]
    whole = result.answer.python() if result.answer is not None else None
    by_place = isinstance(whole, list) and len(whole) == len(children)
    lines = []
    for child in sorted(children, key=lambda q: (q.cell or 0, q.order)):
        end = recorder.answers.get(child.call)
        got = end.answer.python() if end is not None and end.answer is not None else None
        if by_place and got is not None and whole is not None:
            got = whole[child.order]  # as it reached the parent: a mix-up on the way counts
        right = got == child.context_chars
        lines.append({"case": child.order, "call": child.call, "want": child.context_chars, "got": got, "right": right})
    return lines


def clock() -> float:
    return time.perf_counter()
