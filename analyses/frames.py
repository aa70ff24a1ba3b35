"""Changed rows as HTML frames, each for one interval (N, M] of a run's seq (design.md, decisions 1, 8 and 10).

What has born > N is appended, parents first; what has born ≤ N < seq has its leaves replaced. A frame ends by
setting the page's #run-seq to M. Nothing in it depends on who looks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString

from analyses.answers import earlier_answers
from analyses.models import Call, Cell, FollowUp, Run
from analyses.nodes import CallNode, CellNode, FollowUpNode, Texts, Tree, body_cells
from analyses.outline import Entry, Outline
from analyses.runpage import RunState
from analyses.timeline import Timeline

FRAME_MOST = 256 * 1024  # bytes of one frame; a single piece may be larger
NEWCOMERS_MOST = 300  # of a crowd in one frame; as many as a page takes before it asks again (static/app.js)
MARK = '<span id="run-seq"'
SENT_MOST = 4096  # leaves remembered as sent
CellKey = tuple[int, int]  # call and cell, by their numbers


@dataclass
class Painter:
    """A run as one web process knows it, kept up to date by ``advance``. Used by one thread at a time."""

    run: Run
    outline: Outline = field(init=False)
    newest: Cell | None = None  # of the root: what the run does now
    unattended: bool = False  # no worker is alive
    sent: dict[str, int] = field(default_factory=dict)  # long leaves as they last went out to all who follow

    def __post_init__(self) -> None:
        self.outline = Outline(self.run.pk)
        self.advance()

    def advance(self) -> None:
        """Read the run's own row, then what its calls have become. Cursor first: seq before rows."""
        self.run.refresh_from_db()
        self.outline.read(self.run.seq)
        cells = Cell.objects.filter(
            call_id__in=self.outline.pks(n for n in (1,) if n in self.outline.calls), born__lte=self.seq
        )
        self.newest = cells.only("number", "status").order_by("-number").first()

    @property
    def seq(self) -> int:
        return self.outline.seq

    def state(self) -> RunState:
        return RunState(self.run, self.outline, self.newest, unattended=self.unattended)

    # — what a page needs that stands at ``start`` —

    def frames(
        self,
        start: int,
        texts: Texts,
        *,
        crowds: Collection[CellKey] | None = None,
        timeline: bool = True,
        following: bool = False,
    ) -> list[str]:
        """Frames that bring any page from ``start`` to here.

        ``crowds``: whose summaries to send; None: all. ``following``: for pages that had every such frame until
        now; code and replies that they hold already are left out.
        """
        tree = Tree(self.outline, texts)
        tree.add_follow_ups(self.run)
        changes = _Changes(tree, start, "")
        leaves = changes.leaves(self.sent if following else None)
        leaves += self._summaries(tree, self.crowds("") if crowds is None else crowds, start)
        births = sorted([*changes.births(), *self._further(start, tree.follow_ups)])
        state = self.state()
        last: list[str] = [state.leaf(name) for name in ("state", "now", "meters", "answer")]
        if timeline:
            plot = Timeline.of(self.run, self.outline)
            last.append(render_to_string("analyses/_timeline_plot.html", {"timeline": plot}))
        return list(_bundled(start, self.seq, leaves, births, last))

    def _further(self, start: int, follow_ups: list[FollowUp]) -> Iterator[tuple[int, str]]:
        """What was asked further, and the answers before that."""
        for row in follow_ups:
            if row.born <= start:
                continue
            item = render_to_string("analyses/_follow_up.html", {"follow_up": FollowUpNode(row)})
            yield row.born, render_to_string("analyses/_append.html", {"target": "#call-1-cells", "item": item})
        for earlier in reversed(earlier_answers(self.run, start)):
            item = render_to_string("analyses/_earlier_answer.html", {"earlier": earlier})
            context = {"target": "#earlier-answers", "item": item, "where": "afterbegin"}
            yield earlier.row.born, render_to_string("analyses/_append.html", context)

    def part(self, scope: str, start: int, texts: Texts) -> list[str]:
        """What is new since ``start`` in a part of the tree that only some pages have fetched."""
        numbers = [int(number) for number in scope[1:].split("-")]
        if numbers[0] not in self.outline.calls:
            return []
        if scope[0] == "l":
            return self._newcomers(numbers[0], numbers[1], start)
        tree = Tree(self.outline, texts, whole=(scope,))
        changes = _Changes(tree, start, scope)
        leaves = changes.leaves()
        leaves += self._summaries(tree, changes.crowds, start)
        return [*leaves, *(html for _, html in changes.births())]

    def _newcomers(self, call: int, cell: int, start: int) -> list[str]:
        """New calls of a crowd, for pages that have its list to the end; each says that its own news are wanted too."""
        born = [number for number in self.outline.children(call, cell) if self.outline.calls[number].born > start]
        if not born or not self.outline.is_crowd(call, cell):
            return []
        tree = Tree(self.outline)
        tree.add_calls(born[:NEWCOMERS_MOST], answers=False)
        said = '<li data-opened="c{}" data-seq="{}" hidden role="none"></li>'
        return [_append(node, format_html(said, number, self.seq)) for number, node in sorted(tree.calls.items())]

    def written(self, keys: Iterable[CellKey], texts: Texts) -> dict[str, list[str]]:
        """The leaves whose text is still being written, by the scope they stand in."""
        keys = [(call, cell) for call, cell in keys if call in self.outline.calls]
        if not keys:
            return {}
        tree = Tree(self.outline, texts)
        tree.add_cells(_light(_named(self.outline, keys)))
        found: dict[str, list[str]] = {}
        for (call, _), node in tree.cells.items():
            if not node.over:
                found.setdefault(self.outline.body(call), []).append(node.leaf("reply" if node.writing else "output"))
        return found

    def crowds(self, scope: str, start: int = -1) -> set[CellKey]:
        """The cells of this scope with a crowd of children, of which one has changed since ``start``."""
        if start < 0 and scope == "":
            bodies: Iterable[int] = self.outline.eager()
            return {
                (n, cell) for n in bodies for cell in self.outline.calls[n].children if self.outline.is_crowd(n, cell)
            }
        return {key for key in _asked(self.outline, self.outline.touched(start)) if self._stands(key, scope)}

    def _stands(self, key: CellKey, scope: str) -> bool:
        return self.outline.is_crowd(*key) and self.outline.body(key[0]) == scope

    @staticmethod
    def _summaries(tree: Tree, keys: Iterable[CellKey], start: int) -> Iterator[str]:
        """Of crowds of children. A cell that is new itself brings its own along."""
        for key in sorted(keys):
            cell = tree.cells.get(key) or tree.load_cell(key)
            if cell is not None and cell.row.born <= start:
                yield cell.leaf("crowd")


