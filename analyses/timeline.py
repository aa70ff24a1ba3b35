"""The timeline: when each call ran and what the root did meanwhile, drawn as SVG from the rows alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from analyses.models import Cell, Run
from analyses.outline import Entry, Outline
from analyses.templatetags.run import status_word
from analyses.worked import Clock

LANES = 8  # rows of bars for the child calls of a depth
SINGLY = 300  # calls drawn one by one; more are drawn as how many were under way
CELLS_SINGLY = 240  # cells of the calls of a depth; with more, each call is one bar
ROOT_SINGLY = 400  # cells of the root; with more, what it did is drawn at so many moments as there are bins
BINS = 240
SLACK = 0.02  # seconds: a call that ended so shortly before another began is what that one waited for
LANE, TOP = 10, 26  # pixels
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)


@dataclass(frozen=True)
class Bar:
    css: str
    x: float
    width: float
    y: float
    height: float
    to: str = ""  # the id of the node it stands for
    said: str = ""  # what became of it, where that is not seen


@dataclass(frozen=True)
class Band:
    """The calls of one depth: a label and where its bars begin."""

    label: str
    y: int


@dataclass(frozen=True)
class Timeline:
    span: float
    ticks: list[tuple[float, str]]
    bands: list[Band]
    bars: list[Bar]
    height: int
    caption: str

    @classmethod
    def of(cls, run: Run, outline: Outline) -> Timeline | None:
        """None while nothing has begun."""
        root = outline.calls.get(1)
        if root is None or root.started is None:
            return None
        entries = [entry for entry in outline.calls.values() if not entry.reused]  # those ran in another run
        deepest = max(entry.depth for entry in entries)
        levels = [
            [entry for entry in entries if entry.depth == depth and entry.started] for depth in range(1, deepest + 1)
        ]
        of_calls = _cells(root, levels, outline)
        cells = of_calls.pop(1, [])
        clock = Clock.of(run, ((number, begun, ended) for begun, _, ended, *_, number in cells))
        if clock.gaps:
            levels = [[_by(clock, entry) for entry in level] for level in levels]
            of_calls = {call: _cells_by(clock, found) for call, found in of_calls.items()}
            cells = _cells_by(clock, cells)
        begin = root.started
        # What a fork kept was sent and answered before it began.
        cells = [
            (max(sent, begin), replied and max(replied, begin), ended, *rest)
            for sent, replied, ended, *rest in cells
            if ended is None or ended >= begin
        ]
        known = [time for level in levels for entry in level for time in (entry.started, entry.finished) if time]
        known += [time for time in (root.started, clock.maybe(root.finished)) if time]
        known += [time for cell in cells for time in cell[:3] if time]
        span = max(0.1, max(known) - begin)
        critical = critical_path(outline)
        bars = _root(cells, begin, span) if len(cells) <= ROOT_SINGLY else _root_sampled(cells, begin, span)
        bands = [Band("call 1", 0)]
        y = TOP
        for depth, level in enumerate(levels, 1):
            if not level:
                continue
            if len(level) <= SINGLY:
                drawn, lanes = _singly(level, of_calls, begin, span, y, critical)
            else:
                drawn, lanes = _summed(level, begin, span, y)
            bars += drawn
            bands.append(Band(f"{len(level):,} call{'s' if len(level) > 1 else ''} at depth {depth}", y))
            y += max(2, lanes) * LANE + 6
        bars += [_bar("v-asked", clock(start) - begin, 0, 100 / span, 0, y) for start, _ in clock.gaps]
        model = sum(entry.model_seconds for entry in entries)
        caption = (
            f"{span:,.1f} s from the first request to the last event; {model:,.1f} s of model time and "
            f"{sum(entry.exec_seconds for entry in entries):,.1f} s of execution in {len(entries):,} call{'s' if len(entries) > 1 else ''}"
            f"{', without the time between the questions' if clock.gaps else ''}"
        )
        return cls(span, _ticks(span), bands, bars, y, caption)

    def leaf(self) -> SafeString:
        return render_to_string("analyses/_timeline_plot.html", {"timeline": self})


def _by(clock: Clock, entry: Entry) -> Entry:
    return replace(entry, started=clock.maybe(entry.started), finished=clock.maybe(entry.finished))


def _cells_by(clock: Clock, cells: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*map(clock.maybe, cell[:3]), *cell[3:]) for cell in cells]


def critical_path(outline: Outline) -> set[int]:
    """The calls that the run's end waited for: of each cell the child that ended last, the one it waited for, and so on."""
    found: set[int] = set()
    stack = [1]
    while stack:
        for numbers in outline.calls[stack.pop()].children.values():
            ended = [outline.calls[number] for number in numbers if outline.calls[number].finished]
            ended.sort(key=lambda entry: (entry.finished or 0.0, entry.number), reverse=True)
            until = float("inf")
            for entry in ended:
                if (entry.finished or 0.0) <= until + SLACK:
                    found.add(entry.number)
                    stack.append(entry.number)
                    until = entry.started or entry.queued
    return found


