"""A run's tree in the terminal, drawn as it grows from the same events that are recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.syntax import Syntax
from rich.text import Text
from rich.tree import Tree

from analyses.texts import clean
from rlm import events

MARKS = {"queued": "○", "running": "◐", "waiting": "◍", "done": "●", "failed": "✗", "stopped": "■", "limit": "⧗"}
COLOURS = {
    "running": "blue",
    "waiting": "blue",
    "done": "green",
    "failed": "red",
    "stopped": "yellow",
    "limit": "yellow",
}
CHILDREN_SHOWN = 12  # of one cell; the rest are counted
CODE_LINES = 12
OUTPUT_LINES = 8


@dataclass
class _Cell:
    number: int
    code: str = ""
    shown: str = ""
    error: str = ""
    status: str = "writing"
    children: list[int] = field(default_factory=list)


@dataclass
class _Call:
    number: int
    title: str
    shape: str
    status: str = "queued"
    reason: str = ""
    started: float = 0.0
    ended: float = 0.0
    tokens: int = 0
    cells: list[_Cell] = field(default_factory=list)


class RunTree:
    """Collects events (from any thread) and draws them; use as a context manager around the run."""

    def __init__(self, console: Console) -> None:
        self._calls: dict[int, _Call] = {}
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=8,
            transient=False,
            vertical_overflow="ellipsis",
        )

    def __enter__(self) -> Callable[[Any], None]:
        self._live.start()
        return self.add

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def add(self, event: events.Event) -> None:
        if event.call not in self._calls and not isinstance(event, events.CallQueued):
            self._calls[event.call] = _Call(event.call, "goes on", "", status="running", started=time.time())
        match event:
            case events.CallQueued():
                call = _Call(
                    event.call, clean(event.title or event.instruction or event.kind)[:100], event.context_shape
                )
                self._calls[event.call] = call
                if event.parent and (cell := self._cell(event.parent, event.cell or 0)):
                    cell.children.append(event.call)
            case events.CallStarted():
                self._calls[event.call].status = "running"
                self._calls[event.call].started = event.time
            case events.TurnStarted():
                self._calls[event.call].cells.append(_Cell(event.cell))
            case events.ReplyDone():
                self._calls[event.call].tokens += event.usage.prompt_tokens + event.usage.completion_tokens
                if cell := self._cell(event.call, event.cell):
                    cell.code, cell.status = clean(event.code), "running" if event.code else "done"
            case events.CellWaiting():
                self._calls[event.call].status = "waiting" if event.waiting else "running"
            case events.CellDone():
                if cell := self._cell(event.call, event.cell):
                    cell.shown, cell.error, cell.status = clean(event.output), clean(event.error), "done"
            case events.CallFinished():
                call = self._calls[event.call]
                call.status, call.reason, call.ended = event.status, clean(event.reason), event.time
            case _:
                pass

    def _cell(self, call: int, number: int) -> _Cell | None:
        return next((cell for cell in reversed(self._calls[call].cells) if cell.number == number), None)

    def _draw(self) -> RenderableType:
        return self._branch(1) if 1 in self._calls else Text("queued")

    def _branch(self, number: int) -> Tree:
        call = self._calls[number]
        seconds = (call.ended or time.time()) - call.started if call.started else 0.0
        colour = COLOURS.get(call.status, "dim")
        head = f"[{colour}]{MARKS[call.status]} {call.status}[/] [bold]call {number}[/] {escape(call.title)}"
        tree = Tree(f"{head} [dim]{escape(call.shape)} · {call.tokens:,} tokens · {seconds:.1f} s[/]")
        if call.reason:
            tree.add(Text(call.reason, style="yellow"))
        # A finished child is its head line; whoever wants more opens the page.
        for cell in call.cells if number == 1 or not call.ended else []:
            tree.add(self._cell_branch(cell))
        return tree

    def _cell_branch(self, cell: _Cell) -> Tree:
        parts: list[RenderableType] = [Text(f"cell {cell.number}", style="dim")]
        if cell.code:
            parts.append(Syntax(_head(cell.code, CODE_LINES), "python", background_color="default"))
        if cell.shown.strip():
            parts.append(Text(_head(cell.shown.strip(), OUTPUT_LINES), style="dim"))
        if cell.error:
            parts.append(Text(cell.error.strip().splitlines()[-1][:300], style="red"))
        branch = Tree(Group(*parts))
        for child in cell.children[:CHILDREN_SHOWN]:
            branch.add(self._branch(child))
        if rest := cell.children[CHILDREN_SHOWN:]:
            over = sum(bool(self._calls[child].ended) for child in rest)
            branch.add(Text(f"… {len(rest)} more children, {over} of them over", style="dim"))
        return branch


def _head(text: str, lines: int) -> str:
    rows = text.splitlines()
    more = [f"… {len(rows) - lines} more lines"] if len(rows) > lines else []
    return "\n".join([row[:200] for row in rows[:lines]] + more)
