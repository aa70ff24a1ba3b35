"""Our own JSON lines (docs/trajectory.md): a run out, with every blob it names, and the same bytes in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from heapq import merge
from typing import Any

from analyses import blobs
from analyses.models import (
    ENDED,
    Answered,
    Call,
    Cell,
    CorpusVersion,
    EarlierAnswer,
    FollowUp,
    ForeignCorpus,
    Run,
    Status,
)
from analyses.trajectory import fields
from analyses.trajectory.draft import Draft
from analyses.trajectory.limits import LogRefused
from analyses.trajectory.reading import Log
from sandbox.values import Value

NAME = fields.FORMAT
ORIGIN = re.compile(r"[a-z0-9-]{1,20}\Z")
PART = 192 << 10  # bytes of a blob in one line
DOCUMENTS_MOST = 20_000
OPEN_CELLS = (Cell.Status.WRITING, Cell.Status.RUNNING, Cell.Status.WAITING)
UNENDED = "The log was written while the run went on."


# — out —


def export(run: Run) -> Iterator[bytes]:
    """The lines of a run, one after the other; a blob follows the first line that names it."""
    given: set[str] = set()
    counts = {"calls": 0, "cells": 0, "blobs": 0}
    origin = run.imported_from if run.imported_from != NAME else ""
    yield _line(
        {"type": "run", "format": NAME, "version": fields.VERSION, "origin": origin}
        | fields.put(run, fields.RUN_COLUMNS)
    )
    yield from _corpus(run)
    yield from _blobs(fields.blobs_of({"answer_blob": run.answer_blob}), given)
    yield from _further(run, given)
    calls = Call.objects.filter(run=run).order_by("born").iterator(chunk_size=200)
    cells = Cell.objects.filter(run=run).order_by("born").iterator(chunk_size=50)
    rows: Iterable[Call | Cell] = merge(calls, cells, key=lambda row: row.born)
    by_number: dict[int, Call] = {}  # what is needed of them to take something out of their cells
    for row in rows:
        if isinstance(row, Call):
            if not run.contents.whole:
                by_number[row.number] = Call(number=row.number, kind=row.kind, strategy=row.strategy)
            line = {"type": "call"} | fields.put(row, fields.CALL_COLUMNS)
            counts["calls"] += 1
        else:
            if not run.contents.whole:
                run.contents.cell(row, by_number[row.call_number])
            line = {"type": "cell"} | fields.put(row, fields.CELL_COLUMNS)
            counts["cells"] += 1
        yield _line(line)
        yield from _blobs(fields.blobs_of(line), given)
    yield _line({"type": "end"} | counts | {"blobs": len(given)})


def _further(run: Run, given: set[str]) -> Iterator[bytes]:
    """Each follow-up, after the answer that it followed on."""
    earlier = {row.number: row for row in run.earlier_answers.all()}
    for follow_up in run.follow_up_set.order_by("number"):
        if before := earlier.get(follow_up.number - 1):
            line = {"type": "earlier_answer"} | fields.put(before, fields.EARLIER_ANSWER_COLUMNS)
            yield _line(line)
            yield from _blobs(fields.blobs_of(line), given)
        yield _line({"type": "follow_up"} | fields.put(follow_up, fields.FOLLOW_UP_COLUMNS))


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _corpus(run: Run) -> Iterator[bytes]:
    """What is told of the corpus: names, sizes and digests, not the texts."""
    foreign = ForeignCorpus.objects.filter(run=run).first()
    if foreign is not None:
        about = foreign.described
        yield _line(
            {"type": "corpus"} | {name: about[name] for name in (*fields.CORPUS, *fields.OF_A_PART) if name in about}
        )
        for document in about["list"] if run.contents.sources else ():
            yield _line({"type": "document"} | dict(zip(fields.DOCUMENT, document, strict=True)))
    elif run.corpus_version_id is not None:
        version = CorpusVersion.objects.select_related("corpus").get(pk=run.corpus_version_id)
        chosen = None if run.documents is None else set(run.documents)
        read = [
            document
            for document in version.documents.order_by("position").defer("meta", "marks").iterator()
            if chosen is None or document.position in chosen
        ]
        about = {
            "name": version.corpus.name, "version": version.number, "documents": version.document_count,
            "characters": version.characters, "bytes": version.bytes, "sha256": version.text,
        }  # fmt: skip
        if chosen is not None:
            about["documents"] = len(read)
            about["characters"] = sum(document.characters for document in read)
            about["bytes"] = sum(document.byte_end - document.byte_start for document in read)
            about["of"] = version.document_count
        yield _line({"type": "corpus"} | fields.described(about, tuple(about)))
        for document in read if run.contents.sources else ():
            told = (
                document.position, document.title, document.name, document.format, document.characters,
                document.byte_end - document.byte_start, document.original,
            )  # fmt: skip
            yield _line(
                {"type": "document"} | fields.described(dict(zip(fields.DOCUMENT, told, strict=True)), fields.DOCUMENT)
            )


def _blobs(names: Iterable[str], given: set[str]) -> Iterator[bytes]:
    for sha in names:
        if sha in given:
            continue
        given.add(sha)
        try:
            blob = blobs.open(sha)
        except FileNotFoundError:
            yield _line({"type": "blob", "sha256": sha, "part": 0, "last": True, "missing": True})
            continue
        with blob:
            yield from _parts(sha, blob)


def _parts(sha: str, blob: Any) -> Iterator[bytes]:
    """A blob in lines of bounded length: as text where it is UTF-8, else in base64."""
    piece, number = blob.read(PART), 0
    while True:
        more = blob.read(PART)
        keep = _whole_characters(piece) if more else len(piece)
        piece, more = piece[:keep], piece[keep:] + more
        line: dict[str, Any] = {"type": "blob", "sha256": sha, "part": number, "last": not more}
        try:
            yield _line(line | {"text": piece.decode()})
        except UnicodeDecodeError:
            yield _line(line | {"base64": base64.b64encode(piece).decode()})
        if not more:
            return
        piece, number = more, number + 1


def _whole_characters(piece: bytes) -> int:
    """Where the last character that may be cut in two begins."""
    for back in range(1, min(4, len(piece)) + 1):
        byte = piece[-back]
        if byte & 0xC0 != 0x80:
            needs = 1 if byte < 0x80 else 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4
            return len(piece) - back if needs > back else len(piece)
    return len(piece)


# — in —


def recognises(line: dict[str, Any]) -> bool:
    return line.get("format") == NAME


def read(log: Log) -> Iterator[Draft]:
    draft = Draft(NAME, log.name, log.limits)
    reader = _Reader(log, draft)
    try:
        reader.read()
        yield draft
    finally:
        reader.close()
        draft.close()


@dataclass
class _Incoming:
    """A blob of which some parts are here."""

    sha: str
    writer: blobs.Writer
    hash: Any
    parts: int = 0


FOLLOW_UPS_MOST = 99


class _Reader:
    """The lines of one file, in order, into a draft."""

    def __init__(self, log: Log, draft: Draft) -> None:
        self.log = log
        self.draft = draft
        self.by_number: dict[int, Call] = {}
        self.named: set[str] = set()
        self.answers: set[str] = set()
        self.outputs: set[str] = set()  # and answers: blobs that only this run's rows name
        self.given: set[str] = set()
        self.ended: dict[str, Any] | None = None
        self.weight = 0
        self._documents: list[list[Any]] = []
        self._blob: _Incoming | None = None
        self._open = ExitStack()

    def close(self) -> None:
        self._open.close()

    def read(self) -> None:
        takers = {
            "run": self._run, "corpus": self._corpus, "document": self._document, "earlier_answer": self._earlier_answer,
            "follow_up": self._follow_up, "call": self._call, "cell": self._cell, "blob": self._part, "end": self._end,
        }  # fmt: skip
        first = True
        for _, line in self.log.objects():
            if first and line.get("type") != "run":
                raise LogRefused("Its first line is not the run.")
            if not first and line.get("type") == "run":
                raise LogRefused("It holds two runs; a file of this format holds one.")
            first = False
            if self.log.bad or self.ended is not None:
                break
            # Lines of types that are not known here come from a later writer of the same version: they may be skipped.
            if taker := takers.get(str(line.get("type"))):
                taker(line)
        self._finish()

    def _run(self, line: dict[str, Any]) -> None:
        version = line.get("version")
        if version != fields.VERSION or isinstance(version, bool):
            raise LogRefused(
                f"It is of version {version!r} of the format; this instance reads version {fields.VERSION}. "
                "A newer rlmweb may have written it."
            )
        run = self.draft.run
        for name, value in fields.take(line, fields.RUN_COLUMNS).items():
            setattr(run, name, value)
        if run.cached_tokens and not run.prompt_tokens:
            raise LogRefused("It counts cached tokens, but no prompt that they could be of.")
        origin = line.get("origin")
        if isinstance(origin, str) and ORIGIN.match(origin):
            run.imported_from = origin
        self._name(fields.blobs_of({"answer_blob": run.answer_blob}), answer=True)
        self._check_answer(bytes(run.answer_value))

    def _earlier_answer(self, line: dict[str, Any]) -> None:
        found = fields.take(line, fields.EARLIER_ANSWER_COLUMNS)
        if found["number"] != len(self.draft.earlier_answers) + 1 or found["number"] > FOLLOW_UPS_MOST:
            raise LogRefused(f"Its earlier answer {found['number']} is not in its place.")
        if found["status"] not in ENDED:
            raise LogRefused("An earlier answer is of a run that had not ended.")
        self._weigh([found["answer_display"]], len(found["answer_value"]))
        self._name(fields.blobs_of(found), answer=True)
        self._check_answer(found["answer_value"])
        self.draft.earlier_answers.append(EarlierAnswer(**found, born=0))

    def _follow_up(self, line: dict[str, Any]) -> None:
        found = fields.take(line, fields.FOLLOW_UP_COLUMNS)
        if found["number"] != len(self.draft.follow_ups) + 2 or found["number"] != len(self.draft.earlier_answers) + 1:
            raise LogRefused(f"Its follow-up {found['number']} is not in its place.")
        self.draft.follow_ups.append(FollowUp(**found, born=0))

    def _corpus(self, line: dict[str, Any]) -> None:
        names = fields.CORPUS + tuple(name for name in fields.OF_A_PART if name in line)
        self.draft.corpus = fields.described(line, names) | {"list": self._documents}

    def _document(self, line: dict[str, Any]) -> None:
        if len(self._documents) >= DOCUMENTS_MOST:
            raise LogRefused(f"It names more than {DOCUMENTS_MOST:,} documents.")
        self._documents.append(list(fields.described(line, fields.DOCUMENT).values()))

    def _call(self, line: dict[str, Any]) -> None:
        found = fields.take(line, fields.CALL_COLUMNS)
        number, parent = found["number"], found["parent_number"]
        if number in self.by_number:
            raise LogRefused(f"There are two calls {number}.")
        above = self.by_number.get(parent) if parent is not None else None
        if parent is None and (self.by_number or number != 1 or found["parent_cell"] is not None):
            raise LogRefused(f"Call {number} has no parent and is not the root.")
        if parent is not None and (above is None or parent >= number):
            raise LogRefused(f"Call {number} comes before its parent, call {parent}.")
        if found["depth"] != (above.depth + 1 if above else 0):
            raise LogRefused(f"Call {number} stands at depth {found['depth']}, which does not fit its parent.")
        self._weigh([found["answer_display"]], found["instruction"], found["schema"], len(found["answer_value"]))
        self._name(fields.blobs_of(found), answer=True)
        self._check_answer(found["answer_value"])
        self.by_number[number] = self.draft.add_call(Call(**found))

    def _cell(self, line: dict[str, Any]) -> None:
        found = fields.take(line, fields.CELL_COLUMNS)
        call = self.by_number.get(found["call_number"])
        if call is None:
            raise LogRefused(f"A cell comes before its call {found['call_number']}.")
        if found["status"] in OPEN_CELLS:
            found |= {"status": Cell.Status.STOPPED, "ended_at": found["ended_at"] or found["started_at"]}
        self._name(fields.blobs_of(found))
        self.outputs.update(filter(None, [found["output_blob"]]))
        self.draft.add_cell(call, found)

    def _weigh(self, *values: Any) -> None:
        """Calls stay in memory until the end: together they may take this much of it."""
        self.weight += sum(value if isinstance(value, int) else len(json.dumps(value)) for value in values)
        if self.weight > self.log.limits.blob_bytes:
            raise LogRefused("Its calls are too large together.")

    def _name(self, shas: list[str], *, answer: bool = False) -> None:
        self.named.update(shas)
        if answer:
            self.answers.update(shas)
            self.outputs.update(shas)

    @staticmethod
    def _check_answer(dump: bytes) -> None:
        if dump:
            try:
                Value.load(dump)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise LogRefused("An answer is not a value that this instance can read.") from None

    def _part(self, line: dict[str, Any]) -> None:
        sha, part = line.get("sha256"), line.get("part")
        if not isinstance(sha, str) or sha not in self.named or not isinstance(part, int):
            raise LogRefused("A blob is in it that no line before names.")
        if line.get("missing") is True or sha in self.given:
            return
        if self._blob is None:
            self._blob = _Incoming(sha, self._open.enter_context(blobs.Writer()), hashlib.sha256())
        blob = self._blob
        if (blob.sha, blob.parts) != (sha, part):
            raise LogRefused(f"The parts of blob {sha[:12]} are not in order.")
        content = _content(line)
        blob.hash.update(content)
        blob.writer.write(content)
        blob.parts += 1
        if blob.writer.size > self.log.limits.blob_bytes:
            raise LogRefused(f"Blob {sha[:12]} is larger than {self.log.limits.blob_bytes:,} bytes.")
        if line.get("last") is True:
            if blob.hash.hexdigest() != sha:
                raise LogRefused(f"Blob {sha[:12]} is not what its name says: the file was changed.")
            blob.writer.commit()
            self.given.add(sha)
            self._blob = None
            if sha in self.outputs:
                self.draft.blobs.add(sha)

    def _end(self, line: dict[str, Any]) -> None:
        self.ended = line

    def _finish(self) -> None:
        draft, run = self.draft, self.draft.run
        if not draft.calls:
            raise LogRefused(
                "It is cut off before its first call." if self.ended is None else "There is no call in it."
            )
        if self.ended is None:
            draft.cut = "Cut off: the file ends, or is damaged, before its last line."
            draft.count()
            run.reason = f"{draft.cut} {run.reason}".strip()
        elif (self.ended.get("calls"), self.ended.get("cells")) != (len(draft.calls), draft.cells):
            raise LogRefused("Lines are missing: its last line counts more or fewer calls and cells than there are.")
        run.depth = max(call.depth for call in draft.calls)
        for sha in self.answers & self.given:
            self._check_answer(blobs.read(sha))
        self._drop(self.named - self.given)
        self._close()

    def _close(self) -> None:
        """A run that had not ended when it was written down has ended here."""
        run = self.draft.run
        rows: list[Run | Call] = [run, *self.draft.calls]
        for row in (row for row in rows if row.status not in ENDED):
            row.status, row.reason = Status.STOPPED, row.reason or UNENDED
        for call in self.draft.calls:
            if call.finished_at is None:
                call.finished_at = max(call.queued_at, call.started_at or 0.0)
        if run.finished_at is None:
            run.finished_at = run.started_at or run.created_at

    def _drop(self, missing: set[str]) -> None:
        """Names of blobs that are not in the file: those bytes may be somebody else's here."""
        if not missing:
            return
        rows: list[Answered] = [self.draft.run, *self.draft.earlier_answers, *self.draft.calls]
        for row in rows:
            if row.answer_blob in missing:
                row.answer_blob = ""
        self.draft.drop(missing)


def _content(line: dict[str, Any]) -> bytes:
    text = line.get("text")
    if isinstance(text, str):
        return text.encode("utf-8", "replace")
    try:
        return base64.b64decode(line["base64"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise LogRefused("A part of a blob has no content.") from None
