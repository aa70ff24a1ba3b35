"""A fork in a real browser: from a cell, edited, run, compared; a failed child asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from analyses import actions, follow_ups
from analyses.models import Run
from analyses.worker import Worker
from tests.analyses.test_forks import MENDED, PIECES
from tests.e2e import test_accounts as accounts
from tests.factories import make_run
from tests.scripted.fixture import Scripted
from tests.workspaces.cast import Cast

pytestmark = [pytest.mark.browser, pytest.mark.firejail, pytest.mark.django_db(transaction=True)]
browser, page, cast = accounts.browser, accounts.page, accounts.cast


@pytest.fixture
def worker(transactional_db: None) -> Iterator[Worker]:
    one = Worker(serving=False)
    one.start()
    yield one
    with ThreadPoolExecutor(1) as elsewhere:  # Playwright holds this thread's event loop, which Redis's clients end by
        elsewhere.submit(one.close).result()


def execute(worker: Worker, run: Run) -> Run:
    done = worker.take(run.pk)
    assert done is not None
    done.result(timeout=60)
    run.refresh_from_db()
    return run


def test_a_cell_is_forked_edited_run_and_compared_and_a_failed_child_retried(
    page: Page, live_server: Any, cast: Cast, settings: Any, worker: Worker, scripted: Callable[..., Scripted]
) -> None:
    settings.OPENAI_API_KEY, settings.OPENAI_MODEL = "sk-x", "atlas-large"
    settings.OPENAI_BASE_URL = scripted(PIECES).base_url
    site = live_server.url
    source = actions.start_run(cast.workspace, cast.alice, question="What is asked?", endpoint="default", wake=False)
    assert execute(worker, source).status == "done", source.reason
    accounts.sign_in(page, site, "alice@example.com")
    page.goto(f"{site}{source.get_absolute_url()}")
    actions_bar = page.get_by_role("group", name="What to do with the chosen call or cell")
    expect(actions_bar).to_be_hidden()
    page.locator("#cell-1-2-head").click()
    expect(actions_bar.get_by_role("link", name="Fork from cell 1.2")).to_be_visible()
    page.locator("#cell-1-2").press("Shift+F")

    expect(page.get_by_role("heading", name=f"Fork run {source.number} at cell 1.2")).to_be_visible()
    expect(page.get_by_text("3 later calls can be reused, where the same is asked for").first).to_be_visible()
    page.wait_for_load_state()  # the keys of a page are its scripts'
    editor = page.get_by_label("Code of cell 1.2")
    code = editor.input_value()
    editor.fill(code + "\nif x\n")
    editor.press("Control+Enter")
    expect(page.get_by_text("line 3: expected ':'")).to_be_visible()
    page.wait_for_load_state()
    expect(editor).to_have_value(code + "\nif x\n")
    editor.fill(code.replace("'abc'", "'acd'"))
    editor.press("Control+Enter")
    expect(page.locator("#run-state")).to_have_text("Queued")
    fork = Run.objects.get(forked_from=source)
    assert execute(worker, fork).answer_display == [14, ["aa", "cc", "dd"]]
    page.reload()
    expect(page.get_by_role("link", name=f"run {source.number} at cell 1.2")).to_be_visible()
    expect(page.locator("#cell-1-2-head")).to_contain_text("changed by a person")
    expect(page.locator("#cell-1-1-head")).to_contain_text("replayed")
    expect(page.locator("#call-1 .call-head .tag", has_text="reused")).to_have_count(2)

    page.get_by_role("link", name="compare", exact=True).click()
    expect(page.get_by_text("Cell 1 is the same. Taken over from the record")).to_be_visible()
    expect(page.locator("#figures")).to_contain_text("code of a cell")
    expect(page.locator("#pair-2-2 .is-del").first).to_contain_text("'abc'")
    expect(page.locator("#pair-2-2 .is-ins").first).to_contain_text("'acd'")
    expect(page.locator("#pair-2-2")).to_contain_text("2 with the same result, 1 not")
    page.wait_for_load_state()
    page.keyboard.press("n")
    expect(page.locator("#compare-at")).to_have_text("1 of 2")
    page.keyboard.press("n")
    expect(page.locator("#pair-2-2")).to_be_focused()
    page.keyboard.press("p")
    expect(page.locator("#compare-at")).to_have_text("1 of 2")

    page.goto(f"{site}{source.get_absolute_url()}c/1/2/fork?way=again")
    expect(
        page.get_by_label("Let the model write the cell again")
    ).to_be_focused()  # in the form, whose keys work there
    settings.OPENAI_BASE_URL = scripted(MENDED).base_url
    page.goto(f"{site}{source.get_absolute_url()}")
    page.locator(".call-head:has(.status[data-status=failed])").click()
    page.get_by_role("link", name="Retry", exact=True).click()
    expect(page.get_by_role("heading", name="Ask 1 failed child call of cell 1.2 again")).to_be_visible()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#run-state")).to_have_text("Queued")
    [retry] = [run for run in Run.objects.filter(forked_from=source) if run.fork["kind"] == "retry"]
    assert execute(worker, retry).answer_display == [14, ["aa", "B", "cc"]]


def test_a_follow_up_that_is_refused_says_why_and_keeps_what_was_written(
    page: Page, live_server: Any, cast: Cast
) -> None:
    run = make_run(cast.workspace, "done", endpoint="offline")
    accounts.sign_in(page, live_server.url, "alice@example.com")
    page.goto(f"{live_server.url}{run.get_absolute_url()}")
    page.wait_for_load_state()
    box = page.get_by_role("textbox", name="Follow-up")
    box.fill("  ")
    box.press("Control+Enter")
    expect(page.get_by_text("Write a question first.")).to_be_visible()
    follow_ups.ask_follow_up(run, cast.adam, "And who else?", wake=False)  # a colleague is first
    box.fill("And who was it not?")
    box.press("Control+Enter")
    expect(
        page.get_by_text("This run is under way. Wait for its answer, or stop it; then ask further.")
    ).to_be_visible()
    expect(box).to_have_value("And who was it not?")


def test_a_viewer_has_no_controls(
    page: Page, live_server: Any, cast: Cast, settings: Any, worker: Worker, scripted: Callable[..., Scripted]
) -> None:
    settings.OPENAI_API_KEY, settings.OPENAI_MODEL = "sk-x", "atlas-large"
    settings.OPENAI_BASE_URL = scripted("hello").base_url
    run = execute(worker, actions.start_run(cast.workspace, None, question="Hm?", endpoint="default", wake=False))
    share = run.shares.create()
    accounts.sign_in(page, live_server.url, "vera@example.com")
    for path in (run.get_absolute_url(), share.get_absolute_url()):
        page.goto(f"{live_server.url}{path}")
        page.locator("#cell-1-1-head").click()
        expect(page.locator("#cell-1-1")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#node-actions")).to_have_count(0)
        expect(page.get_by_text("Fork")).to_have_count(0)
