"""Frames between a REPL and the host: a header with two lengths, JSON, raw bytes. One socket, made by the host."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any

HEADER = struct.Struct("<IQ")
Frame = tuple[dict[str, Any], memoryview]


class Closed(Exception):
    """The host has gone."""


class Wire:
    """Blocking reads from one thread at a time; writes from any."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self._rest = bytearray()
        self._writing = threading.Lock()

    def send(self, message: dict[str, Any], buffers: Any = ()) -> None:
        text = json.dumps(message).encode()
        size = sum(len(b) for b in buffers)
        head = HEADER.pack(len(text), size) + text
        with self._writing:
            try:
                if not size:
                    self.socket.sendall(head)
                elif size < 1 << 16:
                    self.socket.sendall(b"".join((head, *buffers)))
                else:
                    self.socket.sendall(head)
                    for buffer in buffers:
                        self.socket.sendall(buffer)
            except BrokenPipeError:
                raise Closed from None

    def read(self) -> Frame:
        self._fill(HEADER.size)
        text_size, blob_size = HEADER.unpack_from(self._rest)
        start = HEADER.size
        self._fill(start + text_size)
        message = json.loads(bytes(self._rest[start : start + text_size]))
        start += text_size
        ready = min(len(self._rest) - start, blob_size)
        if ready == blob_size:
            blob = bytes(self._rest[start : start + blob_size])
            del self._rest[: start + blob_size]
            return message, memoryview(blob)
        big = bytearray(blob_size)
        big[:ready] = self._rest[start:]
        self._rest.clear()
        view = memoryview(big)
        while ready < blob_size:
            got = self.socket.recv_into(view[ready:])
            if not got:
                raise Closed
            ready += got
        return message, view

    def _fill(self, size: int) -> None:
        while len(self._rest) < size:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise Closed
            self._rest += piece
