"""The tree in a real browser: frames on top of any page must give the page that is loaded last."""

from __future__ import annotations

import pytest
from django.test import Client
from playwright.sync_api import Page, WebSocketRoute

from analyses import runpage
from analyses.frames import Painter
from tests.browser import SITE, chromium, headers_of, serve
from tests.factories import Rows, make_run, make_user, make_workspace, steps

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

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
  return ["#run-state", "#run-now", "#run-meters", "#answer", "#timeline-plot", "#tree", "#run-seq"].map(q => seen(document.querySelector(q))).join("\\n");
}"""


class Film:
    """A run recorded write by write: the page at each seq, the frame to each seq, and at the end the frames from each."""

    def __init__(self, shape: str) -> None:
        owner = make_user()
        client = Client()
        client.force_login(owner)
        run = make_run(make_workspace(owner))
        self.path = run.get_absolute_url()
        self.pages: dict[int, str] = {}
        self.next: dict[int, list[str]] = {}
        self.headers: dict[str, str] = {}
        painter = Painter(run)

        def take() -> None:
            before = painter.seq
            painter.advance()
            if painter.seq > before:
                self.next[before] = painter.frames(before, {})
            response = client.get(self.path)
            assert response.status_code == 200
            self.headers = headers_of(response)
            self.pages[painter.seq] = response.content.decode()

        take()
        for _ in steps(run, shape, Rows(run, on_write=take)):
            pass
        self.end = painter.seq
        self.last = {start: painter.frames(start, {}) for start in self.pages}


def watch(page: Page, film: Film, start: int, frames: list[str]) -> list[str]:
    """Open the page as it was at ``start`` and send it these frames over its socket."""
    complaints = serve(page, lambda path: (film.pages[start], film.headers))

    def connect(socket: WebSocketRoute) -> None:
        assert socket.url.endswith(f"?seq={start}")
        for frame in frames:
            socket.send(frame)

    page.route_web_socket("**/ws/**", connect)
    page.goto(SITE + film.path)
    page.wait_for_function(f"Number(document.querySelector('#run-seq').dataset.seq) >= {film.end}")
    return complaints


# One page for all cuts: what it shows is set back to the page of that moment, then the frames come through its socket.
REPLAY = """([html, frames]) => {
  const then = new DOMParser().parseFromString(html, "text/html").querySelector("#run");
  document.querySelector("#run").replaceChildren(...then.childNodes);
  htmx.process(document.querySelector("#run"));
  for (const data of frames) window.socket.dispatchEvent(new MessageEvent("message", { data }));
}"""
SOCKET = """
window.WebSocket = class extends EventTarget {
  constructor(url) { super(); this.url = url; this.readyState = 1; window.socket = this; setTimeout(() => this.onopen?.({}), 0); }
  send() {} close() {}
};
"""


def compare_every_cut(film: Film) -> None:
    with chromium() as browser:
        page = browser.new_page()
        complaints = watch(page, film, film.end, [])
        expected = page.evaluate(DOM)
        page.close()
        page = browser.new_page()
        page.add_init_script(SOCKET)
        complaints += serve(page, lambda path: (film.pages[0], film.headers))
        page.goto(SITE + film.path)
        page.wait_for_function("window.socket")
        seqs = sorted(film.pages)
        for start, following in zip(seqs, seqs[1:], strict=False):
            page.evaluate(REPLAY, [film.pages[following], []])
            loaded = page.evaluate(DOM)
            page.evaluate(REPLAY, [film.pages[start], film.next[start]])
            assert page.evaluate(DOM) == loaded, f"from seq {start} to {following}"
            page.evaluate(REPLAY, [film.pages[start], film.last[start]])
            assert page.evaluate(DOM) == expected, f"from seq {start} to the end"
        assert complaints == []


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpage.time, "time", lambda: 1_800_000_000.0)


@pytest.mark.parametrize("shape", ["done", "running", "failed", "fifteen"])
def test_page_cut_at_every_seq_becomes_the_page_loaded_last(shape: str) -> None:
    # Rows first: where Playwright runs, Django takes its loop for ours and refuses the database.
    compare_every_cut(Film(shape))


def test_page_connects_from_its_seq_and_takes_frames_over_a_socket() -> None:
    film = Film("done")
    with chromium() as browser:
        page = browser.new_page()
        complaints = watch(page, film, 20, film.last[20])
        assert complaints == []
        assert page.title().startswith("Done: Which guests")
        assert page.locator("#answer strong").inner_text() == "Five guests say they saw it themselves."
