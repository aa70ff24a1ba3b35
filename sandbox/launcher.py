"""Start the process of one jail: firejail, or bubblewrap where that is chosen. Never neither."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.channel import pair
from sandbox.errors import SandboxUnavailable
from sandbox.guest import filter as calls
from sandbox.guest.selftest import KNOWN_TOP
from sandbox.install import PACKAGE, USERS
from sandbox.memory import SEALS, new_memfd

BACKENDS = ("firejail", "bubblewrap")
PROC_HIDDEN = [
    "cmdline", "version", "meminfo", "config.gz", "net", "modules", "kallsyms", "kmsg", "keys", "key-users", "interrupts",
    "iomem", "ioports", "diskstats", "partitions", "vmstat", "bus", "fs", "driver", "irq", "acpi", "tty", "stat", "uptime",
    "loadavg",
]  # fmt: skip
ENVIRONMENT = {
    "PATH": "/usr/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "PYTHONHASHSEED": "0",  # the same cells give the same sets and dicts when a run is replayed
}
# -I would ignore PYTHONHASHSEED; the environment is made here, from nothing
PYTHON = ["-s", "-P", "-B", "-m"]
REPLS, READERS = f"{PACKAGE}.zygote", f"{PACKAGE}.extract.zygote"
LOCKS = Path("/run/lock/rlmweb-sandbox")
PROFILE = """\
quiet
ignore include globals.local
caps.drop all
nonewprivs
noroot
nogroups
restrict-namespaces
seccomp.block-secondary
seccomp.keep {keep}
net none
protocol unix
ipc-namespace
hostname sandbox
machine-id
dbus-user none
dbus-system none
x11 none
nosound
novideo
noinput
no3d
nodvd
notv
nou2f
noprinters
private
private-dev
private-tmp
private-etc rlm-none
disable-mnt
{whitelist}
{blacklist}
read-only {prefix}
read-only /tmp
read-only /dev/shm
read-only ${{HOME}}
private-cwd /tmp
rlimit-nofile 256
rlimit-fsize 536870912
rlimit-nproc 1200
rlimit-as 17179869184
deterministic-exit-code
deterministic-shutdown
"""
# A whitelist of something that is not there empties the whole top directory.
EMPTIED = [
    "usr/local", "usr/include", "usr/sbin", "usr/src", "usr/games", "usr/libexec", "var", "run", "srv", "opt",
]  # fmt: skip


@dataclass
class Identity:
    """The user a jail runs as. A root worker lends each jail one of its own; others have only themselves."""

    uid: int
    gid: int
    home: str
    lock: int = -1

    def release(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def borrow_identity() -> Identity:
    """As root: a user that no other jail of this machine runs as. The lock goes with the process that holds it."""
    if os.geteuid() != 0:
        me = os.geteuid()
        try:
            home = pwd.getpwuid(me).pw_dir
        except KeyError:
            raise SandboxUnavailable(f"uid {me} has no entry in /etc/passwd, which firejail needs") from None
        return Identity(me, os.getegid(), home)
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = False
    for i in range(USERS):
        try:
            user = pwd.getpwnam(f"rlm{i}")
        except KeyError:
            continue
        found = True
        lock = os.open(LOCKS / user.pw_name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        return Identity(user.pw_uid, user.pw_gid, user.pw_dir, lock)
    if not found:
        raise SandboxUnavailable(
            "this worker is root and there are no users rlm0 … for jails: run `python -m sandbox install`"
        )
    raise SandboxUnavailable(f"all {USERS} users for jails are in use on this machine")


def check_backend(backend: str) -> str:
    """The launcher's program. Raises SandboxUnavailable, saying what to do, where it cannot work."""
    if backend not in BACKENDS:
        raise SandboxUnavailable(f"there is no sandbox backend {backend!r}; there are {' and '.join(BACKENDS)}")
    if not calls.supported():
        raise SandboxUnavailable("the system-call filter is written for x86-64 only; this machine is something else")
    name = "firejail" if backend == "firejail" else "bwrap"
    program = shutil.which(name, path="/usr/bin:/bin:/usr/local/bin:/usr/sbin")
    if program is None:
        package = "firejail" if backend == "firejail" else "bubblewrap"
        raise SandboxUnavailable(f"{name} is not installed: apt-get install {package}")
    if backend == "firejail":
        if not Path(program).stat().st_mode & 0o4000:
            raise SandboxUnavailable(
                "firejail is not setuid: reinstall Debian's package, or choose the backend bubblewrap"
            )
        if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text():
            raise SandboxUnavailable(
                "this process may gain no privileges (NoNewPrivileges=yes?), so firejail cannot work:"
                " remove that from the worker's unit, or choose the backend bubblewrap"
            )
    return program


