"""Reading a streamed reply: server-sent events into one ModelReply, every read bounded.

The bytes are decoded here rather than by the openai client's own stream classes, because those hold a line of any
length and build a pydantic model a token.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from rlm.events import Usage
from rlm.replies import ModelError, ModelReply, OnDelta, ToolCall

SLACK = 200_000  # bytes of envelope allowed beside the text itself


async def data_events(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event; raise ModelError when one is longer than ``limit`` bytes."""
    buffer = bytearray()
    data: list[bytes] = []
    async for chunk in chunks:
        buffer += chunk
        if b"\n" not in chunk:
            if len(buffer) > limit:
                raise too_long(limit)
            continue
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                data.append(bytes(line[5:]).strip())
            elif not line and data:
                event = b"\n".join(data)
                data.clear()
                if len(event) > limit:
                    raise too_long(limit)
                yield event
    if buffer.startswith(b"data:"):
        data.append(bytes(buffer[5:]).strip())
    if data:  # the last event lacks its empty line: some servers end so
        yield b"\n".join(data)


def too_long(limit: int) -> ModelError:
    return ModelError("malformed", f"The endpoint's reply was longer than the {limit:,} bytes allowed and was cut off.")


class ReplyBuilder:
    """Puts a reply together from its chunks; ``max_chars`` bounds text and reasoning each."""

    def __init__(self, max_chars: int, on_delta: OnDelta | None = None) -> None:
        self.max_chars = max_chars
        self._on_delta = on_delta
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._chars = 0
        self._tools: dict[int, dict[str, str]] = {}
        self._usage: Usage | None = None
        self.finish_reason = ""
        self.first_token: float | None = None
        self.full = False  # longer than allowed: stop reading
        self.choices = 0

    def feed(self, data: bytes) -> None:
        """Take one event's data in; raise ModelError if it is not what an endpoint sends."""
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            raise ModelError(
                "malformed", f"The endpoint's reply is not valid JSON: {_excerpt(data)}", retry=True
            ) from None
        self.add(chunk)

    def add(self, chunk: Any) -> None:
        """Take in one decoded chunk, or a whole unstreamed completion."""
        if not isinstance(chunk, dict):
            raise ModelError("malformed", f"The endpoint's reply is not a completion: {_excerpt(chunk)}", retry=True)
        if error := chunk.get("error"):
            raise error_in_stream(error)
        usage = read_usage(chunk.get("usage"))
        if usage is not None:
            self._usage = usage
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return
        self.choices += 1
        choice = choices[0]
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._add_delta(delta)

    def _add_delta(self, delta: dict[str, Any]) -> None:
        text = _text_of(delta.get("content"))
        reasoning = _text_of(delta.get("reasoning_content") or delta.get("reasoning") or delta.get("thinking"))
        for call in delta.get("tool_calls") or ():
            if isinstance(call, dict):
                self._add_tool(call)
        if not text and not reasoning:
            return
        room = self.max_chars - self._chars
        if len(text) + len(reasoning) > room:
            text, reasoning, self.full = text[:room], reasoning[: max(0, room - len(text))], True
        self._chars += len(text) + len(reasoning)
        if self.first_token is None:
            self.first_token = time.time()
        self._text.append(text)
        self._reasoning.append(reasoning)
        if self._on_delta is not None:
            self._on_delta(text, reasoning)

    def _add_tool(self, call: dict[str, Any]) -> None:
        index = call.get("index")
        index = index if isinstance(index, int) else len(self._tools)
        if index not in self._tools and len(self._tools) >= 64:
            return
        slot = self._tools.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = call.get("function")
        if not isinstance(function, dict):
            return
        slot["id"] = slot["id"] or str(call.get("id") or "")[:200]
        slot["name"] = slot["name"] or str(function.get("name") or "")[:200]
        arguments = function.get("arguments")
        piece = arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""
        if len(slot["arguments"]) + len(piece) > self.max_chars:
            self.full = True
            return
        slot["arguments"] += piece
        if self.first_token is None:
            self.first_token = time.time()

    def reply(self, estimate: Callable[[int], Usage]) -> ModelReply:
        """Return the whole reply; ``estimate(bytes of it)`` stands in where no usage was reported."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        calls = tuple(
            ToolCall(slot["id"] or f"call_{index}", slot["name"], slot["arguments"] or "{}")
            for index, slot in sorted(self._tools.items())
            if slot["name"]
        )
        size = len(text.encode("utf-8", "replace")) + len(reasoning.encode("utf-8", "replace"))
        return ModelReply(
            text=text,
            reasoning=reasoning,
            usage=self._usage or estimate(size + sum(len(c.arguments) for c in calls)),
            tool_calls=calls,
            finish_reason="length" if self.full else self.finish_reason or "stop",
            first_token=self.first_token,
            estimated=self._usage is None,
        )


def read_usage(given: Any) -> Usage | None:
    """Read a provider's usage object; None where there is none. ``cost`` is what the provider says it is, or None."""
    if not isinstance(given, dict):
        return None
    prompt, completion = _count(given.get("prompt_tokens")), _count(given.get("completion_tokens"))
    if prompt == completion == 0:
        return None
    details = given.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    details = given.get("completion_tokens_details")
    reasoning = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else 0
    cost = given.get("cost", given.get("estimated_cost"))
    known = float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < 1e6 else None
    return Usage(
        prompt, completion, min(prompt, cached or _count(given.get("prompt_cache_hit_tokens"))), reasoning,
        known,
    )  # fmt: skip


def _count(value: Any) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 <= value < 1e12 else 0


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content.encode("utf-8", "replace").decode() if not content.isascii() else content
    if isinstance(content, list):  # content parts
        return "".join(_text_of(part.get("text")) for part in content if isinstance(part, dict))
    return ""


def error_in_stream(error: Any) -> ModelError:
    """Return the error for one reported inside a reply of status 200."""
    message = str(error.get("message") if isinstance(error, dict) else error)[:300]
    code = error.get("code") if isinstance(error, dict) else None
    if is_context_length(message, str(code)):
        return ModelError("context_length", f"The prompt is longer than the model's window: {message}")
    final = isinstance(code, int) and 400 <= code < 500 and code not in (408, 409, 429)
    return ModelError("server", f"The endpoint reported an error while it replied: {message}", retry=not final)


def is_context_length(message: str, code: str = "") -> bool:
    """Say whether a provider's error means that the prompt does not fit the model's window."""
    low = message.lower()
    return code == "context_length_exceeded" or any(
        sign in low
        for sign in (
            "context length", "context window", "maximum context", "prompt is too long", "input is too long",
            "too many tokens", "context_length", "exceeds the available context", "reduce the length of the messages",
        )
    )  # fmt: skip


def _excerpt(data: Any) -> str:
    text = data.decode("utf-8", "replace") if isinstance(data, bytes | bytearray) else repr(data)
    return repr(text[:120])
