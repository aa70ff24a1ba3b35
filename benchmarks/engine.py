"""The engine's figures: ``python -m benchmarks.engine --json`` prints a JSON line a case, then one object with all of them."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import openai

from benchmarks import fanout
from benchmarks.engine_bed import FileRecorder, bed, endpoint_at, rss_mb, say
from rlm.engine import RunSpec, solve
from rlm.events import CellDone, Event, TurnStarted
from rlm.limits import Limits
from rlm.prompts import system_prompt
from sandbox import Value

UNLIMITED = {"prompt_tokens": None, "completion_tokens": None, "cost": None, "run_seconds": 3600.0}
TURNS = 52
RUNS = 6

Figures = dict[str, Any]


class TimedRecorder(FileRecorder):
    """Also notes when each turn ended, and what was sent."""

    def __init__(self, path: Path, *, remember: bool = True) -> None:
        super().__init__(path, remember=remember)
        self.ended: list[float] = []
        self.messages: list[dict[str, str]] = []
        self.prompts: list[int] = []  # messages sent by each request

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, TurnStarted):
            self.messages += [{"role": m.role, "content": m.content} for m in event.messages]
            self.prompts.append(len(self.messages))
        elif isinstance(event, CellDone):
            self.ended.append(time.perf_counter())


async def bare_client(base_url: str, conversations: list[list[dict[str, str]]]) -> float:
    """Return the median milliseconds of the bare openai client for these requests and their replies."""
    client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)
    took = []
    for messages in conversations[:3] + conversations:
        began = time.perf_counter()
        stream = await client.chat.completions.create(
            model="scripted",
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},  # type: ignore[arg-type]
        )
        async for _ in stream:
            pass
        took.append(1000 * (time.perf_counter() - began))
    await client.close()
    return statistics.median(took[3:])


async def turns(base_url: str) -> Figures:
    """Time turns early and late in a long call, beyond the bare client's time for the same requests."""
    early, late = [], []
    recorder = None
    async with bed(base_url) as ready:
        for n in range(RUNS):
            recorder = TimedRecorder(ready.folder / f"turns-{n}.jsonl")
            spec = RunSpec(f"Work in {TURNS} turns of 50 characters.", limits=Limits(turns=TURNS + 1, **UNLIMITED))
            await solve(spec, context=Value.of("data"), pool=ready.pool, client=ready.client, emit=recorder)
            took = [1000 * (b - a) for a, b in itertools.pairwise(recorder.ended)]
            early += took[:5]
            late += took[46:51]
    assert recorder is not None
    first = [recorder.messages[:size] for size in recorder.prompts[1:6]] * RUNS
    last = [recorder.messages[:size] for size in recorder.prompts[47:52]] * RUNS
    client_early, client_late = await bare_client(base_url, first), await bare_client(base_url, last)
    # The bare client slows down with every message (it walks through them with pydantic; ours does not): what counts as
    # overhead at turn 50 is measured against its time for a short conversation, which is the harder comparison.
    return {
        "turn_overhead_ms_p50": round(statistics.median(early) - client_early, 2),
        "turn_overhead_ms_p50_at_50": round(statistics.median(late) - min(client_early, client_late), 2),
        "client_ms_p50": round(client_early, 2),
        "client_ms_p50_at_50": round(client_late, 2),
        "turn_ms_p50": round(statistics.median(early), 2),
        "turn_ms_p50_at_50": round(statistics.median(late), 2),
    }


async def prefix(base_url: str) -> Figures:
    """Find the share of prompt characters that a prefix cache would serve, in one call of 20 turns."""
    async with bed(base_url) as ready:
        recorder = TimedRecorder(ready.folder / "prefix.jsonl")
        spec = RunSpec("Work in 20 turns of 2000 characters.", limits=Limits(turns=21, **UNLIMITED))
        await solve(spec, context=Value.of("data"), pool=ready.pool, client=ready.client, emit=recorder)
    sizes = [sum(len(m["content"]) for m in recorder.messages[:count]) for count in recorder.prompts]
    return {"prefix_share": round(sum(sizes[:-1]) / sum(sizes), 4), "requests": len(sizes)}


