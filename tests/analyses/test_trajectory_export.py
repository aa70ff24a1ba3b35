"""Runs as files: our own format out and in without loss, notebooks that are valid, pages that work offline."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import nbformat
import pytest
from django.core.management import call_command

from analyses import blobs
from analyses.actions import stop_run
from analyses.models import Call, Cell, Corpus, CorpusVersion, Document, Run
from analyses.texts import answer_of, bounded_answer, clean, stored_messages
from analyses.trajectory import html, jsonl, notebook
from analyses.trajectory.exporting import EXPORTS
from analyses.trajectory.importing import Outcome, import_file
from analyses.trajectory.jsonl import PART, _parts
from analyses.trajectory.limits import ImportLimits
from analyses.trajectory.walk import walk
from rlm.events import Message
from sandbox import Value
from tests.factories import make_run, make_workspace

pytestmark = pytest.mark.django_db
NASTY = "<script>alert(1)</script> ![x](http://evil.example/x.png) <img src=x onerror=alert(1)> ``` \u202e `"


def write(run: Run, name: str = "jsonl") -> bytes:
    return b"".join(EXPORTS[name].write(run))


def again(run: Run, data: bytes, **limits: int) -> Outcome:
    [outcome] = import_file(io.BytesIO(data), "run.jsonl", run.workspace, None, ImportLimits(**limits))
    return outcome


def objects(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def rich() -> Run:
    return make_rich(3_000, 200)


def make_rich(lines: int, records: int) -> Run:
    """A run with everything a file can carry: blobs of texts and of values, a corpus, long messages, odd characters."""
    run = make_run(make_workspace(), "done", question=f"Who? {NASTY}")
    corpus = Corpus.objects.create(workspace=run.workspace, name="Lights")
    version = CorpusVersion.objects.create(
        corpus=corpus, number=2, text="a" * 64, document_count=1, characters=5, bytes=6
    )
    Document.objects.create(
        version=version, position=0, title="Öl", name="a/öl.md", byte_start=0, byte_end=6, char_start=0, characters=5,
        format="md", encoding="utf-8", original="b" * 64, original_bytes=6,
    )  # fmt: skip
    output = "é🙂 line\n" * lines
    long = [Message("system", "s" * 9000), Message("user", NASTY, {"tool_call_id": "t1"})]
    cells = run.cell_set.filter(call_number=1).order_by("number")
    cells.filter(number=1).update(
        output="", output_blob=blobs.put(output.encode()), output_chars=len(output), messages=stored_messages(long),
        variables=[{"name": "x", "type": "list", "size": "3 items", "preview": "[1, 2, 3]", "is_context": False}],
        exchange=[["ask", 0, "i"], ["give", 0, ""]], reasoning=clean(NASTY), waited=0.25,
    )  # fmt: skip
    cells.filter(number=2).update(messages=stored_messages(long[:1]), cost=None)
    answer = bounded_answer(
        Value.of([{"name": f"n{n}", "text": "word " * 20, "f": float("nan")} for n in range(records)]), "found"
    )
    Call.objects.filter(run=run, number=1).update(
        **answer, schema={"type": "array"}, notes=["The reply was asked for twice."]
    )
    Call.objects.filter(run=run, number=2).update(**bounded_answer(Value.of((1, {2: b"\xff"})), ""))
    Run.objects.filter(pk=run.pk).update(
        **answer, corpus_version=version, limits={"turns": 20, "cost": None}, cost=None
    )
    return Run.objects.select_related("workspace", "corpus_version__corpus").get(pk=run.pk)


# — our own format —


@pytest.mark.parametrize("shape", ["done", "failed", "crowd"])
def test_export_import_export_gives_the_same_bytes(shape: str) -> None:
    run = make_run(make_workspace(), shape)
    first = write(run)
    outcome = again(run, first)
    assert outcome.run is not None, outcome.reason
    assert write(outcome.run) == first


def test_everything_survives_the_way_out_and_in(rich: Run) -> None:
    first = write(rich)
    outcome = again(rich, first)
    assert outcome.run is not None, outcome.reason
    copy = Run.objects.get(pk=outcome.run.pk)
    assert write(copy) == first
    assert (copy.imported_from, copy.corpus_version, copy.seq) == (
        "rlmweb",
        None,
        copy.call_set.count() + copy.cell_set.count(),
    )
    assert copy.foreign_corpus.described["list"] == [[0, "Öl", "a/öl.md", "md", 5, 6, "b" * 64]]
    assert answer_of(copy) == answer_of(rich) and answer_of(copy) is not None
    for old, new in zip(rich.cell_set.order_by("born"), copy.cell_set.order_by("born"), strict=True):
        for column in Cell._meta.concrete_fields:
            if column.name not in ("id", "run", "call", "born", "seq"):
                assert getattr(old, column.name) == getattr(new, column.name), column.name


def test_order_of_the_lines_is_the_order_of_births_and_parents_come_first(rich: Run) -> None:
    seen: set[Any] = {None}
    for line in objects(write(rich)):
        if line["type"] == "call":
            assert (line["parent_number"], line["parent_cell"]) in seen or line["number"] == 1
            seen.add(line["number"])
        elif line["type"] == "cell":
            assert line["call_number"] in seen
            seen.add((line["call_number"], line["number"]))


def test_blobs_come_once_in_lines_of_bounded_length() -> None:
    large = make_rich(25_000, 2_000)
    data = write(large)
    outcome = again(large, data)
    assert outcome.run is not None and write(outcome.run) == data
    parts = [line for line in objects(data) if line["type"] == "blob"]
    assert max(map(len, data.splitlines())) < 4 * PART
    assert len({(line["sha256"], line["part"]) for line in parts}) == len(parts)
    assert len({line["sha256"] for line in parts}) == objects(data)[-1]["blobs"] == 3
    assert any("base64" in line for line in parts) and any(line["part"] > 0 for line in parts)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        "é".encode() * PART,
        "🙂".encode() * PART,
        b"x" * (PART * 2),
        b"\x80" * (PART + 9),
        random.Random(1).randbytes(PART * 2 + 5),
    ],
)
def test_parts_of_any_bytes_make_the_same_bytes(data: bytes) -> None:
    parts = objects(b"".join(_parts("0" * 64, io.BytesIO(data))))
    assert [part["last"] for part in parts] == [False] * (len(parts) - 1) + [True]
    assert b"".join(jsonl._content(part) for part in parts) == data


def test_imported_run_keeps_where_it_first_came_from(rich: Run) -> None:
    Run.objects.filter(pk=rich.pk).update(imported_from="fast-rlm")
    rich.refresh_from_db()
    outcome = again(rich, write(rich))
    assert outcome.run is not None and outcome.run.imported_from == "fast-rlm"
    assert write(outcome.run) == write(rich)


def test_file_cut_at_any_line_is_imported_as_far_as_it_goes(rich: Run) -> None:
    whole = write(rich).splitlines(keepends=True)
    for count in range(len(whole)):
        outcome = again(rich, b"".join(whole[:count]) + whole[count][:20])
        if outcome.run is None:
            assert outcome.reason
            continue
        assert "Cut off" in outcome.note and outcome.run.reason.startswith("Cut off")
        kinds = [json.loads(line)["type"] for line in whole[:count]]
        assert outcome.run.calls == kinds.count("call")
        assert outcome.run.cell_set.count() == kinds.count("cell")
        for row in outcome.run.cell_set.exclude(output_blob=""):
            assert blobs.exists(row.output_blob)


def test_run_that_has_not_ended_comes_in_as_stopped() -> None:
    run = make_run(make_workspace(), "running")
    outcome = again(run, write(run))
    assert outcome.run is not None, outcome.reason
    assert (outcome.run.status, outcome.run.ended) == ("stopped", True)
    assert not outcome.run.call_set.filter(status__in=["queued", "running", "waiting"]).exists()
    assert not outcome.run.cell_set.filter(status__in=["writing", "running", "waiting"]).exists()


def changed(data: bytes, kind: str, /, **over: Any) -> bytes:
    """The file with fields of its first line of a type changed."""
    lines = objects(data)
    next(line for line in lines if line["type"] == kind).update(over)
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("kind", "over", "said"),
    [
        ("run", {"version": 2}, "version 2"),
        ("run", {"status": "fine"}, "status"),
        ("run", {"calls": -1}, "calls"),
        ("run", {"limits": {"turns": "many"}}, "limits"),
        ("run", {"created_at": "yesterday"}, "created_at"),
        ("run", {"answer_value": "!!"}, "answer_value"),
        ("run", {"answer_value": "AAAA"}, "not a value"),
        ("run", {"answer_blob": "../../etc/passwd"}, "answer_blob"),
        ("call", {"number": 2}, "no parent"),
        ("call", {"parent_number": 1, "parent_cell": 1}, "before its parent"),
        ("call", {"depth": 3}, "depth"),
        ("call", {"kind": "boss"}, "kind"),
        ("cell", {"call_number": 9}, "before its call"),
        ("cell", {"started_at": 1e300}, "started_at"),
        ("cell", {"prompt_tokens": 10**12}, "prompt_tokens"),
        ("cell", {"messages": ["hello"]}, "messages"),
        ("cell", {"messages": [{"role": "user", "blob": "x"}]}, "messages"),
        ("blob", {"text": "other", "base64": None}, "not what its name says"),
        ("blob", {"sha256": "f" * 64}, "no line before names"),
        ("blob", {"part": 4}, "not in order"),
        ("end", {"calls": 1}, "Lines are missing"),
        ("document", {"position": -1}, "position"),
    ],
)
def test_files_that_were_changed_are_refused_with_a_reason(
    rich: Run, kind: str, over: dict[str, Any], said: str
) -> None:
    runs = Run.objects.count()
    outcome = again(rich, changed(write(rich), kind, **over))
    assert outcome.run is None
    assert said in outcome.reason
    assert Run.objects.count() == runs


@pytest.mark.parametrize("kind", ["run", "corpus", "document", "call", "cell", "blob", "end"])
def test_no_value_of_a_field_trips_the_reader(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    small = make_rich(1_700, 3)
    data = write(small)
    line = next(line for line in objects(data) if line["type"] == kind)
    odd = [None, True, -1, 0.5, 10**30, "", "x", [], {}, [None], [{}], {"a": []}]
    for name in line:
        for value in odd:
            again(small, changed(data, kind, **{name: value}))
    assert "could not be imported" not in caplog.text


def test_circles_among_calls_cannot_be_written_down(rich: Run) -> None:
    lines = objects(write(rich))
    calls = [line for line in lines if line["type"] == "call"]
    calls[1]["parent_number"] = calls[2]["number"]
    outcome = again(rich, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert outcome.run is None and "before its parent" in outcome.reason


def test_blob_of_another_run_cannot_be_read_by_its_name(rich: Run) -> None:
    secret = blobs.put(b"another workspace's output")
    lines = [line for line in objects(write(rich)) if line["type"] != "blob"]
    cell = next(line for line in lines if line["type"] == "cell")
    cell |= {"output": "", "output_blob": secret}
    outcome = again(rich, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert outcome.run is not None
    row = outcome.run.cell_set.get(call_number=cell["call_number"], number=cell["number"])
    assert row.output_blob == "" and "not in the file" in row.output


def test_lost_blob_does_not_stop_an_export(rich: Run) -> None:
    sha = rich.cell_set.exclude(output_blob="")[0].output_blob
    blobs.delete(sha)
    data = write(rich)
    assert any(line.get("missing") for line in objects(data))
    assert again(rich, data).run is not None
    assert write(rich, "notebook") and write(rich, "markdown") and write(rich, "html")


def test_reading_takes_memory_for_a_few_rows_only() -> None:
    """The rows come through iterators: the export begins before they are all there."""
    run = make_run(make_workspace(), "crowd")
    pieces = jsonl.export(run)
    assert isinstance(pieces, Iterator)
    assert json.loads(next(pieces))["type"] == "run"
    pieces.close()  # type: ignore[attr-defined]


# — notebook and Markdown —


@pytest.mark.parametrize("shape", ["done", "failed", "crowd", "running", ""])
def test_notebook_is_valid(shape: str) -> None:
    run = make_run(make_workspace(), shape)
    book = nbformat.reads(write(run, "notebook").decode(), as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) == run.cell_set.exclude(code="").count()


def test_notebook_holds_cells_outputs_and_errors_in_reading_order(rich: Run) -> None:
    book = nbformat.reads(write(rich, "notebook").decode(), as_version=4)
    nbformat.validate(book)
    ids = [cell.id for cell in book.cells]
    assert (
        ids.index("call-1")
        < ids.index("cell-1-4")
        < ids.index("call-2")
        < ids.index("cell-2-1")
        < ids.index("cell-1-5-text")
    )
    by_id = {cell.id: cell for cell in book.cells}
    assert by_id["cell-1-1"].outputs[0].text.startswith("é🙂 line\n")
    assert "4,000 characters more" in write(rich, "markdown").decode()
    assert by_id["cell-1-3"].outputs[-1].ename == "KeyError"
    assert by_id["cell-1-1"].source == rich.cell_set.get(call_number=1, number=1).code


@pytest.mark.parametrize("name", ["notebook", "markdown"])
def test_markup_of_a_model_does_not_act(rich: Run, name: str) -> None:
    text = write(rich, name).decode()
    if name == "notebook":
        book = nbformat.reads(text, as_version=4)
        text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    prose = "\n".join(line for line in text.splitlines() if line.startswith(("#", ">", "|", "*")))
    assert not re.search(r"(?<!\\)<(script|img)", prose)
    assert not re.search(r"(?<!\\)!\[", prose)
    assert "alert(1)" in prose
    assert "\u202e" not in text


def test_markdown_fences_cannot_be_closed_from_within() -> None:
    run = make_run(make_workspace(), "done")
    run.cell_set.filter(number=1).update(output="before\n```\n# not a heading\n````\nafter", output_blob="")
    assert "`````text\nbefore\n```\n# not a heading" in write(run, "markdown").decode()


# — one HTML file —


class Page(HTMLParser):
    """Collects what a page asks for, and whether its elements close."""

    VOID = ("meta", "link", "br", "hr", "img", "input", "use", "rect", "line", "path", "circle", "wbr")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.mark.parametrize("shape", ["done", "failed", "crowd", "running", ""])
def test_html_is_one_file_that_asks_for_nothing(shape: str) -> None:
    run = make_run(make_workspace(), shape)
    page = Page()
    page.feed(write(run, "html").decode())
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "form", "object"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links), [link for link in page.links if not link.startswith("#")][
        :5
    ]
    assert not [name for name in page.attributes if name.startswith(("on", "hx-")) or name == "style"]
    assert len(page.ids) == len(set(page.ids))
    shown = {f"call-{number}" for number in run.call_set.values_list("number", flat=True)}
    shown |= {f"cell-{call}-{number}" for call, number in run.cell_set.values_list("call_number", "number")}
    assert shown <= set(page.ids)
    anchors = {link[1:] for link in page.links if link.startswith("#call") or link.startswith("#i-")}
    assert anchors <= set(page.ids)


def test_html_of_a_very_large_run_leaves_out_cells_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(make_workspace(), "crowd")
    monkeypatch.setattr(html, "CALLS_WHOLE", 10)
    text = write(run, "html").decode()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "cell-10-1" in page.ids and "cell-11-1" not in page.ids and "call-11" in page.ids
    assert (
        "cells of the first 10 of 101 calls are in this file" in text
        and "JSON Lines export holds the whole run" in text
    )
    told, shown = text.partition('id="call-11"')[::2]
    assert "cells are left out here" in shown and "cells are left out here" not in told
    left_out = [row for row in walk(run, whole=10) if isinstance(row, Cell) and row.call_number > 10]
    assert left_out == []  # nor read from the database


def test_html_escapes_whatever_is_in_a_run(rich: Run) -> None:
    nasty = clean(NASTY)  # as the recorder writes it
    Cell.objects.filter(run=rich).update(code=nasty, reply=nasty, error=nasty, shown=nasty)
    Call.objects.filter(run=rich).update(title=nasty, instruction=nasty, reason=nasty)
    text = write(rich, "html").decode()
    assert "<script" not in text and "<img" not in text and "\u202e" not in text
    page = Page()
    page.feed(text)
    assert page.open == []


# — the command —


def test_command_writes_each_format(tmp_path: Any) -> None:
    run = make_run(make_workspace(), "done")
    for name in EXPORTS:
        call_command("export_trajectory", run.key, "--format", name, "--output", str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == write(run, name)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", EXPORTS)
def test_rows_are_read_many_at_a_time(name: str, django_assert_max_num_queries: Any) -> None:
    run = make_run(make_workspace(), "crowd")
    assert run.calls > 100
    with django_assert_max_num_queries(30):
        write(run, name)


def test_notebook_is_written_in_pieces() -> None:
    run = make_run(make_workspace(), "crowd")
    assert max(len(piece) for piece in notebook.export(run)) < 20_000


@pytest.mark.django_db
def test_follow_ups_and_earlier_answers_are_in_every_export_and_come_in_again() -> None:
    run = make_run(make_workspace(), "further", endpoint="offline")
    stop_run(run)
    run.refresh_from_db()
    assert run.follow_ups == 2
    lines = b"".join(jsonl.export(run))
    [outcome] = import_file(io.BytesIO(lines), "run.jsonl", run.workspace, None)
    assert outcome.run is not None, outcome.reason
    assert b"".join(jsonl.export(Run.objects.get(pk=outcome.run.pk))) == lines
    assert [row.question for row in outcome.run.follow_up_set.all()] == [
        "And who was it not?", "And what of the harbour?"
    ]  # fmt: skip
    for name in ("markdown", "notebook", "html"):
        text = b"".join(EXPORTS[name].write(run)).decode()
        assert "Answer v3" in text and "Answer v1" in text, name
        assert "And who was it not?" in text and "Perpetua Vane: 02:10" in text and "harbour?" in text, name
    moved = lines.replace(b'"type":"follow_up","number":2', b'"type":"follow_up","number":4')
    [outcome] = import_file(io.BytesIO(moved), "run.jsonl", run.workspace, None)
    assert outcome.run is None and "not in its place" in outcome.reason
