"""One file → its text as a blob, with title, metadata and marks. What a format keeps and what it changes is decided here.

Text formats are kept as they stand: only the encoding becomes UTF-8 and line ends become \\n. Transcripts are re-drawn
as lines (docs/decisions/0101-transcripts.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from analyses import blobs
from analyses.ingest import meta, transcripts, webpage
from analyses.ingest.decode import Decoding, magic, pieces, sniff
from analyses.ingest.limits import Refused, megabytes

EXTENSIONS = {
    "txt": "txt", "text": "txt", "log": "txt", "rst": "txt", "org": "txt",
    "md": "md", "markdown": "md", "mdown": "md", "mkd": "md",
    "vtt": "vtt", "srt": "srt",
    "csv": "csv", "tsv": "tsv", "tab": "tsv",
    "json": "json", "jsonl": "jsonl", "ndjson": "jsonl",
    "html": "html", "htm": "html", "xhtml": "html",
}  # fmt: skip
ARCHIVES = {"zip": "zip", "tar": "tar", "tgz": "tar", "tar.gz": "tar", "tar.bz2": "tar", "tbz2": "tar"}
READS = "txt, md, html, vtt, srt, csv, tsv, json, jsonl, and zip or tar.gz of them"
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
    marks: str = ""  # sha256 of a JSON blob: {"kind": "time", "marks": [[character, ms], …]}
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


def extract(source: Path, name: str, sha: str = "") -> Extracted:
    """Take the text out of a file. `sha`: its blob's name, kept as the text's where the bytes are that text already."""
    form = format_of(name)
    if not form or form not in EXTRACTORS:
        if not source.stat().st_size:
            raise Refused("The file is empty.")
        with source.open("rb") as file:
            what = magic(file.read(64))
        kind = f"Files of type .{suffix_of(name)}" if suffix_of(name) else "Files without an extension"
        also = f" This is {what}." if what else ""
        raise Refused(f"{kind} are not read.{also} Text is taken from {READS}.", what=suffix_of(name)[:12] or "unknown")
    return EXTRACTORS[form](source, name, sha, form)


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
        marks = _keep_marks(meta.marks_of(pieces(source, again)))
    return Extracted(text, size, how.characters, title, form, how.encoding, about, marks, tuple(notes))


def _keep_marks(marks: list[tuple[int, int]]) -> str:
    return blobs.put(json.dumps({"kind": "time", "marks": marks}, separators=(",", ":")).encode(), lazy=True)


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
    marks = _keep_marks(told.marks)
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


def _page(source: Path, name: str, sha: str, form: str) -> Extracted:
    """A web page as a person reads it; the page itself stays the original."""
    if source.stat().st_size > PAGE_MOST:
        raise Refused(f"A page of more than {megabytes(PAGE_MOST)} is not read; save it as text.")
    with source.open("rb") as file:
        named = webpage.declared(file.read(8192))
    how = sniff(source, declared=named)
    try:
        text, title = webpage.read("".join(pieces(source, how)))
    except webpage.Unreadable as error:
        raise Refused(str(error)) from None
    if not text:
        raise Refused("It holds no text: a page without words, or one that a script would have to write.")
    kept, size = _write(iter([text]))
    first = meta.shortened(title, meta.TITLE_MOST)
    if not first and (heading := meta.HEADING.search(text[:20_000])):
        first = meta.shortened(heading[1], meta.TITLE_MOST)
    notes = [note for note in how.notes if not note.startswith("Line ends")]
    return Extracted(
        kept,
        size,
        len(text),
        first or meta.title_from_name(name),
        form,
        how.encoding,
        {"format": form},
        notes=tuple(notes),
    )


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
EXTRACTORS |= {"vtt": _transcript, "srt": _transcript, "html": _page}
