"""The model client, through the real openai client, against an endpoint that misbehaves in every way it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from rlm.client import ModelClient, retry_after
from rlm.endpoints import Endpoint
from rlm.replies import ModelError
from rlm.replycache import FolderCache, MemoryCache
from tests.scripted.fixture import Scripted

Serve = Callable[..., Scripted]
HELLO = [{"role": "user", "content": "hello"}]


def client(server: Scripted, cache: Any = None, **endpoint: Any) -> ModelClient:
    return ModelClient(
        Endpoint(**{"name": "scripted", "base_url": server.base_url, "root_model": "m", **endpoint}),
        cache=cache,
        backoff=0.01,
    )


async def complete(model: ModelClient, messages: Any = None, **options: Any) -> Any:
    try:
        return await model.complete(messages or HELLO, **{"model": "m", "max_tokens": 100, **options})
    finally:
        await model.close()


async def failure(server: Scripted, seconds: float = 10.0, **endpoint: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await complete(client(server, **endpoint), seconds=seconds)
    return caught.value


def attempts(*replies: Any) -> dict[str, Any]:
    """The replies that the same request gets, one after another; the last one from then on."""
    return {"rules": [{"attempt": n, "reply": r} for n, r in enumerate(replies)], "default": replies[-1]}


async def test_complete_streams_text_reasoning_and_usage(scripted: Serve) -> None:
    server = scripted({"default": {"text": "one two three four", "reasoning": "hm", "piece": 5, "cost": 0.25}})
    pieces: list[tuple[str, str]] = []
    reply = await complete(client(server), on_delta=lambda text, reasoning: pieces.append((text, reasoning)))
    assert reply.text == "one two three four" == "".join(text for text, _ in pieces)
    assert reply.reasoning == "hm"
    assert len(pieces) == 5
    assert reply.usage.cost == 0.25
    assert reply.usage.prompt_tokens == 5
    assert not reply.estimated
    assert reply.first_token is not None


async def test_complete_takes_a_reply_that_is_not_streamed(scripted: Serve) -> None:
    reply = await complete(client(scripted({"default": {"text": "whole", "mode": "json"}})))
    assert reply.text == "whole" and reply.usage.completion_tokens > 0


async def test_complete_takes_a_stream_of_the_wrong_content_type(scripted: Serve) -> None:
    assert (await complete(client(scripted({"default": {"text": "x", "content_type": "text/plain"}})))).text == "x"


async def test_complete_estimates_usage_that_is_not_reported(scripted: Serve) -> None:
    reply = await complete(client(scripted({"default": {"text": "x" * 300, "usage": {}}})))
    assert reply.estimated
    assert reply.usage.completion_tokens == 101
    assert reply.usage.cost is None


@pytest.mark.parametrize(
    "first",
    [
        {"status": 429, "headers": {"retry-after": "0"}},
        {"status": 500},
        {"status": 503},
        {"text": "half of it", "mode": "drop"},
        {"text": "half of it", "mode": "cut"},
        {"mode": "refuse"},
        {"mode": "invalid_json"},
        {"mode": "empty_choices"},
        {"mode": "error_event"},
    ],
    ids=lambda r: str(r.get("status") or r["mode"]),
)
async def test_complete_tries_again_what_may_pass(scripted: Serve, first: dict[str, Any]) -> None:
    server = scripted(attempts(first, "good"))
    told: list[str] = []
    reply = await complete(client(server), on_retry=told.append)
    assert reply.text == "good"
    assert len(told) == 1 and "Trying again" in told[0]


async def test_complete_cuts_a_stalled_stream_and_tries_again(scripted: Serve) -> None:
    server = scripted(attempts({"text": "half", "mode": "stall"}, "good"))
    began = time.monotonic()
    assert (await complete(client(server, stall_seconds=0.2))).text == "good"
    assert time.monotonic() - began < 30


async def test_complete_waits_as_long_as_the_provider_asks(scripted: Serve) -> None:
    server = scripted(attempts({"status": 429, "headers": {"retry-after-ms": "300"}}, "good"))
    began = time.monotonic()
    await complete(client(server))
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("reply", "kind", "says", "requests"),
    [
        ({"status": 401, "error": {"message": "bad key sk-verysecret99"}}, "auth", "did not accept the key", 1),
        ({"status": 403}, "auth", "does not allow", 1),
        ({"status": 404, "error": {"message": "no model m"}}, "not_found", "no such model", 1),
        ({"status": 400, "error": {"message": "bad messages"}}, "bad_request", "refused the request", 1),
        ({"status": 429, "error": {"message": "over", "code": "insufficient_quota"}}, "quota", "used up", 1),
        ({"status": 500}, "server", "tried 3 times", 3),
        ({"status": 429}, "rate_limited", "fewer requests", 3),
        ({"status": 429, "headers": {"retry-after": "4000"}}, "rate_limited", "fewer requests", 1),
        ({"mode": "html"}, "malformed", "web page", 1),
        ({"mode": "invalid_json"}, "malformed", "not valid JSON", 3),
        ({"mode": "empty_choices"}, "empty", "without any content", 3),
        ({"mode": "drop", "text": "half"}, "dropped", "in mid-reply", 3),
        (
            {"status": 400, "error": {"message": "This model's maximum context length is 8192 tokens"}},
            "context_length",
            "window",
            1,
        ),
        ({"status": 400, "error": {"message": "x", "code": "context_length_exceeded"}}, "context_length", "window", 1),
    ],
)
async def test_complete_fails_with_a_sentence(
    scripted: Serve, reply: dict[str, Any], kind: str, says: str, requests: int
) -> None:
    server = scripted({"default": reply})
    error = await failure(server, attempts=3)
    assert error.kind == kind
    assert says in str(error)
    assert "verysecret" not in str(error)
    assert server.stats()["requests"] == requests


async def test_complete_fails_where_nobody_listens() -> None:
    model = ModelClient(Endpoint("gone", "http://127.0.0.1:9/v1", attempts=2), backoff=0.01)
    with pytest.raises(ModelError) as caught:
        await complete(model)
    assert caught.value.kind == "unreachable"
    assert "gone could not be reached" in str(caught.value)


async def test_an_endpoint_that_has_answered_before_is_waited_for_while_it_is_away(scripted: Serve) -> None:
    away = {"status": 503}
    server = scripted(attempts(*[away] * 7, {"mode": "drop", "text": "half"}, away, "here again"))
    told: list[str] = []
    reply = await complete(client(server, attempts=2), known=True, on_retry=told.append)
    assert reply.text == "here again" and server.stats()["requests"] == 10
    assert len(told) == 2 and "tried again until it answers, for up to 180 s" in told[0]  # once, not for every try
    assert "(1 of 2 tries)" in told[1]


async def test_an_endpoint_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm.client.AWAY_SECONDS", 0.1)
    with pytest.raises(ModelError, match="could not be reached"):
        await complete(ModelClient(Endpoint("gone", "http://127.0.0.1:9/v1", attempts=2), backoff=0.01), known=True)


async def test_nothing_is_sent_where_the_run_is_not_ours_any_more(scripted: Serve) -> None:
    """It is asked before every try: one may have waited for its turn, or for the next try, for long."""
    server = scripted({"default": {"status": 500}})
    asked = 0

    async def ready() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise PermissionError

    with pytest.raises(PermissionError):
        await complete(client(server), ready=ready)
    assert server.stats()["requests"] == 2


async def test_request_whose_process_hung_before_its_first_byte_is_not_sent(
    scripted: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the lease and the request a process may stand still for minutes."""
    monkeypatch.setattr("rlm.client.STALE", -1.0)  # as if every look had been long ago
    server = scripted({"default": "hello"})
    asked = 0

    async def ready() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise LookupError("the run is held elsewhere")

    with pytest.raises(LookupError):
        await complete(client(server), ready=ready)
    assert server.stats()["requests"] == 0
    # … and one that nobody asks about goes out in the same task.
    assert (await complete(client(server))).text == "hello"