def _light(cells: QuerySet[Cell]) -> QuerySet[Cell]:
    return cells.defer("messages", "variables", "exchange", "output")


def _named(outline: Outline, keys: Iterable[CellKey]) -> QuerySet[Cell]:
    wanted = Q(pk__in=[])
    for call, cell in keys:
        wanted |= Q(call_id=outline.calls[call].pk, number=cell)
    return Cell.objects.filter(wanted, born__lte=outline.seq)


def _asked(outline: Outline, numbers: Iterable[int]) -> set[CellKey]:
    """The cells that started these calls."""
    entries = (outline.calls[number] for number in numbers)
    return {(entry.parent, entry.cell) for entry in entries if entry.parent is not None and entry.cell is not None}


class _Changes:
    """What is new in one scope since ``start``: leaves of what was there, and what was born."""

    def __init__(self, tree: Tree, start: int, scope: str) -> None:
        self.tree, self.start, self.scope = tree, start, scope
        outline = tree.outline
        self.changed = outline.changed(start)
        touched = outline.touched(start)
        standing = self._standing(_asked(outline, self.changed))
        self.lines = {number for number in touched | standing if outline.scope(number) == scope}
        self.bodies = {number for number in self.changed if outline.body(number) == scope}
        self.asking = {key for key in _asked(outline, touched) if outline.body(key[0]) == scope}
        self.crowds = {key for key in self.asking if outline.is_crowd(*key)}
        if scope == "":
            bodies: Iterable[int] = outline.eager()
        else:
            bodies = [int(scope[1:])] if scope[0] == "b" else []
        tree.add_cells(body_cells(outline, bodies).filter(seq__gt=start))
        if rest := self.asking - set(tree.cells):
            tree.add_cells(_light(_named(outline, rest)))
        tree.add_calls(self.bodies)
        tree.add_calls(self.lines, answers=False)
        # With the end of a call it shows which of its cells took most.
        if over := {number for number in self.bodies if outline.calls[number].ended}:
            whole = {number for number in over if not outline.gaps(number)}
            tree.add_cells(
                cell for cell in body_cells(outline, whole) if (cell.call_number, cell.number) not in tree.cells
            )
            tree.weigh(over)
        self.weighed = {(call, cell) for call, cells in tree.most_cells.items() for cell in cells}
        if 1 in self.bodies and tree.follow_ups and not outline.calls[1].ended and not outline.gaps(1):
            self._reopened(tree.follow_ups[-1].after_cell)

    def _reopened(self, upto: int) -> None:
        """The root goes on with a follow-up: which of its cells took most is open again."""
        cells = list(body_cells(self.tree.outline, [1]))
        if any(cell.number > upto and not self._new(cell) for cell in cells):
            return  # it went on before
        self.tree.add_cells(cell for cell in cells if (1, cell.number) not in self.tree.cells)
        self.weighed |= {(1, cell.number) for cell in cells if cell.number <= upto}

    def _standing(self, groups: set[CellKey]) -> set[int]:
        """Who stands out among siblings, and who did before the last of them came: their lines say so, or no more."""
        found: set[int] = set()
        for call, cell in groups:
            now = self.tree.most_of(call, cell)
            found |= set(now)
            newest = self.tree.outline.children(call, cell)[-1]
            if self.tree.outline.calls[newest].born > self.start:
                found |= self.tree.outline.stood_out(call, cell, self.start)
        return found

    def _new(self, row: Call | Cell | Entry) -> bool:
        return row.born > self.start

    def leaves(self, sent: dict[str, int] | None = None) -> list[str]:
        pieces: list[str] = []
        for number in sorted(self.lines):
            call = self.tree.calls[number]
            if not self._new(call.row):
                pieces.append(call.leaf("head"))
        for number in sorted(self.bodies):
            call = self.tree.calls[number]
            # The body of a call on an opened part was fetched, however young the call is.
            if not self._new(call.row) or self.scope:
                pieces += [call.leaf("about"), call.leaf("end")]
        for key, cell in sorted(self.tree.cells.items()):
            if self._new(cell.row):
                continue
            if cell.row.seq > self.start or key in self.asking or key in self.weighed:
                pieces.append(cell.leaf("head"))
            if cell.row.seq > self.start:
                for name in ("reply", "code", "output"):
                    piece = cell.leaf(name)
                    if sent is None or name == "output" or cell.writing or _is_news(sent, f"{cell.id}-{name}", piece):
                        pieces.append(piece)
            if cell.is_crowd and not self.tree.outline.was_crowd(*key, self.start):
                pieces.append(cell.leaf("children"))  # its short list becomes a summary and a closed list
        return pieces

    def births(self) -> list[tuple[int, str]]:
        """What was born, with the seq of its birth: parents first."""
        calls = [self.tree.calls[n] for n in self.lines if self._new(self.tree.calls[n].row)]
        cells = [cell for cell in self.tree.cells.values() if self._new(cell.row)]
        born: list[CallNode | CellNode] = sorted([*calls, *cells], key=lambda node: node.row.born)
        return [(node.row.born, _append(node)) for node in born]


