"""How much of a run may be shown: all of it to members, to others what a share contains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyses.models import Call, Cell

WITHHELD = "(not part of what is shared: it may hold the source texts whole)"


@dataclass(frozen=True)
class Contents:
    """``sources``: the source texts. ``outputs``: all that cells printed and held, not only what the model was told of it."""

    sources: bool = True
    outputs: bool = True

    @property
    def whole(self) -> bool:
        return self.sources and self.outputs

    def messages(self, messages: list[dict[str, Any]], call: Call) -> list[dict[str, Any]]:
        """A turn's messages as they may be shown. Calls without a REPL for their texts are sent them whole, in messages."""
        if self.sources or (call.strategy == "rlm" and call.kind != "leaf"):
            return messages
        kept = ("system", "assistant")
        return [
            message if message.get("role") in kept else {"role": message.get("role", ""), "content": WITHHELD}
            for message in messages
        ]

    def cell(self, cell: Cell, call: Call) -> None:
        """Take out of a cell's row, as it is in memory, what may not be shown."""
        cell.messages = self.messages(cell.messages, call)
        if not self.outputs:
            cell.output, cell.output_blob, cell.variables = cell.shown, "", []


ALL = Contents()
