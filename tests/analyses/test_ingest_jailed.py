"""PDF, Word, EPUB, RTF and mail: what is kept of each, and what becomes of hostile and broken ones."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyses import blobs
from analyses.ingest.formats import READS, Extracted, extract
from analyses.ingest.jailed import CHAPTERS_MOST, Reader, Taking
from analyses.ingest.limits import Refused, UploadLimits
from sandbox.guest.extract.webpage import places_of, text_of
from tests import documents as make

pytestmark = pytest.mark.firejail

Take = Callable[..., tuple[str, Extracted]]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(UploadLimits.from_settings()) as reader:
        yield reader


@pytest.fixture
def take(reader: Reader, tmp_path: Path) -> Take:
    def take(data: bytes | Path, name: str) -> tuple[str, Extracted]:
        source = tmp_path / "file"
        source.write_bytes(data.read_bytes() if isinstance(data, Path) else data)
        found = extract(source, name, reader=reader)
        text = blobs.read(found.text).decode()
        assert (len(text), len(text.encode())) == (found.characters, found.bytes)
        assert not set(text) & {"\r", "\0", "\f"}
        return text, found

    return take


def pages_of(text: str, found: Extracted) -> list[str]:
    """The text of each page, by the marks."""
    marks = json.loads(blobs.read(found.marks))
    assert marks["kind"] == "page"
    places = [place for place, _ in marks["marks"]]
    assert [page for _, page in marks["marks"]] == list(range(1, len(places) + 1))
    return [text[a:b] for a, b in zip(places, [*places[1:], len(text)], strict=True)]


# — what is kept —


def test_pdf_is_read_page_by_page(take: Take) -> None:
    pages = ["The fog ledger\nTen past two.", "", "Page three (the last) \\ ends here."]
    text, found = take(make.pdf(pages, title="The fog ledger", author="D. Vane", created="D:20240506070809Z"), "a.pdf")
    assert text == "The fog ledger\nTen past two.\n\nPage three (the last) \\ ends here.\n"
    assert [page.strip("\n") for page in pages_of(text, found)] == pages
    assert (found.title, found.format, found.encoding) == ("The fog ledger", "pdf", "")
    assert found.meta == {"format": "pdf", "author": "D. Vane", "date": "2024-05-06", "pages": 3}
    assert found.notes == ("One page has no text: a picture, or blank.",)


def test_sentence_that_lines_cut_is_one_in_the_text(take: Take) -> None:
    page = """The fog ledger
We found the tin lighthouse at the very end of the long, old har-
bour, and nobody could say who had lit the lamp in it before the
storm came over the hills that night.
The second paragraph begins here, and it is just as long as the
first one was at the least.
one 12
two 14"""
    text, _ = take(make.pdf([page]), "a.pdf")
    assert text.split("\n") == [
        "The fog ledger",
        "We found the tin lighthouse at the very end of the long, old harbour, and nobody could say who had lit the lamp in it "
        "before the storm came over the hills that night.",
        "The second paragraph begins here, and it is just as long as the first one was at the least.",
        "one 12",
        "two 14",
        "",
    ]


@pytest.mark.parametrize("title", ["Microsoft Word - ledger.doc", "untitled", "ledger.dvi", ""])
def test_title_that_a_program_made_up_is_none(take: Take, title: str) -> None:
    assert take(make.pdf(["words"], title=title), "the-fog-ledger.pdf")[1].title == "The fog ledger"


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.lists(st.text("abcXYZ 0189.,", max_size=30), max_size=6).map("\n".join), min_size=1, max_size=12))
def test_marks_cut_a_pdf_into_its_pages(take: Take, pages: list[str]) -> None:
    """Page k's text is text[start:end], for any pages, empty ones included."""
    wanted = ["\n".join(" ".join(line.split()) for line in page.split("\n") if line.strip()) for page in pages]
    if not any(wanted):
        with pytest.raises(Refused, match="pictures"):
            take(make.pdf(pages), "a.pdf")
        return
    text, found = take(make.pdf(pages), "a.pdf")
    got = pages_of(text, found)
    # Where lines and words part is PDFium's to tell: it takes letters under one another for one line set upright.
    assert ["".join(page.split()) for page in got] == ["".join(page.split()) for page in wanted]
    assert "".join(got) == text


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=40)),
        min_size=1,
        max_size=30,
    )
)
def test_marks_and_offsets_are_exact_for_any_unicode(pieces: list[tuple[bool, str]]) -> None:
    """Whatever a jail sends: characters are counted as they are kept."""
    kept = io.BytesIO()
    taking = Taking(kept, UploadLimits.from_settings())  # type: ignore[arg-type]
    expected: list[tuple[int, str]] = []
    for begins, words in pieces:
        if begins:
            taking.page(len(taking.pages) + 1)
            expected.append((taking.characters, ""))
        taking.text(words)
        if expected:
            expected[-1] = (expected[-1][0], expected[-1][1] + words.replace("\r", "\n").replace("\0", "\ufffd"))
    text = kept.getvalue().decode()
    assert taking.characters == len(text)
    ends = [*[place for place, _ in taking.pages], len(text)][1:]
    for (place, _), end, (wanted_place, words) in zip(taking.pages, ends, expected, strict=True):
        assert place == wanted_place and text[place:end] == words


