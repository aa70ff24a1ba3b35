"""Reading uploaded files in a jail: one jail for an upload, in it a process for each file. Blocking; made for threads."""

from __future__ import annotations

import array
import contextlib
import json
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.channel import no_constant, pair
from sandbox.errors import SandboxError, SandboxUnavailable
from sandbox.install import READERS as CONTENTS
from sandbox.install import installed
from sandbox.jail import sound_report
from sandbox.launcher import READERS, Launched, launch
from sandbox.memory import Memory
from sandbox.probe import CELL

HEADER = struct.Struct("<II")
MESSAGE_MOST = 1 << 16  # bytes of a frame's JSON
PIECE_MOST = 1 << 20  # bytes of a frame's text
READY_SECONDS = 60.0
EXIT_SECONDS = 5.0
END_SECONDS = 0.5
LOOK_SECONDS = 0.2  # between two looks whether a reading is still wanted
JAIL_MEMORY_MB = 4096  # of all files that are read at once

_probed: dict[tuple[str, Path], dict[str, bool]] = {}  # what each kind of jail held, in this process
_probing = threading.Lock()


@dataclass(frozen=True)
class ExtractLimits:
    """Of one file."""

    seconds: float = 300.0  # wall clock, and processor time
    silent_seconds: float = 60.0  # without a word
    memory_mb: int = 1024  # address space, beside three times the file
    text_bytes: int = 1 << 30  # that come back


