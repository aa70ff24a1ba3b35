"""What a model is told of `context` without being shown it: type, size, shape, a short head and tail."""

from __future__ import annotations

import json
from typing import Any

from rlm.limits import Limits
from sandbox import Value

ROWS = 30  # of the table of documents
HEAD, TAIL = 600, 300  # characters of a text shown
WHOLE = 1_500  # characters; a text no longer than this is shown whole
QUESTION = 4_000  # characters; a longer question is shown by its head and tail


def probe(value: Value, question: str = "", limits: Limits | None = None, *, schema: Any = None) -> str:
    """Describe a context for a model (and for the corpus page). Reads the text to count it: use a thread if it is large."""
    parts = [_about(value)]
    if question:
        parts.append(f"# Question\n{clip(question, QUESTION, 'the whole of it is the variable `question`')}")
    if schema is not None:
        text = json.dumps(schema, ensure_ascii=False)
        parts.append(
            f"# Form of the result\nWhat you pass to FINAL must satisfy this JSON Schema:\n{clip(text, 8_000)}"
        )
    if limits is not None:
        parts.append(
            f"# Limits\n{limits.turns} turns; {limits.shown_chars:,} characters of each output are shown to you; "
            f"{limits.cell_seconds:g} s a cell, waiting for child calls not counted; {limits.calls_in_flight} child calls work at "
            f"the same time; {limits.calls:,} calls in the whole run."
        )
    return "\n\n".join(parts)


def _about(value: Value) -> str:
    if value.type_name == "str":
        return _text(value)
    if rows := _documents(value):
        return _table(value, rows)
    head = value.preview(HEAD)
    return f"# context\n`context` is a {_shape(value)}.\nIt begins: {head}"


def _shape(value: Value) -> str:
    tokens = f", about {round(value.chars / 4, -2):,.0f} tokens" if value.chars > 4_000 else ""
    return f"{value.shape}{tokens}"


def _text(value: Value) -> str:
    chars = value.chars
    if not chars:
        return "# context\n`context` is an empty str."
    if chars <= WHOLE:
        return f"# context\n`context` is a str of {chars:,} characters, here whole:\n{fenced(value.head(WHOLE))}"
    return (
        f"# context\n`context` is a str of {chars:,} characters, about {round(chars / 4, -2):,.0f} tokens.\n"
        f"It begins:\n{fenced(value.head(HEAD))}\nand ends:\n{fenced(value.tail(TAIL))}"
    )


def _documents(value: Value) -> list[tuple[str, Value]]:
    """Return (title, text) of the documents of a corpus, as far as they are shown; [] if it is no corpus."""
    tree = value.tree()
    if not isinstance(tree, list) or not tree:
        return []
    if not all(isinstance(d, dict) and {"title", "text"} <= d.keys() for d in tree[:ROWS]):
        return []
    return [
        (str(d["title"]), Value(json.dumps(d["text"], ensure_ascii=False).encode("utf-8", "replace"), value.memory))
        for d in tree[:ROWS]
    ]


def _table(value: Value, rows: list[tuple[str, Value]]) -> str:
    count = value.length or len(rows)
    lines = [f"{n:>5}  {text.chars:>11,}  {clip_line(title)}" for n, (title, text) in enumerate(rows)]
    if count > len(rows):
        lines.append(
            f"  … and {count - len(rows):,} more. To list them all: "
            '[(n, len(d["text"]), d["title"]) for n, d in enumerate(context)]'
        )
    first = rows[0][1]
    begins = fenced(first.head(HEAD)) if first.type_name == "str" else first.preview(HEAD)
    return (
        f"# context\n`context` is a list of {count:,} documents, each a dict with the keys title, text, name, meta: "
        f"{value.chars:,} characters in all, about {round(value.chars / 4, -2):,.0f} tokens.\n"
        f"index   characters  title\n" + "\n".join(lines) + f'\n`context[0]["text"]` begins:\n{begins}'
    )


def fenced(text: str) -> str:
    """Set data off from our own words, so that it cannot pass for them."""
    return "<data>\n" + text.replace("</data", "<\\/data") + "\n</data>"


def clip(text: str, chars: int, rest: str = "", total: int = 0) -> str:
    """Keep the head and the tail of a text that is longer than ``chars``, saying how much was cut.

    ``total``: its true length, where ``text`` itself is already cut.
    """
    if len(text) <= chars:
        return text
    head = chars * 2 // 3
    tail = chars - head
    more = f"; {rest}" if rest else ""
    return f"{text[:head]}\n[… {max(total, len(text)) - chars:,} characters cut{more} …]\n{text[len(text) - tail :]}"


def clip_line(text: str, chars: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1] + "…"