def test_word_document_keeps_headings_lists_tables_and_footnotes(take: Take) -> None:
    note = '<w:r><w:footnoteReference w:id="1"/></w:r>'
    body = (
        make.paragraph("The fog ledger", "Title")
        + make.paragraph("The harbour", "Heading1")
        + make.paragraph("Ten past two", extra=note)
        + make.item("one")
        + make.item("inner", 1)
        + make.item("first", numbered=True)
        + make.item("second", numbered=True)
        + make.table([["Name", "Hour"], ["Vane", "02:10"]])
        + make.paragraph("שלום <script>alert(1)</script> 🚤")
    )
    text, found = take(make.docx(body, title="Ledger 7", author="D. Vane", footnotes=["by the clock"]), "ledger.docx")
    assert text == (
        "# The fog ledger\n\n# The harbour\n\nTen past two[1]\n\n- one\n  - inner\n\n1. first\n2. second\n\n"
        "Name | Hour\nVane | 02:10\n\nשלום <script>alert(1)</script> 🚤\n\n1. by the clock\n"
    )
    assert (found.title, found.meta) == (
        "Ledger 7",
        {"format": "docx", "author": "D. Vane", "date": "2024-05-06"},
    )
    assert found.marks == ""


def test_book_is_read_in_the_order_of_its_spine(take: Take) -> None:
    chapters = {
        "one": "<h1>One</h1><p>Fog.</p>",
        "cover": '<img src="x.jpg"/>',
        "two": "<h1>Two</h1><p>Rain &amp; wind.</p>",
    }
    data = make.epub(chapters, title="The tin lighthouse", author="D. Vane", spine=["cover", "two", "one"])
    text, found = take(data, "book.epub")
    assert text == "# Two\n\nRain & wind.\n\n# One\n\nFog.\n"
    assert (found.title, found.meta["author"], found.meta["date"]) == ("The tin lighthouse", "D. Vane", "1911-10-01")


BOOK = {
    "c1": '<h1 id="one">The fog</h1><p>Ten past <a id="in"></a>two.</p><div><span id="none"/></div><h2 id="two">Rain</h2><p>Wet.</p>',
    "c2": "<p>Cut by its size, and still rain.</p>",
    "c3": '<table><tr><td><b id="three">Wind</b></td><td>west</td></tr></table><p>Late.</p>',
}
CONTENTS = [
    ("c1", "Cover"), ("c1#one", "I. The fog"), ("c1#in", "Within <it>"), ("c1#two", "II. Rain"), ("c1#nowhere", "Lost"),
    ("c3#three", "III. Wind"), ("gone", "Gone"),
]  # fmt: skip


def chapters_of(text: str, found: Extracted) -> list[tuple[str, str]]:
    """Title of each chapter, and how its text begins."""
    marks = json.loads(blobs.read(found.marks))
    assert marks["kind"] == "chapter" and len(marks["titles"]) == len(marks["marks"])
    assert [number for _, number in marks["marks"]] == list(range(1, len(marks["marks"]) + 1))
    return [(title, text[at:].split("\n")[0]) for (at, _), title in zip(marks["marks"], marks["titles"], strict=True)]


