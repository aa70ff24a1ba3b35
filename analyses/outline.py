"""A run's calls in a few numbers each: enough for totals, crowds of children and who stands where, for 10,000 of them.

Which parts of the tree a page holds follows from the rows alone (design.md, decision 10): the *scope* of a call's
line and of its body is "" where every page has it, else the name under which a page that opened it asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from analyses.models import ENDED, Call

CROWD = 12  # a cell with more child calls than this shows a summary and a closed list
SETTLED = 3  # among fewer siblings, the slowest or costliest is no news
CLEARLY = 1.05  # times the next: less is no difference that anybody sees
BLOCK = 50  # cells of a long call that come at once; a page holds its first block and its last two
EAGER = 24  # calls up to this number stand on the page with their cells; the others' are fetched when unfolded

_COLUMNS = (
    "number", "parent_number", "parent_cell", "depth", "status", "title", "model", "prompt_tokens", "completion_tokens",
    "cost", "model_seconds", "exec_seconds", "queued_at", "started_at", "finished_at", "turns", "born", "seq", "pk",
    "reused_at",
)  # fmt: skip


@dataclass(slots=True)
class Entry:
    number: int
    parent: int | None
    cell: int | None
    depth: int
    status: str
    title: str
    model: str
    tokens: int
    cost: float | None
    model_seconds: float
    exec_seconds: float
    queued: float
    started: float | None
    finished: float | None
    turns: int
    born: int
    seq: int
    pk: int
    reused_at: float | None = None  # a fork took it over then: it did not run here
    children: dict[int, list[int]] = field(default_factory=dict)  # by cell, in call order
    # Of the subtree, itself included.
    all_tokens: int = 0
    all_cost: float = 0.0
    unpriced: int = 0  # calls whose cost is unknown

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def reused(self) -> bool:
        return self.reused_at is not None

    @property
    def seconds(self) -> float | None:
        """From its start to its end; None while it is under way."""
        return None if self.started is None or self.finished is None else max(0.0, self.finished - self.started)

    @property
    def own_seconds(self) -> float:
        return self.model_seconds + self.exec_seconds


@dataclass(frozen=True)
class Crowd:
    """The child calls of one cell, summed up."""

    total: int
    done: int
    failed: int  # or at a limit
    stopped: int
    running: int
    queued: int
    slowest: Entry | None
    entries: list[Entry]


MOST = {
    "seconds": "slowest", "own_seconds": "slowest by itself", "cost": "costliest", "own_cost": "costliest by itself",
    "tokens": "most tokens", "own_tokens": "most tokens by itself",
}  # fmt: skip


def standouts(figures: dict[int, dict[str, float | None]]) -> dict[int, dict[str, str]]:
    """Of siblings' figures by number: who has most of what, in words. Tokens count where no price is known."""
    found: dict[int, dict[str, str]] = {}
    if len(figures) < SETTLED:
        return found
    priced = any(one.get("cost") for one in figures.values())
    for name, words in MOST.items():
        if name.endswith("tokens") and priced:
            continue
        second, most = sorted(one.get(name) or 0.0 for one in figures.values())[-2:]
        if most > CLEARLY * second:
            number = next(number for number, one in figures.items() if one.get(name) == most)
            found.setdefault(number, {})[name] = f"{words} of {len(figures):,}"
    return found


