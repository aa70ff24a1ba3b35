"""Run the scripted endpoint: ``python -m tests.scripted --port 0 --script FILE|name`` prints its address as a JSON line.

A FILE is JSON, keyed on the messages alone:
``{"rules": [{"match": regex, "turn": n, "attempt": n, "model": name, "reply": reply}, …], "default": reply}`` or
``{"replies": [reply, …]}`` by turn. A reply is a text or an object with the fields of tests.scripted.reply.Reply.
A name is a function of tests/scripted/scripts.py. ``GET /stats`` and, with --log, ``GET /log`` tell what was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from pathlib import Path

from tests.scripted import scripts
from tests.scripted.rules import script_of
from tests.scripted.server import Endpoint, serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scripted")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", required=True, help="a JSON file, or the name of a function in scripts.py")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each reply")
    parser.add_argument("--log", action="store_true", help="keep the requests for GET /log")
    given = parser.parse_args()
    script = getattr(scripts, given.script, None) if given.script.isidentifier() else None
    if script is None:
        script = script_of(json.loads(Path(given.script).read_text("utf-8")))
    endpoint = Endpoint(script, given.latency / 1000, given.log)

    def told(address: str) -> None:
        sys.stdout.write(json.dumps({"base_url": address}) + "\n")
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(endpoint, given.port, told))


if __name__ == "__main__":
    main()
