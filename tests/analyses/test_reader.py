"""The reader: every offset is of characters, whatever their bytes, and a window is enough of any text."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analyses.ingest import uploads
from analyses.models import Document
from analyses.reader import LINE_MOST, WINDOW, Text, Window
from tests import documents as make
from tests.factories import make_workspace

pytestmark = pytest.mark.django_db


def document(text: str, name: str = "a.txt", before: str = "", data: bytes = b"") -> Document:
    """A document; with one before it in the pack, so that offsets into the one are not offsets into the other."""
    upload = uploads.start(make_workspace(), None)
    if before:
        uploads.receive(upload, "0.txt", io.BytesIO(before.encode()))
    uploads.receive(upload, name, io.BytesIO(data or text.encode()))
    uploads.close(upload)
    uploads.process(upload.pk)
    found = Document.objects.filter(version__corpus__uploads=upload).select_related("version").last()
    assert found
    return found


def shown(window: Window) -> str:
    return "\n".join("".join(bit.text for bit in para.bits) for para in window.paragraphs)


def cited(window: Window) -> str:
    return "".join(bit.text for para in window.paragraphs for bit in para.bits if bit.kind == "cited")


def test_window_begins_at_the_beginning() -> None:
    window = Window.of(document("one\n\ntwo\nthree"), {})
    assert shown(window) == "one\ntwo\nthree"
    assert [(para.start, para.label) for para in window.paragraphs] == [(0, "1"), (5, "3"), (9, "4")]
    assert (window.previous, window.next) == (None, None)


def test_range_is_highlighted_across_lines() -> None:
    text = "Zwölf Boote 🚤 fahren\naus dem Hafen\nheraus."
    start = text.index("🚤")
    window = Window.of(document(text, before="Ünrelated 🚤"), {"c": f"{start}-{start + 12}"})
    assert cited(window) == text[start : start + 12].replace("\n", "")
    assert [para.here for para in window.paragraphs] == [True, True, False]
    assert sum(bit.id == "cited" for para in window.paragraphs for bit in para.bits) == 1


@given(data=st.data())
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_range_of_any_text_is_shown_exactly(data: Any) -> None:
    letters = st.sampled_from(["a", "ß", "—", "語", "🚤", " ", "\n", "e\u0301", "א"])
    part = data.draw(st.lists(letters, min_size=5, max_size=60).map("".join))
    text = "x" + part * data.draw(st.integers(1, 900))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, min(len(text), start + 300)))
    window = Window.of(document(text, before="é" * 7), {"c": f"{start}-{end}"})
    expected, at = "", 0
    for line in text.split("\n"):  # lines of blank space alone are not shown
        if line.strip():
            expected += line[max(0, start - at) : max(0, end - at)]
        at += len(line) + 1
    assert cited(window) == expected
    assert window.start <= start < window.end


def test_pages_of_a_pdf_stand_beside_its_text() -> None:
    lines = "\n".join(["Ten past two."] * 40)
    pages = [f"Page {n}\n{lines}" if n != 3 else "" for n in range(1, 41)]
    doc = document("", data=make.pdf(pages), name="a.pdf")
    window = Window.of(doc, {})
    assert (window.page, window.pages) == (1, 40)
    labels = [para.label for para in window.paragraphs]
    assert labels[:41] == ["p. 1"] * 41 and labels[41] == "p. 2" and "p. 3" not in labels
    window = Window.of(doc, {"page": "20"})
    assert (window.page, shown(window).split("\n")[0]) == (20, "Page 20")
    assert Window.of(doc, {"page": "3"}).page == 3 and Window.of(doc, {"page": "99"}).page == 40
    for odd in ("0", "-1", "x", "9" * 40, ""):
        assert Window.of(doc, {"page": odd}).start == 0
    at = window.start + 10
    assert Window.of(doc, {"c": f"{at}-{at + 5}"}).place == "on page 20"
    hit = Window.of(doc, {"q": "Page 7\n"}).hits[0]
    assert hit.label == "p. 7"


@pytest.mark.parametrize("unit", ["plain words here\n", "Wörter mit Ümlaut 🚤\n", "no line end at all "])
def test_windows_follow_each_other_without_gap_or_overlap(unit: str) -> None:
    text = unit * 6000
    doc = document(text, before="ß")
    at: int | None = 0
    pieces = []
    while at is not None:
        start, end, piece = Text(doc).around(at, before=0)
        assert start == at
        assert len(piece) <= WINDOW + LINE_MOST
        pieces.append(piece)
        at = Window.of(doc, {"at": str(at)}).next
    assert "".join(pieces) == text


def test_line_numbers_are_of_the_document() -> None:
    doc = document("line\n" * 10_000, before="other\nlines\n")
    window = Window.of(doc, {"at": str(5 * 7000)})
    assert window.paragraphs[0].label == "7,001"


def test_long_line_is_shown_in_pieces() -> None:
    window = Window.of(document("x" * 10_000), {})
    assert [para.start for para in window.paragraphs] == [0, 2000, 4000, 6000, 8000]
    assert [para.label for para in window.paragraphs] == ["1", "", "", "", ""]


@pytest.mark.parametrize("c", ["", "5", "9-2", "-1-4", "999999-9999999", "a-b", "1-2-3", "9" * 30 + "-1"])
def test_range_that_is_none_shows_the_beginning(c: str) -> None:
    window = Window.of(document("some words"), {"c": c, "at": "99999"})
    assert window.cited is None
    assert shown(window)


def test_find_gives_hits_with_their_places() -> None:
    doc = document("The Lamp clicks. Every lamp clicks.\nA LAMP is no bell (.*).", before="lamp")
    window = Window.of(doc, {"q": "lamp"})
    assert window.hit_count == 3
    assert [hit.found for hit in window.hits] == ["Lamp", "lamp", "LAMP"]
    assert window.hits[2].place == "c=38-42"
    there = Window.of(doc, {"q": "lamp", "c": "23-27"})
    assert there.hits_now == 2
    assert there.next_hit and there.next_hit.start == 38
    assert there.previous_hit and there.previous_hit.start == 4
    assert Window.of(doc, {"q": "(.*)"}).hit_count == 1
    assert Window.of(doc, {"q": "bell\0"}).hit_count == 1


def test_chapters_of_a_book_stand_beside_its_text_and_are_led_to() -> None:
    lines = "".join(f"<p>line {n} of the ledger</p>" for n in range(400))
    book = make.epub(
        {f"c{n}": f'<p>Before.</p><h1 id="h">Part {n}</h1>{lines}' for n in range(1, 6)},
        contents=[(f"c{n}#h", f"The {n}th <b>part</b>") for n in range(1, 6)],
    )
    doc = document("", data=book, name="a.epub")
    window = Window.of(doc, {})
    assert (window.chapter, window.pages, len(window.chapters)) == (0, 0, 5)
    assert window.paragraphs[0].label == "1" and window.paragraphs[1].label == "§ 1"
    there = Window.of(doc, {"chapter": "4"})
    assert (there.chapter, shown(there).split("\n")[0]) == (4, "# Part 4")
    assert there.chapters[3] == (4, "The 4th <b>part</b>")
    assert Window.of(doc, {"chapter": "99"}).chapter == 5
    for odd in ("0", "-1", "x", "9" * 40):
        assert Window.of(doc, {"chapter": odd}).start == 0
    at = there.start + 20
    assert Window.of(doc, {"c": f"{at}-{at + 5}"}).place == "in “The 4th <b>part</b>”"


def test_transcript_is_read_by_its_moments() -> None:
    doc = document(
        "WEBVTT\n\n00:41:08.000 --> 00:41:12.000\nTen past two.\n\n01:02:03.500 --> 01:02:04.000\nThat was all.\n",
        "a.vtt",
    )
    window = Window.of(doc, {"c": "11-15"})
    assert [para.label for para in window.paragraphs] == ["41:08", "1:02:03"]
    assert window.place == "at 41:08"


def test_deep_link_into_ten_megabytes_is_quick() -> None:
    doc = document("Zwölf Boote fahren aus dem Hafen heraus.\n" * 250_000)
    began = time.perf_counter()
    window = Window.of(doc, {"c": "9000000-9000100"})
    assert time.perf_counter() - began < 30  # benchmarks/ingest.py has the figure
    assert len(cited(window)) >= 97
