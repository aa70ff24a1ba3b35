"""A worker that is no root gets jails as tight as a root one: the most telling attacks, by a cell of such a worker.

The host's side is standard library alone, so the system's Python can be that worker, without the project's venv.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.firejail

PROJECT = Path(__file__).resolve().parents[2]
# Each evaluates to what got through: nothing. firejail lays .bashrc and .inputrc of /etc/skel into an empty home.
# `worker`, `sibling`, `secret` and `port` come as the context.
ATTACKS = {
    "network": "[f for f in (1, 2, 10, 16, 17, 38, 40) if works(lambda: socket.socket(f, socket.SOCK_STREAM))]",
    "local server": "[1 for _ in '1' if works(lambda: socket.create_connection(('127.0.0.1', port), 1))]",
    "host files": "[p for p in (secret, '/etc/passwd', '/etc/shadow', '/bin/sh', '/usr/bin/env', '/run/lock', '/var/lib/dpkg', '/var/log')"
    " if os.path.exists(p) and works(lambda: reads(p))]",
    "home": "[x for x in os.listdir(os.path.expanduser('~')) if x not in ('.bashrc', '.inputrc', 'usr')]",
    "writing": "[p for p in ('/', '/tmp', '/dev/shm', os.path.expanduser('~'), os.path.dirname(os.__file__), sys.prefix)"
    " if works(lambda: open(p + '/scratch', 'w'))]",
    "the worker's process": "[n for n in (0, 9) if works(lambda: os.kill(worker, n))]",
    "processes of the host in /proc": "[p for p in os.listdir('/proc') if p.isdigit() and b'-c\\0import asyncio' in command(p)]",
    "memory of others": "[(p, n) for p in (str(sibling), str(os.getppid()), '1') for n in ('mem', 'maps', 'environ', 'root/etc', 'fd/0')"
    " if works(lambda: reads(f'/proc/{p}/{n}'))]",
    "signals to siblings": "[p for p in (sibling, os.getppid(), 1, -1, 0) for n in (0, 9) if works(lambda: os.kill(p, n))]",
    "limits of siblings": "[1 for _ in '1' if works(lambda: resource.prlimit(sibling, resource.RLIMIT_NOFILE, (0, 0)))]",
    "fork": "[1 for _ in '1' if works(lambda: os.fork() or os._exit(0))]",
    "exec": "[1 for _ in '1' if works(lambda: os.posix_spawn(sys.executable, ['python', '-c', ''], {}))]",
    "memory": "[1 for _ in '1' if works(lambda: bytearray(8 << 30))]",
    "environment": "[k for k, v in os.environ.items() if 'topsecret' in v]",
    "descriptors": "[f for f in range(64) if works(lambda: 'topsecret' in os.readlink(f'/proc/self/fd/{f}'))]",
    "uid": "[u for u in (os.getuid(), os.geteuid()) if u == 0] + [c for c in ('CapEff', 'CapBnd') if f'{c}:\\t' + '0' * 16 not in status]",
    "new privileges": "[] if 'NoNewPrivs:\\t1' in status and 'Seccomp:\\t2' in status else [status]",
    "becoming root": "[1 for _ in '1' if works(lambda: os.setuid(0))]",
    "namespaces, ptrace, mount, io_uring, memfd, bpf": "[n for n, *a in ((272, 0x10000000), (101, 16, sibling, 0, 0),"
    " (165, b'none', b'/tmp', b'tmpfs', 0, 0), (425, 1, 0), (319, b'x', 0), (321, 0, 0, 0)) if libc.syscall(n, *a) != -1]",
}
PREPARE = """
import ctypes, os, resource, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
status = open("/proc/self/status").read()
worker, sibling, secret, port = context
def reads(path):
    return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
def command(pid):
    try:
        return open(f"/proc/{pid}/cmdline", "rb").read()
    except OSError:
        return b""
def works(escape):
    try:
        return escape() not in ([], b"", False)
    except (OSError, MemoryError):
        return False
