"""Bytes of a text file in any encoding → its exact text with \\n line ends, in pieces; or the reason why it is not text."""

from __future__ import annotations

import codecs
import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charset_normalizer import from_bytes

from analyses.ingest.limits import Refused

CHUNK = 1 << 20
SAMPLE = 1 << 16  # bytes looked at to tell an encoding

BOMS = (  # UTF-32's little-endian one begins with UTF-16's: it comes first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"RIFF", "a RIFF file (WAV, AVI or WebP)"),
    (b"ID3", "an MP3 recording"),
    (b"\xff\xfb", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"fLaC", "a FLAC recording"),
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive (or an office document)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ\x90\x00", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office document"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"{\\rtf", "an RTF document"),
    (b"\x00asm", "a WebAssembly module"),
)


def magic(head: bytes) -> str:
    """What a file is by its first bytes: "a PNG image", or "" for what has no known signature."""
    if head[4:8] == b"ftyp":
        return "an MP4 recording"
    return next((what for start, what in MAGIC if head.startswith(start)), "")


@dataclass
class Decoding:
    """How the bytes of one file become text, and what was met on the way."""

    codec: str
    skip: int = 0  # bytes of the byte order mark
    characters: int = 0
    newlines: set[str] = field(default_factory=set)
    replaced: int = 0  # bytes that were no characters
    verified: bool = False  # the whole file has been read once in this encoding

    @property
    def encoding(self) -> str:
        """The encoding as IANA calls it, where Python's name differs."""
        name = self.codec.replace("_", "-")
        if name.startswith("cp125"):
            return f"windows-{name[2:]}"
        return {"latin-1": "iso-8859-1", "cp932": "shift_jis", "euc-jis-2004": "euc-jp", "ascii": "utf-8"}.get(
            name, name
        )

    @property
    def verbatim(self) -> bool:
        """The file's bytes are the text's UTF-8 as they stand."""
        return self.codec == "utf-8" and not (self.skip or self.replaced or self.newlines - {"\n"})

    @property
    def notes(self) -> list[str]:
        """What a person should know of how the text differs from the bytes."""
        notes = []
        if odd := [name for end, name in (("\r\n", "CRLF"), ("\r", "CR")) if end in self.newlines]:
            notes.append(f"Line ends were {' and '.join(odd)}; the text has LF.")
        if self.replaced:
            bytes_are = "1 byte is" if self.replaced == 1 else f"{self.replaced:,} bytes are"
            notes.append(f"{bytes_are} not {self.encoding}; � stands there.")
        return notes


def sniff(source: Path, *, declared: str = "") -> Decoding:
    """Tell the encoding of a file by its mark, by the whole of it (UTF-8), by what it says itself, or by a sample.

    What is not text is Refused.
    """
    with source.open("rb") as file:
        head = file.read(SAMPLE)
    if not head:
        raise Refused("The file is empty.")
    for mark, codec in BOMS:
        if head.startswith(mark):
            return Decoding(codec, skip=len(mark))
    if what := magic(head):
        raise Refused(f"It looks like a binary file: this is {what}, not text.", what="binary")
    if b"\0" in head:
        return Decoding(_wide(head))
    if _is_utf8(source):
        _refuse_controls(head)
        return Decoding("utf-8", verified=True)
    if codec := _known(declared):
        return Decoding(codec)
    return _by_statistics(source, head)


def _known(name: str) -> str:
    """Python's codec for a declared encoding, if it is one of text."""
    try:
        codec: Any = codecs.lookup(
            {"iso-8859-1": "cp1252", "latin1": "cp1252"}.get(name.lower(), name)
        )  # as browsers do
    except (LookupError, ValueError):
        return ""
    return (
        codec.name
        if codec._is_text_encoding and codec.name not in ("utf-8", "utf-16", "utf-32", "idna", "punycode")
        else ""
    )


