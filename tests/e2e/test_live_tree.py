"""The tree in a real browser: frames on top of any page must give the page that is loaded last."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, WebSocketRoute, expect

from analyses import runpage
from analyses.frames import Painter
from analyses.models import Run
from analyses.viewers import ASK_AGAIN, GONE
from tests.browser import SITE, chromium, serve
from tests.factories import Rows
from tests.film import DOM, SOCKET, Film, deliver, opened

pytestmark = [pytest.mark.browser, pytest.mark.django_db]


def watch(page: Page, film: Film, start: int, frames: list[str]) -> list[str]:
    """Open the page as it was at ``start`` and send it these frames over its socket."""
    complaints = serve(page, lambda path: (film.pages[start], film.headers))

    def connect(socket: WebSocketRoute) -> None:
        assert socket.url.endswith(f"?seq={start}")
        for frame in frames:
            socket.send(frame)

    page.route_web_socket("**/ws/**", connect)
    page.goto(SITE + film.path)
    page.wait_for_function(f"() => Number(document.querySelector('#run-seq').dataset.seq) >= {film.end}")
    return complaints


# One page for all cuts: what it shows is set back to the page of that moment, then the frames come through its socket.
REPLAY = """([html, frames]) => {
  const then = new DOMParser().parseFromString(html, "text/html").querySelector("#run");
  document.querySelector("#run").replaceChildren(...then.childNodes);
  htmx.process(document.querySelector("#run"));
  for (const data of frames) window.socket.dispatchEvent(new MessageEvent("message", { data }));
}"""


def test_a_page_whose_session_is_over_asks_again_and_is_told() -> None:
    film = Film("running")
    with chromium() as browser:
        page = browser.new_page()
        serve(page, lambda path: (film.pages[0], film.headers))
        asked: list[WebSocketRoute] = []

        def connect(socket: WebSocketRoute) -> None:
            asked.append(socket)
            socket.close(code=ASK_AGAIN if len(asked) == 1 else GONE)

        page.route_web_socket("**/ws/**", connect)
        page.goto(SITE + film.path)
        expect(page.get_by_text("This run was deleted, or you may not watch it any more.")).to_be_attached()
        assert len(asked) == 2


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
        page.wait_for_function("() => window.socket")
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


@pytest.mark.parametrize("shape", ["done", "running", "failed", "fifteen", "further"])
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


def test_folds_focus_selection_and_scroll_outlive_every_frame() -> None:
    film = Film("done")
    start = 32  # the fourth cell waits for its children
    with opened(film, start) as page:
        page.evaluate("""() => {
          document.querySelector("[data-follow]").click();
          document.querySelector("#cell-1-2-reasoning").open = true;
          document.querySelector("#cell-1-1 .twist").click();
          document.querySelector("#cell-1-4").focus();
          const code = document.querySelector("#cell-1-4-code .line").lastChild;
          getSelection().setBaseAndExtent(code, 0, code, code.childNodes.length || code.length);
          document.querySelector("#cell-1-3").scrollIntoView();
          window.kept = [document.querySelector("#cell-1-4-code"), document.querySelector("#cell-1-4")];
        }""")
        seen = "[String(getSelection()), Math.round(document.querySelector('#cell-1-3').getBoundingClientRect().top)]"
        before = page.evaluate(seen)  # where things are seen: the answer above has grown meanwhile
        assert before[0]
        deliver(page, [frame for seq in sorted(film.next) if seq >= start for frame in film.next[seq]])
        assert page.evaluate("Number(document.querySelector('#run-seq').dataset.seq)") == film.end
        assert page.evaluate(seen) == before
        assert page.evaluate("document.activeElement.id") == "cell-1-4"
        assert page.evaluate("document.querySelector('#cell-1-2-reasoning').open")
        assert page.get_attribute("#cell-1-1", "aria-expanded") == "false"
        assert page.evaluate("kept[0] === document.querySelector('#cell-1-4-code') && kept[1].isConnected")


def test_growing_text_is_patched_and_keeps_what_is_selected_in_it() -> None:
    film = Film("running")
    reply = """<div class="reply" id="cell-4-1-reply" aria-busy="true"><div class="prose live-text" data-live>{}</div></div>"""
    stands = f'<span id="run-seq" hidden data-seq="{film.end}" data-from="{film.end}"></span>'
    with opened(film, film.end) as page:
        page.click("#call-4 > .call-head .twist")
        deliver(page, [reply.format("I count") + stands])
        page.evaluate("""() => { const text = document.querySelector("#cell-4-1-reply .live-text").firstChild;
          getSelection().setBaseAndExtent(text, 2, text, 7); }""")
        deliver(page, [reply.format("I count the letters") + stands])
        assert page.inner_text("#cell-4-1-reply") == "I count the letters"
        assert page.evaluate("String(getSelection())") == "count"


def test_frame_for_another_seq_is_let_pass_and_asked_for_anew() -> None:
    film = Film("done")
    with opened(film, 10) as page:
        deliver(page, film.last[20])
        assert page.evaluate("Number(document.querySelector('#run-seq').dataset.seq)") == 10
        page.wait_for_function("() => window.sockets === 2")
        assert page.evaluate("socket.url").endswith("?seq=10")
        deliver(page, film.last[10])
        assert page.evaluate("Number(document.querySelector('#run-seq').dataset.seq)") == film.end


def test_reconnect_goes_on_from_where_the_page_stands() -> None:
    film = Film("done")
    with opened(film, 10) as page:
        deliver(page, film.next[10])
        page.evaluate("socket.onclose({ code: 1006 })")
        page.wait_for_function("() => window.sockets === 2", timeout=5000)
        assert page.evaluate("socket.url").endswith(f"?seq={min(seq for seq in film.pages if seq > 10)}")


def test_keys_walk_fold_and_open_the_tree() -> None:
    film = Film("done")
    with opened(film, film.end) as page:
        page.focus("#call-1")
        at = "document.activeElement.id"
        for key, there in [
            ("j", "cell-1-1"), ("ArrowDown", "cell-1-2"), ("k", "cell-1-1"), ("Tab", "cell-1-2"), ("h", "cell-1-2"),
            ("h", "call-1"), ("End", "cell-1-6"), ("Home", "call-1"), ("l", "cell-1-1"),
        ]:  # fmt: skip
            page.keyboard.press(key)
            assert page.evaluate(at) == there, key
        assert page.get_attribute("#cell-1-2", "aria-expanded") == "false"
        page.keyboard.press("r")
        assert page.evaluate("document.querySelector('#cell-1-1-reasoning').open")
        page.keyboard.press("Enter")
        assert (
            page.evaluate("document.activeElement.closest('.cell').id + document.activeElement.tagName") != "cell-1-1LI"
        )
        page.keyboard.press("Escape")
        assert page.evaluate(at) == "cell-1-1"
        page.keyboard.press("n")
        assert page.evaluate(at) == "cell-1-3"
        page.keyboard.press("n")
        assert page.evaluate(at) == "call-3"
        page.keyboard.press("?")
        assert page.locator("#keys-dialog").is_visible()
        assert page.evaluate("document.querySelectorAll('[role=tree] [tabindex=\"0\"][role=treeitem]').length") == 1


def test_link_to_a_line_of_a_call_in_a_crowd_fetches_and_unfolds_it() -> None:
    film = Film("fifteen", "c/4/path", "c/1/4/children?after=3", "c/4/cells")
    with opened(film, film.end) as page:
        page.evaluate("location.hash = '#cell-4-1-L1'")
        page.wait_for_function("() => document.activeElement.id === 'cell-4-1'", timeout=10_000)
        assert page.locator("#cell-4-1-L1").is_visible()


def test_newcomers_of_an_opened_crowd_come_by_themselves_in_their_order() -> None:
    film = Film("growing", "c/1/4/children?after=0")
    run = Run.objects.get()
    rows = Rows(run)
    painter = Painter(run)
    before = painter.seq
    child = rows.call(run.call_set.get(number=1), 4)
    painter.advance()
    news, list_news = painter.frames(before, {}, following=True), painter.part("l1-4", before, {})
    rows.change(child, title="Heard of later")
    painter.advance()
    later = painter.part(f"c{child.number}", painter.seq - 1, {})
    stands = '<span id="run-seq" hidden data-seq="{0}" data-from="{0}"></span>'
    sent = """WebSocket.prototype.send = data => (window.sent ??= []).push(JSON.parse(data));"""
    with opened(film, film.end, sent) as page:
        page.evaluate("socket.onopen({})")
        page.click("#cell-1-4-more > a")
        page.wait_for_selector("#call-16")
        assert page.evaluate("sent.some(said => said.open?.['l1-4'] > 0 && said.open.c16 > 0)")
        page.focus("#cell-1-4-more")
        deliver(page, news)
        deliver(page, ["".join(list_news) + stands.format(before + 2)])
        listed = "[...document.querySelectorAll('#cell-1-4-children > li')].map(node => node.id)"
        assert page.evaluate(listed)[-2:] == ["call-17", "cell-1-4-more"]
        assert page.evaluate("document.activeElement.id") == "cell-1-4-more"
        assert page.evaluate("sent.at(-1).open.c17") == before + 2
        deliver(page, ["".join(later) + stands.format(before + 2)])
        assert "Heard of later" in page.inner_text("#call-17-head")


def test_end_is_told_by_title_and_notification() -> None:
    film = Film("done")
    told = """
    Object.defineProperty(document, "hidden", { get: () => true });
    localStorage.setItem("notify", "yes");
    window.told = [];
    window.Notification = class { constructor(title) { told.push(title); } static permission = "granted"; };
    """
    with opened(film, 10, told) as page:
        assert page.title().startswith("Running: ")
        deliver(page, film.last[10])
        assert page.title().startswith("Done: ") and page.evaluate("window.told") == ["Run done"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "shape"), [(1300, "running"), (360, "running"), (1300, "failed"), (1300, "fifteen")])
def test_page_has_no_fault_that_axe_finds_and_no_sideways_scrolling(scheme: str, width: int, shape: str) -> None:
    film = Film(shape)
    with opened(film, film.end, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_search_and_inspector_follow_the_keys() -> None:
    film = Film("done", "search?q=batch_llm", "c/1/4/inspect", "c/1/1/inspect")
    with opened(film, film.end) as page:
        page.focus("#call-1")
        page.keyboard.press("/")
        page.keyboard.type("batch_llm")
        page.click("#found .hit[href='#cell-1-4-L2']")
        page.wait_for_function("() => document.activeElement.id === 'cell-1-4'")
        page.wait_for_selector("#variables .var")
        page.keyboard.press("m")
        assert page.locator("#messages").is_visible() and not page.locator("#variables").is_visible()
        page.click("#cell-1-1 .what")
        page.wait_for_function("() => document.querySelector('.inspector-of b')?.textContent === 'call 1, cell 1'")
        assert page.locator("#messages").is_visible()  # the panel chosen stays chosen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_with_all_that_can_be_opened(scheme: str) -> None:
    film = Film("fifteen", "c/1/4/children?after=0", "c/2/cells", "c/2/inspect", "c/1/2/output", "search?q=context")
    with opened(film, film.end, color_scheme=scheme, viewport={"width": 1300, "height": 900}, bypass_csp=True) as page:
        page.click("#cell-1-4-more > a")
        page.click("#call-2 > .call-head .twist")
        page.wait_for_selector("#cell-2-1")
        page.wait_for_selector("#variables")
        page.focus("#cell-1-2")
        page.keyboard.press("o")
        page.keyboard.press("r")
        page.keyboard.press("/")
        page.keyboard.type("context")
        page.wait_for_selector("#found .hit")
        for part in ("", "keys-dialog", "export", "share"):
            if part:
                page.evaluate(
                    "id => { const part = document.getElementById(id); (part.showModal ?? part.showPopover).call(part); }",
                    part,
                )
            found = Axe().run(page)
            assert found.violations_count == 0, (part, found.generate_report())
            if part:
                page.evaluate(
                    "id => { const part = document.getElementById(id); (part.close ?? part.hidePopover).call(part); }",
                    part,
                )


def test_every_call_is_reached_without_a_script() -> None:
    film = Film("fifteen", "?list=1.4.0", "?open=3", "?q=limit+of+20")
    with opened(film, film.end, java_script_enabled=False) as page:
        page.click("#cell-1-4-more > a")
        assert page.url.endswith("?list=1.4.0#cell-1-4-more") and page.locator("#call-16 > .call-head").is_visible()
        page.click("#call-3-body a[href^='?open=3']")
        assert page.locator("#cell-3-1-code").is_visible()
        page.fill("input[name=q]", "limit of 20")
        page.keyboard.press("Enter")
        assert page.get_attribute("#found .hit", "href") == "?open=3#call-3"


def test_link_to_a_line_past_what_is_shown_leads_to_its_cell() -> None:
    film = Film("done")
    with opened(film, film.end, hash="#cell-1-2-L900") as page:
        page.wait_for_function("() => document.activeElement.id === 'cell-1-2'")
