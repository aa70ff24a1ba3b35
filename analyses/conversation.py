"""The messages that were sent to the model at a turn, put together again from what each turn added and took out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from analyses import blobs
from analyses.models import Cell, Run
from analyses.texts import clean
from analyses.trajectory.fields import FORMAT
from rlm import compaction

MESSAGE_SHOWN = 20_000  # characters of one message
ALL_SHOWN = 400_000  # … of all together, the newest first; then so many of each:
LEAST_SHOWN = 400


@dataclass(frozen=True)
class Message:
    """One message as it was sent to the model."""

    role: str
    turn: int
    text: str
    chars: int
    new: bool  # added for the turn looked at

    @property
    def cut(self) -> bool:
        return self.chars > len(self.text)


@dataclass(frozen=True)
class _Piece:
    """A message before its text is read, or the reply of a turn."""

    turn: int
    entry: dict[str, Any]
    reply: str = ""

    def message(self, newest: int, most: int) -> Message:
        if not self.entry:
            return Message("assistant", self.turn, clean(self.reply[:most]), len(self.reply), False)
        text, chars = _content(self.entry, most)
        return Message(str(self.entry.get("role", "")), self.turn, text, chars, self.turn == newest)


def sent_at(run: Run, cells: Iterable[Cell]) -> list[Message]:
    """Exactly what was sent at the last of these turns of one call."""
    ours = run.imported_from in ("", FORMAT)
    sent: list[_Piece] = []
    before: Cell | None = None
    turn = 0
    for cell in cells:
        added = [entry for entry in cell.messages if isinstance(entry, dict)]
        if before is not None:
            sent = _gone_on(sent, before, added, ours)
        sent += [_Piece(cell.number, entry) for entry in added]
        before, turn = cell, cell.number
    room, messages = ALL_SHOWN, []
    for piece in reversed(sent):
        messages.append(piece.message(turn, MESSAGE_SHOWN if room > 0 else LEAST_SHOWN))
        room -= len(messages[-1].text)
    return messages[::-1]


def _gone_on(sent: list[_Piece], before: Cell, added: list[dict[str, Any]], ours: bool) -> list[_Piece]:
    """What was still part of the conversation when the turn after ``before`` was sent, less what that turn added."""
    first = added[0] if added else {}
    if ours:
        # Replies stand among the messages of the next turn, as they were sent. A summary takes the place of all
        # turns, and so does a digest of them where they were too long to be summarised whole.
        digest = str(first.get("head", first.get("content", ""))).startswith(compaction.DIGEST)
        return sent[: compaction.KEPT] if digest or before.kind == Cell.Kind.COMPACTION else sent
    whole = sent if before.kind == Cell.Kind.PROBE else [*sent, _Piece(before.number, {}, before.reply)]
    if isinstance(kept := first.get("after"), int):
        return whole[: max(0, kept)]
    return sent if first.get("role") == "assistant" else whole


def _content(message: dict[str, Any], most: int) -> tuple[str, int]:
    if blob := message.get("blob"):
        try:
            whole = blobs.read(str(blob), limit=4 * most).decode(errors="ignore")
        except (OSError, ValueError):
            whole = str(message.get("head", ""))
        return clean(whole[:most]), int(message.get("chars", len(whole)))
    content = message.get("content", "")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    said = {name: value for name, value in message.items() if name not in ("role", "content", "after")}
    if said:
        text += ("\n" if text else "") + json.dumps(said, ensure_ascii=False)
    return clean(text[:most]), len(text)
