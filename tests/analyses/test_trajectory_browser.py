"""The exported file in a real browser without a network and without scripts, and the page that takes logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Route, expect

from analyses.models import Cell, Run
from analyses.trajectory import html
from tests.browser import SITE, chromium, headers_of, serve
from tests.factories import make_run, make_user, make_workspace

pytestmark = [pytest.mark.browser, pytest.mark.django_db]
BAD_INPUT = "<img src=x onerror=\"document.title='run'\"> \x1b[31m \u202e 👩‍👩‍👧 e\u0301 " + "x" * 3000


def written(run: Run, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "run.html"
    path.write_bytes(b"".join(html.export(run)))
    return path.as_uri()


def test_exported_file_opens_offline_without_fault(tmp_path: Path) -> None:
    """Whoever works with the database does so first: the browser's driver has a loop of its own."""
    addresses = {}
    for shape in ("done", "failed", "crowd"):
        run = make_run(make_workspace(), shape)
        Cell.objects.filter(run=run, number=1).update(code=f"# {BAD_INPUT[:60]}\nprint('{'y' * 400}')", shown=BAD_INPUT)
        addresses[shape] = written(run, tmp_path / shape)
    with chromium() as browser:
        for shape, width, scheme in (
            ("done", 1200, "light"),
            ("done", 360, "dark"),
            ("failed", 1200, "dark"),
            ("failed", 360, "light"),
            ("crowd", 1200, "light"),
        ):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})  # type: ignore[arg-type]
            asked: list[str] = []
            said: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.goto(addresses[shape])
            assert asked == [addresses[shape]]
            assert said == []
            assert page.title() != "run"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (shape, width)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{shape} {width} {scheme}: {found.generate_report()}"
            page.close()


def test_exported_file_folds_without_scripts(tmp_path: Path) -> None:
    address = written(make_run(make_workspace(), "done"), tmp_path)
    with chromium() as browser:
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(address)
        code = page.locator("#cell-1-1-code")
        assert code.is_visible()
        page.locator("#cell-1-1-head").click(position={"x": 8, "y": 8})
        assert not code.is_visible()
        page.locator("#call-1-head").click(position={"x": 8, "y": 8})
        assert not page.locator("#cell-1-2-code").is_visible()
        assert page.locator("#run-head").is_visible()


def test_import_page_has_no_fault_that_axe_finds() -> None:
    user = make_user()
    workspace = make_workspace(user)
    client = Client()
    client.force_login(user)
    address = reverse("run-import", args=[workspace.slug])
    log = json.dumps({"run_id": "a", "event_type": "final_result", "result": 1}).encode() + b"\n"
    files = [SimpleUploadedFile("good.jsonl", log), SimpleUploadedFile(f"{'long' * 40}.jsonl", b"no log")]
    response = client.post(address, {"logs": files}, follow=True)
    with chromium() as browser:
        for width in (1200, 360):
            page = browser.new_page(viewport={"width": width, "height": 900}, bypass_csp=True)
            complaints = serve(page, lambda _: (response.content.decode(), headers_of(response)))
            page.goto(f"{SITE}{address}")
            assert page.get_by_role("link", name="Run 1").is_visible()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert complaints == []
            page.close()


def test_import_form_says_how_much_is_sent_and_can_be_stopped() -> None:
    user = make_user()
    address = reverse("run-import", args=[make_workspace(user).slug])
    client = Client()
    client.force_login(user)
    form = client.get(address)
    log = {"name": "a.jsonl", "mimeType": "application/json", "buffer": b"{}\n" * 100_000}
    posted: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        complaints = serve(page, lambda asked: (form.content.decode(), headers_of(form)))

        def answer(route: Route) -> None:
            if route.request.method != "POST":
                return route.fallback()
            posted.append("")
            if len(posted) == 1:
                return None  # it is on its way until somebody stops it
            if len(posted) == 2:
                return route.fulfill(
                    status=413, body="<main><h1>Too much</h1><p>It is too large. Send less.</p></main>"
                )
            return route.fulfill(status=200, body="there")

        page.route(f"**{address}", answer)
        page.goto(f"{SITE}{address}")
        page.locator("#logs").set_input_files([log])  # type: ignore[list-item]
        sending = page.locator("[data-sending]")
        expect(sending).to_be_hidden()
        page.get_by_role("button", name="Import").click()
        expect(sending.get_by_role("progressbar")).to_be_visible()
        expect(page.get_by_role("button", name="Import")).to_be_disabled()
        page.get_by_role("button", name="Stop").click()
        expect(sending.get_by_role("status")).to_have_text("Stopped. Nothing was imported.")
        expect(sending.get_by_role("progressbar")).to_be_hidden()
        page.get_by_role("button", name="Import").click()
        expect(sending.get_by_role("status")).to_have_text("It is too large. Send less.")
        with page.expect_navigation():
            page.get_by_role("button", name="Import").click()
        assert posted == [""] * 3
        assert all("413" in said for said in complaints), complaints
