"""The jail of one run: a launcher, the zygote in it, and the REPLs that the zygote forks."""

from __future__ import annotations

import array
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.channel import pair
from sandbox.errors import SandboxError, SandboxUnavailable
from sandbox.launcher import Launched, launch
from sandbox.limits import ReplLimits
from sandbox.repl import Repl
from sandbox.requests import NAMES
from sandbox.results import OnRequest
from sandbox.values import Value

READY_SECONDS = 60.0
END_SECONDS = 0.5
INLINE_REGION = 1 << 16  # a context's region up to this goes in the first frame; a larger one as a sealed memfd


class Jail:
    """Made by ``JailPool.open``; for one run, never handed to a second."""

    def __init__(self, launched: Launched, backend: str, run_bytes: int) -> None:
        self.backend = backend
        self._room = run_bytes  # for values on their way between REPLs
        self.report: dict[str, Any] = {}
        self.repls: dict[int, Repl] = {}
        self.alive = True
        self._launched = launched
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._next = 0
        self._order_lock = asyncio.Lock()
        self._pidfd = os.pidfd_open(launched.process.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        self._loop.add_reader(launched.control, self._event)

    @classmethod
    async def start(cls, backend: str, prefix: Path, run_memory_mb: int) -> Jail:
        """Launch and wait until the zygote has found its jail without flaw."""
        began = time.perf_counter()
        launching = asyncio.ensure_future(asyncio.to_thread(launch, backend, prefix, run_memory_mb))
        try:
            launched = await asyncio.shield(launching)
        except asyncio.CancelledError:
            # The thread cannot be called back: what it launches meanwhile must not outlive us.
            await cls(await launching, backend, 0).close()
            raise
        jail = cls(launched, backend, run_memory_mb << 20)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await jail._ready
        except TimeoutError:
            said = launched.messages()
            await jail.close()
            raise SandboxUnavailable(f"{backend} was not ready within {READY_SECONDS:g} s. {said}"[:2000]) from None
        except BaseException:
            await jail.close()
            raise
        jail.start_seconds = time.perf_counter() - began
        return jail

    start_seconds = 0.0

    async def start_repl(
        self,
        context: Value,
        *,
        question: str | None = None,
        functions: str = "async",
        leaf: bool = False,
        tools: Sequence[str | Mapping[str, str]] = (),
        seed: str = "",
        limits: ReplLimits = ReplLimits(),  # noqa: B008 (frozen)
        on_request: OnRequest | None = None,
    ) -> Repl:
        """Fork a REPL with ``context`` in it. Raises SandboxError where the context does not fit or a tool does not run."""
        if functions not in NAMES:
            raise ValueError(f"there are no functions {functions!r}; there are {', '.join(NAMES)}")
        if not self.alive:
            raise SandboxError("this jail has ended")
        memory = context.memory
        by_fd = memory.size > INLINE_REGION
        context_fd = await asyncio.to_thread(memory.fd) if by_fd else -1
        self._next += 1
        number = self._next
        ours, theirs = pair()
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        for sock in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        repl = Repl(
            self, number, ours, out_read, context=context, functions=functions, limits=limits, on_request=on_request
        )
        self.repls[number] = repl
        try:
            fds = [theirs.fileno(), out_write, *([context_fd] if by_fd else [])]
            # beside its context: once while it lies in the memfd, and once decoded
            room = (limits.memory_mb << 20) + 2 * memory.size
            await self.order(
                fds, op="spawn", id=number, memory=room, cpu=int(limits.call_cpu_seconds), files=limits.open_files,
                threads=limits.threads,
            )  # fmt: skip
        except BaseException:
            await repl.close()
            raise
        finally:
            theirs.close()
            os.close(out_write)
        start = {
            "op": "start",
            "functions": functions,
            "leaf": leaf,
            "question": question,
            "seed": int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big"),
            "tools": [_tool(t) for t in tools],
            "context": [len(context.skeleton), memory.size],
            "limits": {"cpu_seconds": limits.cpu_seconds, "threads": limits.threads, "value_bytes": limits.value_bytes},
        }
        await repl.begin(start, context.skeleton, memory.view() if memory.size and not by_fd else None)
        return repl

    async def close(self) -> None:
        """End everything in it; returns when nothing of it is left. Goes on although who asked is cancelled."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for repl in list(self.repls.values()):
            repl.abandon()
        self._forget_control()
        try:
            for attempt in range(2):
                if attempt:
                    self._launched.kill()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(END_SECONDS):
                        await self._gone.wait()
                        return
        finally:
            self._let_go()

    def kill(self) -> None:
        """End it at once, with all that is in it."""
        self._launched.kill()

    def reserve(self, size: int) -> bool:
        """Take room for a value that is on its way; a negative size gives it back."""
        if size > self._room:
            return False
        self._room -= size
        return True

    def forget(self, number: int) -> None:
        self.repls.pop(number, None)

    async def order(self, fds: Sequence[int] = (), **order: Any) -> None:
        """Tell the zygote something."""
        data = json.dumps(order).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        async with self._order_lock:
            while True:
                if not self.alive:
                    raise SandboxError("this jail has ended")
                try:
                    self._launched.control.sendmsg([data], ancillary)
                    return
                except BlockingIOError:
                    await asyncio.sleep(0.002)
                except OSError:
                    raise SandboxError("this jail has ended") from None

    # what comes from inside

    def _event(self) -> None:
        for _ in range(256):
            try:
                data, ancillary, _, _ = self._launched.control.recvmsg(1 << 16, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if not data:
                self._lost()
                return
            try:
                self._take(json.loads(data), ancillary)
            except (ValueError, KeyError, TypeError, RecursionError):
                self._launched.kill()  # the zygote runs no cells: nonsense from it means that it is lost
                self._lost()
                return

    def _take(self, event: dict[str, Any], ancillary: list[Any]) -> None:
        kind = event["op"]
        if kind == "ready":
            try:
                self.report = sound_report(event, ancillary, self._launched, self.backend)
            except SandboxUnavailable as error:
                if not self._ready.done():
                    self._ready.set_exception(error)
            if not self._ready.done():
                self._ready.set_result(None)
            return
        repl = self.repls.get(event["id"])
        if repl is None:
            return
        if kind == "exit":
            repl.exited({"code": int(event["code"]), "reason": str(event.get("reason", ""))})
        elif kind == "usage":
            repl.usage(float(event["cpu"]))
        elif kind == "rested":
            repl.rested(int(event["bytes"]))

    def _exited(self) -> None:
        """The launcher's process is over."""
        self._launched.process.poll()
        self._gone.set()
        self._lost()

    def _lost(self) -> None:
        self._forget_control()
        if not self._ready.done():
            said = self._launched.messages() or "it said nothing"
            self._ready.set_exception(SandboxUnavailable(f"{self.backend} did not start: {said}"[:2000]))
            self._ready.exception()
        for repl in list(self.repls.values()):
            repl.jail_ended()

    def _forget_control(self) -> None:
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._launched.control)
            self._launched.control.close()

    def _let_go(self) -> None:
        self._forget_control()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
            if self._launched.process.poll() is None:
                self._launched.kill()
                threading.Thread(target=self._launched.process.wait, daemon=True).start()
        self._launched.release()


def _tool(tool: str | Mapping[str, str]) -> dict[str, str]:
    """A function's source, with its name where that is known."""
    if isinstance(tool, str):
        words = tool.split("def ", 1)[-1].split("(", 1)[0].strip()
        return {"name": words if words.isidentifier() else "tool", "source": tool}
    return {"name": str(tool["name"]), "source": str(tool["source"])}


def sound_report(event: dict[str, Any], ancillary: list[Any], launched: Launched, backend: str) -> dict[str, bool]:
    """What a zygote found out about its jail. Raises SandboxUnavailable where anything is amiss."""
    report = {str(k): bool(v) for k, v in event["report"].items()}
    report["not root outside"] = launched.identity.uid == _sender(ancillary) != 0
    if flaws := [name for name, good in report.items() if not good]:
        raise SandboxUnavailable(f"the jail made by {backend} is not tight here: {', '.join(flaws)}")
    return report


def _sender(ancillary: list[Any]) -> int:
    """The uid of who wrote, as the kernel says it and as it is called out here."""
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return int(struct.unpack("=iII", raw)[1])
    return 0