@pytest.mark.parametrize("ncx", [False, True])
def test_chapters_of_a_book_are_where_its_table_of_contents_says(take: Take, ncx: bool) -> None:
    plain, without = take(make.epub(BOOK), "a.epub")
    assert not without.marks
    text, found = take(make.epub(BOOK, contents=CONTENTS, ncx=ncx), "a.epub")
    assert text == plain
    assert chapters_of(text, found) == [
        ("Cover", "# The fog"),
        ("I. The fog", "# The fog"),
        ("Within <it>", "two."),
        ("II. Rain", "## Rain"),
        ("III. Wind", "Wind | west"),
    ]


@pytest.mark.parametrize(
    "before", ['<!DOCTYPE x [<!ENTITY a "b">]>', "<broken", '<?xml version="1.0" encoding="no-such"?>']
)
def test_book_with_a_hostile_table_of_contents_is_read_without(take: Take, before: str) -> None:
    data = make.epub(BOOK, contents=CONTENTS)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["OEBPS/nav/toc.xhtml"] = before.encode() + parts["OEBPS/nav/toc.xhtml"]
    text, found = take(make.zipped(dict(parts), first="mimetype"), "a.epub")
    assert text == take(make.epub(BOOK), "a.epub")[0] and not found.marks


def test_table_of_contents_without_end_is_cut(take: Take) -> None:
    text, found = take(make.epub(BOOK, contents=[("c2", f"Part {n} " + "x" * 900) for n in range(6_000)]), "a.epub")
    marks = json.loads(blobs.read(found.marks))
    assert len(marks["titles"]) == CHAPTERS_MOST and max(map(len, marks["titles"])) <= 300


TAGS = ["p", "div", "h2", "li", "ul", "ol", "table", "tr", "td", "pre", "span", "b", "a", "blockquote"]
PIECES = st.one_of(
    st.builds('<{} id="{}">'.format, st.sampled_from(TAGS), st.integers(0, 9)),
    st.builds("</{}>".format, st.sampled_from(TAGS)),
    st.sampled_from([" ", "-", "| ", "word", "two words ", "\n", "\x01", "&#1;", "x" * 250, '"<&lt;">']),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_places_change_no_text(page: str) -> None:
    """Whatever a page is: its text is the same, with or without looking where its links lead."""
    pieces = places_of(page, {str(n) for n in range(10)})
    assert "".join(text for _, text in pieces) == text_of(page)[0]


def test_rtf_keeps_its_words(take: Take) -> None:
    text, found = take(
        make.rtf("Ten past two, \\ {said} Väne. 霧 🚤\nThe end.", title="Fog – 霧", author="D. Väne"), "a.rtf"
    )
    assert text == "Ten past two, \\ {said} Väne. 霧 🚤\nThe end.\n"
    assert (found.title, found.meta) == ("Fog – 霧", {"format": "rtf", "author": "D. Väne", "date": "2024-05-06"})


def test_mail_keeps_headers_body_and_names_of_attachments(take: Take) -> None:
    data = make.mail("The fög ledger", "Ten past two.\r\n", page="<p>not this", attached={"chart.pdf": b"%PDF-"})
    text, found = take(data, "a.eml")
    assert text == (
        "From: Dána Vane <vane@harbour.example>\nTo: plum@harbour.example\nDate: Mon, 06 May 2024 07:08:09 +0200\n"
        "Subject: The fög ledger\nAttachments: chart.pdf\n\nTen past two.\n"
    )
    assert found.title == "The fög ledger"
    assert found.meta == {
        "format": "eml",
        "from": "Dána Vane <vane@harbour.example>",
        "to": "plum@harbour.example",
        "date": "2024-05-06",
    }
    assert found.notes == ("Its attachment is named in the text, not read: add it as a file.",)


def test_mail_of_html_alone_is_read_as_a_page(take: Take) -> None:
    text, _ = take(
        make.mail("Fog", "", page="<style>p{}</style><h1>Fog</h1><p>Ten&nbsp;past two.<script>x()</script>"), "a.eml"
    )
    assert text.endswith("\n\n# Fog\n\nTen past two.\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"From: a@b.example\nSubject: =?utf-8?q?broken=\nContent-Type: text/plain; charset=nonsense\n\nh\xe9llo",
        b"From: \xff\xfe\nSubject: odd\nDate: never\nContent-Type: multipart/mixed; boundary=x\n\n--x\n--x--",
        b"From: a\nSubject: deep\n"
        + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(90)),
        b"From: a\nTo: " + b"x@y.example, " * 2000 + b"\nSubject: many\nContent-Transfer-Encoding: base64\n\n!!!!",
        b"From: a\nSubject: " + b"=?utf-8?b?4pyT?=" * 500 + b"\n\nhello",
    ],
)
def test_malformed_mail_is_read_or_refused_with_a_reason(take: Take, raw: bytes) -> None:
    try:
        text, _ = take(raw, "a.eml")
        assert text.startswith("From: ")
    except Refused as refused:
        assert refused.reason.endswith(".")


