"""What a workspace's runs of a month used: by member, by model and by day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import TruncDate

from analyses.budgets import Month
from analyses.models import Run
from workspaces.models import Workspace

COLUMNS = (
    "day", "member", "endpoint", "root_model", "child_model", "runs", "cost", "runs_of_unknown_cost",
    "prompt_tokens", "completion_tokens",
)  # fmt: skip


@dataclass
class Line:
    """A sum: of a member, a model, a day or all."""

    name: str
    runs: int = 0
    cost: float = 0.0
    unknown: int = 0  # runs whose cost nobody knows
    tokens: int = 0
    part: float = 0.0  # of the largest, 0 to 100: how long its bar is
    at: date | None = None
    x: int = 0

    def add(self, row: dict[str, Any]) -> None:
        self.runs += row["runs"]
        self.cost += row["cost"] or 0.0
        self.unknown += row["unknown"]
        self.tokens += row["prompt"] + row["completion"]


@dataclass
class Usage:
    month: Month
    rows: list[dict[str, Any]]
    total: Line = field(default_factory=lambda: Line("all"))
    members: list[Line] = field(default_factory=list)
    models: list[Line] = field(default_factory=list)
    days: list[Line] = field(default_factory=list)

    @property
    def by_tokens(self) -> bool:
        """Where nothing cost anything, the bars show tokens."""
        return not self.total.cost


def usage(workspace: Workspace, month: Month) -> Usage:
    """One query, grouped by all that is summed here."""
    runs = Run.objects.filter(workspace=workspace, imported_from="")
    runs = runs.filter(created_at__gte=month.start, created_at__lt=month.end).order_by()
    groups = runs.annotate(
        day=TruncDate("created_at", tzinfo=UTC), name=F("created_by__name"), email=F("created_by__email")
    )
    rows = list(
        groups.values("day", "name", "email", "endpoint", "root_model", "child_model")
        .annotate(
            runs=Count("pk"),
            unknown=Count("pk", filter=Q(cost=None)),
            prompt=Sum("prompt_tokens"),
            completion=Sum("completion_tokens"),
            cost=Sum("cost"),
        )
        .order_by("day", "email", "endpoint", "root_model")
    )
    found = Usage(month, rows)
    for row in rows:
        found.total.add(row)
    found.members = _lines(rows, _member, found.by_tokens)
    found.models = _lines(rows, _model, found.by_tokens)
    found.days = _days(rows, found)
    return found


def _member(row: dict[str, Any]) -> str:
    return row["name"] or row["email"] or "somebody whose account is gone"


def _model(row: dict[str, Any]) -> str:
    if row["endpoint"] == row["root_model"]:
        return str(row["endpoint"])
    child = f", children {row['child_model']}" if row["child_model"] not in ("", row["root_model"]) else ""
    return f"{row['endpoint']}: {row['root_model']}{child}"


def _lines(rows: list[dict[str, Any]], name: Callable[[dict[str, Any]], str], by_tokens: bool) -> list[Line]:
    lines: dict[tuple[str, str], Line] = {}
    for row in rows:
        key = (name(row), row["email"] or "" if name is _member else "")  # two people may have one name
        lines.setdefault(key, Line(key[0])).add(row)
    found = sorted(lines.values(), key=lambda line: (-line.cost, -line.tokens, line.name))
    _scale(found, by_tokens)
    return found


def _days(rows: list[dict[str, Any]], found: Usage) -> list[Line]:
    first = found.month.start.date()
    count = (found.month.end.date() - first).days
    days = [Line("", at=first + timedelta(days=n), x=n * 10) for n in range(count)]
    for row in rows:
        days[(row["day"] - first).days].add(row)
    _scale(days, found.by_tokens)
    return days


def _scale(lines: list[Line], by_tokens: bool) -> None:
    amounts = [float(line.tokens) if by_tokens else line.cost for line in lines]
    most = max(amounts, default=0.0)
    for line, amount in zip(lines, amounts, strict=True):
        line.part = round(100 * amount / most, 1) if most else 0.0


def as_rows(found: Usage) -> list[tuple[Any, ...]]:
    """For a spreadsheet, under COLUMNS."""
    return [
        (
            row["day"].isoformat(), row["email"] or "", row["endpoint"], row["root_model"], row["child_model"],
            row["runs"], "" if row["cost"] is None else round(row["cost"], 6), row["unknown"], row["prompt"],
            row["completion"],
        )
        for row in found.rows
    ]  # fmt: skip
