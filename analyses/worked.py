"""How long a run was at work: without the time in which it rested, between an answer and the next question, or for want of a worker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from django.db.models import Max

from analyses.models import Call, Cell, EarlierAnswer, FollowUp, Run
from analyses.outline import Entry


@dataclass(frozen=True)
class Clock:
    """Moments, in seconds since the epoch, as if the next question had been asked at once."""

    gaps: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, run: Run, cells: Iterable[tuple[int, float, float | None]]) -> Clock:
        """``cells``: those of the root in their order: number, begin and end."""
        if not run.follow_ups:
            return cls()
        asked = list(run.follow_up_set.order_by("number").values_list("after_cell", flat=True))
        gaps = []
        over: float | None = None
        for number, begun, ended in cells:
            if asked and number > asked[0]:
                if over is not None and begun > over:
                    gaps.append((over, begun))
                asked = [after for after in asked if after >= number]
            over = max(over or 0.0, ended or begun)
        return cls(tuple(gaps))

    def __call__(self, moment: float) -> float:
        return moment - sum(min(moment, end) - start for start, end in self.gaps if moment > start)

    def maybe(self, moment: float | None) -> float | None:
        return moment and self(moment)

    def column(self, moments: Sequence[float | None]) -> Sequence[float | None]:
        """Many at once: most runs have no gaps, and large ones have a hundred thousand moments."""
        return [self.maybe(moment) for moment in moments] if self.gaps else moments


def rested(root: Entry, follow_ups: Iterable[FollowUp]) -> float:
    """Seconds since the root's start that lie between an answer and the first turn of the question that followed.

    They follow from the root's row and from what is never written again: with them, the root's line changes as its row does.
    """
    # The root goes on with a question by a write of its own; until then its line stands as it was.
    asked = [follow_up for follow_up in follow_ups if follow_up.born <= root.seq]
    if not asked or root.started is None:
        return 0.0
    answers = EarlierAnswer.objects.filter(run=asked[0].run_id).values_list("number", "finished_at")
    ended = {number: at.timestamp() for number, at in answers if at is not None}
    first_turns = [one.after_cell + 1 for one in asked if one.after_cell < root.turns]
    begun = dict(Cell.objects.filter(call_id=root.pk, number__in=first_turns).values_list("number", "started_at"))
    seconds = 0.0
    for after, group in groupby(asked, key=lambda one: one.after_cell):
        questions = list(group)  # more than one where the first of them ended before a turn
        over = ended.get(questions[0].number - 1)
        if over is None or over < root.started:
            continue  # a fork took it over
        goes_on = begun.get(after + 1, questions[-1].asked_at.timestamp())
        seconds += max(0.0, min(goes_on, root.finished or goes_on) - over)
    return seconds


def seconds_uncounted(run: Run) -> float:
    """How long the run has been at work since that was written down last.

    The time from its last written moment until somebody took it up is not work.
    """
    since = run.resumed_at or run.started_at
    if since is None:
        return 0.0
    begun = since.timestamp()
    calls = Call.objects.filter(run=run).aggregate(a=Max("queued_at"), b=Max("started_at"), c=Max("finished_at"))
    cells = Cell.objects.filter(run=run).aggregate(d=Max("started_at"), e=Max("replied_at"), f=Max("ended_at"))
    last = max([moment for moment in (calls | cells).values() if moment is not None], default=begun)
    # A worker whose clock was ahead wrote down moments that have not come yet.
    return max(0.0, min(last, time.time()) - begun)