# — what it is, whatever it is called —


@pytest.mark.parametrize("name", ["ledger.txt", "ledger", "ledger.docx", "ledger.eml", "ledger.bin"])
def test_pdf_under_another_name_is_read_as_one(take: Take, name: str) -> None:
    text, found = take(make.pdf(["Fog."]), name)
    assert (text, found.format) == ("Fog.\n", "pdf")
    assert found.notes == ("Its name does not say so, but this is a PDF.",)


def test_documents_under_another_name_are_told_by_their_content(take: Take) -> None:
    assert take(make.docx(make.paragraph("Fog.")), "ledger.txt")[1].format == "docx"
    assert take(make.epub({"one": "<p>Fog."}), "ledger.md")[1].format == "epub"
    assert take(make.rtf("Fog."), "ledger.doc")[1].format == "rtf"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pdf", b"", "The file is empty."),
        ("a.docx", b"", "The file is empty."),
        ("a.pdf", PNG, "Its name promises a PDF, but this is a PNG image."),
        ("a.docx", PNG, "Its name promises a Word document (docx), but this is a PNG image."),
        ("a.epub", b"GIF89a" + bytes(90), "but this is a GIF image."),
        ("a.eml", b"\x7fELF" + bytes(90), "but this is a program (ELF)."),
        ("a.rtf", b"words", "It is no RTF document"),
        ("a.pdf", b"words, nothing but words", "It is no PDF"),
        ("a.docx", b"words", "It is no Word document"),
        ("a.docx", make.zipped({"notes.txt": "any zip"}), "It is no Word document"),
        ("a.epub", make.zipped({"notes.txt": "any zip"}), "It is no EPUB book"),
        ("a.epub", make.docx(make.paragraph("Fog.")), "It is no EPUB book"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(900), "It is an old Office document under a new name"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "Encrypted: it needs a password."),
        ("a.eml", b"no header at all\n\nwords", "It is no mail"),
        ("a.txt", PNG, "It looks like a binary file: this is a PNG image, not text."),
        ("a.exe", b"MZ\x90\x00" + bytes(90), "Files of type .exe are not read. This is a Windows program."),
        ("a.pdf", make.pdf([""]), "No text in it: its pages are pictures."),
        ("a.docx", make.docx(make.paragraph(" ")), "It holds no text, only blank space."),
        ("a.epub", make.epub({"one": "<img/>"}), "It holds no text, only blank space."),
        ("a.rtf", make.rtf("  "), "It holds no text, only blank space."),
    ],
)  # fmt: skip
def test_file_that_is_not_what_it_says_is_refused(take: Take, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(Refused) as told:
        take(data, name)
    assert reason in told.value.reason


# — broken and hostile —


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.pdf", make.pdf([f"Page {n}" for n in range(20)])),
        ("a.docx", make.docx(make.paragraph("Fog. " * 500))),
        ("a.epub", make.epub({"one": "<p>" + "Fog. " * 500})),
        ("a.rtf", make.rtf("Fog. " * 500)),
        ("a.eml", make.mail("Fog", "Ten past two. " * 50, attached={"a.bin": bytes(3000)})),
    ],
    ids=["pdf", "docx", "epub", "rtf", "eml"],
)
def test_truncated_file_is_read_as_far_as_it_goes_or_refused(take: Take, name: str, data: bytes, share: float) -> None:
    try:
        assert take(data[: int(len(data) * share)], name)[0].strip()
    except Refused as refused:
        assert refused.reason.endswith(".") and "Error" not in refused.reason


