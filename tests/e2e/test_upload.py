"""Uploads in a real browser: dropped, picked, pasted, cut off in the middle, come back to; and the reader's deep links."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from analyses import blobs
from analyses.ingest import uploads
from analyses.models import Corpus, Upload
from tests.browser import chromium
from tests.workspaces.cast import Cast, make_cast

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DROP = """([files, at]) => {
  const data = new DataTransfer();
  for (const [name, text] of files) data.items.add(new File([text], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.querySelector(at).dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: data }));
  }
}"""


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright keeps an event loop in this thread
        with chromium() as browser:
            yield browser


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    return make_cast()


def context_for(browser: Browser, cast: Cast, live_server: Any, **options: Any) -> BrowserContext:
    context = browser.new_context(**({"viewport": {"width": 1180, "height": 800}} | options))
    session = cast.client(cast.ed).cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    return context


@pytest.fixture
def page(browser: Browser, cast: Cast, live_server: Any) -> Iterator[Page]:
    context = context_for(browser, cast, live_server)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    meant = ("net::ERR_", "responded with a status of 4")  # connections that tests cut, refusals
    assert [each for each in complaints if not any(words in each for words in meant)] == []


def texts(corpus: Corpus) -> list[str]:
    latest = corpus.latest
    assert latest
    packed = blobs.read(latest.text)
    return [packed[d.byte_start : d.byte_end].decode() for d in latest.documents.all()]


def make_corpus(cast: Cast, files: dict[str, bytes]) -> Corpus:
    upload = uploads.start(cast.workspace, cast.ed, name="The Tin Lighthouse")
    for name, data in files.items():
        uploads.receive(upload, name, io.BytesIO(data))
    uploads.close(upload)
    uploads.process(upload.pk)
    upload.refresh_from_db()
    assert upload.corpus
    return upload.corpus


def test_files_dropped_anywhere_become_a_corpus(page: Page, cast: Cast, live_server: Any) -> None:
    page.goto(live_server.url + cast.url("corpora/new"))
    page.get_by_label("Name").fill("Fog")
    page.evaluate(DROP, [[["a.txt", "one"], ["b.txt", "two\r\n"], ["bad.txt", "a\0b\0\0c"]], "footer, h1"])
    page.wait_for_url("**/corpora/*/")
    expect(page.get_by_role("heading", name="Fog")).to_be_visible()
    expect(page.locator("#documents tbody tr")).to_have_count(2)
    expect(page.locator("#ledger")).to_contain_text("It looks like a binary file")
    assert texts(Corpus.objects.get()) == ["one", "two\n"]


def test_more_files_are_dropped_on_a_corpus(page: Page, cast: Cast, live_server: Any) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    page.goto(live_server.url + corpus.get_absolute_url())
    page.evaluate(DROP, [[["b.txt", "two"], ["copy.txt", "one"]], "#documents"])
    expect(page.get_by_text("version 2 answers questions now")).to_be_visible(timeout=15_000)
    expect(page.locator("#ledger")).to_contain_text("Same bytes as a.txt, document 1. Kept once.")
    assert texts(corpus) == ["one", "two"]


def test_pasted_text_is_a_document(page: Page, cast: Cast, live_server: Any) -> None:
    page.goto(live_server.url + cast.url("corpora/"))
    page.get_by_role("button", name="Paste text").click()
    page.get_by_label("Title of the text").fill("A letter")
    page.get_by_role("textbox", name="Text", exact=True).fill("Ten past two.")
    page.get_by_role("button", name="Add this text").click()
    page.wait_for_url("**/corpora/*/")
    assert texts(Corpus.objects.get()) == ["Ten past two."]


def test_broken_connection_goes_on_by_itself(page: Page, cast: Cast, live_server: Any) -> None:
    broken: list[str] = []

    def cut(route: Route) -> None:
        multipart = "multipart" in (route.request.headers.get("content-type") or "")
        if multipart and len(broken) < 2:
            broken.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/files", cut)
    page.goto(live_server.url + cast.url("corpora/new"))
    page.evaluate(DROP, [[[f"{n}.txt", f"document {n}"] for n in range(60)], "h1"])
    expect(page.get_by_text("The connection broke")).to_be_visible()
    page.wait_for_url("**/corpora/*/", timeout=20_000)
    assert len(broken) == 2
    assert texts(Corpus.objects.get()) == [f"document {n}" for n in range(60)]


def test_closed_tab_comes_back_to_the_truth_and_goes_on(
    page: Page, browser: Browser, cast: Cast, live_server: Any
) -> None:
    sent: list[str] = []

    def one_batch(route: Route) -> None:
        if "multipart" in (route.request.headers.get("content-type") or ""):
            sent.append(route.request.url)
            if len(sent) > 1:
                return route.abort("connectionreset")
        return route.continue_()

    files = [[f"{n}.txt", f"document {n}"] for n in range(80)]
    page.route("**/files", one_batch)
    page.goto(live_server.url + cast.url("corpora/new"))
    page.get_by_label("Name").fill("Fog")
    page.evaluate(DROP, [files, "h1"])
    expect(page.locator("#upload")).to_contain_text("50 of 80 files ready", timeout=15_000)
    address = page.url
    page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
    page.close(run_before_unload=True)

    context = context_for(browser, cast, live_server)
    again = context.new_page()
    again.goto(address)
    assert address == live_server.url + Upload.objects.get().get_absolute_url()
    expect(again.locator("#upload")).to_contain_text("50 of 80 files ready")
    expect(again.locator("#upload")).to_contain_text("drop the same files, and it goes on here")
    again.evaluate(DROP, [files, "h1"])
    again.wait_for_url("**/corpora/*/", timeout=20_000)
    context.close()
    assert texts(Corpus.objects.get()) == [f"document {n}" for n in range(80)]
    assert Upload.objects.get().files.count() == 80


def test_large_file_goes_on_at_the_byte_where_it_was_cut(
    page: Page, browser: Browser, cast: Cast, live_server: Any, tmp_path: Path
) -> None:
    large = tmp_path / "large.txt"
    large.write_text("Zwölf Boote fahren aus dem Hafen heraus.\n" * 500_000)  # 21 MB: three pieces
    offsets: list[str] = []

    def one_piece(route: Route) -> None:
        if route.request.method == "PATCH":
            offsets.append(route.request.headers["upload-offset"])
            if len(offsets) > 1:
                return route.abort("connectionreset")
        return route.continue_()

    page.route("**/tus/*", one_piece)
    page.goto(live_server.url + cast.url("corpora/new"))
    page.set_input_files("#id_files", large)
    expect(page.get_by_text("The connection broke")).to_be_visible(timeout=20_000)
    expect(page.locator("#upload-total [data-bytes]")).to_contain_text("8.4 MB of 21 MB")
    address = page.url
    page.on("dialog", lambda dialog: dialog.accept())
    page.close(run_before_unload=True)

    context = context_for(browser, cast, live_server)
    again = context.new_page()
    went: list[str] = []
    again.on("request", lambda r: went.append(r.headers.get("upload-offset", "")) if r.method == "PATCH" else None)
    again.goto(address)
    again.set_input_files("#id_files", large)
    again.wait_for_url("**/corpora/*/", timeout=40_000)
    context.close()
    # A retry that was under way as the page closed may have brought some more bytes; none that came is sent again.
    assert offsets[0] == "0" and int(went[0]) >= 8 << 20
    document = Corpus.objects.get().latest.documents.get()  # type: ignore[union-attr]
    assert blobs.read(document.original) == large.read_bytes()


def test_file_that_vanishes_on_the_way_fails_alone(page: Page, cast: Cast, live_server: Any, tmp_path: Path) -> None:
    stays, goes = tmp_path / "stays.txt", tmp_path / "goes.txt"
    stays.write_text("one")
    goes.write_text("two")

    def vanish(route: Route) -> None:
        goes.unlink(missing_ok=True)
        route.continue_()

    page.route("**/files", vanish)
    page.goto(live_server.url + cast.url("corpora/new"))
    page.set_input_files("#id_files", [stays, goes])
    page.wait_for_url("**/corpora/*/", timeout=20_000)
    expect(page.locator("#ledger")).to_contain_text("moved, changed or deleted meanwhile")
    assert texts(Corpus.objects.get()) == ["one"]


def test_folder_keeps_its_paths(page: Page, cast: Cast, live_server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "show" / "s1"
    folder.mkdir(parents=True)
    (folder / "e1.txt").write_text("one")
    (folder / ".hidden.txt").write_text("x")
    page.goto(live_server.url + cast.url("corpora/new"))
    page.set_input_files("#id_folder", tmp_path / "show")
    page.wait_for_url("**/corpora/*/", timeout=20_000)
    latest = Corpus.objects.get().latest
    assert latest and [d.name for d in latest.documents.all()] == ["show/s1/e1.txt"]


def test_nothing_ready_stays_on_the_ledger_and_says_why(page: Page, cast: Cast, live_server: Any) -> None:
    page.goto(live_server.url + cast.url("corpora/new"))
    page.evaluate(DROP, [[["a.txt", ""], ["b.txt", "   "]], "h1"])
    expect(page.get_by_text("nothing was made")).to_be_visible(timeout=15_000)
    expect(page.locator("#ledger")).to_contain_text("The file is empty.")
    assert not Corpus.objects.exists()


def test_form_works_without_script(browser: Browser, cast: Cast, live_server: Any) -> None:
    context = context_for(browser, cast, live_server, java_script_enabled=False)
    page = context.new_page()
    page.goto(live_server.url + cast.url("corpora/new"))
    page.get_by_label("Name").fill("Fog")
    page.set_input_files("#id_files", [{"name": "a.txt", "mimeType": "text/plain", "buffer": b"one"}])
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/corpora/*/")
    assert texts(Corpus.objects.get()) == ["one"]
    context.close()


def test_deep_link_is_scrolled_to_focused_and_announced(page: Page, cast: Cast, live_server: Any) -> None:
    text = (
        "".join(f"Line {n} of the fog ledger.\n" for n in range(5000))
        + "Ten past two, zwölf 🚤 Boote.\n"
        + "After.\n" * 3000
    )
    corpus = make_corpus(cast, {"a.txt": text.encode()})
    start = text.index("zwölf 🚤")
    address = f"{live_server.url}{corpus.get_absolute_url()}d/0/"
    page.goto(f"{address}#c={start}-{start + 7}")
    mark = page.locator("#cited")
    expect(mark).to_have_text("zwölf 🚤")
    expect(mark).to_be_focused()
    expect(mark).to_be_in_viewport()
    expect(page.locator("#text-said")).to_contain_text(f"Characters {start:,} to {start + 7:,}, highlighted.")
    page.evaluate("location.hash = '#c=5-6'")
    expect(mark).to_have_text("0")
    page.keyboard.press("/")
    page.keyboard.type("zwölf")
    page.keyboard.press("Enter")
    expect(page.locator("#find-count")).to_have_text("1 hit")
    page.locator(".hit").click()
    expect(mark).to_have_text("zwölf")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1180, "dark")])
def test_pages_are_accessible_and_fit(browser: Browser, cast: Cast, live_server: Any, width: int, scheme: Any) -> None:
    corpus = make_corpus(
        cast,
        {
            "a" * 200 + ".txt": b"one " * 400,
            "שלום עולם.md": "# שלום\nעולם".encode(),
            "bad.txt": b"",
            "c.txt": b"x" * 9000,
        },
    )
    context = context_for(browser, cast, live_server, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    upload = Upload.objects.get()
    for path in (
        cast.url("corpora/"), cast.url("corpora/new"), corpus.get_absolute_url(), upload.get_absolute_url(),
        f"{corpus.get_absolute_url()}delete", f"{corpus.get_absolute_url()}d/0/?q=one", f"{corpus.get_absolute_url()}d/2/?c=3-60",
        f"{corpus.get_absolute_url()}d/2/?q=x&hits=corpus", f"{corpus.get_absolute_url()}choose?chosen=0", f"{corpus.get_absolute_url()}order",
        f"{corpus.get_absolute_url()}add?replace=0", cast.url("settings/limits/"), cast.url(f"?corpus={corpus.key}&part={corpus.key}:1:0"),
    ):  # fmt: skip
        page.goto(live_server.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
        assert not found.response["violations"], f"{path}\n{found.generate_report()}"
    context.close()


@pytest.mark.real_data
def test_real_transcripts_are_dropped_and_read(page: Page, cast: Cast, live_server: Any, real_data: Path) -> None:
    page.goto(live_server.url + cast.url("corpora/new"))
    names = [
        "md/spotlight-1.md",
        "vtt/355-edgedb.vtt",
        "zip/chaincode-podcast.zip",
        "json/critical-role-C1E005.json",
        "csv/away-from-keyboard-1.csv",
    ]
    page.set_input_files("#id_files", [real_data / "podcasts" / name for name in names])
    page.wait_for_url("**/corpora/*/", timeout=30_000)
    expect(page.locator("#documents tbody tr")).to_have_count(39)
    page.get_by_role("link", name="355 edgedb").click()
    expect(page.locator("#text .para").first).to_contain_text("What database are you using")
    expect(page.locator("#text .para > a").first).to_have_text("0:00")


def test_a_piece_with_a_wrong_checksum_is_not_kept_and_is_sent_again(
    page: Page, cast: Cast, live_server: Any, tmp_path: Path
) -> None:
    large = tmp_path / "large.txt"
    large.write_bytes(b"0123456789 abcdef\n" * 500_000)  # 9 MB: two pieces
    said: list[tuple[str, str]] = []
    refused: list[int] = []

    def spoil(route: Route) -> None:
        headers = dict(route.request.headers)
        if route.request.method == "PATCH":
            said.append((headers["upload-offset"], headers.get("upload-checksum", "")))
            if len(said) == 1:
                return route.continue_(headers=headers | {"upload-checksum": f"sha256 {'A' * 43}="})
        return route.continue_()

    page.route("**/tus/*", spoil)
    page.on("response", lambda response: refused.append(response.status) if response.status >= 400 else None)
    page.goto(live_server.url + cast.url("corpora/new"))
    page.set_input_files("#id_files", large)
    page.wait_for_url("**/corpora/*/", timeout=40_000)
    assert refused == [460]
    assert [at for at, _ in said] == ["0", "0", str(8 << 20)]
    data = large.read_bytes()
    for at, checksum in said:
        piece = data[int(at) : int(at) + (8 << 20)]
        assert checksum == f"sha256 {base64.b64encode(hashlib.sha256(piece).digest()).decode()}"
    document = Corpus.objects.get().latest.documents.get()  # type: ignore[union-attr]
    assert blobs.read(document.original) == data


def held_up(page: Page, live_server: Any, cast: Cast, tmp_path: Path) -> tuple[list[Route], list[str]]:
    """An upload whose first piece is on its way and does not arrive."""
    large = tmp_path / "large.txt"
    large.write_bytes(b"0123456789 abcdef\n" * 500_000)
    waiting: list[Route] = []
    asked: list[str] = []

    def first_waits(route: Route) -> None:
        asked.append(route.request.method)
        if route.request.method == "PATCH" and not waiting:
            waiting.append(route)
        else:
            route.continue_()

    page.route("**/tus/*", first_waits)
    page.goto(live_server.url + cast.url("corpora/new"))
    with page.expect_request(lambda request: request.method == "PATCH", timeout=20_000):
        page.set_input_files("#id_files", large)
    return waiting, asked


def test_a_paused_upload_sends_nothing_until_it_goes_on(
    page: Page, cast: Cast, live_server: Any, tmp_path: Path
) -> None:
    _, asked = held_up(page, live_server, cast, tmp_path)
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#upload-said")).to_contain_text("Paused: nothing more is sent until you go on.")
    before = len(asked)
    page.wait_for_timeout(1500)
    assert len(asked) == before
    go_on = page.get_by_role("button", name="Go on")
    expect(go_on).to_be_focused()
    go_on.press("Enter")
    page.wait_for_url("**/corpora/*/", timeout=40_000)
    assert asked[before:] == ["HEAD", "PATCH", "PATCH"]


def test_cancelling_an_upload_under_way_asks_nothing_further(
    page: Page, cast: Cast, live_server: Any, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.message) or dialog.accept())  # type: ignore[func-returns-value]
    held_up(page, live_server, cast, tmp_path)
    page.get_by_role("button", name="Cancel the rest").click()
    expect(page.locator("#ledger")).to_contain_text("Cancelled before it was taken in.", timeout=20_000)
    expect(page.get_by_text("The rest of the upload was cancelled.")).to_be_visible()
    assert asked == []
    assert not Corpus.objects.exists()


def test_documents_are_put_in_order_by_keyboard_and_by_pointer(page: Page, cast: Cast, live_server: Any) -> None:
    corpus = make_corpus(cast, {f"e{n}.txt": f"text {n}".encode() for n in range(1, 6)})
    page.goto(f"{live_server.url}{corpus.get_absolute_url()}order")
    handles, said = page.locator("#order-rows button"), page.locator("#order-said")
    expect(page.get_by_role("button", name="Save the order")).to_be_disabled()
    handles.nth(0).focus()
    page.keyboard.press("Space")
    expect(said).to_have_text("E1 taken, place 1 of 5.")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    expect(said).to_have_text("Place 5.")
    page.keyboard.press("Escape")
    expect(said).to_have_text("E1 put back at place 1.")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(said).to_have_text("E1 put down at place 2.")
    expect(handles.nth(1)).to_be_focused()
    source, target = handles.nth(4).bounding_box(), handles.nth(0).bounding_box()
    assert source and target
    page.mouse.move(source["x"] + 9, source["y"] + 9)
    page.mouse.down()
    page.mouse.move(target["x"] + 9, target["y"] + 2, steps=20)
    page.mouse.up()
    expect(said).to_have_text("E5 put down at place 1.")
    page.get_by_role("button", name="Save the order").click()
    expect(page.locator("#undo")).to_contain_text("order changed")
    assert texts(corpus) == [f"text {n}" for n in (5, 2, 1, 3, 4)]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("The corpus is as version 1 was")).to_be_visible()
    assert texts(corpus) == [f"text {n}" for n in range(1, 6)]
