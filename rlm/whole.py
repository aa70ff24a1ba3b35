"""The corpus as one text, for the strategies that put it into the prompt; and the text of an answer as a value."""

from __future__ import annotations

import json
from typing import Any

from rlm.parsing import split_thinking
from rlm.spec import Ending
from sandbox import Value

CHARS_A_TOKEN = 3  # cautious: English has about four
MARGIN = 1_500  # tokens left for the prompt around the text


def whole_text(value: Value) -> str:
    """Write a context out as one text: documents under their titles, anything else as JSON."""
    plain = value.python()
    if isinstance(plain, str):
        return plain
    if isinstance(plain, list) and plain and all(isinstance(d, dict) and isinstance(d.get("text"), str) for d in plain):
        return "\n\n".join(
            f"=== {n}: {d.get('title') or d.get('name') or ''} ===\n{d['text']}" for n, d in enumerate(plain)
        )
    return json.dumps(plain, ensure_ascii=False, default=str)


def fit(text: str, window: int, reply_tokens: int, when_too_long: str) -> tuple[str, str]:
    """Return (text that fits the window, a sentence on what was cut or ""); raise Ending where refusing is the setting."""
    room = max(0, (window - reply_tokens - MARGIN) * CHARS_A_TOKEN)
    size = len(text) if text.isascii() else max(len(text), len(text.encode("utf-8", "replace")) * CHARS_A_TOKEN // 4)
    if size <= room:
        return text, ""
    if when_too_long == "refuse":
        raise Ending(
            "failed",
            f"This strategy shows the model the whole context, and it does not fit: {len(text):,} characters, while about "
            f"{room:,} fit the window of {window:,} tokens.",
        )
    keep = int(len(text) * room / size)
    said = (
        f"The context does not fit the model's window: its first {keep:,} of {len(text):,} characters are shown, "
        f"{len(text) - keep:,} were cut."
    )
    return f"{text[:keep]}\n[… {len(text) - keep:,} characters cut: they do not fit the window …]", said


def answer_of(reply: str) -> Any:
    """Take a reply as an answer: JSON where all of it is JSON, else its text."""
    text = split_thinking(reply)[1].strip()
    body = text
    if body.startswith("```") and body.endswith("```") and body.count("```") == 2:
        body = body[3:-3].partition("\n")[2] if "\n" in body else body
    if body[:1] in "[{":
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    return text
