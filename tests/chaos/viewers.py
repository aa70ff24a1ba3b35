"""Somebody who watches a run all the time: a WebSocket client that comes back as a page does, and what a page makes of it."""

from __future__ import annotations

import base64
import http.client
import json
import re
import secrets
import socket
import struct
import threading
import time
from typing import Any

from playwright.sync_api import Browser

from analyses.viewers import GONE
from tests.browser import SITE, serve
from tests.e2e.test_live_tree import DOM, SOCKET

MARK = re.compile(r'<span id="run-seq" hidden data-seq="(\d+)" data-from="(\d+)"></span>\s*$')
PLAY = """frames => {
  for (const data of frames) window.socket.dispatchEvent(new MessageEvent("message", { data }));
}"""
LOADED = re.compile(r'id="run-seq" hidden data-seq="(\d+)"')


def fetch(port: int, path: str) -> tuple[str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, f"{path}: {answer.status}"
        return body, {name: value for name, value in answer.getheaders() if name.lower() != "content-length"}
    finally:
        connection.close()


class Viewer(threading.Thread):
    """Loads the page, then takes every frame; when its line breaks it asks again from where it stands."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(daemon=True)
        self.port, self.token = port, token
        self.html, self.headers = fetch(port, f"/s/{token}/")
        stands = LOADED.search(self.html)
        assert stands is not None
        self.seq = int(stands[1])
        self.frames: list[str] = []
        self.lines = 0  # connections that stood
        self.over = False  # the server said that there is nothing to watch
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set() and not self.over:
            try:
                self._watch()
            except (OSError, EOFError, ValueError, struct.error):
                self._done.wait(0.3)

    def close(self) -> None:
        self._done.set()
        self.join(10)

    def _watch(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as line:
            key = base64.b64encode(secrets.token_bytes(16)).decode()
            line.sendall(
                f"GET /ws/s/{self.token}/?seq={self.seq} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Origin: http://127.0.0.1:{self.port}\r\n\r\n".encode()
            )
            with line.makefile("rb") as stream:
                if b" 101 " not in stream.readline():
                    raise ValueError("no WebSocket")
                while stream.readline() not in (b"\r\n", b""):
                    pass
                self.lines += 1
                line.settimeout(1)
                while not self._done.is_set():
                    try:
                        first = stream.read(1)
                    except TimeoutError:
                        continue
                    line.settimeout(20)
                    kind, data = self._frame(first, stream)
                    line.settimeout(1)
                    if kind == 9:
                        self._send(line, 0x8A, data)
                    elif kind == 8:
                        code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else 1005
                        self.over = code == GONE
                        return
                    else:
                        self._take(data.decode())

    def _take(self, frame: str) -> None:
        self.frames.append(frame)
        if (mark := MARK.search(frame)) and int(mark[2]) == self.seq:
            self.seq = int(mark[1])

    @staticmethod
    def _frame(first: bytes, stream: Any) -> tuple[int, bytes]:
        def read(count: int) -> bytes:
            data = stream.read(count)
            if len(data) < count:
                raise EOFError
            return bytes(data)

        if not first:
            raise EOFError
        length = read(1)[0]
        if length == 126:
            length = int.from_bytes(read(2), "big")
        elif length == 127:
            length = int.from_bytes(read(8), "big")
        return first[0] & 15, read(length)

    @staticmethod
    def _send(line: socket.socket, head: int, data: bytes) -> None:
        mask = secrets.token_bytes(4)
        line.sendall(bytes([head, 0x80 | len(data)]) + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(data)))


def same_page(browser: Browser, viewer: Viewer) -> str:
    """Play what the viewer got into the page it had loaded; say where that differs from the page loaded now, or ""."""
    path = f"/s/{viewer.token}/"
    pages: list[str] = []
    complaints: list[str] = []
    for html, headers, frames in [(*fetch(viewer.port, path), []), (viewer.html, viewer.headers, viewer.frames)]:
        page = browser.new_page()
        try:
            page.add_init_script(SOCKET)
            complaints += serve(page, lambda asked: (html, headers) if asked == path else ("", {}))  # noqa: B023
            page.goto(SITE + path)
            if frames:
                page.wait_for_function("() => window.socket")
                page.evaluate(PLAY, frames)
            pages.append(page.evaluate(DOM))
        finally:
            page.close()
    return first_difference(*pages) or "; ".join(complaints)[:300]


def first_difference(expected: str, found: str) -> str:
    if expected == found:
        return ""
    lines = zip(expected.splitlines(), found.splitlines(), strict=False)
    where = next((f"{a[:160]!r} became {b[:160]!r}" for a, b in lines if a != b), "one is longer")
    return f"the page differs from a fresh load: {where}"


class Window:
    """A real page in a real browser, on the real server, open all the time."""

    def __init__(self, browser: Browser, port: int, token: str) -> None:
        self.url = f"http://127.0.0.1:{port}/s/{token}/"
        self.browser = browser
        self.page = browser.new_page()
        self.page.goto(self.url)

    def same_page(self, seq: int, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while int(self.page.evaluate("() => Number(document.querySelector('#run-seq').dataset.seq)")) < seq:
            if time.monotonic() > end:
                return f"the browser's page did not come to seq {seq}: {json.dumps(self.page.title())}"
            self.page.wait_for_timeout(200)
        fresh = self.browser.new_page()
        try:
            fresh.goto(self.url)
            found, expected = self.page.evaluate(DOM), fresh.evaluate(DOM)
            return first_difference(expected, found)
        finally:
            fresh.close()
            self.page.close()
