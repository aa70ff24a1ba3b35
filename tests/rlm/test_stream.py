"""Server-sent events to replies: however the bytes are cut, whatever stands between them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.events import Usage
from rlm.replies import ModelError
from rlm.stream import ReplyBuilder, data_events, is_context_length, read_usage


async def cut(data: bytes, places: list[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted({p % (len(data) + 1) for p in places}), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):
        yield data[start:end]


STREAM = (
    b": OPENROUTER PROCESSING\r\n\r\n"
    b'event: message\r\nid: 7\r\ndata: {"a": "\xc3\xa9"}\r\n\r\n'
    b"data: two\ndata: lines\n\n"
    b"\n\n: ping\n\n"
    b"data:[DONE]\n"
)


@given(st.lists(st.integers(0, 500), max_size=30))
async def test_events_do_not_depend_on_how_the_bytes_are_cut(places: list[int]) -> None:
    found = [event async for event in data_events(cut(STREAM, places), 1000)]
    assert found == ['{"a": "é"}'.encode(), b"two\nlines", b"[DONE]"]


async def test_an_endless_line_is_cut_off() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"data: " + b"x" * 1000

    with pytest.raises(ModelError, match="longer than"):
        async for _ in data_events(endless(), 10_000):
            pass


def build(*chunks: Any, max_chars: int = 1000) -> Any:
    builder = ReplyBuilder(max_chars)
    for chunk in chunks:
        builder.feed(json.dumps(chunk).encode())
    return builder.reply(lambda size: Usage(0, size))


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


def test_tool_calls_are_put_together_from_their_pieces() -> None:
    reply = build(
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "search", "arguments": '{"q'}}]),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "read", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": 'uery": 1}'}}]),
    )
    assert [(c.id, c.name, c.arguments) for c in reply.tool_calls] == [
        ("a", "search", '{"query": 1}'),
        ("b", "read", "{}"),
    ]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
def test_reasoning_is_found_under_every_name(field: str) -> None:
    assert build(delta(**{field: "hm"}), delta(content="yes")).reasoning == "hm"


@pytest.mark.parametrize(
    "chunk",
    [
        {}, {"choices": None}, {"choices": [None]}, {"choices": [{"delta": None}]}, {"choices": [{"delta": {"content": 7}}]},
        {"choices": [{"delta": {"tool_calls": [None, {"function": 3}]}}]}, {"usage": "many"}, {"usage": {"prompt_tokens": -4}},
        {"choices": [{"delta": {"content": [{"type": "text", "text": "x"}, 4]}}]}, {"usage": {"prompt_tokens": True}},
    ],
)  # fmt: skip
def test_odd_chunks_do_no_harm(chunk: Any) -> None:
    build(chunk)


def test_lone_surrogates_do_not_get_through() -> None:
    builder = ReplyBuilder(100)
    builder.feed(b'{"choices": [{"delta": {"content": "a\\ud800b"}}]}')
    assert builder.reply(lambda _: Usage()).text.encode() == b"a?b"


def test_usage_is_read_from_every_providers_form() -> None:
    assert read_usage(
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    ) == Usage(5, 2, 3, 0, None)
    assert read_usage({"prompt_tokens": 5, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "cost": 0.5}) == Usage(
        5, 2, 4, 0, 0.5
    )
    details = {"completion_tokens_details": {"reasoning_tokens": 1}}
    assert read_usage({"prompt_tokens": 5, "completion_tokens": 2, **details}) == Usage(5, 2, 0, 1, None)
    assert read_usage({"prompt_tokens": 0, "completion_tokens": 0}) is None
    assert read_usage(None) is None


def test_context_length_errors_are_told_from_others() -> None:
    assert is_context_length("This model's maximum context length is 128000 tokens.")
    assert is_context_length("prompt is too long: 210000 tokens > 200000 maximum")
    assert is_context_length("", "context_length_exceeded")
    assert not is_context_length("Invalid value for temperature")
