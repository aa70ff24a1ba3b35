"""Talks to a model endpoint through the openai client: streaming, usage, retries, and errors as plain sentences."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai

from rlm.endpoints import Endpoint
from rlm.events import Usage
from rlm.gate import SharedGate, gate_of
from rlm.prices import price
from rlm.replies import ModelError, ModelReply, OnDelta, OnRetry, Ready
from rlm.replycache import ReplyCache, cache_key
from rlm.stream import SLACK, ReplyBuilder, data_events, is_context_length, too_long

AWAY_SECONDS = 180.0  # for which an endpoint that has answered before and is away is asked again
MAX_WAIT = 60.0  # seconds; a provider that asks for more is not waited for
BYTES_A_TOKEN = 16  # a reply longer than this times max_tokens is not a reply

STALE = 1.0  # seconds since ``ready`` was asked, after which it is asked again: the process may have been halted
SENDING = ("send_request_headers.started", "send_request_body.started")
_ready: ContextVar[tuple[Ready, float] | None] = ContextVar("ready", default=None)


async def _ask_again(request: httpx2.Request) -> None:
    """Have ``ready`` asked once more right before head and body go out, where that took long after all."""
    if (given := _ready.get()) is None:
        return
    ready, asked = given

    async def trace(event: str, _: dict[str, Any]) -> None:
        if event.endswith(SENDING) and time.monotonic() - asked > STALE:
            await ready()

    request.extensions["trace"] = trace


class ModelClient:
    """A model endpoint's client. One may serve all runs of a worker; it belongs to one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        cache: ReplyCache | None = None,
        shared: SharedGate | None = None,
        http_client: httpx2.AsyncClient | None = None,
        backoff: float = 0.5,  # seconds before the first retry; doubles, with jitter
    ) -> None:
        self.endpoint = endpoint
        self._cache = cache
        self._shared = shared
        self._backoff = backoff
        http_client = http_client or openai.DefaultAsyncHttpxClient()
        http_client.event_hooks = {"request": [_ask_again]}
        self._openai = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key or "none",  # servers on one's own machine often want no key; the client insists
            max_retries=0,
            http_client=http_client,
            timeout=httpx2.Timeout(None, connect=10.0),
        )
        self._tokens_field = endpoint.tokens_field or "max_tokens"
        self._refused: set[str] = set()  # parameters that this endpoint does not take

    async def close(self) -> None:
        await self._openai.close()

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        model: str,
        max_tokens: int,
        on_delta: OnDelta | None = None,
        on_retry: OnRetry | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        sampling: Mapping[str, Any] | None = None,
        seconds: float = 300.0,
        run_key: str = "",
        ready: Ready | None = None,
        known: bool = False,
    ) -> ModelReply:
        """Return the model's reply to ``messages``; raise ModelError when there is none to be had.

        ``seconds`` bounds one attempt; ``run_key`` is whose turn it is at the endpoint's gate. ``ready`` is awaited before
        each attempt, and may raise. ``known``: the endpoint has answered before; while it is away it is waited for.
        """
        parameters = {**self.endpoint.sampling, **(sampling or {})}
        key = ""
        if self._cache is not None:
            key = cache_key(self.endpoint.base_url, model, messages, max_tokens, parameters, tools)
            if (kept := self._cache.get(key)) is not None:
                if on_delta is not None:
                    on_delta(kept.text, kept.reasoning)
                return replace(kept, cached=True, usage=replace(kept.usage, cost=0.0), first_token=time.time())
        gate = gate_of(self.endpoint, self._shared)
        attempt = tries_away = 0
        away_since = 0.0
        while True:
            attempt += 1
            try:
                place = await gate.enter(run_key)
                try:
                    _ready.set((ready, time.monotonic()) if ready is not None else None)
                    if ready is not None:
                        await ready()  # it may have been long ago that the run was ours
                    reply = await self._attempt(messages, model, max_tokens, parameters, tools, on_delta, seconds)
                finally:
                    await gate.leave(place)
                break
            except _ParameterRefused as refusal:
                attempt -= 1  # it was our wording, and each parameter is refused once at most
                self._drop(refusal.name, refusal)
            except ModelError as error:
                if known and error.away and time.monotonic() - (away_since or time.monotonic()) < AWAY_SECONDS:
                    if not away_since and on_retry is not None:
                        on_retry(f"{error} It is tried again until it answers, for up to {AWAY_SECONDS:g} s.")
                    away_since = away_since or time.monotonic()
                    attempt -= 1
                    tries_away += 1
                    await asyncio.sleep(self._wait(tries_away, error.wait))
                    continue
                if not error.retry or attempt >= self.endpoint.attempts or (error.wait or 0) > MAX_WAIT:
                    raise _after(error, attempt) from (error.__cause__ or error)
                wait = self._wait(attempt, error.wait)
                if error.kind == "rate_limited":
                    gate.hold_until(error.wait or 0.0)
                if on_retry is not None:
                    on_retry(f"{error} Trying again in {wait:.1f} s ({attempt} of {self.endpoint.attempts} tries).")
                await asyncio.sleep(wait)
        if self._cache is not None and not reply.estimated and reply.finish_reason != "length":
            self._cache.put(key, reply)
        return reply

    def _wait(self, attempt: int, asked: float | None) -> float:
        backoff: float = min(8.0, self._backoff * 2.0 ** (attempt - 1))
        return (asked or 0.0) + backoff * random.uniform(0.5, 1.0)  # jitter: retries of many children must not march

    def _drop(self, name: str, error: ModelError) -> None:
        if name in ("max_tokens", "max_completion_tokens"):
            other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
            if self._tokens_field == name and name + "/tried" not in self._refused:
                self._refused.add(name + "/tried")
                self._tokens_field = other
                return
        elif name not in self._refused:
            self._refused.add(name)
            return
        raise ModelError("bad_request", str(error)) from error

    async def _attempt(
        self,
        messages: Sequence[Mapping[str, Any]],
        model: str,
        max_tokens: int,
        parameters: Mapping[str, Any],
        tools: Sequence[Mapping[str, Any]] | None,
        on_delta: OnDelta | None,
        seconds: float,
    ) -> ModelReply:
        body: dict[str, Any] = {name: v for name, v in parameters.items() if name not in self._refused}
        body[self._tokens_field] = max_tokens
        if "stream_options" not in self._refused:
            body["stream_options"] = {"include_usage": True}
        if tools:
            body["tools"] = list(tools)
        # As extra_body: the client walks through ``messages`` with pydantic, which takes 20 ms for a hundred of them.
        body["messages"] = list(messages)
        builder = ReplyBuilder(BYTES_A_TOKEN * max_tokens + 10_000, on_delta)
        create = self._openai.chat.completions.with_streaming_response.create
        try:
            async with (
                asyncio.timeout(seconds) as whole,
                create(messages=[], model=model, stream=True, extra_body=body) as response,
            ):
                await self._read(response.http_response, builder)
        except TimeoutError:
            if not whole.expired():
                raise
            raise ModelError(
                "timeout", f"The model did not finish its reply within {seconds:g} s.", retry=True
            ) from None
        except openai.APIStatusError as error:
            raise self._status_error(error, body) from error
        except openai.APITimeoutError as error:
            raise ModelError("unreachable", self._says("did not answer in time"), retry=True, away=True) from error
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else "no connection"
            dropped = "Protocol" in cause or "Read" in cause
            told = "closed the connection without a reply" if dropped else f"could not be reached ({cause})"
            kind = "dropped" if dropped else "unreachable"
            raise ModelError(kind, self._says(told), retry=True, away=not dropped) from error
        except httpx2.HTTPError as error:
            raise ModelError("dropped", self._says("dropped the connection in mid-reply"), retry=True) from error
        except (openai.OpenAIError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise ModelError("malformed", self._says(f"sent what is no reply ({type(error).__name__})")) from error
        prompt_bytes = sum(len(str(m.get("content") or "").encode("utf-8", "replace")) for m in messages)
        # No usage reported: three bytes a token is above what models need on average.
        reply = builder.reply(lambda size: Usage(prompt_bytes // 3 + 1, size // 3 + 1, cost=None))
        if reply.usage.cost is None:
            reply = replace(reply, usage=replace(reply.usage, cost=price(self.endpoint, model, reply.usage)))
        return reply

    async def _read(self, response: httpx2.Response, builder: ReplyBuilder) -> None:
        """Feed the response to the builder; raise ModelError where it is not a whole reply."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise ModelError(
                "malformed", self._says("answered with a web page, not a model's reply: is its address right?")
            )
        limit = 4 * builder.max_chars + SLACK
        loop = asyncio.get_running_loop()
        ended = False

        async def moving(stall: asyncio.Timeout) -> AsyncIterator[bytes]:
            async for chunk in response.aiter_bytes():
                stall.reschedule(None)  # our own work between two chunks does not count
                yield chunk
                # After the end only what lets the connection be used again is read, and not waited for long.
                stall.reschedule(loop.time() + (0.2 if ended else self.endpoint.stall_seconds))

        try:
            async with asyncio.timeout(None) as stall:
                if kind == "application/json":  # the endpoint does not stream
                    whole = bytearray()
                    async for chunk in moving(stall):
                        whole += chunk
                        if len(whole) > limit:
                            raise too_long(limit)
                    builder.feed(bytes(whole))
                    ended = True
                else:
                    async for data in data_events(moving(stall), limit):
                        ended = ended or data.startswith(b"[DONE]")
                        if not ended:
                            builder.feed(data)
                        if builder.full:
                            return
        except TimeoutError:
            if not stall.expired():
                raise
            if not ended:
                silent = f"fell silent for {self.endpoint.stall_seconds:g} s in mid-reply"
                raise ModelError("stalled", self._says(silent), retry=True) from None
        if not builder.choices:
            if kind not in ("text/event-stream", "application/json", ""):
                raise ModelError("malformed", self._says(f"answered with {kind[:60]}, not a model's reply"))
            raise ModelError("empty", self._says("sent a reply without any content (no choices)"), retry=True)
        if not ended and not builder.finish_reason:
            raise ModelError("dropped", self._says("ended its reply in the middle"), retry=True)

    def _status_error(self, error: openai.APIStatusError, body: Mapping[str, Any]) -> ModelError:
        status = error.status_code
        message = self._clean(_message_of(error))
        code = str(error.code or "")
        if is_context_length(message, code) or status == 413:
            return ModelError("context_length", f"The prompt is longer than the model's window: {message}")
        if status in (400, 422) and (name := _refused_parameter(message, error.param, body)):
            return _ParameterRefused(name, self._says(f"refused the parameter {name}: {message}"))
        if status == 401:
            return ModelError("auth", self._says(f"did not accept the key (401): {message}"))
        if status == 403:
            return ModelError("auth", self._says(f"does not allow this request (403): {message}"))
        if status == 404:
            return ModelError("not_found", self._says(f"has no such model or path (404): {message}"))
        if code == "insufficient_quota" or status == 402:
            return ModelError("quota", self._says(f"says that its quota or credit is used up ({status}): {message}"))
        wait = retry_after(error.response.headers)
        if status == 429:
            return ModelError(
                "rate_limited", self._says(f"asks for fewer requests (429): {message}"), retry=True, wait=wait
            )
        if status in (408, 409, 425) or status >= 500:
            away = status in (502, 503)  # as a proxy says it while the model behind it starts
            return ModelError(
                "server", self._says(f"had an error ({status}): {message}"), retry=True, wait=wait, away=away
            )
        return ModelError("bad_request", self._says(f"refused the request ({status}): {message}"))

    def _says(self, what: str) -> str:
        return f"The endpoint {self.endpoint.name} {what}{'' if what.endswith(('.', '?')) else '.'}"

    def _clean(self, message: str) -> str:
        """Cut a provider's message, and keep the key out of it."""
        if self.endpoint.api_key:
            message = message.replace(self.endpoint.api_key, "…")
        message = re.sub(r"\bsk-[\w*-]{6,}", "…", message)
        return " ".join(message.split())[:300].rstrip(".")


class _ParameterRefused(ModelError):
    """The endpoint does not take a parameter: the same request goes out again without it."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__("bad_request", sentence)
        self.name = name


def _after(error: ModelError, attempts: int) -> ModelError:
    if attempts < 2:
        return error
    said = str(error).rstrip()
    return ModelError(error.kind, f"{said}{'' if said[-1:] in '.!?' else '.'} It was tried {attempts} times.")


def _message_of(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(message, str) and message:
            return message
    if isinstance(body, str) and body.lstrip()[:1] == "<":
        return "a web page"
    return str(body or error.message or "no reason given")


def _refused_parameter(message: str, param: str | None, body: Mapping[str, Any]) -> str:
    """Return which optional parameter of ours a provider's 400 is about, or ""."""
    low = message.lower()
    complains = any(
        w in low for w in ("unsupported", "not support", "unrecognized", "unknown", "extra", "invalid", "use ")
    )
    if not complains:
        return ""
    named = [name for name in body if name == param or name in low]
    # "Unsupported parameter: 'max_tokens' … use 'max_completion_tokens' instead" names both: ours is the one sent.
    return next((name for name in named if name not in ("tools", "messages", "model")), "")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the provider asks to wait, or None. Seconds, milliseconds and dates are understood."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    try:
        when = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, when.timestamp() - time.time())
    except (KeyError, ValueError, TypeError):
        return None