async def fanout_100(base_url: str) -> Figures:
    """Start 100 children of two turns three times; the worst counts."""
    runs = [(await fanout.measure(base_url, 100))[1] for _ in range(3)]
    return {
        "fanout_100_wall_s": max(r["wall_s"] for r in runs),
        "fanout_100_cpu_s": max(r["cpu_s"] for r in runs),
        "fanout_100_right": min(r["right"] for r in runs),
    }


async def latency(base_url: str) -> Figures:
    """Start 100 children at three seconds a request, 100 in flight: three requests one after another are the ideal."""
    _, total = await fanout.measure(base_url, 100)
    return {"latency_ratio": round(total["wall_s"] / 9.0, 3), "latency_right": total["right"]}


async def calls_1000(base_url: str) -> Figures:
    """Run 1,000 children in one run: the worker's memory above idle."""
    async with bed(base_url) as ready:
        await ready.solve(RunSpec("Please start 5 children."), Value.of("warm"), remember=False)
        idle = most = rss_mb()

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, rss_mb())
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        limits = Limits(calls=1001, calls_in_flight=32, **UNLIMITED)
        result, _ = await ready.solve(
            RunSpec("Please start 1000 children.", limits=limits), Value.of("x"), remember=False
        )
        watching.cancel()
    answer = result.answer.python() if result.answer is not None else []
    right = sum(got == n + 1 for n, got in enumerate(answer))
    return {
        "calls_1000_rss_mb": round(most - idle, 1),
        "calls_1000_right": right,
        "calls_1000_wall_s": round(result.seconds, 2),
    }


async def runs_50(base_url: str) -> Figures:
    """Run 50 at once in one worker: the slowest against the median."""
    async with bed(base_url) as ready:
        specs = [RunSpec(f"Please start 4 children. Run {n}.", limits=Limits(**UNLIMITED)) for n in range(50)]
        results = await asyncio.gather(*[ready.solve(spec, Value.of("x")) for spec in specs])
    seconds = [r.seconds for r, _ in results]
    right = sum(r.answer is not None and r.answer.python() == [1, 2, 3, 4] for r, _ in results)
    return {
        "runs_50_slowest_over_median": round(max(seconds) / statistics.median(seconds), 2),
        "runs_50_right": right, "runs_50_slowest_s": round(max(seconds), 2),
    }  # fmt: skip


async def prompt_size(_: str) -> Figures:
    """Estimate the tokens of the root's system prompt from above: a word of more than six letters counts for two or more."""
    pieces = re.findall(r" ?\w+| ?[^\w\s]+|\s+", system_prompt("rlm", "async"))
    return {"system_prompt_tokens": sum(-(-len(piece.strip()) // 7) or 1 for piece in pieces)}


Case = tuple[Callable[[str], Coroutine[Any, Any, Figures]], str, float]
CASES: dict[str, Case] = {
    "prompt_size": (prompt_size, "hello", 0),
    "prefix": (prefix, "turns", 0),
    "turns": (turns, "turns", 0),
    "fanout_100": (fanout_100, "fanout", 0),
    "latency": (latency, "fanout", 3000),
    "calls_1000": (calls_1000, "fanout", 0),
    "runs_50": (runs_50, "fanout", 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines: one a case, then all figures in one object")
    parser.add_argument("--only", choices=CASES, action="append", help="run these cases only")
    given = parser.parse_args()
    figures: Figures = {}
    for name in given.only or CASES:
        case, script, latency_ms = CASES[name]
        with endpoint_at(None, script, latency_ms) as base_url:
            found = asyncio.run(case(base_url))
        figures |= found
        if given.json:
            say(case=name, **found)
    if given.json:
        say(**figures)
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in figures.items()))


if __name__ == "__main__":
    main()
