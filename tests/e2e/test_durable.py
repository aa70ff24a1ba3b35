"""Runs that go on, through everything that is real: browsers, Daphne, a Celery worker, jails, a scripted endpoint.

Ed asks, Vera watches: her page is never loaded anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import chromium
from tests.e2e.instance import PROJECT, Instance
from tests.rlm.conftest import cell
from tests.scripted.fixture import Scripted

pytestmark = [pytest.mark.browser, pytest.mark.firejail, pytest.mark.serial, pytest.mark.timeout(300)]

WORDS = "Count the words"
PIECES = "Double the pieces"
SLOW = "Ask slow children"


def slow(seconds: float, code: str) -> dict[str, Any]:
    return {"text": cell(code), "delay": seconds}


SCRIPT: dict[str, Any] = {
    "rules": [
        {"match": "What do you have", "reply": cell("FINAL(['so far', n])")},
        {"match": WORDS, "turn": 0, "reply": cell("import time\nborn, words = time.time(), ['a', 'bb']\nprint(words)")},
        {"match": WORDS, "turn": 2, "reply": slow(0.5, "words.append('ccc')\nprint(words)")},
        {"match": WORDS, "reply": cell("FINAL({'born': born, 'words': ' '.join(words)})")},
        {
            "match": "# Instruction\npiece b", "attempt": 0,
            "reply": {"status": 400, "error": {"error": {"message": "not this one"}}},
        },
        {"match": "# Instruction\npiece", "reply": cell("FINAL(context * 2)")},
        {"match": PIECES, "turn": 0, "reply": cell("n = 3\nprint(n)")},
        {
            "match": PIECES, "turn": 1,
            "reply": cell("r = await batch_llm_query(*[llm_query(c, 'piece ' + c) for c in 'abc'])\nprint(r)"),
        },
        {"match": PIECES, "reply": slow(0.5, "FINAL([n, [str(x)[:20] for x in r]])")},
        {"match": "# Instruction\nslow", "turn": 0, "reply": slow(1.0, "half = len(context)")},
        {"match": "# Instruction\nslow", "reply": slow(1.0, "FINAL(half)")},
        {"match": SLOW, "turn": 0, "reply": cell("n = 7\nprint(n)")},
        {
            "match": SLOW, "turn": 1,
            "reply": cell("r = await batch_llm_query(*[llm_query(c, 'slow ' + c) for c in 'abcd'])\nprint(r)"),
        },
        {"match": SLOW, "reply": cell("FINAL([n, r])")},
    ]
}  # fmt: skip
PEOPLE = """
import json
import django
django.setup()
from django.conf import settings
from tests.workspaces.cast import make_cast
cast = make_cast()
keys = {who: cast.client(getattr(cast, who)).cookies[settings.SESSION_COOKIE_NAME].value for who in ("ed", "vera")}
print(json.dumps({"cookie": settings.SESSION_COOKIE_NAME, "slug": cast.workspace.slug, "keys": keys}))
"""


class House:
    """One installation for all tests here. It starts again where one wants it otherwise, as an operator would do it."""

    def __init__(self, data: Path, server: Scripted) -> None:
        self.data, self.server = data, server
        self.instance: Instance | None = None
        self.environment: dict[str, str] = {}
        self.people: dict[str, Any] = {}

    def start(self, **environment: str) -> None:
        """Have it run with these settings."""
        port = None
        if self.instance is not None:
            if environment == self.environment:
                return
            port = self.instance.port
            self.instance.end()
        self.environment = environment
        given = {"OPENAI_BASE_URL": self.server.base_url, "OPENAI_API_KEY": "sk-x", "OPENAI_MODEL": "atlas"}
        self.instance = Instance(self.data, port=port, **given, **environment).start()
        self.instance.wait_for_line(r"rlmweb is at ")
        self.instance.wait_until_well()
        if not self.people:
            told = subprocess.run(
                [sys.executable, "-c", PEOPLE], cwd=PROJECT, env=self.instance.environment | {"DJANGO_SETTINGS_MODULE": "rlmweb.settings"},
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            self.people = json.loads(told.stdout)

    @property
    def site(self) -> str:
        assert self.instance is not None
        return f"http://127.0.0.1:{self.instance.port}"

    def enter(self, context: BrowserContext, who: str) -> Page:
        key = self.people["keys"][who]
        context.add_cookies([{"name": self.people["cookie"], "value": key, "url": self.site}])
        return context.new_page()

    def asked(self) -> int:
        return int(self.server.stats()["requests"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)  # a busy machine takes its time
    with chromium() as browser:
        yield browser
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, scripted_server: Scripted) -> Iterator[House]:
    one = House(tmp_path_factory.mktemp("durable") / "data", scripted_server.add(SCRIPT))
    try:
        one.start()
        yield one
    finally:
        if one.instance is not None:
            one.instance.end()


@pytest.fixture
def pages(browser: Browser, house: House) -> Iterator[tuple[Page, Page]]:
    """Ed's, who asks, and Vera's, who looks on."""
    contexts = [browser.new_context(viewport={"width": 1180, "height": 800}) for _ in range(2)]
    ed, vera = house.enter(contexts[0], "ed"), house.enter(contexts[1], "vera")
    complaints: list[str] = []
    for page in (ed, vera):
        page.on("pageerror", lambda error: complaints.append(str(error)))
    yield ed, vera
    for context in contexts:
        context.close()
    assert complaints == []


def ask(house: House, ed: Page, vera: Page, question: str) -> None:
    """Ed asks, Vera opens the run at once; from here on her page stays."""
    ed.goto(f"{house.site}/w/{house.people['slug']}/")
    ed.get_by_label("Question").fill(question)
    ed.get_by_label("Question").press("Control+Enter")
    ed.wait_for_url("**/r/**")
    vera.goto(ed.url)
    vera.evaluate("window.stays = true")


def further(ed: Page, question: str) -> None:
    box = ed.get_by_role("textbox", name="Follow-up")
    box.fill(question)
    box.press("Control+Enter")


def stands(page: Page, word: str) -> None:
    expect(page.locator("#run-state")).to_have_text(word)


def value(page: Page, place: str, name: str) -> str:
    """One value of an answer that is a mapping, as it stands on the page."""
    text = page.locator(place).inner_text()
    return text.partition(name)[2].strip(" :\n'\"").split("\n")[0]


def test_a_follow_up_goes_on_in_the_warm_repl_before_a_colleagues_eyes(house: House, pages: tuple[Page, Page]) -> None:
    house.start()
    ed, vera = pages
    ask(house, ed, vera, WORDS)
    for page in pages:
        stands(page, "Done")
        expect(page.locator("#answer")).to_contain_text("a bb")
    vera.locator("#cell-1-1 .twist").click()
    vera.locator("#cell-1-2-head").click()
    expect(ed.get_by_text("The REPL is warm until")).to_be_visible()
    ed.evaluate("window.stays = true")
    before = house.asked()
    further(ed, "And with one more?")
    expect(vera.locator("#follow-up-2")).to_contain_text("And with one more?")
    expect(vera.locator("#answer")).to_contain_text("a bb ccc")
    for page in pages:
        stands(page, "Done")
        expect(page.locator("#answer-h")).to_have_text("Answer v2")
        expect(page.locator("#answer-1")).to_contain_text(WORDS)
    assert house.asked() - before == 2
    expect(vera.locator("#cell-1-1")).to_have_attribute("aria-expanded", "false")
    expect(vera.locator("#cell-1-2")).to_have_attribute("aria-selected", "true")
    if vera.locator("#answer-1 > details:not([open])").count():
        vera.locator("#answer-1 summary").click()
    expect(vera.locator("#answer-1 .answer-value")).to_contain_text("a bb")
    assert value(vera, "#answer-1 .answer-value", "born") == value(vera, "#answer .answer-value", "born")
    assert vera.evaluate("window.stays") and ed.evaluate("window.stays"), "who asks stays on the page too"


def test_a_follow_up_without_a_warm_repl_and_after_a_restart_comes_to_who_had_the_page_open(
    house: House, pages: tuple[Page, Page]
) -> None:
    house.start()
    ed, vera = pages
    ask(house, ed, vera, WORDS)
    stands(vera, "Done")
    house.start(RLMWEB_WARM_SECONDS="0")
    before = house.asked()
    ed.reload()
    expect(ed.get_by_text("The REPL will be rebuilt: 2 cells run again")).to_be_visible()
    further(ed, "And with one more?")
    expect(vera.locator("#answer-h")).to_have_text("Answer v2")
    expect(vera.locator("#answer")).to_contain_text("a bb ccc")
    assert house.asked() - before == 2, "nothing answered is asked again"
    assert vera.evaluate("window.stays")


def test_a_fork_with_an_edited_cell_and_a_retry_pay_for_what_is_new_alone(
    house: House, pages: tuple[Page, Page]
) -> None:
    ed, vera = pages
    house.server.forget()
    ask(house, ed, vera, PIECES)
    stands(ed, "Done")
    source = ed.url
    expect(ed.locator("#answer")).to_contain_text("failed")
    before = house.asked()
    ed.locator("#cell-1-2-head").click()
    ed.get_by_role("link", name="Fork from cell 1.2").click()
    editor = ed.get_by_label("Code of cell 1.2")
    editor.fill(editor.input_value().replace("'abc'", "'acd'"))
    editor.press("Control+Enter")
    ed.wait_for_url("**/r/**")
    vera.goto(ed.url)
    for page in pages:
        stands(page, "Done")
        expect(page.locator("#answer")).to_contain_text("dd")
        expect(page.locator("#call-1 .call-head .tag", has_text="reused")).to_have_count(2)
        expect(page.locator("#cell-1-2-head")).to_contain_text("changed by a person")
    assert house.asked() - before == 2, "piece d, and what the root makes of it"
    vera.get_by_role("link", name="compare", exact=True).click()
    expect(vera.get_by_text("Cell 1 is the same. Taken over from the record")).to_be_visible()
    expect(vera.locator("#pair-2-2 .is-del").first).to_contain_text("'abc'")
    expect(vera.locator("#pair-2-2 .is-ins").first).to_contain_text("'acd'")
    expect(vera.locator("#pair-2-2")).to_contain_text("2 with the same result, 1 not")

    before = house.asked()
    ed.goto(source)
    ed.locator(".call-head:has(.status[data-status=failed])").click()
    ed.get_by_role("link", name="Retry", exact=True).click()
    ed.get_by_role("button", name="Retry").click()
    ed.wait_for_url("**/r/**")
    vera.goto(ed.url)
    for page in pages:
        stands(page, "Done")
        expect(page.locator("#answer")).to_contain_text("bb")
    log = house.server.log()[-2:]
    assert house.asked() - before == 2
    assert ["piece b" in json.dumps(request["messages"]) for request in log][0], "its siblings are not asked"


def test_a_run_is_paused_and_goes_on_and_nothing_is_asked_twice(house: House, pages: tuple[Page, Page]) -> None:
    ed, vera = pages
    before = house.asked()
    ask(house, ed, vera, SLOW)
    expect(vera.locator("#run-now")).to_contain_text("waits for its children")
    ed.get_by_role("button", name="Pause").click()
    for page in pages:
        stands(page, "Paused")
    rested = house.asked() - before
    assert rested < 11
    ed.get_by_role("button", name="Go on").click()
    for page in pages:
        stands(page, "Done")
    assert house.asked() - before == 3 + 4 * 2
    assert vera.evaluate("window.stays")


def test_a_stopped_run_keeps_what_it_has_and_a_follow_up_goes_on_from_there(
    house: House, pages: tuple[Page, Page]
) -> None:
    ed, vera = pages
    ask(house, ed, vera, SLOW)
    expect(vera.locator("#run-now")).to_contain_text("waits for its children")
    ed.get_by_role("button", name="Stop").click()
    for page in pages:
        stands(page, "Stopped")
        expect(page.locator("#answer")).to_contain_text("Stopped by a member.")
    expect(vera.locator("#cell-1-1-output")).to_contain_text("7")
    further(ed, "What do you have?")
    for page in pages:
        expect(page.locator("#answer-h")).to_have_text("Answer v2")
        stands(page, "Done")
        expect(page.locator("#answer")).to_contain_text("so far")
    assert vera.evaluate("window.stays")
