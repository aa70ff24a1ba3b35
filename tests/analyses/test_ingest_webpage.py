"""Web pages become text as a person reads it; hostile ones end in time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analyses import blobs
from analyses.ingest.formats import Extracted, extract
from analyses.ingest.jailed import Reader
from analyses.ingest.limits import Refused, UploadLimits

pytestmark = pytest.mark.firejail

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>The fog
 ledger</title><style>p { color: red }</style><script>alert("x")</script></head><body>
<nav><a href="/">Home</a></nav><h1>The <em>fog</em> ledger</h1><p>Ten&nbsp;past   two, <a href="javascript:x">said</a>
Vane &amp; Plum&lt;1&gt;.</p><ul><li>one<li>two</ul><table><tr><th>Name<th>Hour<tr><td>Vane<td>02:10</table>
<pre>a
  b</pre><p>last<br>line<footer>© nobody</footer></body></html>"""


_reader: list[Reader] = []


@pytest.fixture(scope="module", autouse=True)
def one_jail() -> Iterator[None]:
    with Reader(UploadLimits.from_settings()) as reader:
        _reader.append(reader)
        yield
        _reader.clear()


def take(data: bytes, tmp_path: Path) -> tuple[str, Extracted]:
    source = tmp_path / "page.html"
    source.write_bytes(data)
    found = extract(source, "page.html", reader=_reader[0])
    return blobs.read(found.text).decode(), found


def test_page_is_read_as_a_person_reads_it(tmp_path: Path) -> None:
    text, found = take(PAGE.encode(), tmp_path)
    assert text == (
        "# The fog ledger\n\nTen past two, said Vane & Plum<1>.\n\n- one\n- two\n\n"
        "Name | Hour\nVane | 02:10\n\na\n  b\n\nlast\nline\n"
    )
    assert (found.title, found.characters, found.format) == ("The fog ledger", len(text), "html")


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        ('<meta charset="windows-1251">', "cp1251"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "shift_jis"),
        ('<?xml version="1.0" encoding="iso-8859-7"?>', "iso8859-7"),
        ('<meta charset="nonsense">', "utf-8"),
        ('<meta charset="utf-8">', "utf-16"),
    ],
)
def test_declared_encoding_is_believed_where_it_can_be(head: str, codec: str, tmp_path: Path) -> None:
    words = {"cp1251": "Туман", "shift_jis": "霧の記録", "iso8859-7": "Ομίχλη"}.get(codec, "Zwölf")
    assert take(f"{head}<p>{words}".encode(codec), tmp_path)[0] == f"{words}\n"


@pytest.mark.parametrize("page", ["<html><script>x()</script></html>", "<p> &nbsp; </p>", "<!-- only this -->"])
def test_page_without_words_is_refused(page: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no text"):
        take(page.encode(), tmp_path)


def test_hostile_page_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reader[0], "limits", dataclasses.replace(_reader[0].limits, seconds=1))
    began = time.monotonic()
    with pytest.raises(Refused, match="could not be read within"):
        take(b"<div>" * 2_000_000, tmp_path)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<ol><li>one<li>two<ul><li>inner</ul><li>three</ol>", "1. one\n2. two\n  - inner\n3. three\n"),
        ("<ul><li><p>para</p><p>more</p></ul>", "- para\nmore\n"),
        ("<table><tr><td><p>a</p><p>b</p><td><b>c</b></table>", "a b | c\n"),
        ("<table><tr><td><table><tr><td>x<td>y</table><td>z</table>", "x | y | z\n"),
        (
            f"<table><tr><td><h2>Page</h2><p>{'words ' * 100}<p>more</table>",
            f"## Page\n\n{'words ' * 99}words\n\nmore\n",
        ),
        ("<h2><p>odd</p></h2><p>next", "## odd\n\nnext\n"),
        ("<h1></h1><p>plain", "plain\n"),
    ],
)
def test_lists_and_tables_keep_their_form(page: str, text: str, tmp_path: Path) -> None:
    assert take(page.encode(), tmp_path)[0] == text


def test_large_page_is_read_whole(tmp_path: Path) -> None:
    text, found = take(
        b"<title>Long &lt;</title><p>Zw\xc3\xb6lf Boote.</p>" + b"<p>More words here.</p>" * 20_000, tmp_path
    )
    assert text.startswith("Zwölf Boote.\n\nMore words here.\n\n")
    assert found.title == "Long <"


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "title", "words"),
    [
        ("documents/alice.html", "Alice's Adventures in Wonderland", "CHAPTER II. | The Pool of Tears"),
        ("documents/blog.html", "Does Model and Inference Parameter Matter", "TL;DR:"),
        ("encodings/steel-utf16.html", "SNB22-3 - SteelJIS", "C | Si | Mn | P | S | Cr | Mo"),
    ],
)
def test_real_page_is_readable(path: str, title: str, words: str, real_data: Path, tmp_path: Path) -> None:
    text, found = take((real_data / path).read_bytes(), tmp_path)
    assert found.title.startswith(title)
    assert words in text
    assert "<" not in text.replace("<1>", "") and "function(" not in text
