"""A real ./run in a process of its own, on a free port and a new data directory."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(**more: str) -> dict[str, str]:
    """What a newcomer's shell has: nothing of ours, nothing of the tests."""
    ours = ("RLMWEB_", "OPENAI_", "DJANGO_", "PYTEST_", "REDIS_", "DATABASE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


class Instance:
    def __init__(self, data: Path, *, port: int | None = None, **environment: str) -> None:
        self.data = data
        self.port = port or free_port()
        self.environment = clean_environment(RLMWEB_DATA=str(data), PORT=str(self.port)) | environment
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.reader: threading.Thread | None = None

    def start(self) -> Instance:
        self.process = subprocess.Popen(
            [PROJECT / "run"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()
        return self

    def _read(self, output: Any) -> None:
        with output:
            for line in output:
                self.lines.append(line.rstrip())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            assert self.process
            found = re.search(pattern, self.text)
            assert found or self.process.poll() is None, f"./run ended:\n{self.text}"
            return found

        found: re.Match[str] = wait_until(look, seconds, lambda: f"no line like {pattern!r}:\n{self.text}")
        return found

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/healthz")[1]))

    def wait_until_well(self, seconds: float = 40) -> None:
        def well() -> bool:
            try:
                return bool(self.health()["ok"])
            except (OSError, ValueError, http.client.HTTPException):
                return False

        wait_until(well, seconds, lambda: f"/healthz is not well:\n{self.text}")

    def programs(self) -> dict[str, int]:
        """The supervisor's children by name. The supervisor is ./run itself: exec keeps the process."""
        assert self.process
        names = {"valkey-server": "valkey", "celery": "worker", "daphne": "web"}
        found: dict[str, int] = {}
        for pid, (parent, command) in processes().items():
            if parent == self.process.pid:
                found |= {name: pid for word, name in names.items() if word in command}
        return found

    def descendants(self) -> set[int]:
        assert self.process
        return descendants(self.process.pid)

    def cpu_seconds(self) -> float:
        """CPU that ./run and all it started has taken so far: says more than a clock on a machine that does other things."""
        assert self.process
        ticks = 0
        for pid in {self.process.pid, *self.descendants()}:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])  # its own and that of children that have ended
        return ticks / os.sysconf("SC_CLK_TCK")

    def end(self, by: signal.Signals = signal.SIGTERM) -> float:
        """Send the signal; seconds until nothing of it was left."""
        assert self.process
        everything = self.descendants() | {self.process.pid}
        started = time.monotonic()
        if self.process.poll() is None:
            os.kill(self.process.pid, by)
        try:
            self.process.wait(15)
            wait_until(lambda: not alive(everything), 10, lambda: f"left: {alive(everything)}")
        finally:
            took = time.monotonic() - started
            for pid in alive(everything):
                os.kill(pid, signal.SIGKILL)
            assert self.reader
            self.reader.join(5)
        return took


def wait_until(check: Any, seconds: float, message: Any) -> Any:
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, message()
        time.sleep(0.1)
    return found


def processes() -> dict[int, tuple[int, str]]:
    """Every live process: its parent and its command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if state not in "ZX":
            found[int(entry.name)] = (int(parent), command)
    return found


def descendants(root: int) -> set[int]:
    parents = {pid: parent for pid, (parent, _) in processes().items()}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def alive(pids: set[int]) -> dict[int, str]:
    return {pid: command for pid, (_, command) in processes().items() if pid in pids}
