"""One file → its text as a blob, with title, metadata and marks. What a format keeps and what it changes is decided here.

Text formats are kept as they stand: only the encoding becomes UTF-8 and line ends become \\n. Transcripts are re-drawn
as lines (docs/decisions/0101-transcripts.md). What is no plain text is read in a jail (docs/decisions/0105-extraction.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from analyses import blobs
from analyses.ingest import jailed, meta, transcripts
from analyses.ingest.decode import Decoding, magic, pieces, sniff
from analyses.ingest.limits import Refused, UploadLimits, megabytes
from analyses.ingest.reading import Watched
from sandbox.memory import Memory

EXTENSIONS = {
    "txt": "txt", "text": "txt", "log": "txt", "rst": "txt", "org": "txt",
    "md": "md", "markdown": "md", "mdown": "md", "mkd": "md",
    "vtt": "vtt", "srt": "srt",
    "csv": "csv", "tsv": "tsv", "tab": "tsv",
    "json": "json", "jsonl": "jsonl", "ndjson": "jsonl",
    "html": "html", "htm": "html", "xhtml": "html",
    "pdf": "pdf", "docx": "docx", "docm": "docx", "epub": "epub", "rtf": "rtf", "eml": "eml",
}  # fmt: skip
ARCHIVES = {"zip": "zip", "tar": "tar", "tgz": "tar", "tar.gz": "tar", "tar.bz2": "tar", "tbz2": "tar", "mbox": "mbox"}
JAILED = {  # what each is called, with its article
    "pdf": "a PDF", "docx": "a Word document (docx)", "epub": "an EPUB book", "rtf": "an RTF document", "eml": "a mail",
}  # fmt: skip
READS = "txt, md, html, pdf, docx, epub, rtf, eml, vtt, srt, csv, tsv, json, jsonl, and zip, tar.gz or mbox of them"
PAGE_MOST = 64 << 20  # bytes of a web page, which is read whole
BLOCK = 1 << 18  # characters encoded and written at a time


@dataclass(frozen=True)
class Extracted:
    """The text of one file, kept as a blob, and what is known of it."""

    text: str  # sha256 of the blob
    bytes: int
    characters: int
    title: str
    format: str
    encoding: str
    meta: dict[str, Any] = field(default_factory=dict)
    # sha256 of a JSON blob: {"kind": "time", "page" or "chapter", "marks": [[character, ms or number], …]}
    marks: str = ""
    notes: tuple[str, ...] = ()


def suffix_of(name: str) -> str:
    """The file name's extension, lower case, without its dot; two of them for a compressed tar."""
    parts = PurePosixPath(name).name.lower().split(".")
    if len(parts) > 2 and parts[-2] == "tar":
        return ".".join(parts[-2:])
    return parts[-1] if len(parts) > 1 else ""


def format_of(name: str) -> str:
    """The format that a file name promises, "" for one that is not read here."""
    suffix = suffix_of(name)
    return EXTENSIONS.get(suffix) or ARCHIVES.get(suffix, "")


def extract(
    source: Path,
    name: str,
    sha: str = "",
    *,
    reader: jailed.Reader | None = None,
    on_page: jailed.OnPage | None = None,
    look: Callable[[], None] | None = None,
) -> Extracted:
    """Take the text out of a file. `sha`: its blob's name, kept as the text's where the bytes are that text already.

    `reader`: the jail for files that need one; without it they get one of their own. `on_page` hears how far it is.
    `look` is called often, and ends the reading by what it raises.
    """
    if look:
        source = Watched.at(source, look)
    form = format_of(name)
    with source.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise Refused("The file is empty.")
    real = recognised(source, head, form)
    if not real or real in ARCHIVES.values():
        what = magic(head)
        kind = f"Files of type .{suffix_of(name)}" if suffix_of(name) else "Files without an extension"
        also = f" This is {what}." if what else ""
        raise Refused(f"{kind} are not read.{also} Text is taken from {READS}.", what=suffix_of(name)[:12] or "unknown")
    if real in EXTRACTORS:
        return EXTRACTORS[real](source, name, sha, real)
    if reader is None:
        with jailed.Reader(UploadLimits.from_settings()) as own:
            return _jailed(source, name, form, real, head, own, on_page, look)
    return _jailed(source, name, form, real, head, reader, on_page, look)


