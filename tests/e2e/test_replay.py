"""Replay in a real browser: at each moment the page shows what it showed then, and leaving gives it back as it was."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.film import DOM, Film, opened

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

# The nodes that are there at a moment, each with its status; what waits for children runs.
NODES = """() => Object.fromEntries([...document.querySelectorAll("#tree :is(.call, .cell)")].filter(node => node.checkVisibility() || !node.closest("[data-then=future]")).map(node => {
  const mark = [...node.firstElementChild.querySelectorAll(":scope > .status")].find(mark => getComputedStyle(mark).display !== "none");
  return [node.id, mark.dataset.status === "waiting" ? "running" : mark.dataset.status];
}))"""
USED = """() => Object.fromEntries([...document.querySelectorAll("#run-status > .limits")].find(list => getComputedStyle(list).display !== "none")
  .querySelectorAll("div").values().map(part => [part.querySelector("dt").textContent, part.querySelector("b").textContent]))"""


class _Nodes(HTMLParser):
    """The same of a page as it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.of = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if named.get("role") == "treeitem":
            self.of = named["id"] or ""
        elif named.get("class") == "status" and self.of:
            status = named["data-status"] or ""
            self.found[self.of], self.of = "running" if status == "waiting" else status, ""


def seek(page: Page, seconds: float) -> None:
    page.evaluate("t => { location.hash = `#t=${t}`; }", round(seconds, 4))
    page.wait_for_function(
        "t => Math.abs(Number(document.querySelector('#replay input').value) - 1000 * t) < 60", arg=seconds
    )


def began(film: Film) -> float:
    return next(call["started_at"] for call in film.rows["calls"] if call["number"] == 1)


@pytest.mark.parametrize("shape", ["done", "fifteen", "failed"])
def test_each_moment_shows_what_the_page_showed_then(shape: str) -> None:
    film = Film(shape, "replay")
    begin = began(film)
    last = {clock: seq for seq, clock in sorted(film.clocks.items())}  # what stood when nothing more came at that time
    with opened(film, film.end) as page:
        there = set(page.evaluate(NODES))  # children of what became a crowd later stand in a closed list now
        for clock, seq in last.items():
            if clock < begin or seq == film.end:
                continue
            html = film.pages[seq]
            then = _Nodes()
            then.feed(html)
            seek(page, clock - begin + 0.0006)
            nodes = {node: status for node, status in then.found.items() if node in there}
            assert page.evaluate(NODES) == nodes, f"at {clock - begin:.2f} s, seq {seq}"
            used = page.evaluate(USED)
            for name in ("Tokens", "Calls"):
                assert f"<dt>{name}</dt><dd><b>{used[name]}</b>" in html, f"{name} at {clock - begin:.2f} s"
            assert page.locator("#answer-text").is_hidden()


def test_follow_ups_and_earlier_answers_are_there_from_when_they_were() -> None:
    film = Film("further", "replay")
    end = max(seq for seq, html in film.pages.items() if "data-ended" in html)  # before something further was asked
    began_at = {
        cell["number"]: cell["started_at"] - began(film) for cell in film.rows["cells"] if cell["call_number"] == 1
    }
    asked = json.loads(next(iter(film.parts.values()))[0])["further"]
    assert asked[1] > asked[0] > 1000 * began_at[6]
    with opened(film, end) as page:
        before = page.evaluate(DOM)
        for moment, there in ((began_at[6], False), (asked[0] / 1000 + 0.01, True)):
            seek(page, moment)
            for place in ("#follow-up-2", "#answer-1", "#earlier-answers"):
                expect(page.locator(place)).to_be_visible(visible=there)
            expect(page.locator("#answer h2:visible")).to_have_text("Answer v2" if there else "Answer v1")
            expect(page.locator("#answer")).to_contain_text("At this moment there was no answer yet.")
        page.keyboard.press("p")
        expect(page.locator("#run")).to_have_attribute("data-then-over", "", timeout=60_000)
        expect(page.locator("#answer h2:visible")).to_have_text("Answer v2")
        expect(page.locator("#answer")).to_contain_text("Perpetua Vane")
        page.click("#replay [data-replay-leave]")
        assert page.evaluate(DOM) == before and page.locator("[data-then]").count() == 0


