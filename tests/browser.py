"""Debian's Chromium for tests, and pages served to it straight from Django: no server, no socket, no network."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from playwright.sync_api import Browser, Page, Route, sync_playwright

SITE = "http://localhost"  # a trustworthy origin, as 127.0.0.1 is
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

# A socket that only the test speaks through.
SOCKET = """
window.WebSocket = class extends EventTarget {
  constructor(url) { super(); Object.assign(this, { url, readyState: 1, OPEN: 1 }); window.socket = this; window.sockets = (window.sockets ?? 0) + 1; setTimeout(() => this.onopen?.({}), 0); }
  send() {} close() {}
};
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGS)
        yield browser
        browser.close()


def serve(page: Page, answer: Callable[[str], tuple[str, dict[str, str]]]) -> list[str]:
    """Answer the page's requests: static files as they lie, the rest by ``answer(path)``. Returns its complaints, as they come."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    def handle(route: Route) -> None:
        path = route.request.url.removeprefix(SITE)
        if path.startswith("/static/"):
            name = path.removeprefix("/static/").partition("?")[0]
            found = finders.find(name)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            route.fulfill(body=Path(str(found)).read_bytes(), content_type=kind)
        else:
            body, headers = answer(path)
            route.fulfill(body=body, headers=headers)

    page.route("**/*", handle)
    return complaints


def headers_of(response: Any) -> dict[str, str]:
    """A Django response's headers, the policy for scripts and styles among them."""
    return dict(response.items())
