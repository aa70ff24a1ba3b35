"""The page of a run that has ended, in a real browser: what makes the run go on comes to it, and takes nothing away."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from analyses.viewers import ANEW, LET_GO
from tests.film import Film, deliver, opened

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

SEQ = "Number(document.querySelector('#run-seq').dataset.seq)"
TOP = "selector => Math.round(document.querySelector(selector).getBoundingClientRect().top)"


class Further(Film):
    """A run with follow-ups: ``rested`` is the seq at which its first answer stood, ``again`` that of the second."""

    def __init__(self, *parts: str) -> None:
        super().__init__("further", *parts)
        ended = [seq for seq, html in self.pages.items() if re.search(r'id="run-state"[^>]* data-ended', html)]
        self.rested, self.again = min(ended), max(ended)

    @property
    def between(self) -> list[str]:
        return [frame for at in sorted(self.next) if self.rested <= at < self.again for frame in self.next[at]]


def test_a_follow_up_comes_to_who_reads_on_and_moves_nothing() -> None:
    film = Further("answers/1", "follow-up")
    with opened(film, film.rested, viewport={"width": 1200, "height": 600}) as page:
        assert page.evaluate("socket.url").endswith(f"?seq={film.rested}")
        page.click("#cell-1-1 .twist")
        page.click("#cell-1-2-head")
        page.evaluate("document.querySelector('#cell-1-2').scrollIntoView({ block: 'center' })")
        before = page.evaluate(TOP, "#cell-1-2")
        frames = film.between
        deliver(page, frames[:1])
        expect(page.locator("#run-state")).to_have_text("Queued")
        assert page.title().startswith("Queued: ")
        expect(page.locator("#follow-up")).to_be_hidden()
        deliver(page, frames[1:])
        assert page.evaluate(SEQ) == film.again
        assert page.get_attribute("#cell-1-1", "aria-expanded") == "false"
        expect(page.locator("#cell-1-2")).to_have_attribute("aria-selected", "true")
        assert abs(page.evaluate(TOP, "#cell-1-2") - before) <= 1
        expect(page.locator("#follow-up-2")).to_be_attached()
        expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("late", [False, True])
def test_who_reads_the_answer_keeps_it_where_it_is(late: bool) -> None:
    film = Further("answers/1", "follow-up")
    frames = film.last[film.rested] if late else film.between[:1]
    with opened(film, film.rested, viewport={"width": 1200, "height": 700}) as page:
        words = page.inner_text("#answer-text")
        before = page.evaluate(TOP, "#answer-text")
        deliver(page, frames)
        kept = page.locator("#answer-1-text")
        expect(kept).to_be_visible()
        assert kept.inner_text() == words
        page.wait_for_function(f"top => Math.abs(({TOP})('#answer-1-text') - top) <= 40", arg=before)


@pytest.mark.parametrize("live", [True, False])
def test_who_asks_further_sees_it_in_place(live: bool) -> None:
    film = Further("answers/1", "follow-up")
    box, headers = film.parts[film.path + "follow-up"]  # of the run under way again, as the answer to a question is
    film.parts[film.path + "follow-up"] = box, headers | {"HX-Trigger-After-Swap": '{"asked-further": {}}'}
    with opened(film, film.rested) as page:
        page.wait_for_function("() => document.querySelector('#run').dataset.live === 'on'")
        page.evaluate("window.stays = true")
        page.fill("#follow-up-question", "And who was it not?")
        if not live:  # nothing would come of itself
            closes(page, LET_GO)
            with page.expect_navigation():
                page.keyboard.press("Control+Enter")
            return
        page.keyboard.press("Control+Enter")
        expect(page.locator("#run-status")).to_be_focused()
        expect(page.locator("#run-said")).to_have_text("Your question is asked")
        expect(page.locator("#follow-up")).to_be_hidden()
        deliver(page, film.between[:1])
        expect(page.locator("#run-state")).to_have_text("Queued")
        expect(page.locator("#follow-up-2")).to_be_in_viewport()
        expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "true")
        deliver(page, film.between[1:])
        assert page.evaluate(SEQ) == film.again and page.evaluate("window.stays")
        expect(page.locator("#run-status")).to_be_focused()


def test_what_somebody_writes_in_the_box_stays_there() -> None:
    film = Further("answers/1", "follow-up")
    with opened(film, film.rested) as page:
        page.fill("#follow-up-question", "And what did the")
        deliver(page, film.between)
        expect(page.locator("#run-state")).to_have_text("Done")
        expect(page.locator("#follow-up-question")).to_have_value("And what did the")
        expect(page.locator("#follow-up-question")).to_be_focused()


def test_who_replays_is_told_in_a_line_and_goes_on_when_they_like() -> None:
    film = Further("replay", "answers/1", "follow-up")
    with opened(film, film.rested) as page:
        page.evaluate("location.hash = '#t=1'")
        page.wait_for_selector("#run[data-replay=on]")
        shown = page.inner_text("#tree")
        deliver(page, film.between)
        line = page.locator("#run-news")
        expect(line).to_contain_text("This run goes on.")
        assert (page.evaluate(SEQ), page.inner_text("#tree")) == (film.rested, shown)
        assert page.evaluate("window.sockets") == 1
        line.get_by_role("button", name="Leave the replay and watch").click()
        expect(line).to_be_empty()
        page.wait_for_function("() => window.sockets === 2")  # it asks for what was held back
        assert page.evaluate("socket.url").endswith(f"?seq={film.rested}")
        deliver(page, film.last[film.rested])
        assert page.evaluate(SEQ) == film.end
        expect(page.locator("#follow-up-2")).to_be_attached()


def closes(page: Page, code: int) -> None:
    page.evaluate("code => socket.onclose({ code })", code)


def test_a_page_that_was_let_go_asks_again_when_somebody_looks_at_it() -> None:
    film = Film("done")
    looks = """
    window.away = false;
    Object.defineProperty(document, "hidden", { get: () => window.away });
    window.look = away => { window.away = away; document.dispatchEvent(new Event("visibilitychange")); };
    """
    with opened(film, film.end, looks) as page:
        page.wait_for_function("() => document.querySelector('#run').dataset.live === 'on'")
        page.evaluate("look(true)")
        closes(page, LET_GO)
        assert page.evaluate("[window.sockets, document.querySelector('#run').dataset.live]") == [1, "off"]
        expect(page.locator("#run-news")).to_be_empty()
        page.evaluate("look(false)")
        page.wait_for_function("() => window.sockets === 2 && document.querySelector('#run').dataset.live === 'on'")
        page.evaluate("look(true)")
        page.evaluate("look(false)")  # its line stands: nothing to ask
        assert page.evaluate("window.sockets") == 2


def test_a_page_whose_run_was_archived_meanwhile_says_so() -> None:
    film = Film("done")
    with opened(film, film.end) as page:
        page.wait_for_function("() => document.querySelector('#run').dataset.live === 'on'")
        closes(page, ANEW)
        expect(page.locator("#run-news")).to_contain_text("were archived, or brought back from the archive")
        with page.expect_navigation():
            page.get_by_role("button", name="Load the page anew").click()