def recognised(source: Path, head: bytes, form: str) -> str:
    """The format by content where that tells it, whatever the name says; else the one that the name promises."""
    if head.startswith(b"%PDF-") or (form == "pdf" and b"%PDF-" in head):
        return "pdf"
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if head.startswith(b"PK\x03\x04") and form not in ("docx", "epub"):
        if head[30:58] == b"mimetypeapplication/epub+zip":
            return "epub"
        with source.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - (1 << 16)))
            names = file.read()
        if b"word/document.xml" in names and b"[Content_Types].xml" in names:
            return "docx"
    return form


def _text(source: Path, name: str, sha: str, form: str) -> Extracted:
    """A text kept as it stands. Where its bytes are clean UTF-8 nothing is written: text and original are one blob."""
    how = sniff(source)
    first = _survey(source, how)
    if how.verbatim and sha:
        text, size = sha, source.stat().st_size
    else:
        text, size = _write(pieces(source, Decoding(how.codec, how.skip, verified=how.verified)))
    notes = how.notes
    if form == "json" and not first.tail and not _is_json(first.head):
        notes.append("It is not valid JSON; kept as text.")
    title, about = meta.about(form, name, first.head, first.tail)
    marks = ""
    if "minutes" in about:  # set with moments, as a transcript is
        again = Decoding(how.codec, how.skip, verified=how.verified)
        marks = _keep_marks(_moments(meta.marks_of(pieces(source, again))))
    return Extracted(text, size, how.characters, title, form, how.encoding, about, marks, tuple(notes))


def _keep_marks(marks: dict[str, Any]) -> str:
    return blobs.put(json.dumps(marks, separators=(",", ":")).encode(), lazy=True)


def _moments(marks: list[tuple[int, int]]) -> dict[str, Any]:
    return {"kind": "time", "marks": marks}


@dataclass
class _Survey:
    head: str = ""
    tail: str = ""  # "" where the head is all there is


def _survey(source: Path, how: Decoding) -> _Survey:
    """Read the text once without keeping it: is it text to its end, how long, and what stands at its ends."""
    found, blank = _Survey(), True
    for piece in pieces(source, how):
        blank = blank and not piece.strip()
        if len(found.head) < meta.HEAD:
            room = meta.HEAD - len(found.head)
            found.head, found.tail = found.head + piece[:room], piece[room:][-4096:]
        else:
            found.tail = (found.tail + piece[-4096:])[-4096:]
    if blank:
        raise Refused("It holds no text, only blank space.")
    return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True  # too deep to look at; a reader's problem, not ours
    except ValueError:
        return False
    return True


def _write(text: Iterator[str]) -> tuple[str, int]:
    """Keep a text that comes in pieces as a blob of UTF-8; return its name and size."""
    with blobs.Writer(lazy=True) as blob:
        waiting: list[str] = []
        length = 0
        for piece in text:
            waiting.append(piece)
            length += len(piece)
            if length >= BLOCK:
                blob.write("".join(waiting).encode())
                waiting, length = [], 0
        blob.write("".join(waiting).encode())
        return blob.commit(), blob.size


