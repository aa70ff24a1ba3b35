"""A content-addressed cache of replies, off by default: for re-runs and tests, where the same request has the same reply."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from rlm.events import Usage
from rlm.replies import ModelReply, ToolCall


class ReplyCache(Protocol):
    def get(self, key: str) -> ModelReply | None: ...
    def put(self, key: str, reply: ModelReply) -> None: ...


def cache_key(
    base_url: str,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    max_tokens: int,
    parameters: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]] | None,
) -> str:
    """Return the address of a request: all of it that can change the reply."""
    whole = [base_url, model, list(messages), max_tokens, dict(parameters), list(tools or ())]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()


class MemoryCache:
    """Keeps replies as long as the process lives."""

    def __init__(self) -> None:
        self._kept: dict[str, ModelReply] = {}

    def get(self, key: str) -> ModelReply | None:
        return self._kept.get(key)

    def put(self, key: str, reply: ModelReply) -> None:
        self._kept[key] = reply


class FolderCache:
    """Keeps replies as files named by their key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> ModelReply | None:
        try:
            kept = json.loads((self._folder / key[:2] / key).read_text("utf-8"))
            return ModelReply(
                text=kept["text"],
                reasoning=kept["reasoning"],
                usage=Usage(**kept["usage"]),
                tool_calls=tuple(ToolCall(**call) for call in kept["tool_calls"]),
                finish_reason=kept["finish_reason"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a damaged entry is no entry

    def put(self, key: str, reply: ModelReply) -> None:
        path = self._folder / key[:2] / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            json.dump(asdict(reply), file, ensure_ascii=False)
        Path(file.name).replace(path)