class Unreadable(Exception):
    """A file that is not read. `why` is a word of the readers', or time, size, memory, crash, protocol; detail is for the log."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why, detail)
        self.why, self.detail = why, detail


class Extraction:
    """A jail that reads files. Any number of threads may have a file read at once."""

    def __init__(self, launched: Launched, backend: str) -> None:
        self.backend = backend
        self.report: dict[str, bool] = {}
        self.alive = True
        self._launched = launched
        self._next = 0
        self._reading: dict[int, dict[str, Any] | None] = {}  # number of each reader at work → how it ended, once told
        self._control = threading.Lock()

    @classmethod
    def start(cls, backend: str = "firejail", base: Path | None = None) -> Extraction:
        """A jail that has been found without flaw. The first of a process is tried by breaking out of it.

        Raises SandboxUnavailable with a sentence on what to do.
        """
        prefix = installed(base, CONTENTS)
        jail = cls._launch(backend, prefix)
        with _probing:
            if (backend, prefix) in _probed:
                return jail
            try:
                checks = jail.probe()
                if flaws := [name for name, held in checks.items() if not held]:
                    raise SandboxUnavailable(f"the jail that reads files does not hold here: {', '.join(flaws)}")
            except BaseException as error:
                jail.close()
                if isinstance(error, Unreadable):
                    raise SandboxUnavailable(f"the jail that reads files failed its self-test: {error.why}") from None
                raise
            _probed[backend, prefix] = checks
            return jail

    @classmethod
    def _launch(cls, backend: str, prefix: Path) -> Extraction:
        launched = launch(backend, prefix, JAIL_MEMORY_MB, READERS)
        jail = cls(launched, backend)
        try:
            jail._await_ready()
        except BaseException:
            jail.close()
            raise
        return jail

    def _await_ready(self) -> None:
        if not _wait(self._launched.control, READY_SECONDS):
            raise SandboxUnavailable(f"{self.backend} was not ready within {READY_SECONDS:g} s")
        data, ancillary, _, _ = self._launched.control.recvmsg(1 << 16, socket.CMSG_SPACE(12))
        if not data:
            said = self._launched.messages() or "it said nothing"
            raise SandboxUnavailable(f"{self.backend} did not start: {said}"[:2000])
        self.report = sound_report(json.loads(data), ancillary, self._launched, self.backend)

    def probe(self) -> dict[str, bool]:
        """Name of each attempt to get out, tried as a file would be read → whether the jail held."""
        done = self._run({"kind": "attempt", "code": CELL}, None, ExtractLimits(seconds=30), lambda text: None)
        found = done.get("found")
        if not isinstance(found, dict) or not found:
            raise SandboxUnavailable("the jail that reads files did not run its self-test")
        return {**self.report, **{str(name): held is True for name, held in found.items()}}

    def read(
        self,
        kind: str,
        file: Memory,
        on_text: Callable[[str], None],
        on_page: Callable[[int, int], None] | None = None,
        on_chapter: Callable[[str], None] | None = None,
        limits: ExtractLimits = ExtractLimits(),  # noqa: B008 (frozen)
        look: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Have a file read. Its text goes to `on_text` as it comes; a page's number and their count before its text,
        and so the title of a chapter.

        `look` is called several times a second meanwhile. Returns what the file says of itself. Raises Unreadable for the
        file, SandboxError where the jail is gone. What a callback raises ends the reading.
        """
        return self._run({"kind": kind}, file, limits, on_text, on_page, on_chapter, look)

    def _run(
        self,
        order: dict[str, Any],
        file: Memory | None,
        limits: ExtractLimits,
        on_text: Callable[[str], None],
        on_page: Callable[[int, int], None] | None = None,
        on_chapter: Callable[[str], None] | None = None,
        look: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        ours, theirs = pair()
        with ours:
            number = self._spawn(theirs, file, limits)
            stream = _Stream(ours, limits, look or (lambda: None))
            ended = False
            try:
                ours.sendall(json.dumps(order).encode())
                size = 0
                while True:
                    message, words = stream.frame()
                    size += len(words)
                    if size > limits.text_bytes:
                        raise Unreadable("size")
                    if words:
                        on_text(words.decode())
                    if message["op"] == "page" and on_page:
                        on_page(_count(message["number"]), _count(message["of"]))
                    elif message["op"] == "chapter" and on_chapter:
                        on_chapter(str(message["title"]))
                    elif message["op"] == "refused":
                        ended = True
                        raise Unreadable(str(message["why"])[:40], str(message.get("detail", ""))[:500])
                    elif message["op"] == "end":
                        ended = True
                        return message
            except _Ended:
                ended = True
                raise Unreadable(self._why_ended(number)) from None
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Unreadable("protocol", repr(error)) from None
            except (BrokenPipeError, ConnectionResetError):
                ended = True
                raise Unreadable(self._why_ended(number)) from None
            finally:
                if not ended:
                    self._order(op="signal", id=number, signal=int(signal.SIGKILL))
                with self._control:
                    self._reading.pop(number, None)

    def _spawn(self, theirs: socket.socket, file: Memory | None, limits: ExtractLimits) -> int:
        with theirs, Path("/dev/null").open("wb") as nowhere:
            fds = [theirs.fileno(), nowhere.fileno()]
            size = 0
            if file is not None and file.size:
                fds.append(file.fd())
                size = file.size
            with self._control:
                self._take_events()  # left unread they would fill the socket, and the zygote would wait for ever
                self._next += 1
                number = self._next
                self._reading[number] = None
            self._order(
                fds, op="spawn", id=number, memory=(limits.memory_mb << 20) + 3 * size, cpu=int(limits.seconds) + 1,
                files=32, threads=0,
            )  # fmt: skip
        return number

    def _order(self, fds: list[int] | None = None, **order: Any) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with self._control:
            for _ in range(1000):
                if not self.alive:
                    break
                try:
                    self._launched.control.sendmsg([json.dumps(order).encode()], ancillary)
                    return
                except BlockingIOError:
                    select.select([], [self._launched.control], [], 0.05)
                except OSError:
                    self.alive = False
            if order["op"] == "spawn":
                self.alive = False
                raise SandboxError("the jail that reads files has ended")

    def _why_ended(self, number: int) -> str:
        """A reader's process ended without a last word: ask the zygote how."""
        deadline = time.monotonic() + EXIT_SECONDS
        while time.monotonic() < deadline:
            with self._control:
                self._take_events()
                exited = self._reading.get(number)
                if exited is None and self.alive:
                    _wait(self._launched.control, 0.05)
            if exited is not None and exited.get("reason") == "fork":
                raise SandboxError("the jail that reads files can start no process")
            if exited is not None:
                return {"memory": "memory", "cpu": "time"}.get(str(exited.get("reason")), "crash")
            if not self.alive:
                raise SandboxError("the jail that reads files has ended")
        return "crash"

    def _take_events(self) -> None:
        while self.alive:
            try:
                data = self._launched.control.recv(1 << 16)
                if not data:
                    self.alive = False
                    return
                event = json.loads(data)
                if event["op"] == "exit" and int(event["id"]) in self._reading:
                    self._reading[int(event["id"])] = event
            except BlockingIOError:
                return
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                self.alive = False

    def close(self) -> None:
        """End everything in it; returns when nothing of it is left."""
        with self._control:
            self.alive = False
            process = self._launched.process
            self._launched.control.close()
            try:
                process.wait(END_SECONDS)
            except Exception:  # noqa: BLE001 — whatever it was, the process has to go
                self._launched.kill()
                with contextlib.suppress(Exception):
                    process.wait(END_SECONDS)
            self._launched.release()

    def __enter__(self) -> Extraction:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def probe_extraction(backend: str, base: Path | None = None) -> dict[str, bool]:
    """What was tried to get out of such a jail, once a process → whether it held. Raises SandboxUnavailable where not."""
    place = backend, installed(base, CONTENTS)
    if place not in _probed:
        Extraction.start(backend, base).close()
    return _probed[place]


class _Ended(Exception):
    """The stream is over."""


class _Stream:
    """Frames of a reader, while it has time. Lengths are checked before anything is read."""

    def __init__(self, sock: socket.socket, limits: ExtractLimits, look: Callable[[], None]) -> None:
        self._socket, self._limits, self._look = sock, limits, look
        self._end = time.monotonic() + limits.seconds
        self._deadline = 0.0
        self._buffer = bytearray()

    def frame(self) -> tuple[dict[str, Any], bytes]:
        self._deadline = min(self._end, time.monotonic() + self._limits.silent_seconds)
        self._fill(HEADER.size)
        text, words = HEADER.unpack_from(self._buffer)
        if text > MESSAGE_MOST or words > PIECE_MOST:
            raise ValueError(f"a frame of {text + words} bytes")
        self._fill(HEADER.size + text + words)
        message = json.loads(bytes(self._buffer[HEADER.size : HEADER.size + text]), parse_constant=no_constant)
        if type(message) is not dict or type(message.get("op")) is not str:
            raise ValueError("a frame without an op")
        piece = bytes(self._buffer[HEADER.size + text : HEADER.size + text + words])
        del self._buffer[: HEADER.size + text + words]
        return message, piece

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            self._look()
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise Unreadable("time")
            if not _wait(self._socket, min(left, LOOK_SECONDS)):
                continue
            piece = self._socket.recv(1 << 18)
            if not piece:
                raise _Ended
            self._buffer += piece


def _wait(sock: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(max(0, int(seconds * 1000))))


def _count(number: Any) -> int:
    if type(number) is not int or not 0 < number < 1 << 31:
        raise ValueError("no page's number")
    return number