def _transcript(source: Path, name: str, sha: str, form: str) -> Extracted:
    how = sniff(source)
    told = transcripts.Told()
    characters = 0

    def counted() -> Iterator[str]:
        nonlocal characters
        for line in transcripts.text_of(transcripts.lines_of(pieces(source, how)), told):
            characters += len(line)
            yield line

    with blobs.Writer(lazy=True) as blob:  # committed only once it is known to be a transcript
        for line in _blocks(counted()):
            blob.write(line.encode())
        if not told.marks:
            if not how.characters:
                raise Refused("It holds no text, only blank space.")
            raise Refused(
                f"No cues were found in it: a {form.upper()} file has lines such as 00:01:02.000 --> 00:01:05.000."
            )
        text, size = blob.commit(), blob.size
    marks = _keep_marks(_moments(told.marks))
    about: dict[str, Any] = {
        "format": form,
        "minutes": round(told.last / 60_000, 1),
        "timestamps": "[HH:MM:SS] begins each line",
    }
    if told.who:
        about["speakers"] = told.who
    title = meta.shortened(told.title, meta.TITLE_MOST) or meta.title_from_name(name)
    notes = [note for note in how.notes if not note.startswith("Line ends")]  # lines are drawn anew anyway
    return Extracted(text, size, characters, title, form, how.encoding, about, marks, tuple(notes))


DECLARED = re.compile(
    rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{2,40})|<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.:-]{2,40})""",
    re.IGNORECASE,
)


def _jailed(
    source: Path,
    name: str,
    promised: str,
    form: str,
    head: bytes,
    reader: jailed.Reader,
    on_page: jailed.OnPage | None,
    look: Callable[[], None] | None,
) -> Extracted:
    """A file that is no plain text, by way of a jail; the file itself stays the original."""
    notes: list[str] = []
    encoding = ""
    if form == "html":
        file, how = _decoded_page(source)
        encoding = how.encoding
        notes += [note for note in how.notes if not note.startswith("Line ends")]
    else:
        what = magic(head)
        if what and form in ("eml", "epub", "docx", "pdf", "rtf") and what not in (*JAILED.values(), *ZIPS):
            raise Refused(f"Its name promises {JAILED[form]}, but this is {what}.", what="binary")
        file = jailed.memory_of(source, form)
        if promised != form:
            notes.append(f"Its name does not say so, but this is {JAILED[form]}.")
    with blobs.Writer(lazy=True) as blob:
        taking = jailed.Taking(blob, reader.limits)

        def page(number: int, of: int) -> None:
            taking.page(number)
            if on_page:
                on_page(number, of)

        found = reader.read(form, file, taking.text, page, taking.chapter, look)
        if not taking.characters:
            raise Refused("It holds no text.")
        text, size = blob.commit(), blob.size
    marks = _keep_marks(taking.marks) if taking.marks else ""
    return Extracted(
        text,
        size,
        taking.characters,
        jailed.title_of(found, taking.head, name),
        form,
        encoding,
        jailed.about(form, found),
        marks,
        (*notes, *jailed.notes(found)),
    )


ZIPS = ("a ZIP archive (or an office document)", "an old Microsoft Office document")


def _decoded_page(source: Path) -> tuple[Memory, Decoding]:
    """A web page's characters, told as of any text; the page's own word for its encoding counts."""
    if source.stat().st_size > PAGE_MOST:
        raise Refused(f"A page of more than {megabytes(PAGE_MOST)} is not read; save it as text.")
    with source.open("rb") as file:
        named = DECLARED.search(file.read(8192))
    declared = (named[1] or named[2]).decode("ascii", "ignore") if named else ""
    how = sniff(source, declared=declared)
    return Memory("".join(pieces(source, how)).encode()), how


def _blocks(lines: Iterator[str]) -> Iterator[str]:
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) >= 1000:
            yield "".join(waiting)
            waiting = []
    yield "".join(waiting)


Extractor = Callable[[Path, str, str, str], Extracted]
EXTRACTORS: dict[str, Extractor] = dict.fromkeys(("txt", "md", "csv", "tsv", "json", "jsonl"), _text)
EXTRACTORS |= {"vtt": _transcript, "srt": _transcript}
