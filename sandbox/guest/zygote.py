"""The one process of a jail that may start others: it forks a process for each call, reaps them and watches their memory.

Run by itself it forks REPLs; `extract.zygote` makes one that forks readers of uploaded files.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from .filter import Installer
from .selftest import examine

WATCH_SECONDS = 0.25
SPARES = 2  # forked ahead: a fork costs more than all the rest of a REPL's start
THREADS_BEYOND = 64  # of a REPL, past what Python's own count lets through: started by C code
PROCESSES = 1200  # with threads, of a jail
PAGE = os.sysconf("SC_PAGE_SIZE")
WIRE, CONTEXT, ORDERS = 3, 4, 5  # descriptors of a REPL: 1 and 2 are its output


class Zygote:
    """`warm_up` is called in each fork before it has its descriptors; `body` with two of them, the second one -1 if none."""

    def __init__(
        self, control: socket.socket, run_bytes: int, warm_up: Callable[[], None], body: Callable[[int, int], None]
    ) -> None:
        self.control = control
        self.warm_up, self.body = warm_up, body
        self.run_bytes = run_bytes
        self.children: dict[int, int] = {}  # pid → id
        self.pids: dict[int, int] = {}  # id → pid
        self.threads: dict[int, int] = {}  # pid → how many it may have
        self.resting: set[int] = set()  # pids of those that are halted
        self.reasons: dict[int, str] = {}  # pid → why it was killed
        self.spares: dict[int, socket.socket] = {}  # pid → where it waits for its orders
        self.installer = Installer()
        # Python's own fork runs handlers that touch 240 pages, to mend locks of threads; there are none here
        self.fork = ctypes.PyDLL(None).fork
        self.pid = os.getpid()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.base = 0

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        self.base = own_bytes(self.pid)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake_read, select.POLLIN)
        watch_at = time.monotonic()
        while True:
            short = len(self.spares) < SPARES
            watched = len(self.children) > len(self.resting)
            poll.poll(0 if short else int(WATCH_SECONDS * 1000) if watched else None)
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake_read, 512)
            self.reap()
            busy = False
            while self.take_order():
                busy = True
            if short and not busy and not self.fork_spare():
                self.make_room()
            now = time.monotonic()
            if watched and now - watch_at >= WATCH_SECONDS:
                watch_at = now
                self.watch()

    def tell(self, **event: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.control.send(json.dumps(event).encode())

    def take_order(self) -> bool:
        try:
            data, ancillary, _, _ = self.control.recvmsg(65536, socket.CMSG_LEN(16), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data, ancillary = b"", []
        fds = array.array("i")
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        if not data:
            self.end()
        order = json.loads(data)
        if order["op"] == "spawn":
            self.spawn(order, list(fds))
        elif order["op"] == "usage":
            self.tell(op="usage", id=order["id"], cpu=cpu_seconds(self.pids.get(order["id"], 0)))
        elif order["op"] == "signal":
            pid = self.pids.get(order["id"])
            if pid is not None:
                os.kill(pid, order["signal"])
        elif order["op"] == "rest":
            self.rest(order["id"], order["still"])
        return True

    def rest(self, node: int, still: bool) -> None:
        """Halt a REPL that nobody needs for now, and say what its jail holds; or let it go on."""
        pid = self.pids.get(node)
        if pid is None:
            return
        os.kill(pid, signal.SIGSTOP if still else signal.SIGCONT)
        if still:
            self.resting.add(pid)
            others = sum(max(0, own_bytes(other) - self.base) for other in (*self.children, *self.spares))
            self.tell(op="rested", id=node, bytes=self.base + others)
        else:
            self.resting.discard(pid)

    def make_room(self) -> None:
        """A fork failed: end who holds too many threads, and let it go."""
        self.watch()
        time.sleep(0.01)
        self.reap()

    def fork_spare(self) -> bool:
        """A REPL with everything done that needs no order; it waits for its descriptors."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = self.fork()
        if not pid:
            self.become_repl(theirs)
        theirs.close()
        if pid < 0:
            ours.close()
            return False
        self.spares[pid] = ours
        return True

    def spawn(self, order: dict[str, Any], fds: list[int]) -> None:
        try:
            for _ in range(100):
                if self.spares or self.fork_spare():
                    break
                self.make_room()
            else:
                raise BlockingIOError("no process can be started")
            pid, orders = self.spares.popitem()
            cpu = int(order["cpu"])
            resource.prlimit(pid, resource.RLIMIT_AS, (order["memory"],) * 2)
            resource.prlimit(pid, resource.RLIMIT_CPU, (cpu, cpu + 5))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (order["files"],) * 2)
            with orders:
                orders.sendmsg([b"go"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            self.children[pid] = order["id"]
            self.pids[order["id"]] = pid
            self.threads[pid] = order["threads"] + THREADS_BEYOND
        except OSError as error:
            self.tell(op="exit", id=order["id"], code=-1, reason="fork", detail=str(error))
        finally:
            for fd in fds:
                os.close(fd)

    def become_repl(self, orders: socket.socket) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.installer.prctl(1, signal.SIGKILL)  # die with the zygote
            if os.getppid() != self.pid:
                os._exit(1)
            os.dup2(orders.fileno(), ORDERS)
            orders.detach()
            os.closerange(ORDERS + 1, 256)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            self.installer.install(os.getpid())
            self.warm_up()
            fds = self.await_orders()
            os.dup2(fds[1], 1)
            os.dup2(fds[1], 2)
            os.dup2(fds[0], WIRE)
            if len(fds) > 2:
                os.dup2(fds[2], CONTEXT)
            os.closerange(CONTEXT + 1 if len(fds) > 2 else CONTEXT, 16)
            self.body(WIRE, CONTEXT if len(fds) > 2 else -1)
        except BaseException:  # noqa: BLE001 (nothing may return into the zygote's loop)
            with contextlib.suppress(BaseException):
                sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)

    def await_orders(self) -> list[int]:
        with socket.socket(fileno=ORDERS) as orders:
            data, ancillary, _, _ = orders.recvmsg(16, socket.CMSG_LEN(16))
        if not data:
            os._exit(0)
        fds = array.array("i")
        fds.frombytes(ancillary[0][2])
        return list(fds)

    def reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            spare = self.spares.pop(pid, None)
            if spare is not None:
                spare.close()
            node = self.children.pop(pid, None)
            if node is None:
                continue
            self.pids.pop(node, None)
            self.threads.pop(pid, None)
            self.resting.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            reason = self.reasons.pop(pid, "")
            if code == -signal.SIGXCPU:
                reason = "cpu"
            cpu = usage.ru_utime + usage.ru_stime
            self.tell(op="exit", id=node, code=code, reason=reason, cpu=cpu, rss=usage.ru_maxrss * 1024)

    def watch(self) -> None:
        """Kill REPLs of too many threads, and the biggest one while all of them together pass the run's memory."""
        for pid, most in self.threads.items():
            if pid not in self.reasons and thread_count(pid) > most:
                self.reasons[pid] = "threads"
                os.kill(pid, signal.SIGKILL)
        sizes = {pid: max(0, own_bytes(pid) - self.base) for pid in self.children if pid not in self.reasons}
        while sizes and sum(sizes.values()) > self.run_bytes:
            pid = max(sizes, key=sizes.__getitem__)
            self.reasons[pid] = "memory"
            os.kill(pid, signal.SIGKILL)
            del sizes[pid]

    def end(self) -> NoReturn:
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os._exit(0)


def own_bytes(pid: int) -> int:
    """Resident memory that is no file's."""
    try:
        with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123 (called for every child, four times a second)
            fields = file.read().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * PAGE


def thread_count(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2  # noqa: PTH116 (as above)
    except OSError:
        return 0


def cpu_seconds(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(modules: Iterable[str], warm_up: Callable[[], None], body: Callable[[int, int], None]) -> None:
    """Be the zygote of a jail: import what all forks will need, look at the jail, say so, and take orders."""
    run_bytes = int(sys.argv[1])
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    while null <= ORDERS:  # keep the low numbers: a fork's own descriptors go there
        null = os.dup(null)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = PROCESSES if most == resource.RLIM_INFINITY else min(PROCESSES, most)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    zygote = Zygote(control, run_bytes, warm_up, body)
    zygote.installer.prctl(4, 0)  # not dumpable, as its children
    report = examine()
    sys.argv[:] = [""]
    gc.disable()
    gc.collect()
    gc.freeze()
    zygote.tell(op="ready", report=report)
    zygote.serve()


def main() -> None:
    from . import repl
    from .output import Output

    output = Output()
    output.install()
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")  # a cell's result says it
    modules = ("numpy", "pandas", "sqlite3", "statistics", "difflib", "csv", "string", "textwrap", "zoneinfo")

    def body(wire: int, context: int) -> None:
        gc.enable()
        repl.main(wire, context, output)

    serve(modules, repl.warm_up, body)


if __name__ == "__main__":
    main()
