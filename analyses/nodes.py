"""What the partials of the tree are given: a call or a cell with what its lines say, and the rows they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from analyses.models import FAILURES, Call, Cell, FollowUp, Run
from analyses.outline import BLOCK, CROWD, MOST, Crowd, Entry, Outline, standouts
from analyses.texts import clean
from analyses.worked import rested
from rlm import parsing

Texts = Mapping[tuple[int, int, str], str]  # analyses.live.read
OPEN = ("writing", "running", "waiting")
LIVE_SHOWN = 12_000  # characters of a text still being written that a page shows: its end
ANSWER_PEEK = 2_000
# Characters of one text on a page. What an engine of ours writes is shorter; a log from elsewhere may hold a million.
CODE_SHOWN, PROSE_SHOWN, OUTPUT_SHOWN = 20_000, 12_000, 24_000
WEIGHED_MOST = 10_000  # cells of a call with a gap; which of more took most is not looked for
STRIP_MOST = 200  # children drawn one by one; more are drawn in groups
_WEIGHED = ("call_number", "number", "prompt_tokens", "completion_tokens", "cost", "started_at", "ended_at", "waited")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w-]*)[ \t]*$", re.MULTILINE)
# What a turn without a word is called.
NO_REPLY: dict[str, str] = {Cell.Status.STOPPED: "Ended before a reply came"}
_CUT = re.compile(r"\n\[… ([\d,]+) characters cut[^\n]* …\]\n")
_SENTENCE = re.compile(r"(?<=[.!?:])\s")


class _Leaves:
    """Something that has partials of its own, named templates/analyses/_<kind>_<leaf>.html."""

    kind = ""

    def leaf(self, name: str) -> SafeString:
        return render_to_string(f"analyses/_{self.kind}_{name}.html", {self.kind: self})


@dataclass(frozen=True)
class Piece:
    """As much of a text as a page shows."""

    text: str
    left: int = 0  # characters that it does not


@dataclass(frozen=True)
class Split:
    """Shares of a call's or cell's time, for the small bar at the end of its line."""

    model: float
    execution: float
    waiting: float

    @classmethod
    def of(cls, model: float, execution: float, waiting: float) -> Split | None:
        model, execution, waiting = (max(0.0, value) for value in (model, execution, waiting))
        total = model + execution + waiting
        return (
            cls(*(round(100 * value / total, 1) for value in (model, execution, waiting))) if total > 0.0005 else None
        )

    @property
    def waits_at(self) -> float:
        return round(self.model + self.execution, 1)


class CallNode(_Leaves):
    kind = "call"
    alone = "this call alone"

    def __init__(self, tree: Tree, row: Call) -> None:
        self.tree = tree
        self.row = row
        self.id = f"call-{row.number}"
        self.cells: list[CellNode] = []
        self.follow_ups: list[FollowUpNode] = []

    @property
    def entry(self) -> Entry:
        return self.tree.outline.calls[self.row.number]

    @property
    def items(self) -> list[CellNode | FollowUpNode | Gap]:
        """Its cells, with what it was asked further before the cells that answer, and a line for those left out."""
        return [item for _, item in self._placed()]

    def items_between(self, first: int, last: int) -> list[CellNode | FollowUpNode | Gap]:
        """What fills the gap between two cells, these included."""
        return [item for (number, _), item in self._placed() if first <= number <= last]

    def _placed(self) -> list[tuple[tuple[int, int], CellNode | FollowUpNode | Gap]]:
        """Each with its place: a cell's number, and what comes after it."""
        gaps = self.tree.gaps(self.row.number)
        placed: list[tuple[tuple[int, int], CellNode | FollowUpNode | Gap]] = []
        placed += [((cell.row.number, 0), cell) for cell in self.cells]
        placed += [((node.row.after_cell, node.row.number), node) for node in self.follow_ups]
        placed = [(place, item) for place, item in placed if not _is_in(place[0], gaps)]
        placed += [((first, 0), Gap(self, first, last)) for first, last in gaps]
        return sorted(placed, key=lambda pair: pair[0])

    @property
    def is_root(self) -> bool:
        return self.row.parent_number is None

    @property
    def level(self) -> int:
        return 2 * self.row.depth + 1

    @cached_property
    def eager(self) -> bool:
        """Whether its cells come with its line, or are fetched when it is unfolded."""
        return self.tree.outline.body(self.row.number) in self.tree.whole

    @property
    def open(self) -> bool:
        return self.is_root or self.row.number in self.tree.opened

    @property
    def body_scope(self) -> str:
        return f"b{self.row.number}"

    @cached_property
    def position(self) -> int:
        """Its place in a crowd, from 1; 0 where it stands in a short list."""
        parent, cell = self.row.parent_number, self.row.parent_cell
        if parent is None or cell is None or not self.tree.outline.is_crowd(parent, cell):
            return 0
        return self.tree.outline.children(parent, cell).index(self.row.number) + 1

    @cached_property
    def what(self) -> str:
        return "Root call" if self.is_root else self.row.title or first_words(self.row.instruction) or "Child call"

    @property
    def gave(self) -> str:
        row = self.row
        if not row.answer_type:
            return ""
        size = row.answer_shape or row.answer_type
        return f"{row.answer_name}: {size}" if row.answer_name else size

    @property
    def has_children(self) -> bool:
        return bool(self.entry.children)

    @property
    def all_cost(self) -> float | None:
        return None if self.entry.unpriced else self.entry.all_cost

    @property
    def seconds(self) -> float | None:
        """From its start to its end, less what the root rested between two questions; None while it is under way."""
        seconds = self.entry.seconds
        return seconds if seconds is None or not self.is_root else max(0.0, seconds - self.tree.rested)

    @property
    def ticks_from(self) -> float:
        """Since when the time of one that is under way is counted."""
        return (self.entry.started or 0.0) + (self.tree.rested if self.is_root else 0.0)

    @property
    def split(self) -> Split | None:
        entry = self.entry
        wall = self.seconds
        if wall is None:
            return None
        return Split.of(entry.model_seconds, entry.exec_seconds, wall - entry.model_seconds - entry.exec_seconds)

    @property
    def figures(self) -> dict[str, tuple[float | None, float | None]]:
        """With all below it, and its own."""
        entry = self.entry
        return {
            "tokens": (entry.all_tokens, entry.tokens),
            "cost": (self.all_cost, entry.cost),
            "seconds": (self.seconds, entry.own_seconds),
        }

    @property
    def most(self) -> dict[str, str]:
        """In what it stands out among its siblings, in words."""
        entry = self.entry
        if entry.parent is None or entry.cell is None:
            return {}
        return self.tree.most_of(entry.parent, entry.cell).get(entry.number, {})

    @property
    def standing_out(self) -> list[tuple[int, str]]:
        """Of a long call that has ended: the cells that took most, wherever they are, and what they took."""
        found = self.tree.most_far.get(self.row.number, {})
        return [
            (cell, ", ".join(MOST[name] for name in most if name.removeprefix("own_") == name or name[4:] not in most))
            for cell, most in sorted(found.items())
        ]

    @property
    def schema_text(self) -> str:
        return json.dumps(self.row.schema, ensure_ascii=False, indent=1)[:4000] if self.row.schema is not None else ""

    @property
    def answer_text(self) -> str:
        """A child's answer, as far as a line or two goes; the root's stands on top of the page."""
        shown = self.row.answer_display
        text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, indent=1)
        return clean(text if len(text) <= ANSWER_PEEK else text[:ANSWER_PEEK] + "…")