def test_leaving_gives_the_page_back_as_it_was() -> None:
    film = Film("fifteen", "replay", "c/1/4/children?after=0")
    with opened(film, film.end) as page:
        page.click("#cell-1-2 .twist")
        page.focus("#cell-1-3")
        before = page.evaluate(DOM)
        page.keyboard.press(".")
        expect(page.locator("#run")).to_have_attribute("data-replay", "on")
        assert len(page.evaluate(NODES)) == 2  # the root, and its first turn: being written
        for _ in range(12):
            page.keyboard.press(".")
        assert re.search(r"#t=\d", page.url)
        page.keyboard.press(",")
        page.click("#replay [data-replay-leave]")
        assert page.evaluate(DOM) == before
        assert page.locator(".then").count() == 0 and "#t=" not in page.url
        assert page.get_attribute("#cell-1-2", "aria-expanded") == "false"


def test_it_plays_to_the_end_and_pauses_by_key() -> None:
    film = Film("done", "replay")
    with opened(film, film.end) as page:
        page.focus("#call-1")
        page.keyboard.press("p")
        expect(page.locator("[data-replay-play]")).to_have_attribute("aria-label", "Replay: pause")
        for _ in range(5):
            page.keyboard.press("]")
        assert page.input_value("#replay select") == "32"
        page.keyboard.press(" ")
        expect(page.locator("[data-replay-play]")).to_have_attribute("aria-label", "Replay: play")
        at = page.input_value("#replay input")
        page.keyboard.press("j")  # the tree is walked as ever
        assert page.input_value("#replay input") == at
        page.keyboard.press(" ")
        expect(page.locator(".replay-now")).to_contain_text("call 1 is done", timeout=60_000)
        expect(page.locator("#answer-text")).to_be_visible()
        assert page.evaluate("Number(document.querySelector('#replay input').getAttribute('max'))") > 1000


def test_link_to_a_moment_opens_there_and_a_crowd_is_summed_up_as_it_stood() -> None:
    film = Film("fifteen", "replay")
    calls = {call["number"]: call for call in film.rows["calls"]}
    moment = calls[6]["finished_at"] - began(film) + 0.001
    over = [call for number, call in calls.items() if number > 1 and call["finished_at"] - began(film) <= moment]
    done = sum(call["status"] == "done" for call in over)
    with opened(film, film.end, hash=f"#t={moment:.3f}") as page:
        expect(page.locator("#cell-1-4-fan > .fanout.then")).to_contain_text(
            f"{done} of 15 done, {len(over) - done} failed; 0 running"
        )
        assert page.locator("#cell-1-4-crowd").is_hidden() and page.locator("#cell-1-5").is_hidden()
        assert page.locator("#timeline-plot .v-now").count() == 1
        assert "Waits" in page.inner_text("#run-status") or "waits for its children" in page.inner_text("#run-status")


def test_code_is_written_line_by_line_but_not_where_motion_is_not_wanted() -> None:
    film = Film("done", "replay")
    cell = next(row for row in film.rows["cells"] if (row["call_number"], row["number"]) == (1, 4))
    middle = (cell["started_at"] + cell["replied_at"]) / 2 - began(film)
    for motion, lines in (("no-preference", 1), ("reduce", 0)):
        with opened(film, film.end, reduced_motion=motion) as page:
            seek(page, middle)
            shown = (
                "[...document.querySelectorAll('#cell-1-4-code .line')].filter(line => line.checkVisibility()).length"
            )
            assert page.evaluate(shown) == lines, motion


def test_run_without_times_says_so() -> None:
    film = Film("done", "replay")
    path = next(path for path in film.parts if path.endswith("replay"))
    film.parts[path] = (
        json.dumps({"span": 0, "calls": {}, "cells": {}, "further": [], "cut": False}),
        film.parts[path][1],
    )
    with opened(film, film.end) as page:
        page.click("[data-replay-play]")
        expect(page.locator(".replay-now")).to_have_text("This run has no times to play it by.")
        assert page.get_attribute("#run", "data-replay") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 360])
def test_replay_has_no_fault_that_axe_finds(scheme: str, width: int) -> None:
    film = Film("fifteen", "replay")
    options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with opened(film, film.end, hash="#t=9", bypass_csp=True, **options) as page:
        expect(page.locator("#run")).to_have_attribute("data-replay", "on")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
