"""The endpoint ``offline``: a plain extractive program behind the interface of a model client."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rlm.endpoints import Endpoint
from rlm.events import Usage
from rlm.offline.situation import Situation
from rlm.offline.steps import NAME, Step, next_step
from rlm.replies import ModelReply, OnDelta, OnRetry, Ready

log = logging.getLogger(__name__)

ENDPOINT: Final = Endpoint(
    name="offline",
    base_url="",
    root_model=NAME,
    child_model=NAME,
    offline=True,
    input_price=0.0,
    cached_price=0.0,
    output_price=0.0,
)
SECONDS: Final = 0.2  # a reply takes at most so long to stream
PIECES: Final = 24  # and comes in at most so many pieces


class OfflineClient:
    """Answers from the messages of a request and nothing else. It is not a language model, and says so."""

    def __init__(self, endpoint: Endpoint = ENDPOINT, *, seconds: float = SECONDS) -> None:
        self.endpoint = endpoint
        self._seconds = seconds

    async def close(self) -> None:
        """Nothing is held."""

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
        """Return the next reply of the call that the messages belong to."""
        situation = Situation.of(messages)
        try:
            text = next_step(situation).text
        except Exception as error:  # a rule that trips over an odd question must not end in silence
            log.exception("the offline model has no step")
            said = f"The {NAME} cannot work on this question: {type(error).__name__}."
            text = Step("I have no rule for this.", f"FINAL({said!r})").text
        first = time.time()
        usage = Usage(sum(tokens(str(m.get("content") or "")) for m in messages), tokens(text), cost=0.0)
        cut = usage.completion_tokens > max_tokens
        if cut:
            text = text[: max_tokens * 3]
        await self._stream(text, on_delta)
        return ModelReply(text, usage=usage, finish_reason="length" if cut else "stop", first_token=first)

    async def _stream(self, text: str, on_delta: OnDelta | None) -> None:
        """Give the reply away in pieces at a reader's pace: what is said first slowly, long code quickly."""
        if on_delta is None:
            return
        size = max(24, len(text) // PIECES + 1)
        pieces = re.findall(rf".{{1,{size}}}(?:\s|$)|.{{1,{size}}}", text, re.S)
        pause = min(0.02, self._seconds / max(1, len(pieces)))
        for piece in pieces:
            on_delta(piece, "")
            await asyncio.sleep(pause)


def tokens(text: str) -> int:
    """About how many tokens a model would count."""
    return len(text) // 4 + 1