@dataclass(frozen=True)
class Gap:
    """Cells of a long call that the page does not hold: a line in their place fetches them, a block at a time."""

    call: CallNode
    first: int
    last: int
    kind = "gap"

    @property
    def id(self) -> str:
        return f"{self.call.id}-gap-{self.first}"

    @property
    def level(self) -> int:
        return self.call.level + 1

    @property
    def path(self) -> str:
        return f"c/{self.call.row.number}/cells?first={self.first}&last={self.last}"

    @property
    def upto(self) -> int:
        """The last cell of its first block."""
        return min(self.first + BLOCK - 1, self.last)


class FollowUpNode(_Leaves):
    """A further question, on a line of its own between the root's cells."""

    kind = "follow_up"

    def __init__(self, row: FollowUp) -> None:
        self.row = row
        self.id = f"follow-up-{row.number}"


class CellNode(_Leaves):
    kind = "cell"
    alone = "this turn alone"

    def __init__(self, tree: Tree, row: Cell) -> None:
        self.tree = tree
        self.row = row
        self.id = f"cell-{row.call_number}-{row.number}"
        self.dotted = f"{row.call_number}.{row.number}"
        self.path = f"c/{row.call_number}/{row.number}"
        self.children: list[CallNode] = []

    @property
    def entry(self) -> Entry:
        return self.tree.outline.calls[self.row.call_number]

    @property
    def level(self) -> int:
        return 2 * self.entry.depth + 2

    @property
    def noun(self) -> str:
        if self.row.kind == Cell.Kind.PROBE:
            return "probe"
        return "cell" if self.row.kind in (Cell.Kind.CODE, Cell.Kind.TOOL) else "turn"

    @property
    def writing(self) -> bool:
        return self.row.status == Cell.Status.WRITING

    def _text(self, what: str) -> str:
        text = clean(self.tree.texts.get((self.row.call_number, self.row.number, what), ""))
        return text if len(text) <= LIVE_SHOWN else "…" + text[-LIVE_SHOWN:]

    @property
    def live_reasoning(self) -> str:
        return self._text("reasoning")

    @cached_property
    def live_reply(self) -> tuple[str, str]:
        """The reply so far: prose, and the code after its first fence."""
        text = self._text("reply")
        fence = _FENCE.search(text)
        if fence is None:
            return text, ""
        code = text[fence.end() :].removeprefix("\n")
        closing = _FENCE.search(code)
        return text[: fence.start()].rstrip(), code[: closing.start()] if closing else code

    @property
    def live_output(self) -> str:
        return self._text("output")

    def _piece(self, text: str, most: int) -> Piece:
        if len(text) <= most or not self.tree.bounded:
            return Piece(text)
        return Piece(text[:most], len(text) - most)

    @property
    def code(self) -> Piece:
        return self._piece(self.row.code, CODE_SHOWN)

    @property
    def reply(self) -> Piece:
        return self._piece(self.row.reply, PROSE_SHOWN)

    @property
    def prose(self) -> str:
        """The reply without its cell."""
        return _prose(self.row.reply) if self.row.code else self.row.reply

    @cached_property
    def thoughts(self) -> Piece:
        """What stands folded above a cell: the provider's reasoning, then the reply's own prose."""
        texts = (self.row.reasoning, self.prose if self.row.code else "")
        return self._piece("\n\n".join(text for text in texts if text.strip()), PROSE_SHOWN)

    @cached_property
    def what(self) -> str:
        """One line on what the cell is for."""
        row = self.row
        if self.writing:
            return "Writing its reply"
        if row.kind == Cell.Kind.COMPACTION:
            return "Summary of the turns so far"
        lines = row.code[:CODE_SHOWN].splitlines()
        for line in lines:
            if line.lstrip().startswith("#") and (said := line.lstrip("# \t")):
                comment = said
                break
        else:
            comment = ""
        code = next((line.strip() for line in lines if line.strip()), "")
        return (
            first_words(self.prose)
            or first_words(comment)
            or shortened(code)
            or NO_REPLY.get(row.status, "Empty reply")
        )

    @property
    def error_name(self) -> str:
        """KeyError, or what ended its REPL."""
        row = self.row
        if row.killed:
            return {"time": "ran out of time", "memory": "ran out of memory", "cpu": "ran out of processor time"}.get(
                row.killed, f"REPL ended ({row.killed})"
            )
        last = next((line for line in reversed(row.error.splitlines()) if line.strip()), "")
        # Where the engine ended the cell, a sentence stands there instead of an exception's name.
        named = re.match(r"[\w.]{1,60}(?=:|$)", last.strip())
        return (named[0] if named else "interrupted") if row.error else ""

    @property
    def shown(self) -> tuple[Piece, str, Piece]:
        """The output as the model saw it: head, how much was cut out there, tail."""
        row = self.row
        if row.output_chars > row.shown_chars and (cut := _CUT.search(row.shown)):
            head, tail = row.shown[: cut.start()], row.shown[cut.end() :]
            return self._piece(head, OUTPUT_SHOWN), cut[1], self._piece(tail, OUTPUT_SHOWN)
        return self._piece(row.shown, OUTPUT_SHOWN), "", Piece("")

    @property
    def replayed(self) -> bool:
        """Kept from the run that this one was forked from, in a call that went on here."""
        return self.row.reused and not self.entry.reused

    @property
    def ran(self) -> bool:
        return bool(self.row.code) and not self.writing

    @property
    def over(self) -> bool:
        return self.row.status not in OPEN

    @property
    def tokens(self) -> int:
        return self.row.prompt_tokens + self.row.completion_tokens

    @cached_property
    def child_totals(self) -> tuple[int, float | None]:
        """Tokens and cost of the calls it started, with all below them."""
        entries = [
            self.tree.outline.calls[n] for n in self.tree.outline.children(self.row.call_number, self.row.number)
        ]
        unpriced = any(entry.unpriced for entry in entries)
        return sum(entry.all_tokens for entry in entries), None if unpriced else sum(
            entry.all_cost for entry in entries
        )

    @property
    def all_tokens(self) -> int:
        return self.tokens + self.child_totals[0]

    @property
    def all_cost(self) -> float | None:
        below = self.child_totals[1]
        return None if below is None or self.row.cost is None else self.row.cost + below

    @property
    def figures(self) -> dict[str, tuple[float | None, float | None]]:
        """With the calls it started, and its own."""
        return {
            "tokens": (self.all_tokens, self.tokens),
            "cost": (self.all_cost, self.row.cost),
            "seconds": (self.seconds, self.own_seconds),
        }

    @property
    def weights(self) -> dict[str, float | None]:
        """The figures by which cells are compared."""
        own = {f"own_{name}": pair[1] for name, pair in self.figures.items()}
        return {name: pair[0] for name, pair in self.figures.items()} | own

    @property
    def most(self) -> dict[str, str]:
        """In what it stands out among the cells of its call, once that has ended."""
        return self.tree.most_cells.get(self.row.call_number, {}).get(self.row.number, {})

    @property
    def seconds(self) -> float | None:
        return None if self.row.ended_at is None else max(0.0, self.row.ended_at - self.row.started_at)

    @property
    def own_seconds(self) -> float | None:
        """Without what it waited for its children."""
        return None if self.seconds is None else max(0.0, self.seconds - self.row.waited)

    @property
    def split(self) -> Split | None:
        row = self.row
        if row.ended_at is None:
            return None
        return Split.of((row.replied_at or row.ended_at) - row.started_at, row.seconds - row.waited, row.waited)

    @cached_property
    def is_crowd(self) -> bool:
        return self.tree.outline.is_crowd(self.row.call_number, self.row.number)

    @cached_property
    def crowd(self) -> Crowd:
        return self.tree.outline.crowd(self.row.call_number, self.row.number)

    @property
    def has_children(self) -> bool:
        return bool(self.tree.outline.children(self.row.call_number, self.row.number))

    @property
    def after(self) -> int:
        """The call after which its list of child calls goes on."""
        return self.children[-1].row.number if self.children else 0

    @property
    def left(self) -> int:
        return sum(number > self.after for number in self.tree.outline.children(self.row.call_number, self.row.number))

    @property
    def strip(self) -> list[Mark]:
        return strip(self.crowd.entries)

    @property
    def first_child(self) -> Entry:
        return self.crowd.entries[0]


