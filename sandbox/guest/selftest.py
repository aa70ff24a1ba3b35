"""What the zygote finds out about its own jail before it says that it is ready. The host refuses a jail with any flaw."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

KNOWN_TOP = {
    "bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "proc", "dev", "etc", "opt", "home", "root", "tmp", "run",
    "var", "srv", "mnt", "media",
}  # fmt: skip
STRONG_GROUPS = {0, 4, 6, 24, 27, 42}
ENVIRONMENT = {
    "PATH", "LANG", "HOME", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX", "PYTHONHASHSEED",
    "container", "LC_CTYPE", "PWD", "USER", "LOGNAME", "SHELL", "PROMPT_COMMAND", "PS1", "QTWEBENGINE_DISABLE_SANDBOX",
    "QT_X11_NO_MITSHM", "QML_DISABLE_DISK_CACHE", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS",
    "KDE_FORK_SLAVES", "MOZ_NO_REMOTE", "FIREJAIL_QUIET", "XDG_RUNTIME_DIR",
}  # fmt: skip


def examine() -> dict[str, Any]:
    """Name → True where the jail is as it should be."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    uid_map = Path("/proc/self/uid_map").read_text().split()
    return {
        "one user, not root": len(uid_map) == 3 and uid_map[2] == "1" and os.getuid() == int(uid_map[0]) != 0,
        "no capabilities": not any(int(status[k], 16) for k in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")),
        "no new privileges": status["NoNewPrivs"].strip() == "1",
        "system calls filtered": status["Seccomp"].strip() == "2",
        "no strong group": not STRONG_GROUPS & set(os.getgroups()),
        "no stray descriptors": _stray() == [],
        "only known top directories": not [p for p in Path("/").iterdir() if p.name not in KNOWN_TOP and _reveals(p)],
        "nothing writable": not any(
            os.access(d, os.W_OK) for d in ("/", "/tmp", "/dev/shm", os.environ.get("HOME", "/"))
        ),
        "no sysfs": not _readable("/sys"),
        "no sockets": _no_socket(),
        "only the loopback": _interfaces() <= {"lo"},
        "only the given environment": not set(os.environ) - ENVIRONMENT,
    }


def _stray() -> list[int]:
    """Descriptors that are neither the control socket nor /dev/null."""
    found = []
    for fd in range(3, 256):
        try:
            where = str(Path(f"/proc/self/fd/{fd}").readlink()) if _open(fd) else ""
        except OSError:
            where = "socket:?"
        if where and where != "/dev/null" and not where.startswith(("socket:", "pipe:")):
            found.append(fd)
    return found


def _open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _readable(path: str) -> bool:
    try:
        return any(Path(path).iterdir()) if Path(path).is_dir() else os.access(path, os.R_OK)
    except OSError:
        return False


def _reveals(top: Path) -> bool:
    """Whether a top directory shows more than the way to this Python."""
    if not _readable(str(top)):
        return False
    way = Path(sys.prefix)
    while way.is_relative_to(top):
        if way.parent != way and way != top and [p.name for p in way.parent.iterdir()] != [way.name]:
            return True
        way = way.parent
    return not Path(sys.prefix).is_relative_to(top)


def _no_socket() -> bool:
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        try:
            socket.socket(family).close()
        except OSError:
            continue
        return False
    return True


def _interfaces() -> set[str]:
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    except OSError:
        return set()
    return {line.split(":")[0].strip() for line in lines}
