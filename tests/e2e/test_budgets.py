"""Budgets in a real browser: set, seen on the ask page, asked about, and the end of what is left; a deleted workspace."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from analyses.models import Run, Status
from tests.e2e import test_accounts as accounts
from tests.workspaces.cast import Cast, make_plain_run
from workspaces.models import Workspace

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
browser, page, cast = accounts.browser, accounts.page, accounts.cast


def test_a_budget_is_set_seen_asked_about_and_ends(page: Page, live_server: Any, cast: Cast, settings: Any) -> None:
    settings.OPENAI_API_KEY, settings.OPENAI_MODEL = "sk-not-used", "atlas-large"
    for _ in range(6):
        make_plain_run(cast.workspace, endpoint="default", strategy="react", cost=0.5, seconds=80, status=Status.DONE)
    site = live_server.url
    accounts.sign_in(page, site, "alice@example.com")
    page.goto(f"{site}{cast.url('settings/budgets/')}")
    workspace = page.get_by_role("group", name="The workspace")
    workspace.get_by_label("Money").fill("$4.50")
    page.get_by_label("Ask first above").fill("1")
    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_text("$1.50 left")).to_be_visible()

    page.goto(f"{site}{cast.url()}")
    expect(page.locator("#estimate")).to_contain_text("Too few runs like it")
    page.get_by_label("Strategy").select_option("react")
    expect(page.locator("#estimate")).to_contain_text("Likely $0.500 and 1:20")
    expect(page.locator("#estimate")).to_contain_text("$1.50 of this month’s budget is left.")
    page.get_by_label("Strategy").select_option("rlm")
    expect(page.locator("#estimate")).to_contain_text("Too few runs like it")
    page.get_by_label("Question").fill("Who saw the light?")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("This may cost up to $2.00.")).to_be_visible()
    page.get_by_label("Ask all the same").check()
    page.get_by_role("button", name="Ask").click()
    page.wait_for_url("**/r/**")
    assert Run.objects.get(question="Who saw the light?", status=Status.QUEUED).limits["cost"] == 1.5

    page.goto(f"{site}{cast.url()}")
    page.get_by_label("Question").fill("And who else?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_label("Ask all the same").check()
    page.get_by_role("button", name="Ask").click()
    refusal = page.get_by_text("Nothing is left of the workspace’s budget of this month, $4.50: $3.00 used, $1.50 set")
    expect(refusal).to_be_visible()
    expect(page.get_by_label("Question")).to_have_value("And who else?")
    assert Run.objects.count() == 7


def test_a_workspace_is_deleted_and_brought_back(page: Page, live_server: Any, cast: Cast) -> None:
    accounts.sign_in(page, live_server.url, "alice@example.com")
    page.goto(f"{live_server.url}{cast.url('settings/')}")
    page.get_by_role("button", name="Delete Harbour Desk").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="Harbour Desk is deleted")).to_be_visible()
    assert Workspace.objects.get(pk=cast.workspace.pk).delete_at is not None
    page.get_by_role("button", name="Bring it back").click()
    expect(page.get_by_text("Harbour Desk is back.")).to_be_visible()
    assert Workspace.objects.get(pk=cast.workspace.pk).delete_at is None
