"""The output of one cell: read from its pipe as it comes, made harmless, its head and tail kept, the rest counted."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
from collections.abc import Callable
from typing import Any

READ = 1 << 18
STREAM_SECONDS = 0.1
# C0 and C1 controls but tab and newline, bidi overrides and isolates; lone surrogates cannot come out of the decoder
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


ASCII = dict.fromkeys((*range(9), *range(11, 32), 127)) | {13: "\n"}


def harmless(text: str) -> str:
    """Text for pages, prompts and databases: no control characters, no bidi tricks."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if text.isascii():
        return text.translate(ASCII)  # many times faster: a flood of output passes here
    return HARMFUL.sub("", text.replace("\r", "\n"))


def tidy(tree: Any) -> Any:
    """JSON from a jail with every text in it fit for a database."""
    if type(tree) is str:
        return tree.replace("\0", "\u2400").encode("utf-8", "replace").decode()
    if type(tree) is list:
        return [tidy(item) for item in tree]
    if type(tree) is dict:
        return {tidy(key): tidy(item) for key, item in tree.items()}
    return tree


class Kept:
    """Head and tail of a text of any length."""

    def __init__(self, limit: int) -> None:
        self._room = limit // 2
        self._tail_room = limit - self._room
        self._head: list[str] = []
        self._tail: list[str] = []
        self._tail_size = 0
        self.chars = 0

    def add(self, text: str) -> str:
        """Keep what fits; return the part that went into the head."""
        self.chars += len(text)
        head = ""
        if self._room > 0:
            head, text = _split(text, self._room)
            self._room -= len(head.encode())
            if text:
                self._room = 0
            self._head.append(head)
        if text:
            self._tail.append(text)
            self._tail_size += len(text)
            if self._tail_size > 4 * self._tail_room + READ:
                self._trim()
        return head

    def _trim(self) -> str:
        tail = "".join(self._tail)[-self._tail_room :]
        while len(tail.encode()) > self._tail_room:
            tail = tail[max(1, len(tail.encode()) - self._tail_room) // 4 + 1 :]
        self._tail = [tail]
        self._tail_size = len(tail)
        return tail

    def text(self) -> str:
        head, tail = "".join(self._head), self._trim()
        cut = self.chars - len(head) - len(tail)
        if cut <= 0:
            return head + tail
        return f"{head}\n… {cut:,} characters cut …\n{tail}"


def _split(text: str, size: int) -> tuple[str, str]:
    if len(text) * 4 <= size or len(text.encode()) <= size:
        return text, ""
    head = text.encode()[:size].decode("utf-8", "ignore")
    return head, text[len(head) :]


class OutputReader:
    """Reads a REPL's pipe while a cell runs; a thread that writes between cells fills the pipe, and waits."""

    def __init__(self, fd: int, on_flood: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._on_flood = on_flood
        self._kept: Kept | None = None
        self._stop = 0
        self._bytes = 0
        self._listener: Callable[[str], None] | None = None
        self._pending: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._open = True

    def begin(self, limit: int, stop: int, listener: Callable[[str], None] | None) -> None:
        self.drain()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept, self._stop, self._bytes, self._listener = Kept(limit), stop, 0, listener
        if self._open:
            self._loop.add_reader(self._fd, self._readable)

    def finish(self) -> tuple[str, int]:
        """What the cell has printed: the text kept, and its true length."""
        self.drain()
        kept, self._kept = self._kept, None
        if kept is None:
            return "", 0
        if self._open:
            self._loop.remove_reader(self._fd)
        self._deliver(kept, self._decoder.decode(b"", True))
        self._flush()
        self._listener = None
        return kept.text(), kept.chars

    def drain(self) -> None:
        """Read until nothing is left, but not for ever."""
        for _ in range(64):
            if not self._readable():
                return

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _readable(self) -> bool:
        if not self._open:
            return False
        try:
            piece = os.read(self._fd, READ)
        except BlockingIOError:
            return False
        if not piece:
            self.close()
            return False
        kept = self._kept
        if kept is not None:
            self._bytes += len(piece)
            self._deliver(kept, self._decoder.decode(piece))
            if self._bytes > self._stop:
                self._stop = 1 << 62
                self._on_flood()
        return True

    def _deliver(self, kept: Kept, text: str) -> None:
        head = kept.add(harmless(text))
        if head and self._listener is not None:
            self._pending.append(head)
            if self._timer is None:
                self._timer = self._loop.call_later(STREAM_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending and self._listener is not None:
            text = "".join(self._pending)
            self._pending.clear()
            self._listener(text)
