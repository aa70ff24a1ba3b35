"""Bytes in any encoding become exact text, or say why they are not text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyses.ingest import decode
from analyses.ingest.limits import Refused

FRENCH = "Considérant que la reconnaissance de la dignité inhérente à tous les membres de la famille humaine.\n" * 20
GREEK = "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.\n" * 20
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。\n" * 20


def read(data: bytes, tmp_path: Path) -> tuple[str, decode.Decoding]:
    source = tmp_path / "file"
    source.write_bytes(data)
    how = decode.sniff(source)
    return "".join(decode.pieces(source, how)), how


def refusal(data: bytes, tmp_path: Path) -> str:
    with pytest.raises(Refused) as refused:
        read(data, tmp_path)
    return refused.value.reason


@pytest.mark.parametrize(
    ("text", "codec", "said"),
    [
        (FRENCH, "utf-8", "utf-8"),
        (FRENCH, "utf-8-sig", "utf-8"),
        (FRENCH, "latin-1", "windows-1252"),
        (FRENCH, "utf-16-le", "utf-16-le"),
        (FRENCH, "utf-16-be", "utf-16-be"),
        (JAPANESE, "utf-16-le", "utf-16-le"),
        (JAPANESE, "shift_jis", "shift_jis"),
        (JAPANESE, "euc_jp", "euc-jp"),
        (GREEK, "iso8859_7", "windows-1253"),
    ],
)
def test_encoding_is_told_and_text_is_exact(text: str, codec: str, said: str, tmp_path: Path) -> None:
    found, how = read(text.encode(codec), tmp_path)
    assert found == text
    assert how.encoding == said
    assert how.characters == len(text)


@pytest.mark.parametrize("mark, codec", decode.BOMS)
def test_byte_order_mark_tells_the_encoding_and_goes(mark: bytes, codec: str, tmp_path: Path) -> None:
    found, how = read(mark + "Zwölf 𝕏".encode(codec), tmp_path)
    assert found == "Zwölf 𝕏"
    assert how.codec == codec
    assert not how.verbatim


def test_character_on_the_edge_of_two_reads_is_whole(tmp_path: Path) -> None:
    text = "a" * (decode.CHUNK - 1) + "é" + "b" * decode.CHUNK
    assert read(text.encode(), tmp_path)[0] == text


def test_line_ends_become_lf_and_it_is_said(tmp_path: Path) -> None:
    found, how = read(b"one\r\ntwo\rthree\n" + b"\r" * 3, tmp_path)
    assert found == "one\ntwo\nthree\n\n\n\n"
    assert how.notes == ["Line ends were CRLF and CR; the text has LF."]


def test_crlf_on_the_edge_of_two_reads_is_one_line_end(tmp_path: Path) -> None:
    found, _ = read(b"a" * (decode.CHUNK - 1) + b"\r\nb", tmp_path)
    assert found[-2:] == "\nb"
    assert found.count("\n") == 1


def test_clean_utf8_is_verbatim(tmp_path: Path) -> None:
    assert read("Ünlü\n".encode(), tmp_path)[1].verbatim
    assert not read("Ünlü\r\n".encode(), tmp_path)[1].verbatim


def test_replacement_character_of_the_file_itself_is_its_own(tmp_path: Path) -> None:
    found, how = read("a � b".encode(), tmp_path)
    assert (found, how.verbatim, how.notes) == ("a � b", True, [])


def test_torn_last_character_is_said(tmp_path: Path) -> None:
    found, how = read("Zoë".encode()[:-1], tmp_path)
    assert found == "Zo�"
    assert how.notes == ["1 byte is not utf-8; � stands there."]


def test_a_few_broken_bytes_do_not_lose_a_file(tmp_path: Path) -> None:
    data = JAPANESE.encode() + b"\xff" + JAPANESE.encode()
    found, how = read(data, tmp_path)
    assert found == JAPANESE + "�" + JAPANESE
    assert "1 byte is not utf-8" in how.notes[0]


def test_first_telling_byte_may_come_late(tmp_path: Path) -> None:
    text = "plain words\n" * 200_000 + FRENCH
    found, how = read(text.encode("cp1252"), tmp_path)
    assert found == text
    assert how.encoding == "windows-1252"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG image"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
        (b"\x7fELF" + bytes(100), "a program"),
        (b"text and \0 then more", "NUL bytes"),
        (b"a\0b\0\0c", "NUL bytes"),
        (b"a\0b" * 50, "NUL bytes"),
        (bytes(range(256)) * 300, "binary file"),
        (bytes(range(1, 32)) * 300, "control codes"),
        (b"\0" * 5000, "binary file"),
    ],
)
def test_what_is_not_text_says_what_it_is(data: bytes, what: str, tmp_path: Path) -> None:
    assert what in refusal(data, tmp_path)


def test_nul_far_into_a_file_is_found(tmp_path: Path) -> None:
    assert "NUL" in refusal(b"words " * 500_000 + b"\0", tmp_path)


@given(
    text=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_with_lf(text: str, newline: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    lines = f"x{text}\n{text}"
    found, how = read(lines.replace("\n", newline).encode(), tmp_path_factory.getbasetemp())
    assert found == lines
    assert how.characters == len(lines)


@given(text=st.text(min_size=1), codec=st.sampled_from([codec for _, codec in decode.BOMS]))
@settings(max_examples=100, deadline=None)
def test_any_text_with_a_mark_comes_back(text: str, codec: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = text.encode("utf-8", "ignore").decode().replace("\0", "")
    mark = next(mark for mark, name in decode.BOMS if name == codec)
    try:
        found, _ = read(mark + text.encode(codec), tmp_path_factory.getbasetemp())
    except Refused as refused:
        assert "control" in refused.reason
        return
    assert found == re.sub("\r\n?", "\n", text)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("udhr-French_Francais-Latin1.txt", "iso-8859-1"),
        ("udhr-Russian_Russky-Cyrillic.txt", "windows-1251"),
        ("udhr-Japanese_Nihongo-SJIS.txt", "shift_jis"),
        ("udhr-Japanese_Nihongo-EUC.txt", "euc-jp"),
        ("udhr-Greek_Ellinika-Greek.txt", "iso-8859-7"),
        ("udhr-Czech_Cesky-Latin2.txt", "windows-1250"),
        ("udhr-Hebrew_Ivrit-Hebrew.txt", "iso-8859-8"),
        ("udhr-Chinese_Mandarin-GB2312.txt", "gb2312"),
        ("udhr-Hindi-UTF8.txt", "utf-8-sig"),
        ("derived-utf16le-bom.txt", "utf-16"),
        ("derived-utf16be-bom.txt", "utf-16"),
        ("derived-utf16le-nobom.txt", "utf-16-le"),
        ("derived-utf32le-bom.txt", "utf-32"),
        ("derived-utf8-bom.txt", "utf-8-sig"),
        ("derived-cr-only.txt", "utf-8"),
        ("mskanji.csv", "cp932"),
    ],
)
def test_real_file_decodes_as_its_makers_say(name: str, codec: str, real_data: Path, tmp_path: Path) -> None:
    data = (real_data / "encodings" / name).read_bytes()
    wanted = re.sub("\r\n?", "\n", data.decode(codec))
    if name == "udhr-Japanese_Nihongo-SJIS.txt":
        assert codecs.lookup("cp932")  # Windows' variant of Shift_JIS has the same characters here
    assert read(data, tmp_path)[0] == wanted