def _wide(head: bytes) -> str:
    """UTF-16 that does not say so, or a refusal: text has no NUL bytes otherwise."""
    solid = head.replace(b"\0", b"")
    ascii_share = sum(1 for byte in solid if 32 <= byte < 127 or byte in b"\n\r\t") / max(1, len(solid))
    odd = head[1::2].count(0)
    sides = max(odd, head.count(0) - odd) / head.count(0)  # Latin letters in UTF-16: every NUL on the same side
    if ascii_share > 0.9 and not (0.4 < len(solid) / len(head) < 0.6 and sides > 0.95):
        # ASCII with a NUL here and there reads as Chinese when taken in pairs.
        raise Refused("It looks like a binary file: it has NUL bytes, which no text has.", what="binary")
    whole = head[: len(head) // 2 * 2]
    best, codec = 0.0, ""
    for candidate in ("utf-16-le", "utf-16-be"):
        text = codecs.getincrementaldecoder(candidate)("replace").decode(whole)
        likely = sum(map(_likely, text)) / max(1, len(text))
        # Of the two byte orders the right one has the Latin letters and the line ends.
        plain = sum(1 for c in text if c in " \n\r\t" or c.isalpha() and c < "\u0600") / max(1, len(text))
        if likely > 0.98 and likely + plain > best:
            best, codec = likely + plain, candidate
    if not codec:
        raise Refused("It looks like a binary file: it has NUL bytes, which no text has.", what="binary")
    return codec


def _likely(character: str) -> bool:
    return character in "\n\r\t\f" or unicodedata.category(character) not in ("Cc", "Cn", "Co", "Cs")


_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\n\r\t\f\x0b\x08\x1b")


def _refuse_controls(head: bytes) -> None:
    odd = len(head) - len(head.translate(None, _CONTROLS))
    if odd > 8 and odd > len(head) / 100:
        raise Refused(
            f"It looks like a binary file: {odd:,} of its first {len(head):,} bytes are control codes.", what="binary"
        )


def _is_utf8(source: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with source.open("rb") as file:
            while piece := file.read(CHUNK):
                decoder.decode(piece)
    except UnicodeDecodeError:
        return False
    return True  # a torn last character is said later


def _by_statistics(source: Path, head: bytes) -> Decoding:
    """One of the many 8-bit and Far Eastern encodings, told by how natural the text comes out."""
    sample = _telling(source, head)
    _refuse_controls(sample)
    match = from_bytes(sample).best()
    if match is None:
        if _mostly_utf8(sample):
            return Decoding("utf-8")
        raise Refused("Its encoding could not be told. Save it as UTF-8 and add it again.")
    codec = codecs.lookup(match.encoding).name
    return Decoding("utf-8" if codec == "ascii" or _mostly_utf8(sample) else codec)


def _telling(source: Path, head: bytes) -> bytes:
    """A sample with characters that tell: from the first byte over 127 on, as the head may be plain ASCII."""
    if any(byte > 127 for byte in head):
        return head
    with source.open("rb") as file:
        while piece := file.read(CHUNK):
            if not piece.isascii():
                at = next(i for i, byte in enumerate(piece) if byte > 127)
                start = max(0, at - 2048)
                return piece[start : start + SAMPLE]
    return head


def _mostly_utf8(sample: bytes) -> bool:
    """UTF-8 with a few broken bytes, rather than another encoding: most runs over 127 are whole UTF-8 characters."""
    text = sample.decode("utf-8", "replace")
    broken = text.count("�")
    whole = sum(1 for c in text if c > "\x7f") - broken
    return whole > 20 * broken


def pieces(source: Path, how: Decoding) -> Iterator[str]:
    """The text in pieces, line ends made \\n. `how` fills with what was met on the way; what turns out to be no text is Refused."""
    # "replace" also where UTF-8 has been verified: a torn last character may still be there.
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(how.codec)("replace"), translate=True)
    with source.open("rb") as file:
        file.seek(how.skip)
        more = True
        while more:
            raw = file.read(CHUNK)
            more = bool(raw)
            text = decoder.decode(raw, final=not more)
            if "\0" in text:
                raise Refused("It looks like a binary file: it has NUL bytes, which no text has.", what="binary")
            if not (how.verified and more):
                how.replaced += text.count("�")
            how.characters += len(text)
            if text:
                yield text
    seen = decoder.newlines or ()
    how.newlines.update((seen,) if isinstance(seen, str) else seen)
    if how.replaced > 16 and how.replaced > how.characters / 100:
        raise Refused(
            f"It is no text in {how.encoding}: {how.replaced:,} of {how.characters:,} characters could not be read."
        )