def test_encrypted_parts_are_said_to_be_encrypted(take: Take) -> None:
    data = bytearray(make.docx(make.paragraph("Fog.")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            struct.pack_into("<H", data, at + offset, 1)
            at = data.find(signature, at + 4)
    with pytest.raises(Refused, match="Encrypted"):
        take(bytes(data), "a.docx")
    locked = '<e:encryption xmlns:e="x"><CipherReference URI="OEBPS/text/one.xhtml"/></e:encryption>'
    with zipfile.ZipFile(io.BytesIO(make.epub({"one": "<p>Fog."}))) as book:
        parts = {name: book.read(name) for name in book.namelist()} | {"META-INF/encryption.xml": locked}
    with pytest.raises(Refused, match="Encrypted"):
        take(make.zipped(parts, first="mimetype"), "a.epub")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.docx", make.docx(make.paragraph("0" * (40 << 20)))),
        ("a.epub", make.epub({"one": "<p>" + "0" * (40 << 20)})),
        ("a.epub", make.epub({f"c{n}": "<p>" + "0" * (1 << 20) for n in range(40)})),
    ],
    ids=["docx", "epub", "epub-of-many"],
)
def test_zip_bomb_in_a_document_is_refused(take: Take, name: str, data: bytes) -> None:
    assert len(data) < 200_000
    with pytest.raises(Refused, match="refused as a zip bomb"):
        take(data, name)


def test_zip_bomb_that_lies_about_its_size_gives_no_more_than_it_says(take: Take) -> None:
    data = bytearray(make.docx(make.paragraph("0" * (40 << 20))))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = archive.getinfo("word/document.xml")
    struct.pack_into("<I", data, member.header_offset + 22, 1000)
    central = data.find(b"word/document.xml", member.header_offset + 60) - 46
    struct.pack_into("<I", data, central + 24, 1000)
    with pytest.raises(Refused):
        take(bytes(data), "a.docx")


LAUGHS = "<!DOCTYPE x [" + '<!ENTITY a0 "lol">' + "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
) + "]>"  # fmt: skip
OUTSIDE = '<!DOCTYPE x [<!ENTITY a9 SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("bomb", [LAUGHS, OUTSIDE], ids=["billion-laughs", "external"])
def test_entities_are_refused(take: Take, bomb: str) -> None:
    for name, data in (
        ("a.docx", make.docx(make.paragraph("Fog.").replace("Fog.", "&a9;"), before=bomb)),
        ("a.epub", make.epub({"one": "<p>Fog."}, title="a", before=bomb)),
    ):
        with pytest.raises(Refused, match="defines entities of its own"):
            take(data, name)


def test_entities_in_the_pages_of_a_book_are_never_expanded(take: Take) -> None:
    with zipfile.ZipFile(io.BytesIO(make.epub({"one": "<p>Fog."}))) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    parts["OEBPS/text/one.xhtml"] = f"{LAUGHS}{OUTSIDE}<html><body><p>Fog &a9; &lt;</p></body></html>".encode()
    text, _ = take(make.zipped(parts, first="mimetype"), "a.epub")
    assert len(text) < 2000 and "root:" not in text and "lollol" not in text


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.docx", make.docx("<w:tbl><w:tr><w:tc>" * 20_000 + make.paragraph("x") + "</w:tc></w:tr></w:tbl>" * 20_000)),
        ("a.docx", make.docx("<w:smartTag>" * 200_000 + "</w:smartTag>" * 200_000)),
        ("a.epub", make.epub({"one": "<p>x"}, before="<a>" * 200_000)),
        ("a.rtf", b"{\\rtf1" + b"{" * 500_000 + b"x"),
        ("a.pdf", b"%PDF-1.7\n1 0 obj\n" + b"[" * 500_000 + b"\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF"),
        ("a.eml", b"From: a\nSubject: b\n" + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(9000))),
    ],
    ids=["tables", "tags", "opf", "rtf", "pdf", "eml"],
)  # fmt: skip
def test_deep_nesting_is_refused_or_read(take: Take, name: str, data: bytes) -> None:
    try:
        take(data, name)
    except Refused as refused:
        assert refused.reason.endswith(".")


def test_slow_file_is_ended_in_time_and_can_be_tried_again(
    take: Take, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "limits", dataclasses.replace(reader.limits, seconds=0.2))
    with pytest.raises(Refused, match=r"could not be read within 0\.2 seconds") as told:
        take(make.epub({f"c{n}": f"<p>Chapter {n}</p>" + "<div>" * 30_000 for n in range(20)}), "a.epub")
    assert told.value.may_retry
    monkeypatch.undo()
    assert take(make.rtf("Fog."), "a.rtf")[0] == "Fog.\n"


