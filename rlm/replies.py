"""What a model client gives back, and what it raises: the vocabulary shared by every client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rlm.endpoints import Endpoint
from rlm.events import Usage

OnDelta = Callable[[str, str], None]  # (text, reasoning) as they stream
OnRetry = Callable[[str], None]  # a sentence; what streamed so far is void
Ready = Callable[[], Awaitable[None]]  # raises where no request may go out any more


@dataclass(frozen=True)
class ToolCall:
    """A function the model wants called, through the API's own tool calling."""

    id: str
    name: str
    arguments: str  # JSON, as the model wrote it


@dataclass(frozen=True)
class ModelReply:
    text: str
    reasoning: str = ""
    usage: Usage = field(default_factory=Usage)
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"  # "length": cut by max_tokens
    first_token: float | None = None  # seconds since the epoch
    estimated: bool = False  # the provider reported no usage; ours is an estimate
    cached: bool = False  # came from our own cache of replies: nothing was sent


class ModelError(Exception):
    """A request to a model failed for good. ``kind`` is for programs, ``str(error)`` is a sentence for people.

    Kinds: unreachable, timeout, stalled, dropped, rate_limited, quota, server, auth, not_found, bad_request,
    context_length, malformed, empty.
    """

    def __init__(
        self, kind: str, sentence: str, *, retry: bool = False, wait: float | None = None, away: bool = False
    ) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.retry = retry  # another try may help
        self.wait = wait  # seconds the provider asked to wait
        self.away = away  # there was nobody to take the request: it cost nothing


class Model(Protocol):
    """What the engine needs of a client. Implemented by ModelClient and OfflineClient."""

    endpoint: Endpoint

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
    ) -> ModelReply: ...

    async def close(self) -> None: ...
