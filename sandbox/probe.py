"""The start-up probe: a dozen escapes tried for real from a cell. Any that works, and no jail is handed out."""

from __future__ import annotations

import time
from typing import Any

from sandbox.jail import Jail
from sandbox.limits import ReplLimits
from sandbox.values import Value

CELL = """
import ctypes, os, socket, sys
results = {}
def attempt(name, escape):
    try:
        results[name] = not escape()
    except BaseException:
        results[name] = True
def opens(path, mode="r"):
    with open(path, mode) as file:
        return True if "w" in mode else bool(file.read(1))
def listed(path):
    try:
        return os.listdir(path)
    except OSError:
        return []
def socket_of(family):
    socket.socket(family, socket.SOCK_STREAM).close()
    return True
def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    return True
def execute():
    os.posix_spawn("/usr/bin/python3", ["python3", "-c", ""], {})
    return True
def call(number, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(number, *args) != -1 or ctypes.get_errno() not in (1, 13, 38)
attempt("no TCP", lambda: socket_of(socket.AF_INET))
attempt("no IPv6", lambda: socket_of(socket.AF_INET6))
attempt("no UNIX sockets", lambda: socket_of(socket.AF_UNIX))
attempt("no netlink", lambda: socket_of(socket.AF_NETLINK))
attempt("no host files", lambda: any(os.path.exists(p) for p in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/root/.bashrc")))
way = (os.environ.get("HOME", "/") + sys.prefix + "/usr/lib").split("/")
attempt("no host directories", lambda: any(x not in way for d in ("/home", "/srv", "/mnt", "/media", "/var", "/root") for x in listed(d)))
attempt("no writing to /tmp", lambda: opens("/tmp/probe", "w"))
attempt("no writing to the interpreter", lambda: opens(os.__file__, "r+w"[:2]))
attempt("no writing to /dev/shm", lambda: opens("/dev/shm/probe", "w"))
attempt("no fork", fork)
attempt("no exec", execute)
attempt("no signal to the zygote", lambda: os.kill(os.getppid(), 0) is None)
attempt("no memory of others", lambda: opens(f"/proc/{os.getppid()}/mem", "rb"))
attempt("no environment of others", lambda: opens(f"/proc/{os.getppid()}/environ", "rb"))
attempt("no ptrace", lambda: call(101, 16, os.getppid(), 0, 0))
attempt("no memfd", lambda: call(319, b"x", 0))
attempt("no io_uring", lambda: call(425, 1, 0))
attempt("no new namespaces", lambda: call(272, 0x10000000))
attempt("no mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
attempt("no bpf", lambda: call(321, 0, 0, 0))
attempt("no keyring", lambda: call(248, b"user", b"x", b"x", 1, -3))
attempt("no limits raised", lambda: __import__("resource").setrlimit(8, (1, 1)) is None)
attempt("nothing of the host in the environment", lambda: any(k in os.environ for k in ("DJANGO_SECRET_KEY", "OPENAI_API_KEY", "DATABASE_URL", "REDIS_URL")))
FINAL(results)
"""
LIMITS = ReplLimits(cell_seconds=10, cpu_seconds=10)


async def probe_jail(jail: Jail) -> dict[str, Any]:
    """Name of each check → whether the jail held, and the jail's own report."""
    repl = await jail.start_repl(Value.of(None), functions="plain", limits=LIMITS)
    result = await repl.run(CELL, 1)
    await repl.close()
    found = result.final.python() if result.final is not None else {}
    checks = {**jail.report, **{str(k): bool(v) for k, v in found.items()}}
    if not found:
        checks["the probe ran"] = False
    return {
        "ok": all(checks.values()),
        "backend": jail.backend,
        "checks": checks,
        "error": result.error,
        "start_ms": round(jail.start_seconds * 1000),
        "time": time.time(),
    }
