"""Starts scripted endpoints for tests: ``scripted({"replies": […]})`` or ``scripted("fanout")`` gives one's address."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_numbers = itertools.count(1)
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Scripted:
    """One scripted endpoint under way."""

    base_url: str
    process: subprocess.Popen[str]

    def stats(self) -> dict[str, Any]:
        return self._get("/stats")

    def log(self) -> list[dict[str, Any]]:
        return self._get("/log")

    def forget(self) -> None:
        """Begin the log anew."""
        self._get("/forget")

    def leave(self, seconds: float) -> None:
        """Refuse every connection for so long, those under way included."""
        self._get(f"/away/{seconds}")

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + path, timeout=10) as response:
            return json.load(response)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()

    def add(self, script: str | dict[str, Any], *, latency_ms: float = 0.0) -> Scripted:
        """Set up one more endpoint in the same process: quick, and apart from the others."""
        name = f"x{next(_numbers)}"
        root = self.base_url.removesuffix("/v1")
        body = json.dumps({"script": script, "latency_ms": latency_ms}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{root}/s/{name}", body, method="PUT"), timeout=10):
            return Scripted(f"{root}/s/{name}/v1", self.process)


def start(script: str, *, latency_ms: float = 0.0, log: bool = False) -> Scripted:
    """Start an endpoint in a process of its own. ``script``: a file's path or a script's name."""
    command = [sys.executable, "-m", "tests.scripted", "--script", script, "--latency", str(latency_ms)]
    process = subprocess.Popen([*command, *(["--log"] if log else [])], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        process.wait(10)
        raise RuntimeError("the scripted endpoint did not start")
    return Scripted(json.loads(line)["base_url"], process)


@pytest.fixture(scope="session")
def scripted_server() -> Iterator[Scripted]:
    server = start("hello", log=True)
    yield server
    server.stop()


@pytest.fixture
def scripted(scripted_server: Scripted) -> Callable[..., Scripted]:
    """Give a function that sets up scripted endpoints: ``scripted({"replies": [...]})`` or ``scripted("fanout")``."""
    return scripted_server.add