def _waits(seconds: float, waited: float, status: str) -> bool:
    """Whether a cell is drawn as one that waits for child calls, rather than as one that runs."""
    return waited > 0.5 * max(seconds, 0.001) or status == "waiting"


def _root(cells: list[tuple[Any, ...]], begin: float, span: float) -> list[Bar]:
    bars = []
    scale = 100 / span
    for started, replied, ended, seconds, waited, status, number in cells:
        to = f"cell-1-{number}"
        x = max(0.0, started - begin)
        written = (replied or ended or begin + span) - begin
        bars.append(_bar("v-model", x, written - x, scale, 2, 14, to))
        bars.append(_bar("v-crit", x, written - x, scale, 17, 1.5))
        if replied and status != "writing":
            over = (ended or begin + span) - begin
            if _waits(seconds, waited, status):
                bars.append(_bar("v-wait", written, over - written, scale, 8, 2, to))
            else:
                bars.append(_bar("v-fail" if status == "error" else "v-exec", written, over - written, scale, 5, 8, to))
                bars.append(_bar("v-crit", written, over - written, scale, 17, 1.5))
    return bars


def _root_sampled(cells: list[tuple[Any, ...]], begin: float, span: float) -> list[Bar]:
    """What the root did in the middle of each bin; a bin in which a cell failed is that cell's."""
    step = span / BINS
    failed: dict[int, int] = {}
    for _, _, ended, _, _, status, number in cells:
        if status == "error" and ended:
            failed.setdefault(min(BINS - 1, max(0, int((ended - begin) / step))), number)
    bars = []
    at = 0
    for n in range(BINS):
        if n in failed:
            bars.append(_bar("v-fail", n * step, step, 100 / span, 5, 8, f"cell-1-{failed[n]}"))
            continue
        moment = begin + (n + 0.5) * step
        while at + 1 < len(cells) and cells[at + 1][0] <= moment:
            at += 1
        started, replied, ended, seconds, waited, status, number = cells[at]
        if not started <= moment < (ended or begin + span):
            continue
        css, y, height = "v-exec", 5, 8
        if replied is None or moment < replied:
            css, y, height = "v-model", 2, 14
        elif _waits(seconds, waited, status):
            css, y, height = "v-wait", 8, 2
        bars.append(_bar(css, n * step, step, 100 / span, y, height, f"cell-1-{number}"))
    return bars


def _bar(css: str, start: float, length: float, scale: float, y: float, height: float, to: str = "") -> Bar:
    return Bar(css, round(start * scale, 2), round(max(0.1, length * scale), 2), y, height, to)


def _cells(root: Entry, levels: list[list[Entry]], outline: Outline) -> dict[int, list[tuple[Any, ...]]]:
    """The cells of the root, and of the calls of each depth at which they are few, by call."""
    calls = [root.pk]
    for level in levels:
        if len(level) <= SINGLY and sum(entry.turns for entry in level) <= CELLS_SINGLY:
            calls += [entry.pk for entry in level]
    rows = (
        Cell.objects.filter(call_id__in=calls, born__lte=outline.seq)
        .order_by("call_number", "number")
        .values_list("call_number", "started_at", "replied_at", "ended_at", "seconds", "waited", "status", "number")
    )
    found: dict[int, list[tuple[Any, ...]]] = {}
    for call, *cell in rows:
        found.setdefault(call, []).append(tuple(cell))
    return found


