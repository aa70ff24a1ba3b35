"""What models, cells and logs may contain, in a real browser: it is shown as text, in its place, and the page stays small."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import expect

from analyses.models import Cell, Run
from analyses.texts import clean, stored_output
from tests.browser import SITE, SOCKET, chromium, headers_of, serve
from tests.factories import Rows, make_run, make_user, make_workspace

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

SCRIPT = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'><svg onload='window.ran = 1'>"
ANSI = "\x1b[31mred\x1b[0m\x1b]8;;http://evil.example\x07link\x1b]8;;\x07\x1b[2J"
BIDI = "\u202egnp.exe\u202c \u2066isolated\u2069 access_level != 'user\u202e \u2066// admin\u2069 \u2066'"
MARKS = "Z" + "\u0335\u0321\u0327\u0311" * 500 + "algo"
EMOJI = "👩‍👩‍👧‍👦 🏳️‍🌈 é ﷽ नमस्ते"
ALL = f"{SCRIPT} {ANSI} {BIDI} {MARKS} {EMOJI}"
CONTROLS = "\x1b\x07\u202e\u202c\u2066\u2069"


def hostile_run() -> tuple[Run, Client]:
    """As the recorder writes rows, with what it would have been given."""
    said = clean(ALL)
    owner = make_user()
    run = make_run(make_workspace(owner), question=said)
    rows = Rows(run)
    rows.begin()
    root = rows.call(context_shape=said[:160], title=said[:200])
    rows.start(root)
    first = rows.turn(root)
    rows.reply(first, code=f"# {said}\nprint({said!r})", prose=said, reasoning=said)
    rows.ran(first, shown=said, error=f"Traceback\n{said}")
    long = rows.turn(root)
    rows.reply(long, code="x = '" + "y" * 10_000_000 + "'", prose="word " * 200_000)
    lines = "".join(f"line {number} {EMOJI}\n" for number in range(100_000))
    output, blob = stored_output(lines)
    rows.ran(long, shown=lines, output=output, output_blob=blob, output_chars=len(lines) + 1, shown_chars=len(lines))
    wide = rows.turn(root)
    rows.reply(wide)
    output, blob = stored_output("w" * 10_000_000)
    cut = f"{'w' * 2000}\n[… 9,996,000 characters cut; all of it is history[2] …]\n{'w' * 2000}"
    rows.ran(wide, shown=cut, output=output, output_blob=blob, output_chars=10_000_000, shown_chars=4000)
    rows.call(root, 1, title=said[:200], instruction=said, context_shape=said[:160])
    Cell.objects.filter(pk=first.pk).update(
        variables=[{"name": said[:100], "type": said[:100], "size": "1", "preview": said}] * 5_000
    )
    rows.finish(root, "failed", said, answer={said: [said]}, name="answer")
    rows.end("failed", said, answer=f"# {said}\n\n[{said}](javascript:alert(1)) <{said}>", name="answer")
    client = Client()
    client.force_login(owner)
    return run, client


@pytest.mark.parametrize("width", [1300, 360])
def test_hostile_texts_are_shown_as_texts_and_the_page_stays_small(width: int) -> None:
    run, client = hostile_run()
    parts = ["", "c/1/1/inspect", "c/1/3/output"]
    answers: dict[str, tuple[str, dict[str, str]]] = {}
    for part in parts:
        headers = {"hx-request": "true"} if part else {}
        response = client.get(run.get_absolute_url() + part, headers=headers)
        assert response.status_code == 200
        html = response.content.decode()
        assert len(response.content) < 400_000, part
        assert not set(CONTROLS) & set(html), part
        answers[run.get_absolute_url() + part] = (html, headers_of(response))
    with chromium() as browser:
        page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
        page.add_init_script(SOCKET)
        complaints = serve(page, lambda path: answers.get(path, ("", {})))
        page.goto(SITE + run.get_absolute_url())
        expect(page.locator("#cell-1-1-output")).to_contain_text("👩‍👩‍👧‍👦 🏳️‍🌈")
        expect(page.locator("#cell-1-1-code")).to_contain_text("<script>window.ran = 1</script>")
        expect(page.locator("#cell-1-1-output")).to_contain_text("␛[31mred")
        expect(page.locator("#answer-text")).to_contain_text("नमस्ते")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.querySelectorAll('*').length") < 10_000
        # Every line of the tree keeps its height, whatever is piled upon its letters.
        tall: Any = page.evaluate(
            "Math.max(...[...document.querySelectorAll('.what')].map(n => n.getBoundingClientRect().height))"
        )
        assert tall < 100
        expect(page.locator("#cell-1-2-code .rest")).to_contain_text("9,980,006 characters more")
        expect(page.locator("#cell-1-2-output .rest").first).to_contain_text("characters more")
        page.focus("#cell-1-3")
        page.keyboard.press("o")
        expect(page.locator("#cell-1-3-whole pre")).to_have_text("w" * 200_000)
        if width > 1000:
            page.locator("#cell-1-1 > .cell-head .what").click()
            expect(page.locator("#variables .var").first).to_contain_text("gnp.exe")
        assert page.evaluate("window.ran") is None
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert complaints == []


def test_rest_of_a_long_text_is_there_as_plain_text() -> None:
    run, client = hostile_run()
    path = f"{run.get_absolute_url()}c/1/2/output?of="
    code = client.get(path + "code")
    assert code["Content-Type"] == "text/plain; charset=utf-8" and "sandbox" in code["Content-Security-Policy"]
    assert len(code.content) == 10_000_006
    assert client.get(path + "shown").content.decode().count("\n") == 100_000
    assert client.get(path + "reasoning").content.startswith(b"word word")
