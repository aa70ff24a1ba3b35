"""The host's end of a REPL's wire: bounded frames in, bounded frames out, nothing believed. Never blocks the loop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from sandbox.memory import Memory, new_memfd

HEADER = struct.Struct("<IQ")
MAX_TEXT = 4 << 20
MAX_TEXT_CELL = 256 << 20  # of JSON, between two cells' beginnings
MAX_PARTS = 20_000  # objects, lists, texts and numbers in one frame's JSON; a frame of 4 MB could hold two million
PART = 64  # what each counts for against MAX_TEXT_CELL
MEMFD_FROM = 1 << 18  # a blob at least this large is received into a memfd
PIECE = 1 << 20
SLICE = 4 << 20  # received at most, before others get their turn


def pair(kind: socket.SocketKind = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    """Our end of a wire into a jail, and the jail's. Both block, whatever default time limit sockets have just now.

    A broker's client that finds its connection lost sets such a limit for a moment, for the whole process; the jail's
    end would not block then, and who reads from it there would take its first wait for the end.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for end in (ours, theirs):
        end.setblocking(True)
    return ours, theirs


class ProtocolError(Exception):
    """What came is no frame of ours."""


def no_constant(name: str) -> Any:
    raise ValueError(name)


class Channel:
    """Calls ``on_frame(message, blob)`` for each frame, then ``on_end(reason)`` once: "" for the end of the stream."""

    def __init__(
        self,
        sock: socket.socket,
        max_blob: int,
        on_frame: Callable[[dict[str, Any], Memory], None],
        on_end: Callable[[str], None],
        reserve: Callable[[int], bool],
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.max_blob = max_blob
        self._on_frame = on_frame
        self._on_end = on_end
        self._reserve = reserve  # the run's room for what is being received; called with minus the same to give it back
        self.text_left = MAX_TEXT_CELL
        self._loop = asyncio.get_running_loop()
        self._rest = bytearray()
        self._message: dict[str, Any] | None = None
        self._big: tuple[int, bytearray, int, int] | None = None  # memfd, buffer, have, want
        self._sending = asyncio.Lock()
        self.closed = False
        self._paused = False
        self._loop.add_reader(sock, self._readable)

    # in

    def _readable(self) -> None:
        try:
            if self._big is not None:
                self._receive_big()
            else:
                piece = self.socket.recv(1 << 18)
                if not piece:
                    self._end("")
                    return
                self._rest += piece
            self._take_frames()
        except BlockingIOError:
            return
        except ProtocolError as error:
            self._end(str(error))
        except OSError:
            self._end("")

    def _take_frames(self) -> None:
        while not self.closed and not self._paused and self._big is None:
            if self._message is None:
                if len(self._rest) < HEADER.size:
                    return
                text, blob = HEADER.unpack_from(self._rest)
                if text > MAX_TEXT or blob > self.max_blob:
                    raise ProtocolError(f"a frame of {text + blob:,} bytes")
                if len(self._rest) < HEADER.size + text:
                    return
                self.text_left -= text + 64
                if self.text_left < 0:
                    raise ProtocolError("too many frames")
                self._message = self._parse(bytes(self._rest[HEADER.size : HEADER.size + text]))
                self.text_left -= PART * self._parts(self._message)
                self._want = blob
                del self._rest[: HEADER.size + text]
            if self._want >= MEMFD_FROM and len(self._rest) < self._want:
                self._begin_big()
                return
            if len(self._rest) < self._want:
                return
            blob_bytes = bytes(self._rest[: self._want])
            del self._rest[: self._want]
            self._deliver(Memory(blob_bytes))

    @staticmethod
    def _parse(text: bytes) -> dict[str, Any]:
        try:
            message = json.loads(text, parse_constant=no_constant)
        except (ValueError, RecursionError):
            raise ProtocolError("a frame that is not JSON") from None
        if type(message) is not dict or type(message.get("op")) is not str:
            raise ProtocolError("a frame without an op")
        return message

    @staticmethod
    def _parts(message: dict[str, Any]) -> int:
        todo: list[Any] = [message]
        count = 0
        while todo:
            item = todo.pop()
            if type(item) is dict:
                todo.extend(item.values())
                count += 2 * len(item)
            elif type(item) is list:
                todo.extend(item)
                count += len(item)
            if count > MAX_PARTS:
                raise ProtocolError("a frame of too many parts")
        return count

    def _begin_big(self) -> None:
        if not self._reserve(self._want):
            raise ProtocolError("more at once than the run has room for")
        fd = new_memfd()
        have = os.pwrite(fd, self._rest, 0) if self._rest else 0
        self._rest.clear()
        # by way of a buffer: writing to a memfd is cheaper than faulting in each page of its map
        self._big = (fd, bytearray(PIECE), have, self._want)

    def _receive_big(self) -> None:
        assert self._big is not None
        fd, buffer, have, want = self._big
        stop = min(want, have + SLICE)
        view = memoryview(buffer)
        try:
            while have < stop:
                got = self.socket.recv_into(view[: min(PIECE, want - have)])
                if not got:
                    raise ConnectionResetError
                os.pwrite(fd, view[:got], have)
                have += got
        finally:
            self._big = (fd, buffer, have, want)
        if have == want:
            self._big = None
            self._reserve(-want)
            self._deliver(Memory.sealed(fd, want))

    def _deliver(self, blob: Memory) -> None:
        message, self._message = self._message, None
        assert message is not None
        self._on_frame(message, blob)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading: a REPL that asks too much waits."""
        if paused == self._paused or self.closed:
            return
        self._paused = paused
        if paused:
            self._loop.remove_reader(self.socket)
        else:
            self._loop.add_reader(self.socket, self._readable)
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        try:
            self._take_frames()
        except ProtocolError as error:
            self._end(str(error))

    # out

    async def send(self, message: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
        text = json.dumps(message).encode()
        size = sum(len(b) for b in buffers)
        head = HEADER.pack(len(text), size) + text
        async with self._sending:
            if self.closed:
                raise ConnectionResetError
            if size < 1 << 16:
                head = b"".join((head, *buffers))
                buffers = ()
            try:
                sent = self.socket.send(head)
            except BlockingIOError:
                sent = 0
            if sent < len(head):
                await self._loop.sock_sendall(self.socket, head[sent:])
            for buffer in buffers:
                await self._loop.sock_sendall(self.socket, buffer)

    def _end(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._on_end(reason)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self.socket)
        self._loop.remove_writer(self.socket)
        self.socket.close()
        if self._big is not None:
            fd, _, _, want = self._big
            self._reserve(-want)
            self._big = None
            os.close(fd)
