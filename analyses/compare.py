"""Two runs side by side: their figures and answers, and one call of each, aligned cell by cell.

Calls are aligned by identity where they have one, then by what they were asked, then by order. A page holds one pair of calls, with the
child calls of its cells as lines that lead to the page of that pair: so it stays small however large the runs are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from analyses import diffs
from analyses.copying import parts
from analyses.models import Call, Cell, Run
from analyses.nodes import first_words
from analyses.texts import clean
from rlm.limits import Limits

CELLS_MOST = 2_000  # of one call; an imported one may have more
PAGE = 20  # pieces of the alignment on one page
CHILDREN_SHOWN = 40  # pairs of child calls of one cell
TEXT_SHOWN = 12_000  # characters of one output, or of an answer
_ENTRY = (
    "pk", "number", "parent_number", "parent_cell", "order", "identity", "title", "instruction", "context_digest", "status",
    "turns", "model", "answer_shape", "reused_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """A call in short."""

    pk: int
    number: int
    parent: int | None
    cell: int | None
    order: int
    identity: str
    title: str
    instruction: str
    context: str
    status: str
    turns: int
    model: str
    shape: str
    reused_at: float | None

    @property
    def what(self) -> str:
        return self.title or first_words(self.instruction) or f"call {self.number}"


class Side:
    """One of the two runs."""

    def __init__(self, name: str, run: Run) -> None:
        self.name, self.run = name, run
        rows = Call.objects.filter(run=run).order_by("number").values_list(*_ENTRY)
        self.calls = {row[1]: Known(*row) for row in rows.iterator(chunk_size=5000)}
        self._children: dict[tuple[int, int], list[int]] = {}
        for call in self.calls.values():
            if call.parent is not None and call.cell is not None:
                self._children.setdefault((call.parent, call.cell), []).append(call.number)

    def children(self, cell: Cell | None) -> list[Known]:
        numbers = self._children.get((cell.call_number, cell.number), []) if cell else []
        return [self.calls[number] for number in numbers]

    def answers(self, calls: Iterable[Known]) -> dict[int, str]:
        """Digests of what these calls returned, by their numbers."""
        found = {}
        for keys in parts([call.pk for call in calls]):
            rows = Call.objects.filter(pk__in=keys).values_list("number", "answer_blob", "answer_value")
            for number, blob, value in rows:
                found[number] = hashlib.sha256(f"{blob}\0".encode() + bytes(value or b"")).hexdigest()
        return found

    @property
    def tokens(self) -> int:
        return self.run.prompt_tokens + self.run.completion_tokens

    @property
    def reused_tokens(self) -> int:
        return int(self.run.reused.get("prompt_tokens", 0)) + int(self.run.reused.get("completion_tokens", 0))


@dataclass(frozen=True)
class Pair:
    """Two calls that stand for each other, or one that stands alone."""

    left: Known | None
    right: Known | None
    same: bool = False

    @property
    def state(self) -> str:
        if self.left is None:
            return "only in B"
        return "only in A" if self.right is None else "same" if self.same else "differs"

    @property
    def differs(self) -> bool:
        return not self.same

    @property
    def what(self) -> str:
        known = self.left or self.right
        return known.what if known else ""


@dataclass(frozen=True)
class Children:
    """The child calls of a pair of cells."""

    total: int
    same: int
    shown: list[Pair]

    @property
    def other(self) -> int:
        return self.total - self.same

    @property
    def more(self) -> int:
        return self.other - len([pair for pair in self.shown if pair.differs])


@dataclass
class Cells:
    """A pair of cells, or a cell that stands alone."""

    left: Cell | None
    right: Cell | None
    code: diffs.Sides | None = None
    output: diffs.Sides | None = None
    children: Children = field(default_factory=lambda: Children(0, 0, []))

    @property
    def id(self) -> str:
        return f"pair-{self.left.number if self.left else 'x'}-{self.right.number if self.right else 'x'}"

    @property
    def state(self) -> str:
        """What is to be said of it in a few words."""
        if self.left is None:
            return "only in B"
        if self.right is None:
            return "only in A"
        what = [
            word
            for word, differs in (
                ("code" if self.left.code or self.right.code else "reply", _text(self.left) != _text(self.right)),
                ("output", _shown(self.left) != _shown(self.right)),
                ("children", self.children.other > 0),
            )
            if differs
        ]
        return f"{', '.join(what)} differ{'s' if len(what) == 1 and what[0] != 'children' else ''}" if what else "same"

    @property
    def same(self) -> bool:
        return self.state == "same"


@dataclass
class Stretch:
    """Cells one after the other that are the same in both."""

    pairs: list[Cells]
    replayed: bool  # B took them over from A's record, or A from B's

    @property
    def label(self) -> str:
        first, last = self.pairs[0], self.pairs[-1]
        assert first.left and first.right and last.left and last.right
        one = f"Cell {first.left.number}" if first is last else f"Cells {first.left.number} to {last.left.number}"
        if first.left.number == first.right.number:
            return f"{one} {'is' if first is last else 'are'} the same."
        other = f"{first.right.number}" if first is last else f"{first.right.number} to {last.right.number}"
        return f"{one} of A and {other} of B are the same."


@dataclass
class Comparison:
    """What the page shows."""

    a: Side
    b: Side
    pair: Pair
    page: int
    effort: diffs.Effort = field(default_factory=diffs.Effort)

    @classmethod
    def of(cls, one: Run, other: Run, calls: tuple[int, int] = (1, 1), page: int = 1) -> Comparison | None:
        """None where a run has no such call."""
        a, b = Side("A", one), Side("B", other)
        if (calls[0] not in a.calls or calls[1] not in b.calls) and (a.calls and b.calls):
            return None
        return cls(a, b, Pair(a.calls.get(calls[0]), b.calls.get(calls[1])), max(1, page))

    @property
    def is_root(self) -> bool:
        return self.pair.left is None or self.pair.left.parent is None

    # — cells —

    @cached_property
    def pairs(self) -> list[Cells]:
        """All cells of the pair of calls, aligned; light, without their children and differences."""
        return [Cells(one, other) for one, other in align_cells(_cells(self.pair.left), _cells(self.pair.right))]

    @cached_property
    def stretches(self) -> list[Stretch | Cells]:
        """Same cells together, the others one by one."""
        found: list[Stretch | Cells] = []
        for pair in self.pairs:
            self._with_children(pair)
            if not pair.same:
                found.append(pair)
            elif found and isinstance(found[-1], Stretch):
                found[-1].pairs.append(pair)
            else:
                found.append(Stretch([pair], False))
        for stretch in found:
            if isinstance(stretch, Stretch):
                stretch.replayed = self._is_fork and any(
                    all(cell.reused for cell in cells if cell)
                    for cells in ([p.left for p in stretch.pairs], [p.right for p in stretch.pairs])
                )
        return found

    @cached_property
    def shown(self) -> list[Stretch | Cells]:
        """This page of them, with their differences."""
        found = self.stretches[(self.page - 1) * PAGE : self.page * PAGE]
        for piece in found:
            for pair in [piece] if isinstance(piece, Cells) else []:
                one, other = pair.left, pair.right
                pair.code = diffs.code_sides(_text(one)[:TEXT_SHOWN], _text(other)[:TEXT_SHOWN], self.effort)
                pair.output = diffs.text_sides(_shown(one)[:TEXT_SHOWN], _shown(other)[:TEXT_SHOWN], self.effort)
        return found

    @property
    def pages(self) -> int:
        return max(1, -(-len(self.stretches) // PAGE))

    def _with_children(self, cells: Cells) -> None:
        left, right = self.a.children(cells.left), self.b.children(cells.right)
        if not left and not right:
            return
        ours, theirs = self.a.answers(left), self.b.answers(right)
        pairs = [
            Pair(one, other, bool(one and other and _same_end(one, other) and ours[one.number] == theirs[other.number]))
            for one, other in align_calls(left, right)
        ]
        # What differs is what people look for; what is the same fills the rest of the list.
        shown = sorted(pairs, key=lambda pair: pair.same)[:CHILDREN_SHOWN]
        cells.children = Children(len(pairs), sum(pair.same for pair in pairs), shown)

    @cached_property
    def _is_fork(self) -> bool:
        return self.a.run.pk == self.b.run.forked_from_id or self.b.run.pk == self.a.run.forked_from_id

    @property
    def forked_before(self) -> str:
        """The id of the first cell that is not the same, where one of the two was forked there from the other."""
        for side, other in ((self.b, self.a), (self.a, self.b)):
            fork = side.run.fork
            if side.run.forked_from_id != other.run.pk or not fork or not self.pair.left or not self.pair.right:
                continue
            here = (self.pair.left if side is self.b else self.pair.right).number
            if fork.get("call") == here:
                for pair in self.pairs:
                    cell = pair.right if side is self.b else pair.left
                    if cell is not None and cell.number >= fork.get("cell", 0):
                        return pair.id
        return ""

    # — the head —

    @cached_property
    def answers(self) -> diffs.Sides:
        return diffs.text_sides(answer_text(self.a.run), answer_text(self.b.run), self.effort)

    @property
    def asked(self) -> diffs.Sides | None:
        """The instructions of two child calls, where they differ."""
        one, other = self.pair.left, self.pair.right
        if one is None or other is None or one.instruction == other.instruction:
            return None
        return diffs.text_sides(one.instruction[:TEXT_SHOWN], other.instruction[:TEXT_SHOWN], self.effort)

    @property
    def differs_in(self) -> list[str]:
        a, b = self.a.run, self.b.run
        names = {
            "question": "question", "corpus_version_id": "corpus or its version", "documents": "documents read",
            "strategy": "strategy",
            "endpoint": "model endpoint", "root_model": "model", "child_model": "model of child calls",
        }  # fmt: skip
        found = [word for name, word in names.items() if getattr(a, name) != getattr(b, name)]
        limits = {**a.limits, **b.limits}
        known = vars(Limits())
        other = [n for n in limits if n in known and a.limits.get(n) != b.limits.get(n)]
        found += [f"limit {name}" for name in other[:4]] + (["more limits"] if len(other) > 4 else [])
        changed = next((r.fork.get("changed") for r in (b, a) if r.fork and self._is_fork), None) or ()
        if "code" in changed:
            found.append("code of a cell")
        return found


def answer_text(run: Run) -> str:
    if not run.answer_type:
        return ""
    shown = run.answer_display
    text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, indent=1)
    return clean(text[:TEXT_SHOWN] + ("…" if len(text) > TEXT_SHOWN else ""))


def _cells(call: Known | None) -> list[Cell]:
    if call is None:
        return []
    cells = Cell.objects.filter(call_id=call.pk).order_by("number")
    return list(cells.defer("messages", "variables", "exchange", "output", "reasoning")[:CELLS_MOST])


def _text(cell: Cell | None) -> str:
    """What stands for a cell: its code, or the reply where there is none."""
    return (cell.code or cell.reply) if cell else ""


def _shown(cell: Cell | None) -> str:
    """What came of it, as the model saw it."""
    return (cell.shown or cell.error) if cell else ""


def _same_end(one: Known, other: Known) -> bool:
    return (
        one.status == other.status
        and one.turns == other.turns
        and (one.identity == other.identity or _asked(one) == _asked(other))
    )


def _asked(call: Known) -> tuple[str, str]:
    return (call.context, call.instruction)


def align_cells(one: Sequence[Cell], other: Sequence[Cell]) -> list[tuple[Cell | None, Cell | None]]:
    """Cells with the same code stand for each other; between those, cells do in their order."""
    effort = diffs.Effort()
    keys = [[hash((cell.kind, _text(cell).strip())) for cell in cells] for cells in (one, other)]
    found = diffs.opcodes(keys[0], keys[1], effort)
    if found is None:
        found = [("replace", 0, len(one), 0, len(other))]
    pairs: list[tuple[Cell | None, Cell | None]] = []
    for _, a1, a2, b1, b2 in found:
        for at in range(max(a2 - a1, b2 - b1)):
            pairs.append(
                (one[a1 + at] if a1 + at < a2 else None, other[b1 + at] if b1 + at < b2 else None)
            )  # fmt: skip
    return pairs


def align_calls(one: Sequence[Known], other: Sequence[Known]) -> list[tuple[Known | None, Known | None]]:
    """Child calls of two cells: by identity, by what they were asked, by their titles, then by order."""
    partner: dict[int, Known] = {}
    left, right = list(one), list(other)
    for key in (lambda call: call.identity, _asked, lambda call: call.title):
        waiting: dict[Any, list[Known]] = {}
        for call in right:
            if any(key(call)):
                waiting.setdefault(key(call), []).append(call)
        for queue in waiting.values():
            queue.reverse()
        for call in left:
            if queue := waiting.get(key(call), []):
                partner[call.number] = queue.pop()
        taken = {call.number for call in partner.values()}
        left = [call for call in left if call.number not in partner]
        right = [call for call in right if call.number not in taken]
    for call, match in zip(left, right, strict=False):
        partner[call.number] = match
    taken = {call.number for call in partner.values()}
    return [
        *((call, partner.get(call.number)) for call in one),
        *((None, call) for call in other if call.number not in taken),
    ]