class Outline:
    """The calls of one run up to a seq. ``read`` brings it up to a later one."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.seq = 0
        self.calls: dict[int, Entry] = {}
        self._touched: tuple[int, set[int], set[int]] | None = None  # of the start last asked for

    @classmethod
    def of(cls, run: Any) -> Outline:
        outline = cls(run.pk)
        outline.read(run.seq)
        return outline

    def read(self, upto: int) -> list[int]:
        """Take in the calls written after ``self.seq``, less those born after ``upto``; return their numbers.

        A row may be newer than ``upto``; then it comes again next time, which does no harm.
        """
        rows = Call.objects.filter(run_id=self.run_id, seq__gt=self.seq, born__lte=upto).order_by("number")
        changed = [self._take(row) for row in rows.values_list(*_COLUMNS).iterator(chunk_size=5000)]
        self.seq = max(self.seq, upto)
        self._touched = None
        return changed

    def _take(self, row: tuple[Any, ...]) -> int:
        number, parent, cell, depth, status, title, model, prompt, completion, cost, *rest = row
        entry = Entry(number, parent, cell, depth, status, title, model, prompt + completion, cost, *rest)
        old = self.calls.get(number)
        if old is None:
            if parent is not None and cell is not None:
                self.calls[parent].children.setdefault(cell, []).append(number)
            tokens, money, unpriced = entry.tokens, entry.cost or 0.0, int(entry.cost is None)
        else:
            entry.children = old.children
            entry.all_tokens, entry.all_cost, entry.unpriced = old.all_tokens, old.all_cost, old.unpriced
            tokens, money = entry.tokens - old.tokens, (entry.cost or 0.0) - (old.cost or 0.0)
            unpriced = int(entry.cost is None) - int(old.cost is None)
        self.calls[number] = entry
        for above in (entry, *self.above(number)):
            above.all_tokens += tokens
            above.all_cost += money
            above.unpriced += unpriced
        return number  # type: ignore[no-any-return]

    def above(self, number: int) -> Iterator[Entry]:
        """Its parent, the parent's parent, up to the root."""
        parent = self.calls[number].parent
        while parent is not None:
            yield self.calls[parent]
            parent = self.calls[parent].parent

    def changed(self, start: int) -> set[int]:
        """The calls written after ``start``."""
        return self._since(start)[0]

    def touched(self, start: int) -> set[int]:
        """The calls written after ``start``, and those above them, whose totals include theirs."""
        return self._since(start)[1]

    def _since(self, start: int) -> tuple[set[int], set[int]]:
        # Asked once for each part of the tree that somebody has open, mostly from the same start.
        if self._touched is None or self._touched[0] != start:
            changed = {entry.number for entry in self.calls.values() if entry.seq > start}
            touched = changed | {above.number for number in changed for above in self.above(number)}
            self._touched = (start, changed, touched)
        return self._touched[1:]

    def pks(self, numbers: Iterable[int]) -> list[int]:
        """Primary keys of calls: cells have an index by them, and none by numbers."""
        return [self.calls[number].pk for number in numbers]

    def children(self, call: int, cell: int) -> list[int]:
        return self.calls[call].children.get(cell, [])

    def is_crowd(self, call: int, cell: int) -> bool:
        return len(self.children(call, cell)) > CROWD

    def was_crowd(self, call: int, cell: int, seq: int) -> bool:
        """Whether it was one already for a page that stands at ``seq``."""
        children = self.children(call, cell)
        return len(children) > CROWD and self.calls[children[CROWD]].born <= seq

    def crowd(self, call: int, cell: int) -> Crowd:
        entries = [self.calls[number] for number in self.children(call, cell)]
        count = Counter(entry.status for entry in entries)
        timed = [entry for entry in entries if entry.seconds is not None]
        ended = sum(count[status] for status in ENDED)
        return Crowd(
            total=len(entries),
            done=count["done"],
            failed=count["failed"] + count["limit"],
            stopped=count["stopped"],
            running=len(entries) - ended - count["queued"],
            queued=count["queued"],
            slowest=max(timed, key=lambda entry: entry.seconds or 0.0, default=None),
            entries=entries,
        )

    def path(self, number: int) -> list[int]:
        """The calls from the root down to this one."""
        return [*reversed([above.number for above in self.above(number)]), number]

    def stood_out(self, call: int, cell: int, seq: int) -> set[int]:
        """Who stood out when those of the cell's child calls had ended that were born by ``seq``."""
        return set(self._most([entry for n in self.children(call, cell) if (entry := self.calls[n]).born <= seq]))

    def most(self, call: int, cell: int) -> dict[int, dict[str, str]]:
        """Who stands out among the child calls of a cell, once all of them have ended; before, that could change."""
        return self._most([self.calls[number] for number in self.children(call, cell)])

    @staticmethod
    def _most(entries: list[Entry]) -> dict[int, dict[str, str]]:
        if not all(entry.ended for entry in entries):
            return {}
        return standouts(
            {
                entry.number: {
                    "seconds": entry.seconds,
                    "own_seconds": entry.own_seconds,
                    "cost": entry.all_cost,
                    "own_cost": entry.cost,
                    "tokens": entry.all_tokens,
                    "own_tokens": entry.tokens,
                }
                for entry in entries
            }
        )

    def scope(self, number: int) -> str:
        """Where the line of this call stands: "" on every page, "b7" in the body of call 7, "c9" in an opened crowd."""
        entry = self.calls[number]
        if entry.parent is None or entry.cell is None:
            return ""
        return f"c{number}" if self.is_crowd(entry.parent, entry.cell) else self.body(entry.parent)

    def body(self, number: int) -> str:
        """Where its cells stand."""
        return "" if number <= EAGER and self.scope(number) == "" else f"b{number}"

    def gaps(self, number: int, wanted: Iterable[int] = ()) -> list[tuple[int, int]]:
        """The cells of a long call that a page does not hold, unless they are wanted: first and last of each gap.

        Frames know nothing of it: what is in a gap is over, and newcomers come after the last.
        """
        last = max(0, self.calls[number].turns - 1) // BLOCK
        held = {0, last - 1, last, *(max(0, cell - 1) // BLOCK for cell in wanted)}
        blocks = sorted(block for block in held if 0 <= block <= last)
        return [(a * BLOCK + BLOCK + 1, b * BLOCK) for a, b in pairwise(blocks) if b > a + 1]

    def eager(self) -> Iterable[int]:
        """The calls whose cells every page holds."""
        return [number for number in self.calls if number <= EAGER and self.body(number) == ""]