"""
WORKER = """
import asyncio, json, os, socket, sys
from pathlib import Path
from sandbox import JailPool, ReplLimits, Value
async def main():
    backend, secret, attacks, prepare = json.load(sys.stdin)
    server = socket.create_server(("127.0.0.1", 0))
    limits = ReplLimits(cell_seconds=5, memory_mb=1024)
    pool = JailPool(backend=backend, spare=0)
    jail = await pool.open()
    sibling = await jail.start_repl(Value.of(None), limits=limits)
    pid = int((await sibling.run("import os; kept = 7; print(os.getpid())", 1)).output)
    context = [os.getpid(), pid, secret, server.getsockname()[1]]
    repl = await jail.start_repl(Value.of(context), limits=limits)
    prepared = await repl.run(prepare, 1)
    found = {"prepare": prepared.error}
    for number, (name, code) in enumerate(attacks.items(), 2):
        result = await repl.run("print(" + code + ")", number)
        found[name] = (result.output.strip() + result.error) if (result.output, result.error) != ("[]\\n", "") else ""
    found["the sibling lives"] = "" if (await sibling.run("print(kept)", 2)).output == "7\\n" else "no"
    uid = os.stat(f"/proc/{jail._launched.process.pid}").st_uid
    await pool.close()
    print(json.dumps({"found": found, "worker": os.getuid(), "probe": pool.probe["ok"], "uid": uid}))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """The sandbox's sources and a secret, where the worker's user can read them."""
    place = Path(tempfile.mkdtemp(prefix="unprivileged-"))
    place.chmod(0o755)
    shutil.copytree(PROJECT / "sandbox", place / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "locks").mkdir()
    for lock in ("sandbox.txt", "extract.txt"):
        shutil.copy(PROJECT / "locks" / lock, place / "locks")
    (place / "topsecret").write_text("of the worker's user alone")
    if os.geteuid() == 0:
        user = pwd.getpwnam("rlm127")
        os.chown(place / "topsecret", user.pw_uid, user.pw_gid)
    (place / "topsecret").chmod(0o600)
    yield place
    shutil.rmtree(place)


def as_nobody_special() -> dict[str, Any]:
    """Options of a process that has no privileges: those of a root worker are given up."""
    user = pwd.getpwnam("rlm127") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    kept = {k: v for k, v in os.environ.items() if k == "RLMWEB_SANDBOX_PREFIX"}
    options: dict[str, Any] = {"env": {"PATH": "/usr/bin", "HOME": user.pw_dir, "API_KEY": "topsecret", **kept}}
    if os.geteuid() == 0:
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return options


@pytest.mark.parametrize("backend", ["firejail", "bubblewrap"])
def test_cells_of_an_unprivileged_worker_reach_nothing(backend: str, place: Path) -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-c", WORKER],
        input=json.dumps([backend, str(place / "topsecret"), ATTACKS, PREPARE]),
        cwd=place, capture_output=True, text=True, check=False, timeout=60, **as_nobody_special(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["worker"] != 0 and report["probe"]
    assert {name: got for name, got in report["found"].items() if got} == {}


@pytest.mark.parametrize("backend", ["firejail", "bubblewrap"])
def test_unprivileged_worker_can_run_cells(backend: str, place: Path) -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-m", "sandbox", "exec", "--json", "--backend", backend],
        input='["import os; print(os.getuid() != 0)"]',
        cwd=place, capture_output=True, text=True, check=False, timeout=60, **as_nobody_special(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"output": "True\\n"' in done.stdout


READS = """
import json, os, sys
from sandbox.extraction import Extraction, probe_extraction
from sandbox.memory import Memory
text = []
with Extraction.start(sys.argv[1]) as jail:
    jail.read("html", Memory(b"<h1>Fog</h1>"), text.append)
held = probe_extraction(sys.argv[1])
print(json.dumps({"worker": os.getuid(), "text": "".join(text), "broken": [name for name in held if not held[name]]}))
"""


@pytest.mark.parametrize("backend", ["firejail", "bubblewrap"])
def test_unprivileged_worker_reads_files_in_a_jail_that_holds(backend: str, place: Path) -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-c", READS, backend],
        cwd=place, capture_output=True, text=True, check=False, timeout=60, **as_nobody_special(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.pop("worker") != 0
    assert report == {"text": "# Fog\n", "broken": []}
