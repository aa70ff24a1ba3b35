"""What a death costs: ``python -m benchmarks.chaos --json`` prints ``replay_50_cells_s`` and ``failover_s``.

The first is a call of 50 cells over a context of 40 MB, taken up from its record in warm jails: from ``solve`` to its next
request. The second is from the SIGKILL of a worker to the next reply in the database, with the default settings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rlm.endpoints import Endpoint
from rlm.engine import Control, Released, RunSpec, solve
from rlm.events import Event, TurnStarted
from rlm.limits import Limits
from rlm.replies import ModelReply
from sandbox import JailPool, Value
from tests.chaos.household import Household
from tests.rlm.recorded import recording_of
from tests.scripted.fixture import start

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
            first.send_signal(signal.SIGSTOP)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--only", choices=["replay", "failover"])
    options = parser.parse_args()
    figures: dict[str, float] = {}
    if options.only != "failover":
        figures["replay_50_cells_s"] = round(asyncio.run(replay()), 2)
    if options.only != "replay":
        figures["failover_s"] = round(failover(), 1)
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for name, value in figures.items():
        sys.stdout.write(f"{name}: {value}\n")


if __name__ == "__main__":
    main()