def test_more_text_than_an_upload_takes_is_refused(take: Take, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "limits", dataclasses.replace(reader.limits, bytes=5000))
    with pytest.raises(Refused, match="Far more text"):
        take(make.rtf("Ten past two. " * 1000), "a.rtf")
    assert not list(blobs.workshop().glob("part-*"))


def test_more_characters_than_an_upload_takes_end_the_reading(
    take: Take, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "limits", dataclasses.replace(reader.limits, characters=3000))
    with pytest.raises(Refused, match="may have 3,000 characters; this one alone has more"):
        take(make.pdf(["Ten past two, and all was well. " * 3] * 500), "a.pdf")
    assert not list(blobs.workshop().glob("part-*"))
    assert take(make.rtf("Fog."), "a.rtf")[0] == "Fog.\n"


def test_ten_thousand_pages_are_read_and_counted(take: Take, reader: Reader, tmp_path: Path) -> None:
    source = tmp_path / "long.pdf"
    source.write_bytes(make.pdf([f"This is page {n}." for n in range(1, 10_001)]))
    heard: list[tuple[int, int]] = []
    found = extract(source, "long.pdf", reader=reader, on_page=lambda page, of: heard.append((page, of)))
    text = blobs.read(found.text).decode()
    assert heard == [(page, 10_000) for page in range(1, 10_001)]
    assert pages_of(text, found)[6999].strip() == "This is page 7000."
    assert found.meta["pages"] == 10_000


def test_where_there_is_no_jail_nothing_is_read(tmp_path: Path, settings: Any) -> None:
    settings.SANDBOX_PREFIX = str(tmp_path)
    source = tmp_path / "a.rtf"
    source.write_bytes(make.rtf("Fog."))
    with pytest.raises(Refused, match="the jail for such files does not work") as told:
        extract(source, "a.rtf")
    assert told.value.may_retry


def test_jail_that_broke_is_replaced_for_the_next_file(take: Take, reader: Reader) -> None:
    take(make.rtf("Fog."), "a.rtf")
    jail = reader._jail
    assert jail
    jail._launched.kill()
    jail._launched.process.wait(30)
    with pytest.raises(Refused) as told:
        take(make.rtf("Fog."), "a.rtf")
    if told.value.may_retry:
        assert "broke down" in told.value.reason
    assert take(make.rtf("Fog."), "a.rtf")[0] == "Fog.\n"


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "title", "words", "pages"),
    [
        (
            "documents/alice.pdf",
            "Alice's Adventures in Wonderland",
            "without pictures or conversation?'\nSo she was considering",
            69,
        ),
        ("documents/four-pages.pdf", "Four pages", "Is there no information?", 4),
        ("documents/us-trustee-handbook.docx", "CHAPTER 1 – INTRODUCTION", "## A. PURPOSE", 0),
        ("documents/autogen.docx", "AutoGen", "15 | 16 | 17", 0),
        ("documents/winter-sports.epub", "Winter Sports in Switzerland", "TOBOGGANING", 0),
    ],
)
def test_real_document_is_readable(take: Take, path: str, title: str, words: str, pages: int, real_data: Path) -> None:
    text, found = take(real_data / path, path)
    assert found.title.startswith(title)
    assert words in text
    assert found.meta.get("pages", 0) == pages
    if pages:
        assert len(pages_of(text, found)) == pages


@pytest.mark.real_data
def test_real_encrypted_pdf_is_said_to_be_encrypted(take: Take, real_data: Path) -> None:
    with pytest.raises(Refused, match="Encrypted: it needs a password"):
        take(real_data / "documents/encrypted-user-password.pdf", "a.pdf")


def test_every_format_is_named_in_the_help() -> None:
    for word in ("pdf", "docx", "epub", "rtf", "eml", "mbox", "zip", "tar.gz", "html"):
        assert word in READS


def test_attributes_that_every_element_may_have_are_no_text(take: Take) -> None:
    """A cleaner leaves languages and titles standing; they were taken for words."""
    page = '<div lang="en" title="a > b"><p lang="de">Nebel</p><h2 title="x">Two</h2></div>'
    assert take(page.encode(), "a.html")[0] == "Nebel\n\n## Two\n"
    assert take(make.epub({"c1": page}, contents=[("c1", "One")]), "a.epub")[0] == "Nebel\n\n## Two\n"
