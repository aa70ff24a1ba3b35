"""A run recorded write by write, and its page at any of those moments in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.test import Client
from playwright.sync_api import Page

from analyses.frames import Painter
from analyses.models import Call, Cell
from tests.browser import SITE, SOCKET, chromium, headers_of, serve
from tests.factories import Rows, make_run, make_user, make_workspace, steps

__all__ = ["DOM", "SITE", "SOCKET", "Film", "deliver", "opened"]

# What a person did to the page, and what only the clock changes, is no part of what is compared.
DOM = """() => {
  const seen = node => {
    if (node.nodeType === Node.TEXT_NODE) return node.data.replace(/\\s+/g, " ").trim();
    if (node.nodeType !== Node.ELEMENT_NODE) return "";
    const names = [...node.attributes].map(a => [a.name, a.name === "class" ? [...node.classList].filter(c => c !== "arrived").join(" ") : a.value])
      .filter(([name, value]) => !["tabindex", "aria-selected", "style", "data-from"].includes(name) && !(name === "class" && !value)).sort();
    const inside = "ticks" in node.dataset ? "" : [...node.childNodes].map(seen).filter(Boolean).join("\\n");
    return `<${node.tagName.toLowerCase()}${names.map(([name, value]) => ` ${name}="${value}"`).join("")}>\\n${inside}\\n</>`;
  };
  return ["#run-state", "#run-now", "#run-meters", "#answer", "#earlier-answers", "#timeline-plot", "#tree", "#run-seq"].map(q => seen(document.querySelector(q))).join("\\n");
}"""


class Film:
    """A run recorded write by write: the page at each seq, the frame to each seq, and at the end the frames from each."""

    def __init__(self, shape: str, *parts: str) -> None:
        owner = make_user()
        client = Client()
        client.force_login(owner)
        run = make_run(make_workspace(owner))
        self.path = run.get_absolute_url()
        self.pages: dict[int, str] = {}
        self.next: dict[int, list[str]] = {}
        self.headers: dict[str, str] = {}
        self.clocks: dict[int, float] = {}  # when it stood at a seq, by the clock of its rows
        painter = Painter(run)
        rows = Rows(run)

        def take() -> None:
            before = painter.seq
            painter.advance()
            if painter.seq > before:
                self.next[before] = painter.frames(before, {}, following=True)
            response = client.get(self.path)
            assert response.status_code == 200
            self.headers = headers_of(response)
            self.pages[painter.seq] = response.content.decode()
            self.clocks[painter.seq] = rows.clock

        take()
        rows.on_write = take
        for _ in steps(run, shape, rows):
            pass
        self.end = painter.seq
        times = ("started_at", "replied_at", "ended_at")
        self.rows: dict[str, list[dict[str, Any]]] = {
            "calls": list(Call.objects.filter(run=run).values("number", "status", "started_at", "finished_at")),
            "cells": list(Cell.objects.filter(run=run).values("call_number", "number", *times)),
        }
        answers = {self.path + part: client.get(self.path + part) for part in parts}
        self.parts = {path: (answer.content.decode(), headers_of(answer)) for path, answer in answers.items()}
        self.last = {start: painter.frames(start, {}) for start in self.pages}


@contextmanager
def opened(film: Film, start: int, script: str = "", hash: str = "", **context: Any) -> Iterator[Page]:
    """A page as it was at ``start``, with a socket that ``deliver`` speaks through. It must not complain of anything."""
    with chromium() as browser:
        page = browser.new_context(**context).new_page()
        page.add_init_script(SOCKET + script)
        answers = {film.path: (film.pages[start], film.headers)} | film.parts
        complaints = serve(page, lambda path: answers.get(path, ("", {})))
        page.goto(SITE + film.path + hash)
        if context.get("java_script_enabled", True):
            page.wait_for_function("() => window.htmx && document.readyState === 'complete'")
        yield page
        assert complaints == [], complaints


def deliver(page: Page, frames: list[str]) -> None:
    for data in frames:
        page.evaluate("data => window.socket.dispatchEvent(new MessageEvent('message', { data }))", data)