async def test_complete_bounds_the_seconds_of_a_request(scripted: Serve) -> None:
    error = await failure(scripted({"default": {"text": "late", "delay": 5}}), seconds=0.2, attempts=2)
    assert error.kind == "timeout" and "0.2 s" in str(error)


async def test_a_reply_of_ten_megabytes_is_cut(scripted: Serve) -> None:
    server = scripted({"default": {"text": "x" * 10_000_000, "piece": 10_000}})
    reply = await complete(client(server))
    assert reply.finish_reason == "length"
    assert len(reply.text) < 20_000
    server = scripted({"default": {"text": "x" * 10_000_000, "piece": 10_000_000}})
    assert "longer than" in str(await failure(server))


async def test_cancelling_closes_the_stream(scripted: Serve) -> None:
    server = scripted({"default": {"text": "x" * 1000, "piece": 10, "pause": 0.05}})
    model = client(server)
    seen = asyncio.Event()
    task = asyncio.create_task(complete(model, on_delta=lambda *_: seen.set()))
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(50):
        if server.stats()["cancelled"]:
            break
        await asyncio.sleep(0.02)
    assert server.stats()["cancelled"] == 1


async def test_connections_are_used_again(scripted: Serve, scripted_server: Scripted) -> None:
    server = scripted({"default": "x"})
    model = client(server)
    for _ in range(5):
        await model.complete(HELLO, model="m", max_tokens=10)
    assert len(model._openai._client._transport._pool.connections) == 1  # type: ignore[attr-defined]
    await model.close()