def _within(call: int, cells: list[tuple[Any, ...]], begin: float, end: float, scale: float, top: float) -> list[Bar]:
    """The cells of one call, on its line: model time, then execution; a long wait for children leaves the line bare."""
    bars = []
    for sent, replied, over, seconds, waited, _, number in cells:
        to = f"cell-{call}-{number}"
        x = max(0.0, sent - begin)
        written = min(end, (replied or over or begin + end) - begin)
        bars.append(_bar("v-model", x, written - x, scale, top, 7, to))
        if replied and seconds and waited <= 0.5 * seconds:
            ended = min(end, (over or begin + end) - begin)
            bars.append(_bar("v-exec", written, ended - written, scale, top + 1.5, 4, to))
    return bars


def _singly(
    level: list[Entry],
    cells: dict[int, list[tuple[Any, ...]]],
    begin: float,
    span: float,
    y: float,
    critical: set[int],
) -> tuple[list[Bar], int]:
    """Each call a bar in the first lane that is free, or a line with a bar for each of its cells."""
    scale = 100 / span
    free: list[float] = []
    bars = []
    for entry in sorted(level, key=lambda one: (one.started or 0.0, one.number)):
        start = max(0.0, (entry.started or begin) - begin)
        end = (entry.finished or begin + span) - begin
        lane = next((n for n, until in enumerate(free) if until <= start + 1e-6), len(free))
        if lane == len(free) and len(free) < LANES:
            free.append(0.0)
        elif lane == len(free):
            lane = free.index(min(free))
        free[lane] = end
        top = y + lane * LANE
        cut = entry.ended and entry.status != "done"
        own = cells.get(entry.number, [])
        to = f"call-{entry.number}"
        if cut:  # who was stopped has not failed
            drawn = _bar("v-stop" if entry.status == "stopped" else "v-fail", start, end - start, scale, top, 7, to)
            bars.append(replace(drawn, said=f"call {entry.number}: {status_word(entry.status)}"))
        elif own:
            bars.append(_bar("v-wait", start, end - start, scale, top + 2.5, 2, to))
            bars += _within(entry.number, own, begin, end, scale, top)
        else:
            bars.append(_bar("v-model", start, end - start, scale, top, 7, to))
        if entry.number in critical:
            bars.append(_bar("v-crit", start, end - start, scale, top + 7.6, 1.5))
        if not cut and not own and entry.exec_seconds > 0.02 * span:
            bars.append(
                _bar(
                    "v-exec",
                    max(start, end - entry.exec_seconds),
                    min(entry.exec_seconds, end - start),
                    scale,
                    top + 1.5,
                    4,
                )
            )
    return bars, len(free)


def _summed(level: list[Entry], begin: float, span: float, y: float) -> tuple[list[Bar], int]:
    """Too many to draw: how many were under way, over time."""
    change = [0] * (BINS + 1)
    for entry in level:
        first = int(BINS * ((entry.started or begin) - begin) / span)
        last = int(BINS * ((entry.finished or begin + span) - begin) / span)
        # Logs from elsewhere may tell of a child that began long before the root did.
        change[min(max(0, first), BINS - 1)] += 1
        change[min(max(0, last), BINS - 1) + 1] -= 1
    counts = []
    under_way = 0
    for step in change[:BINS]:
        under_way += step
        counts.append(under_way)
    most = max(counts) or 1
    height = LANES * LANE
    bars: list[Bar] = []
    start = 0
    for at in range(1, BINS + 1):
        if at == BINS or counts[at] != counts[start]:
            if counts[start]:
                tall = round(height * counts[start] / most, 1)
                bars.append(
                    Bar(
                        "v-model",
                        round(100 * start / BINS, 2),
                        round(100 * (at - start) / BINS, 2),
                        y + height - tall,
                        tall,
                    )
                )
            start = at
    return bars, LANES


def _ticks(span: float) -> list[tuple[float, str]]:
    step = next((step for step in _STEPS if span / step <= 8), span / 4)
    count = int(span / step + 1e-9)
    ticks = [(round(100 * n * step / span, 2), f"{n * step:g}" + (" s" if n == 0 else "")) for n in range(count + 1)]
    return [tick for tick in ticks if tick[0] <= 97 or tick[0] == 0]
