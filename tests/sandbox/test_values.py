"""A Value on the host: a corpus by reference, shapes for people, heads and tails, cuts for display."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from sandbox import HostRequest, Value
from sandbox.memory import Memory
from tests.sandbox.conftest import Start

loop = pytest.mark.asyncio(loop_scope="module")
TEXT = ("Füße — a line of text.\n" * 3000).encode()


def corpus(blob: bytes | Path) -> Value:
    cut = TEXT.index(b"\n", 20_000) + 1
    return Value.documents(
        blob,
        [
            {"title": "One", "name": "one.txt", "meta": {"year": 2020}, "start": 0, "end": cut},
            {"title": "Two", "name": "two.txt", "meta": None, "start": cut, "end": cut + 31},
            {"title": "Rest", "name": "rest.txt", "meta": {}, "start": cut, "end": len(TEXT)},
        ],
    )


def test_documents_are_slices_of_one_blob(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(TEXT)
    for blob in (TEXT, path):
        value = corpus(blob)
        documents = value.python()
        assert [d["title"] for d in documents] == ["One", "Two", "Rest"]
        assert documents[0]["text"] + documents[2]["text"] == TEXT.decode()
        assert documents[0]["meta"] == {"year": 2020}
        assert list(documents[0]) == ["title", "text", "name", "meta"]
        assert value.type_name == "list"
        assert value.length == 3
        assert value.shape == f"list[3] of dict · {value.chars:,} ch"
        assert value.digest == Value.of(documents).digest
        assert len(value.skeleton) < 1000


def test_metadata_may_be_long() -> None:
    meta = {"summary": "é" * 10_000, "years": list(range(1000)), "tags": ["x"] * 100}
    value = Value.documents(TEXT, [{"title": "One", "name": "", "meta": meta, "start": 0, "end": len(TEXT)}])
    assert value.python()[0]["meta"] == meta
    assert Value.load(value.dump()).digest == value.digest


def test_text_is_a_slice(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(TEXT)
    whole, part = Value.text(path), Value.text(path, 0, 10_000)
    assert whole.python() == TEXT.decode()
    assert (whole.type_name, whole.length, whole.chars) == ("str", len(TEXT.decode()), len(TEXT.decode()))
    assert part.digest == Value.of(TEXT[:10_000].decode()).digest
    assert whole.head(5) == "Füße "
    assert whole.tail(6) == "text.\n"
    assert whole.shape == f"str · {len(TEXT.decode()):,} ch"
    with pytest.raises(ValueError, match="not in a blob"):
        Value.text(path, 0, 10**9)


def test_empty_text_and_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert Value.text(tmp_path / "empty").python() == ""
    assert Value.text(b"").python() == ""
    assert Value.documents(b"", []).python() == []


def test_text_that_is_not_utf8_is_replaced() -> None:
    assert Value.text(b"caf\xe9").python() == "caf\ufffd"


def test_head_and_tail_do_not_cut_characters() -> None:
    text = "𝄞" * 5000
    assert Value.of(text).head(3) == Value.of(text).tail(3) == "𝄞𝄞𝄞"
    with pytest.raises(ValueError, match="only a str"):
        Value.of([1]).head(3)


def test_memory_becomes_a_sealed_memfd() -> None:
    memory = Memory(b"x" * 10)
    fd = memory.fd()
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"y", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    assert bytes(memory.view()) == b"x" * 10
    assert memory.fd() == fd


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, "NoneType"),
        (5, "int"),
        ("abc", "str · 3 ch"),
        ({"a": "xyz"}, "dict[1] · 4 ch"),
        ([1] * 100, "list[100] of int · 800 ch"),
        (["a", 1], "list[2] of mixed · 2 ch"),
        (("a",), "tuple[1] of str · 1 ch"),
        (b"12345", "bytes[5] bytes"),
        ("x" * 1_234_567, "str · 1.23 M ch"),
    ],
)
def test_shape_is_for_people(value: object, shape: str) -> None:
    assert Value.of(value).shape == shape


def test_plain_is_strict_json_and_marks_cuts() -> None:
    value = Value.of(
        {"n": math.nan, "t": (1, 2), "s": {1}, "long": "x" * 10_000, "nul": "a\0b", 5: 2**80, "b": b"bytes"}
    )
    shown = value.plain()
    assert shown["n"] == "nan"
    assert shown["t"] == [1, 2]
    assert shown["nul"] == "a\u2400b"
    assert shown["5"] == str(2**80)
    assert shown["b"] == "bytes"
    cut = value.plain(max_chars=500)
    assert "characters more]" in json.dumps(cut) or "more]" in json.dumps(cut) or "MB in all" in json.dumps(cut)
    assert len(json.dumps(cut)) < 1500


def test_plain_of_a_long_list_is_cut() -> None:
    shown = Value.of(list(range(1_000_000))).plain(max_chars=1000)
    assert len(shown) < 400
    assert "more]" in shown[-1]


def test_preview_is_capped() -> None:
    for value in (
        "x" * 10**6,
        ["x" * 1000] * 1000,
        {str(i): i for i in range(1000)},
        list(range(10**6)),
        b"\0" * 10**6,
    ):
        assert len(Value.of(value).preview(80)) <= 80
    assert Value.of("it's\n").preview() == '"it\'s\\n"'


@pytest.mark.firejail
@loop
async def test_corpus_is_in_the_repl(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(TEXT)
    repl = await start(context=corpus(path))
    result = await repl.run(
        "print(len(context), context[0]['title'], len(context[2]['text']), context[1]['text'][:6])\nFINAL(context)", 1
    )
    assert result.output.startswith("3 One ")
    assert result.final is not None
    assert result.final.digest == corpus(TEXT).digest


@pytest.mark.firejail
@loop
async def test_slice_goes_from_parent_to_child(start: Start) -> None:
    async def child(request: HostRequest) -> Value:
        assert request.context is not None
        repl = await start(context=request.context)
        result = await repl.run("FINAL(context[-3:] + str(len(context)))", 1)
        assert result.final is not None
        return result.final

    parent = await start(context=Value.text(b"0123456789" * 1_000_000), on_request=child)
    result = await parent.run("print(await llm_query(context[5:5_000_005]))", 1)
    assert result.output == "2345000000\n"
