"""What a question may cost and how long it may take: read off the workspace's past runs that were like it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from django.db.models.functions import Coalesce

from analyses.budgets import least
from analyses.models import Run, Status
from workspaces.models import Workspace

FEWEST = 5  # runs; of fewer nothing is said
NEWEST = 300  # runs that are looked at: prices and models change
SIZE = 3.0  # texts up to so many times longer or shorter are of the same size


@dataclass(frozen=True)
class Estimate:
    """Median, and what 95 of 100 stay under. Costs are None where too few are known."""

    runs: int
    sized: bool  # on texts of about this size; otherwise of any size
    cost: float | None
    cost_most: float | None
    seconds: float
    seconds_most: float


def estimate(workspace: Workspace, *, strategy: str, endpoint: str, characters: int) -> Estimate | None:
    """Compare with the newest runs of this strategy and endpoint; None where there are too few. One query."""
    runs = Run.objects.filter(workspace=workspace, strategy=strategy, endpoint=endpoint, imported_from="")
    # A fork pays for a part of its answer alone.
    runs = runs.filter(status__in=(Status.DONE, Status.LIMIT), forked_from=None).order_by("-created_at")
    size = Coalesce("document_chars", "corpus_version__characters")  # a run may have read a part of its corpus
    rows = list(runs.annotate(size=size).values_list("cost", "seconds", "size")[:NEWEST])
    like = [row for row in rows if _same_size(row[2] or 0, characters)]
    sized = len(like) >= FEWEST
    chosen = like if sized else rows
    if len(chosen) < FEWEST:
        return None
    costs = [cost for cost, _, _ in chosen if cost is not None]
    times = [seconds for _, seconds, _ in chosen]
    known = len(costs) >= FEWEST
    return Estimate(
        runs=len(chosen),
        sized=sized,
        cost=statistics.median(costs) if known else None,
        cost_most=_of_100(costs, 95) if known else None,
        seconds=statistics.median(times),
        seconds_most=_of_100(times, 95),
    )


def to_confirm(above: float, limit: float | None, expected: Estimate | None, confirmed: str) -> str:
    """How much something may cost, in words, where that is above this many dollars and not confirmed in these words yet."""
    most = least(limit, expected.cost_most if expected else None)
    if most is not None and most <= above:
        return ""
    words = "any amount: it has no limit of money" if most is None else f"up to ${most:,.2f}"
    return "" if words == confirmed else words


def _same_size(one: int, other: int) -> bool:
    if not one or not other:
        return one == other  # no corpus: like others without
    return 1 / SIZE <= one / other <= SIZE


def _of_100(values: list[float], percent: int) -> float:
    """The smallest value that so many of 100 do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