def profile(prefix: Path) -> str:
    if prefix.is_relative_to(Path.home()) or prefix.parts[1] in ("home", "root", "tmp", "dev", "run", "proc", "sys"):
        raise SandboxUnavailable(
            f"the jail's Python in {prefix} would be hidden by firejail: install it elsewhere (RLMWEB_SANDBOX_PREFIX),"
            " outside home directories and /tmp, or choose the backend bubblewrap"
        )
    whitelist = [
        f"{prefix}/venv", "/usr/bin/python3", "/usr/bin/python3.11", "/usr/lib64/ld-linux-x86-64.so.2",
        "/usr/lib/python3.11", "/usr/lib/x86_64-linux-gnu", "/usr/share/zoneinfo",
    ]  # fmt: skip
    whitelist += [f"/{d}/rlm-none" for d in EMPTIED if Path("/", d).is_dir()]
    blacklist = ["/sys", "/boot"]
    blacklist += sorted(str(p) for p in Path("/").iterdir() if p.name not in {*KNOWN_TOP, "sys", "boot"})
    if prefix.parts[1] not in KNOWN_TOP:  # a prefix at the top of the disk: its directory must stay
        blacklist = [d for d in blacklist if d != f"/{prefix.parts[1]}"]
    blacklist += [f"/proc/{x}" for x in PROC_HIDDEN if Path("/proc", x).exists()]
    return PROFILE.format(
        keep=",".join([*calls.SHARED, *calls.ZYGOTE]),
        whitelist="\n".join(f"whitelist {path}" for path in whitelist),
        blacklist="\n".join(f"blacklist {path}" for path in blacklist),
        prefix=prefix,
    )


def bubblewrap_command(program: str, prefix: Path, seccomp_fd: int, environment: dict[str, str]) -> list[str]:
    command = [
        program, "--unshare-all", "--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        "--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--clearenv", "--seccomp", str(seccomp_fd),
    ]  # fmt: skip
    for name, value in environment.items():
        command += ["--setenv", name, value]
    command += [
        "--dir",
        "/usr/bin",
        "--ro-bind",
        "/usr/bin/python3.11",
        "/usr/bin/python3.11",
        "--symlink",
        "python3.11",
        "/usr/bin/python3",
    ]
    for path in ("/usr/lib/python3.11", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/share/zoneinfo"):
        command += ["--ro-bind", path, path]
    command += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin"]
    command += ["--proc", "/proc"]
    for name in PROC_HIDDEN:
        if Path("/proc", name).is_file():
            command += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    command += ["--dev", "/dev", "--remount-ro", "/dev", "--size", "1048576", "--tmpfs", "/tmp"]
    command += ["--ro-bind", f"{prefix}/venv", f"{prefix}/venv", "--remount-ro", "/tmp"]
    return [*command, "--remount-ro", "/", "--chdir", "/tmp"]


class Launched:
    """A started launcher, what it holds, and how to end it at once."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, identity: Identity, log: int) -> None:
        self.process = process
        self.control = control
        self.identity = identity
        self.log = log

    def messages(self) -> str:
        """What the launcher said; for the sentence of an error."""
        return os.pread(self.log, 4096, 0).decode("utf-8", "replace").strip()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, 9)

    def release(self) -> None:
        self.control.close()
        self.identity.release()
        if self.log >= 0:
            os.close(self.log)
            self.log = -1


def launch(backend: str, prefix: Path, run_memory_mb: int, zygote: str = REPLS) -> Launched:
    """Start a jail. Blocks for some milliseconds: call it in a thread."""
    program = check_backend(backend)
    identity = borrow_identity()
    ours, theirs = pair(socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    # The kernel says who writes; before anybody can, or the first word would come without a sender.
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    log = new_memfd()
    extra: list[int] = []
    try:
        environment = {**ENVIRONMENT, "HOME": identity.home if backend == "firejail" else "/tmp"}
        python = [f"{prefix}/venv/bin/python", *PYTHON, zygote, str(run_memory_mb << 20)]
        if backend == "firejail":
            # as a descriptor: no file that a killed worker could leave behind
            fd = _sealed(profile(prefix).encode())
            extra.append(fd)
            command = [program, f"--profile=/proc/self/fd/{fd}", *python]
        else:
            fd = _sealed(calls.assemble(calls.jail_program()))
            extra.append(fd)
            command = [*bubblewrap_command(program, prefix, fd, environment), *python]
        root = os.geteuid() == 0
        drop: dict[str, Any] = {"user": identity.uid, "group": identity.gid, "extra_groups": []} if root else {}
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=log, stderr=log, close_fds=True, pass_fds=extra, cwd="/", env=environment,
            start_new_session=True, **drop,
        )  # fmt: skip
    except BaseException:
        identity.release()
        ours.close()
        os.close(log)
        raise
    finally:
        theirs.close()
        for fd in extra:
            os.close(fd)
    return Launched(process, ours, identity, log)


def _sealed(data: bytes) -> int:
    fd = new_memfd()
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd
