"""A run's page from its rows: what members' and shared pages both hold, and nothing that depends on who looks."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from asgiref.sync import async_to_sync
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from analyses import live
from analyses.answers import Answer, earlier_answers, shown_answer
from analyses.endpoints import OFFLINE, OFFLINE_LABEL
from analyses.inspector import search
from analyses.models import Cell, FollowUp, Run, Status
from analyses.nodes import CallNode, Texts, Tree
from analyses.outline import Outline
from analyses.timeline import Timeline
from analyses.worked import seconds_uncounted
from rlm.limits import Limits

LISTED = 50  # child calls of a crowd that are fetched at once
WORDS = {
    Status.QUEUED: "Queued",
    Status.RUNNING: "Running",
    Status.WAITING: "Waiting",
    Status.PAUSED: "Paused",
    Status.DONE: "Done",
    Status.FAILED: "Failed",
    Status.STOPPED: "Stopped",
    Status.LIMIT: "Ended at a limit",
}

UNATTENDED = "No worker is running just now. Nothing is lost: the run goes on when there is one."
RESTING = (Status.PAUSED, Status.QUEUED)  # nobody is at work on it


@dataclass(frozen=True)
class Meter:
    """One limit and what is used of it."""

    name: str
    used: str
    most: str
    share: float | None = None  # percent
    minor: bool = False
    ticks: float | None = None  # a clock that runs: seconds since the epoch at its 0

    @property
    def near(self) -> bool:
        return self.share is not None and self.share >= 90


class RunState:
    """The run's own leaves: state, what it does now, meters, answer."""

    def __init__(self, run: Run, outline: Outline, now_cell: Cell | None = None, *, unattended: bool = False) -> None:
        self.run = run
        self.outline = outline
        self.now_cell = now_cell  # the root's newest
        self.unattended = unattended  # no worker is alive

    @property
    def word(self) -> str:
        if self.run.stop_requested_at and not self.run.ended:
            return "Stopping"
        if self.run.pause_requested_at and not self.run.ended and self.run.status != Status.PAUSED:
            return "Pausing"
        return WORDS[Status(self.run.status)]

    @property
    def answer(self) -> Answer:
        return shown_answer(self.run)

    @property
    def running(self) -> int:
        if self.run.status in RESTING:
            return 0
        return sum(not entry.ended and entry.status == "running" for entry in self.outline.calls.values())

    @property
    def forsaken(self) -> bool:
        """It waits for a worker, and none is alive. The command line executes its runs itself."""
        return self.unattended and (self.run.status == Status.QUEUED or _lapsed(self.run))

    @property
    def now(self) -> str:
        """What it is doing, in a sentence."""
        run, cell = self.run, self.now_cell
        if run.ended:
            parts = [_count(run.cells, "cell"), _count(run.calls, "call")]
            if run.failed_calls:
                parts.append(f"{run.failed_calls:,} of them failed")
            return (f"{run.reason} " if run.reason else "") + ", ".join(parts)
        if self.forsaken:
            return UNATTENDED
        if run.stop_requested_at:
            return "The worker ends what is under way and keeps everything so far."
        if run.status == Status.PAUSED:
            return run.reason or "It rests. Everything so far is kept; it goes on from here when you say so."
        if run.pause_requested_at:
            return "No further request goes out; it rests when those under way have come back."
        if run.status == Status.QUEUED:
            return "Waits for a worker to take it."
        if cell is None:
            return "Its sandbox starts."
        if cell.status == Cell.Status.WRITING:
            return f"Turn {cell.number}: {run.root_model} writes its reply"
        if cell.status == Cell.Status.WAITING:
            crowd = self.outline.crowd(1, cell.number)
            said = f"Cell {cell.number} waits for its children: {crowd.done} of {crowd.total} done"
            said += f", {crowd.failed} failed" if crowd.failed else ""
            return said + (f", {crowd.running} running" if crowd.running else "")
        if cell.status == Cell.Status.RUNNING:
            return f"Cell {cell.number} runs"
        return f"Cell {cell.number} is done; the next turn begins"

    @cached_property
    def meters(self) -> list[Meter]:
        run, over = self.run, self.run.ended
        follow_up = None if over else run.newest_follow_up()
        used = follow_up or run  # under way, what the question uses of its limits; at the end, all that the run used
        limits = _limits(used)
        tokens = used.prompt_tokens + used.completion_tokens
        since = run.resumed_at or run.started_at
        started = since.timestamp() - used.seconds if since else None
        spent = run.seconds if over else (time.time() - started if started else 0.0)
        if run.status in RESTING:  # its clock stands
            started, spent = None, used.seconds + seconds_uncounted(run)
        # The root counts for each question.
        calls = follow_up.calls + 1 if follow_up else run.calls - int(run.reused.get("calls", 0))
        share = max(
            _share(used.prompt_tokens, limits.prompt_tokens), _share(used.completion_tokens, limits.completion_tokens)
        )
        cached = (
            f", {100 * run.cached_tokens // run.prompt_tokens} % cached"
            if over and run.cached_tokens and run.prompt_tokens
            else ""
        )
        most_tokens = None if limits.prompt_tokens is None else limits.prompt_tokens + (limits.completion_tokens or 0)
        from analyses.templatetags.run import amount, clock, money

        reused = self._reused
        if over:
            return [
                Meter("Time", clock(spent), ""),
                Meter("Cost", money(run.cost) if run.cost is not None else "unknown", ""),
                Meter("Tokens", amount(tokens), cached),
                Meter("Calls", f"{run.calls:,}", ""),
                *reused,
            ]
        return [
            Meter(
                "Time",
                clock(spent),
                f" of {clock(limits.run_seconds)}",
                _share(spent, limits.run_seconds),
                ticks=started,
            ),
            _cost(used, limits.cost),
            Meter("Tokens", amount(tokens), f" of {amount(most_tokens)}" if most_tokens else "", share),
            Meter("Calls", f"{calls:,}", f" of {limits.calls:,}", _share(calls, limits.calls)),
            *reused,
            Meter(
                "In flight",
                str(self.running),
                f" of {limits.calls_in_flight}",
                _share(self.running, limits.calls_in_flight),
                minor=True,
            ),
            Meter("Depth", str(run.depth), f" of {limits.depth}", _share(run.depth, limits.depth), minor=True),
        ]

    @property
    def _reused(self) -> list[Meter]:
        """What a fork took over: no part of the figures beside it."""
        from analyses.templatetags.run import money

        reused = self.run.reused
        if not reused.get("cells") and not reused.get("calls"):
            return []
        what = _count(reused["calls"], "call") if reused.get("calls") else _count(reused["cells"], "cell")
        cost = reused.get("cost")
        return [Meter("Reused", what, f", {money(cost)} then" if cost else "", minor=True)]

    def leaf(self, name: str) -> SafeString:
        """state, now, meters or answer."""
        if name == "answer":
            return render_to_string("analyses/_answer.html", {"answer": self.answer})
        return render_to_string(f"analyses/_run_{name}.html", {"state": self})


def _lapsed(run: Run) -> bool:
    """Whether who executed it has not been heard of for as long as a lease holds."""
    return run.lease_expires_at is not None and run.lease_expires_at < timezone.now()


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _share(used: float, most: float | None) -> float:
    return min(100.0, round(100 * used / most, 1)) if most else 0.0


def _cost(run: Run | FollowUp, most: float | None) -> Meter:
    """What is known of the money spent so far; of a model without a known price nothing ever is."""
    from analyses.templatetags.run import money

    if run.cost is None:
        return Meter("Cost", "not known", "")
    of = f" of {money(most)}" if most is not None else ""
    # Whether there is a price shows with the first reply.
    used = money(run.cost) if run.cost or run.prompt_tokens or run.completion_tokens else "no reply yet"
    return Meter("Cost", used, of, _share(run.cost, most))


def _limits(run: Run | FollowUp) -> Limits:
    try:
        return Limits.of(run.limits)
    except ValueError:
        return Limits()


def run_page_context(run: Run, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `_run_body.html` needs. The run's seq was read before its rows: the page stands at it.

    ``query`` names what is else fetched by a script: ``open``, a call to unfold; ``at``, as in 1.4, a cell of a long call;
    ``list``, as in 1.4.0, the child calls of cell 1.4 after call 0; ``q``, words to search for.
    """
    query = query or {}
    outline = Outline.of(run)
    texts: Texts = {} if run.ended else async_to_sync(live.read)(run.pk)
    tree = Tree(outline, texts)
    tree.add_follow_ups(run)
    scopes = _asked(tree, query.get("open", ""), query.get("list", ""), query.get("at", ""))
    fill(tree)
    root = tree.calls.get(1)
    words = query.get("q", "").strip()
    return {
        "scopes": scopes,
        "words": words,
        "hits": search(run, words) if words else [],
        "run": run,
        "seq": run.seq,
        "now": time.time(),
        "root": root,
        "state": RunState(run, outline, now_cell(root), unattended=not run.ended and async_to_sync(live.unattended)()),
        "answer": shown_answer(run),
        "earlier_answers": earlier_answers(run),
        "timeline": Timeline.of(run, outline),
        "offline_label": OFFLINE_LABEL if run.endpoint == OFFLINE else "",
    }


def _asked(tree: Tree, call: str, children: str, cell_at: str) -> list[str]:
    """Have the tree hold what an address names: a call that is folded elsewhere, a page of a crowd, a cell. Returns the scopes."""
    outline = tree.outline
    lines: list[int] = []
    if re.fullmatch(r"\d{1,7}", call) and int(call) in outline.calls:
        lines = outline.path(int(call))
    tree.opened = set(lines)
    if (found := re.fullmatch(r"(\d{1,7})\.(\d{1,7})\.(\d{1,7})", children)) and int(found[1]) in outline.calls:
        parent, cell, after = map(int, found.groups())
        way = outline.path(parent)
        tree.opened |= set(way)
        lines += way + [number for number in outline.children(parent, cell) if number > after][:LISTED]
    if (found := re.fullmatch(r"(\d{1,7})\.(\d{1,9})", cell_at)) and int(found[1]) in outline.calls:
        tree.wanted[int(found[1])] = {int(found[2])}
        way = outline.path(int(found[1]))
        tree.opened |= set(way)
        lines += way
    for number in lines:
        entry = outline.calls[number]
        if entry.parent is not None and entry.cell is not None:
            tree.wanted.setdefault(entry.parent, set()).add(entry.cell)
    tree.listed = {number for number in lines if outline.scope(number)[:1] == "c"}
    tree.whole = {"", *(outline.body(number) for number in tree.opened)}
    return [f"c{number}" for number in sorted(tree.listed)] + sorted(tree.whole - {""})


def fill(tree: Tree) -> None:
    """Load what a whole page holds: the calls whose line stands on it, the cells of those that stand open."""
    outline = tree.outline
    bodies = {*outline.eager(), *tree.opened}
    heads = {
        number for number in outline.calls if outline.scope(number) in tree.whole and _shows(tree, number)
    } | tree.listed
    tree.add_calls(bodies)
    tree.add_calls(heads - bodies, answers=False)
    tree.add_bodies(bodies)
    tree.nest()


def _shows(tree: Tree, number: int) -> bool:
    """Whether the cell that started a call is not in a gap."""
    entry = tree.outline.calls[number]
    return entry.parent is None or entry.cell is None or tree.holds(entry.parent, entry.cell)


def now_cell(root: CallNode | None) -> Cell | None:
    return root.cells[-1].row if root and root.cells else None


def part(run: Run, call: int, texts: Texts, wanted: int = 0) -> CallNode | None:
    """One call with its cells, for a page that unfolds it or wants this cell of it; None where there is no such call."""
    outline = Outline.of(run)
    if call not in outline.calls:
        return None
    tree = Tree(outline, texts, whole=())  # the bodies of its children are fetched in their turn
    tree.add_follow_ups(run)
    tree.wanted = {call: {wanted}} if wanted else {}
    tree.add_calls([call])
    tree.add_bodies([call])
    tree.add_calls(_short_children(tree, call), answers=False)
    tree.nest()
    return tree.calls[call]


def _short_children(tree: Tree, call: int) -> Iterable[int]:
    for cell, numbers in tree.outline.calls[call].children.items():
        if tree.holds(call, cell) and not tree.outline.is_crowd(call, cell):
            yield from numbers