@dataclass(frozen=True)
class Mark:
    """One piece of a crowd's bar."""

    css: str
    x: float
    width: float
    y: float
    height: float


_MARKS = {
    "failed": ("v-fail", 0, 14), "stopped": ("v-stop", 2, 10), "running": ("v-model", 2, 10),
    "queued": ("v-queued", 4.5, 5), "done": ("v-done", 4, 6),
}  # fmt: skip


def strip(entries: list[Entry]) -> list[Mark]:
    """A crowd's bar in call order. Equal neighbours are drawn as one; above STRIP_MOST, groups show their worst."""
    group = -(-len(entries) // STRIP_MOST)
    states = []
    for at in range(0, len(entries), group):
        found = {_state(entry.status) for entry in entries[at : at + group]}
        states.append(next(state for state in ("failed", "stopped", "running", "queued", "done") if state in found))
    step = 100 / max(1, len(states))
    marks: list[Mark] = []
    start = 0
    for at in range(1, len(states) + 1):
        if at == len(states) or states[at] != states[start]:
            css, y, height = _MARKS[states[start]]
            marks.append(Mark(css, round(start * step, 2), round((at - start) * step - 0.12, 2), y, height))
            start = at
    return marks


def _state(status: str) -> str:
    if status in FAILURES:
        return "failed"
    return status if status in ("done", "queued", "stopped") else "running"


@dataclass
class Tree:
    """The nodes of one rendering. ``whole`` names the scopes whose bodies it holds: "" for a page, "b7" for a part."""

    outline: Outline
    texts: Texts = field(default_factory=dict)
    whole: Collection[str] = ("",)
    calls: dict[int, CallNode] = field(default_factory=dict)
    cells: dict[tuple[int, int], CellNode] = field(default_factory=dict)
    bounded: bool = True  # long texts are cut: the rest is a request away
    follow_ups: list[FollowUp] = field(default_factory=list)
    listed: set[int] = field(default_factory=set)  # calls of crowds whose lines it holds
    opened: set[int] = field(default_factory=set)  # calls that were asked to stand open
    wanted: dict[int, set[int]] = field(default_factory=dict)  # by call: cells that were asked for, gap or not
    most_cells: dict[int, dict[int, dict[str, str]]] = field(default_factory=dict)  # by call and cell
    most_far: dict[int, dict[int, dict[str, str]]] = field(default_factory=dict)  # the same of calls with a gap
    _most: dict[tuple[int, int], dict[int, dict[str, str]]] = field(default_factory=dict)
    _gaps: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    @cached_property
    def rested(self) -> float:
        """Seconds that the root rested, between answers and the questions that followed."""
        return rested(self.outline.calls[1], self.follow_ups)

    def add_follow_ups(self, run: Run) -> None:
        """What had been asked further where the outline stands."""
        if run.follow_ups:
            self.follow_ups = list(run.follow_up_set.filter(born__lte=self.outline.seq))

    def most_of(self, call: int, cell: int) -> dict[int, dict[str, str]]:
        if (call, cell) not in self._most:
            self._most[call, cell] = self.outline.most(call, cell)
        return self._most[call, cell]

    def gaps(self, call: int) -> list[tuple[int, int]]:
        if call not in self._gaps:
            self._gaps[call] = self.outline.gaps(call, self.wanted.get(call, ()))
        return self._gaps[call]

    def holds(self, call: int, cell: int) -> bool:
        """Whether this cell of a call whose body is here is not in a gap."""
        return not _is_in(cell, self.gaps(call))

    def add_bodies(self, bodies: Iterable[int]) -> None:
        """The cells of these calls, without those in gaps."""
        rows = body_cells(self.outline, bodies)
        for number in bodies:
            for gap in self.gaps(number):
                rows = rows.exclude(call_id=self.outline.calls[number].pk, number__range=gap)
        self.add_cells(rows)
        self.weigh(bodies)

    def weigh(self, calls: Iterable[int]) -> None:
        """Find the slowest and costliest cells of those of these calls that have ended; all their cells are here.

        Of a call with a gap they are asked for, and its cells bear no marks: it says itself which they are.
        """
        ended = {number for number in calls if self.outline.calls[number].ended}
        far = {number for number in ended if self.outline.gaps(number)}
        figures: dict[int, dict[int, dict[str, float | None]]] = {}
        for (call, number), cell in self.cells.items():
            if call in ended - far and cell.row.kind != Cell.Kind.PROBE:
                figures.setdefault(call, {})[number] = cell.weights
        self.most_cells |= {call: standouts(of_cells) for call, of_cells in figures.items()}
        for call in far:
            if self.outline.calls[call].turns <= WEIGHED_MOST:
                rows = Cell.objects.filter(call_id=self.outline.calls[call].pk, born__lte=self.outline.seq)
                rows = rows.exclude(kind=Cell.Kind.PROBE).only(*_WEIGHED)
                self.most_far[call] = standouts({row.number: CellNode(self, row).weights for row in rows})

    def add_calls(self, numbers: Iterable[int], *, answers: bool = True) -> None:
        missing = [number for number in numbers if number not in self.calls]
        if not missing:
            return
        rows = Call.objects.filter(run_id=self.outline.run_id).order_by("number")
        # SQLite takes a limited number of parameters; a long list is nearly all there is anyway.
        rows = rows.filter(number__in=missing) if len(missing) < 500 else rows
        wanted = set(missing)
        for row in (
            rows.defer("answer_value") if answers else rows.defer("answer_value", "answer_display", "schema", "notes")
        ):
            if row.number in wanted:
                self.calls[row.number] = CallNode(self, row)

    def add_cells(self, rows: Iterable[Cell]) -> None:
        for row in rows:
            self.cells[row.call_number, row.number] = CellNode(self, row)

    def load_cell(self, key: tuple[int, int]) -> CellNode | None:
        call, cell = key
        self.add_cells(body_cells(self.outline, [call]).filter(number=cell))
        return self.cells.get(key)

    def nest(self) -> None:
        """Put every cell into its call and every call of a short list into its cell."""
        for (call, _), cell in sorted(self.cells.items()):
            if call in self.calls:
                self.calls[call].cells.append(cell)
        if 1 in self.calls:
            self.calls[1].follow_ups = [FollowUpNode(row) for row in self.follow_ups]
        for _, node in sorted(self.calls.items()):
            parent = self.cells.get((node.row.parent_number or 0, node.row.parent_cell or 0))
            if parent is not None and (not parent.is_crowd or node.row.number in self.listed):
                parent.children.append(node)


def _is_in(cell: int, gaps: Iterable[tuple[int, int]]) -> bool:
    return any(first <= cell <= last for first, last in gaps)


def body_cells(outline: Outline, bodies: Iterable[int]) -> Any:
    """The cells of these calls as far as pages show them; messages and variables are fetched for the inspector alone."""
    cells = Cell.objects.filter(call_id__in=outline.pks(bodies), born__lte=outline.seq)
    return cells.defer("messages", "variables", "exchange", "output").order_by("call_number", "number")


def first_words(text: str, most: int = 110) -> str:
    """The first sentence of a text, on one line, without Markdown's marks."""
    line = " ".join(text[:1000].split()).strip("*#_`> ")
    sentence = _SENTENCE.split(line, maxsplit=1)[0].rstrip(":")
    return shortened(sentence, most)


def shortened(text: str, most: int = 110) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


@lru_cache(maxsize=512)
def _prose(reply: str) -> str:
    return parsing.parse(reply).prose


__all__ = ["CROWD", "CallNode", "CellNode", "Tree", "body_cells"]
