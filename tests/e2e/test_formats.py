"""A real file of each format in a real browser: dropped in, read, its pages turned, its refusal understood."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from analyses.models import Corpus
from tests import documents as make
from tests.browser import chromium
from tests.workspaces.cast import Cast, make_cast

pytestmark = [pytest.mark.browser, pytest.mark.firejail, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright keeps an event loop in this thread
        expect.set_options(timeout=30_000)  # a busy machine takes its time
        with chromium() as browser:
            yield browser
        expect.set_options(timeout=5_000)


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    return make_cast()


@pytest.fixture
def page(browser: Browser, cast: Cast, live_server: Any) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1180, "height": 800})
    session = cast.client(cast.ed).cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def add(page: Page, cast: Cast, live_server: Any, files: list[Path]) -> Corpus:
    page.goto(live_server.url + cast.url("corpora/new"))
    page.get_by_label("Name").fill("Fog")
    page.locator("#id_files").set_input_files(files)
    page.wait_for_url("**/corpora/*/", timeout=60_000)
    return Corpus.objects.get()


@pytest.fixture
def given(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def given(name: str, data: bytes) -> Path:
        path = tmp_path / "given" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    return given


@pytest.mark.real_data
def test_real_file_of_each_format_is_read(
    page: Page, cast: Cast, live_server: Any, real_data: Path, given: Callable[[str, bytes], Path]
) -> None:
    texts = real_data / "podcasts"
    words = (texts / "md/spotlight-1.md").read_text()[:4000]
    corpus = add(
        page,
        cast,
        live_server,
        [
            *(
                real_data / "documents" / n
                for n in ("four-pages.pdf", "autogen.docx", "winter-sports.epub", "blog.html")
            ),
            *(texts / n for n in ("md/spotlight-1.md", "vtt/414-startup-row.vtt", "srt/480-narwhals.srt")),
            *(texts / n for n in ("txt/480-narwhals.txt", "csv/away-from-keyboard-1.csv")),
            real_data / "encodings/udhr-Russian_Russky-Cyrillic.txt",
            given("spotlight.rtf", make.rtf(words, title="Spotlight as RTF")),
            given("spotlight.eml", make.mail("Spotlight by mail", words, attached={"chart.bin": b"123"})),
            given("harbour.mbox", make.mbox([make.mail(f"Letter {n}", words[:200]) for n in range(3)])),
            given("table.tsv", b"name\thour\nVane\t02:10\n"),
            given("lines.jsonl", b'{"name": "Vane"}\n{"name": "Plum"}\n'),
            given("one.json", b'{"title": "A ledger", "rows": [1, 2]}'),
        ],
    )
    latest = corpus.latest
    assert latest
    kinds = sorted(set(latest.documents.values_list("format", flat=True)))
    assert kinds == "csv docx eml epub html json jsonl md pdf rtf srt tsv txt vtt".split()
    assert latest.document_count == 18
    rows = page.locator("#documents tbody tr")
    expect(rows).to_have_count(18)
    for title in ("Spotlight as RTF", "Spotlight by mail", "Letter 2", "Winter Sports in Switzerland", "A ledger"):
        expect(page.get_by_role("link", name=title, exact=True)).to_be_visible()
    expect(rows.filter(has_text="four-pages.pdf")).to_contain_text("4 pages")


@pytest.mark.real_data
def test_pages_of_a_real_pdf_are_turned_and_linked(page: Page, cast: Cast, live_server: Any, real_data: Path) -> None:
    corpus = add(page, cast, live_server, [real_data / "documents/alice.pdf"])
    address = f"{live_server.url}{corpus.get_absolute_url()}d/0/"
    page.goto(address)
    expect(page.get_by_text("69 pages")).to_be_visible()
    expect(page.locator(".para > a").first).to_have_text("p. 1")
    page.get_by_label("Page", exact=True).fill("12")
    page.get_by_role("button", name="Go", exact=True).click()
    page.wait_for_url("**/?page=12")
    expect(page.locator(".para").first).to_contain_text("Then they all crowded round her once more")
    expect(page.locator(".para > a").first).to_have_text("p. 12")
    expect(page.get_by_label("Page", exact=True)).to_have_value("12")
    assert Axe().run(page).violations_count == 0, "accessibility of the reader with pages"
    start = int(page.locator("#text").get_attribute("data-start") or 0)
    page.goto(f"{address}#c={start + 5}-{start + 25}")
    expect(page.locator("#text-said")).to_contain_text("on page 12, highlighted")


@pytest.mark.real_data
def test_refused_documents_say_why_and_hold_up_no_other(
    page: Page, cast: Cast, live_server: Any, real_data: Path, given: Callable[[str, bytes], Path]
) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(2000)
    add(
        page,
        cast,
        live_server,
        [
            real_data / "documents/encrypted-user-password.pdf",
            real_data / "documents/four-pages.pdf",
            given("picture.pdf", png),
            given("scan.pdf", make.pdf(["", ""])),
            given("bomb.docx", make.docx(make.paragraph("0" * (40 << 20)))),
            given("<img src=x onerror=alert(1)>.docx", make.zipped({"a.txt": "any zip"})),
        ],
    )
    ledger = page.locator("#ledger")
    for words in (
        "Encrypted: it needs a password.",
        "Its name promises a PDF, but this is a PNG image.",
        "No text in it: its pages are pictures.",
        "refused as a zip bomb",
        "It is no Word document (docx), although its name says so.",
        "<img src=x onerror=alert(1)>.docx",
    ):
        expect(ledger).to_contain_text(words)
    expect(page.locator("#documents tbody tr")).to_have_count(1)


def test_help_names_the_formats(page: Page, cast: Cast, live_server: Any) -> None:
    page.goto(live_server.url + cast.url("corpora/new"))
    expect(page.locator("#drop")).to_contain_text("txt, md, html, pdf, docx, epub, rtf, eml")
