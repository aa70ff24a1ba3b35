"""What the scripted endpoint answers to one request."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

MODES = (
    "stream",  # a normal streamed reply
    "json",  # one unstreamed completion
    "html",  # a web page of status 200
    "invalid_json",  # an event that is no JSON
    "empty_choices",
    "drop",  # the connection ends in mid-reply
    "cut",  # the stream ends without finish_reason and [DONE]
    "stall",  # silence in mid-reply
    "error_event",  # an error inside the stream
    "refuse",  # the connection is closed without a word
)


@dataclass
class Reply:
    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)  # {"name", "arguments": {…}}
    mode: str = "stream"
    status: int = 200
    error: dict[str, Any] = field(default_factory=dict)  # the body of a status that is no 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = ""
    delay: float = 0.0  # seconds before the first byte
    pause: float = 0.0  # seconds between two chunks
    piece: int = 400  # characters a chunk
    finish_reason: str = ""
    usage: dict[str, Any] | None = None  # None: counted, four bytes a token; {}: none is sent
    cost: float | None = None  # reported inside the usage

    @classmethod
    def of(cls, given: Any) -> Reply:
        """Make a reply of a text, a mapping of fields, or a reply."""
        if isinstance(given, Reply):
            return given
        if isinstance(given, str):
            return cls(text=given)
        known = {f.name for f in fields(cls)}
        unknown = set(given) - known
        if unknown:
            raise ValueError(f"a scripted reply has no {sorted(unknown)[0]!r}")
        return cls(**given)