async def test_a_refused_parameter_is_left_out(scripted: Serve) -> None:
    server = scripted("picky")
    model = client(server, sampling={"temperature": 0})
    reply = await complete(model)
    assert reply.text == "fine"
    last = server.log()[-1]
    assert last["max_completion_tokens"] == 100
    assert "temperature" not in last and "max_tokens" not in last


async def test_the_gate_bounds_requests_under_way_and_takes_runs_in_turn(scripted: Serve) -> None:
    server = scripted({"default": "x"}, latency_ms=30)
    model = client(server, max_concurrency=3)
    order: list[str] = []

    async def one(key: str) -> None:
        await model.complete(HELLO, model="m", max_tokens=10, run_key=key)
        order.append(key)

    await asyncio.gather(*[one("big") for _ in range(12)], *[one("small") for _ in range(2)])
    assert server.stats()["most_in_flight"] == 3
    assert max(n for n, key in enumerate(order) if key == "small") < 9
    await model.close()


async def test_the_gate_spaces_requests(scripted: Serve) -> None:
    model = client(scripted({"default": "x"}), requests_per_minute=1200)
    began = time.monotonic()
    await asyncio.gather(*[model.complete(HELLO, model="m", max_tokens=10) for _ in range(5)])
    assert time.monotonic() - began >= 0.2
    await model.close()


@pytest.mark.parametrize("kind", ["memory", "folder"])
async def test_a_cached_reply_sends_nothing(scripted: Serve, kind: str, tmp_path: Any) -> None:
    server = scripted({"default": {"text": "x", "cost": 0.5}})
    cache = MemoryCache() if kind == "memory" else FolderCache(tmp_path)
    model = client(server, cache=cache)
    first = await model.complete(HELLO, model="m", max_tokens=10)
    again = await model.complete(HELLO, model="m", max_tokens=10)
    other = await model.complete(HELLO, model="m", max_tokens=11)
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert again.text == "x"
    assert server.stats()["requests"] == 2
    await model.close()


def test_retry_after_reads_seconds_milliseconds_and_dates() -> None:
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250"}) == 0.25
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_an_endpoint_does_not_show_its_key() -> None:
    assert "sk-1" not in repr(Endpoint("a", "http://x", api_key="sk-1"))
