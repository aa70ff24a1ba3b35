"""Sockets of pages that do not read, over real lines: what waits for them is bounded, and they are let go to come back."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analyses import sockets

# A server that sends as much as it can, 100 kB at a time, and says what becomes of it.
SERVER = """
import asyncio, sys
from daphne.server import Server
from analyses import sockets
sockets.BEHIND_MOST, sockets.CLOSE_WITHIN = int(sys.argv[1]), float(sys.argv[2])
sockets.install()

async def application(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    async def pour():
        for number in range(int(sys.argv[3])):
            await send({"type": "websocket.send", "text": f"{number:06}" + "é" * 50_000})
            await asyncio.sleep(0.001)
    pouring = asyncio.ensure_future(pour())
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    pouring.cancel()
    print("gone", flush=True)

server = Server(application, endpoints=["tcp:port=0:interface=127.0.0.1"], signal_handlers=False, ready_callable=lambda: print(server.listening_addresses[0][1], flush=True))
import logging; logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
server.run()
"""
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving(most: int, within: float, frames: int) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A page's socket at that server, through its handshake."""
    command = [sys.executable, "-c", SERVER, str(most), str(within), str(frames)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            key = base64.b64encode(os.urandom(16)).decode()
            line.sendall(
                f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += line.recv(1)
            assert b" 101 " in head
            yield server, line
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def said(server: subprocess.Popen[str], words: str) -> bool:
    """Wait for a line with these words."""
    assert server.stdout is not None
    return any(words in text for text in server.stdout)


def read(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += line.recv(size - len(data)) or pytest.fail("the line ended")
    return data


def frame(line: socket.socket) -> tuple[int, bytes]:
    first, size = read(line, 2)
    if size > 125:
        size = int.from_bytes(read(line, 2 if size == 126 else 8), "big")
    return first & 15, read(line, size)


def test_page_that_does_not_read_is_closed_with_a_code_from_which_it_comes_back() -> None:
    with serving(most=500_000, within=60, frames=10_000) as (server, line):
        assert said(server, "does not read")  # and nothing was read until now
        received = 0
        for number in range(10_000):
            kind, data = frame(line)
            if kind == 8:
                break
            assert data[:6] == f"{number:06}".encode()  # in order, nothing left out
            received += len(data)
        assert kind == 8 and int.from_bytes(data[:2], "big") == sockets.TRY_AGAIN
        assert 500_000 < received < 60_000_000  # ours, and what the kernel took on both sides


def test_page_that_never_reads_is_cut_off() -> None:
    with serving(most=500_000, within=0.5, frames=10_000) as (server, _):
        assert said(server, "does not read") and said(server, "gone")


def test_page_that_reads_late_but_in_time_loses_nothing() -> None:
    with serving(most=100_000_000, within=60, frames=60) as (_, line):
        time.sleep(0.3)  # the buffer has been full by then, on any machine; the test does not depend on it
        assert [frame(line)[1][:6] for _ in range(60)] == [f"{number:06}".encode() for number in range(60)]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000])
def test_frame_is_whole_at_every_size(size: int) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(60)
        sending = threading.Thread(target=there.sendall, args=(sockets.framed("x" * size),))
        sending.start()
        assert frame(here) == (1, b"x" * size)
        sending.join()


def test_text_that_is_no_unicode_is_sent_all_the_same() -> None:
    assert sockets.framed("\ud800") == b"\x81\x01?"
