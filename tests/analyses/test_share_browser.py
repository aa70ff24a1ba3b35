"""Shared pages and their dialog in a real browser: what is seen, what can be pressed, nothing against the page's policy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.hashers import make_password
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from analyses.models import Cell, Run, Share
from tests.browser import SITE, chromium, headers_of, serve
from tests.factories import make_run, make_user, make_workspace

pytestmark = [pytest.mark.browser, pytest.mark.django_db]
LOUD = re.compile(
    r"WebSocket|object Event|status of 404"
)  # no socket is served here; a child of a part that is not there


def answers(client: Client, paths: list[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """What Django says to these addresses, asked before: the browser's driver has a loop of its own."""
    found = {}
    for path in paths:
        response = client.get(path)
        assert response.status_code == 200, path
        found[path] = (response.content.decode(), headers_of(response))
    return found


def opened(
    browser: Browser, known: dict[str, Any], path: str, *, width: int, scheme: str, **more: Any
) -> tuple[Page, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)  # type: ignore[arg-type]
    complaints = serve(page, lambda asked: known.get(asked, ("", {})))
    page.goto(f"{SITE}{path}")
    return page, complaints


def checked(page: Page, where: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
    found = Axe().run(page)
    assert found.violations_count == 0, f"{where}: {found.generate_report()}"


def stage() -> tuple[Client, Run, dict[str, Share]]:
    user = make_user(name="Perpetua Vane")
    run = make_run(make_workspace(user), "done", created_by=user)
    client = Client()
    client.force_login(user)
    shares = {
        "open": Share.objects.create(run=run, created_by=user, views=12),
        "seen": Share.objects.create(run=run, with_outputs=False),
        "locked": Share.objects.create(run=run, password=make_password("the tin lighthouse")),
    }
    return client, run, shares


def test_shared_pages_have_no_fault_that_axe_finds_and_fit_a_phone() -> None:
    client, run, shares = stage()
    members = f"/w/{run.workspace.slug}/settings/shares/"
    paths = [share.get_absolute_url() for share in shares.values()]
    known = answers(Client(), paths) | answers(client, [members, run.get_absolute_url()])
    with chromium() as browser:
        for path in [*paths, members]:
            for width, scheme in ((1200, "light"), (360, "dark")):
                page, complaints = opened(browser, known, path, width=width, scheme=scheme, bypass_csp=True)
                checked(page, f"{path} {width} {scheme}")
                assert [said for said in complaints if not LOUD.search(said)] == []
                page.close()
        for width, scheme in ((1200, "dark"), (360, "light")):
            page, _ = opened(browser, known, run.get_absolute_url(), width=width, scheme=scheme, bypass_csp=True)
            page.get_by_role("button", name="Shared").click()
            page.locator(".share-change summary").first.click()
            checked(page, f"the dialog, {width} {scheme}")
            page.close()


def test_the_dialog_asks_for_a_day_where_one_is_to_be_chosen() -> None:
    client, run, _ = stage()
    known = answers(client, [run.get_absolute_url()])
    with chromium() as browser:
        page, complaints = opened(browser, known, run.get_absolute_url(), width=1200, scheme="light")
        page.get_by_role("button", name="Shared").click()
        expect(page.locator("#share")).to_contain_text("12 views")
        form = page.locator(".share-new")
        form.locator("summary").click()
        day = form.get_by_label("On this day")
        expect(day).to_be_hidden()
        form.get_by_label("The link ends").select_option("date")
        expect(day).to_be_visible()
        assert [said for said in complaints if not LOUD.search(said)] == []


def test_without_outputs_no_page_offers_them() -> None:
    _, run, shares = stage()
    assert Cell.objects.filter(run=run, output_chars__gt=50_000).exists()
    paths = [shares[name].get_absolute_url() for name in ("open", "seen")]
    known = answers(Client(), paths)
    with chromium() as browser:
        for path, offered in zip(paths, (True, False), strict=True):
            page, _ = opened(browser, known, path, width=1200, scheme="light")
            link = page.get_by_role("link", name="Show the whole output").first
            expect(page.get_by_text("characters cut here").first).to_be_visible()
            expect(link).to_be_visible() if offered else expect(page.locator("[data-whole]").first).to_be_hidden()
            for key in (".cut kbd", ".keys .key-whole"):
                expect(page.locator(key).first).to_be_visible(visible=offered)