def _append(node: CallNode | CellNode, before: SafeString = SafeString("")) -> str:  # noqa: B008  it never changes
    row = node.row
    if isinstance(row, Cell):
        target = f"#call-{row.call_number}-cells"
    elif row.parent_number is None:
        target = "#tree"
    else:
        target = f"#cell-{row.parent_number}-{row.parent_cell}-children"
    partial = "_cell" if isinstance(node, CellNode) else "_call"
    item = render_to_string(f"analyses/{partial}.html", {node.kind: node})
    return render_to_string("analyses/_append.html", {"target": target, "item": before + item})


def _is_news(sent: dict[str, int], leaf: str, html: str) -> bool:
    """Whether this leaf has changed since it last went out; a cell's code is long and outlives many of its writes."""
    digest = hash(html)
    known = sent.pop(leaf, None)
    sent[leaf] = digest
    if len(sent) > SENT_MOST:
        del sent[next(iter(sent))]
    return known != digest


def mark(start: int, end: int) -> str:
    """The end of every frame: where the page must stand, and where it stands now."""
    return f'{MARK} hidden data-seq="{end}" data-from="{start}"></span>'


def _bundled(start: int, end: int, leaves: list[str], births: list[tuple[int, str]], last: list[str]) -> Iterator[str]:
    """One frame, or as many as FRAME_MOST asks for.

    Leaves first, moving nothing: sent twice, they do no harm. Then births in their order, each frame ending at
    the last of its own, so that a page cut off between two frames asks from the right place.
    """
    bundle: list[str] = []
    size, at, reached = 0, start, start
    for seq, html in [*((start, leaf) for leaf in leaves), *births, *((end, leaf) for leaf in last)]:
        length = len(html.encode(errors="replace"))
        if bundle and size + length > FRAME_MOST:
            yield "".join(bundle) + mark(at, reached)
            bundle, size, at = [], 0, reached
        bundle.append(html)
        size += length
        reached = seq
    yield "".join(bundle) + mark(at, end)
