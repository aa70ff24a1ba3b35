"""One root cell that starts many children of two turns each: ``python -m benchmarks.fanout --calls 100 --json``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from benchmarks.engine_bed import bed, cases, clock, cpu_seconds, endpoint_at, peak_rss_mb, say
from rlm.engine import RunSpec
from rlm.limits import Limits
from sandbox import Value

MOST_IN_FLIGHT = 100


async def measure(base_url: str, calls: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the fan-out once; return a line a child, and the totals."""
    limits = Limits(
        calls=calls + 1, calls_in_flight=min(calls, MOST_IN_FLIGHT), prompt_tokens=None, completion_tokens=None, cost=None,
        run_seconds=3600.0,
    )  # fmt: skip
    async with bed(base_url) as ready:
        cpu = cpu_seconds()
        began = clock()
        question = f"Please start {calls} children, each on a piece of text, and return the length of every piece."
        result, recorder = await ready.solve(RunSpec(question, limits=limits), Value.of(question))
        wall = clock() - began
        used = cpu_seconds() - cpu
        lines = cases(recorder, result)
    right = sum(line["right"] for line in lines) if result.status == "done" else 0
    return lines, {
        "calls": len(lines), "right": right, "wall_s": round(wall, 3), "cpu_s": round(used, 3),
        "peak_rss_mb": round(peak_rss_mb(), 1), "status": result.status,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds the scripted endpoint takes to reply")
    parser.add_argument("--base-url", help="an endpoint that is up already, instead of a scripted one of its own")
    parser.add_argument("--json", action="store_true", help="JSON lines: one a child, then the total")
    given = parser.parse_args()
    with endpoint_at(given.base_url, "fanout", given.latency) as base_url:
        lines, total = asyncio.run(measure(base_url, given.calls))
    if given.json:
        for line in lines:
            say(**line)
        say(**total)
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in total.items()))


if __name__ == "__main__":
    main()
