"""Run the scripted endpoint: ``python -m tests.scripted --port 0 --script FILE|name`` prints its address as a JSON line.

A FILE is JSON, keyed on the messages alone:
``{"rules": [{"match": regex, "turn": n, "attempt": n, "model": name, "reply": reply}, …], "default": reply}`` or
``{"replies": [reply, …]}`` by turn. A reply is a text or an object with the fields of tests.scripted.reply.Reply.
A name is a function of tests/scripted/scripts.py. ``PUT /s/<name>`` with ``{"script": …, "latency_ms": …}`` adds another endpoint
at ``/s/<name>/v1``. ``GET /stats`` and, with --log, ``GET /log`` tell what was asked; ``GET /forget`` begins the log anew, ``GET /away/30`` has the
server refuse every connection for 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.scripted import scripts
from tests.scripted.rules import script_of
from tests.scripted.server import Endpoint, Hub, Script, serve


def make(given: Any) -> Script:
    """Make a script of a name in scripts.py, or of its JSON form."""
    if isinstance(given, str):
        script: Script = getattr(scripts, given)
        return script
    return script_of(given)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scripted")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", required=True, help="a JSON file, or the name of a function in scripts.py")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each reply")
    parser.add_argument("--log", action="store_true", help="keep the requests for GET /log")
    given = parser.parse_args()
    named = given.script.isidentifier() and hasattr(scripts, given.script)
    script = make(given.script if named else json.loads(Path(given.script).read_text("utf-8")))
    hub = Hub(Endpoint(script, given.latency / 1000, given.log), make)

    def told(address: str) -> None:
        sys.stdout.write(json.dumps({"base_url": address}) + "\n")
        sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(hub, given.port, told))


if __name__ == "__main__":
    main()
