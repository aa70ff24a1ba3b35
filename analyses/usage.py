"""What a workspace's runs of a month used: by member, by model and by day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from analyses.budgets import Month
from analyses.models import FollowUp, Run
from workspaces.models import DeletedUsage, Workspace

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
    """One query over the runs, grouped by all that is summed here; two over follow-ups, one over what deleted runs had used."""
    runs = Run.objects.filter(workspace=workspace, created_at__gte=month.start, created_at__lt=month.end)
    further = FollowUp.objects.filter(run__workspace=workspace, run__imported_from="")
    further = further.filter(asked_at__gte=month.start, asked_at__lt=month.end)
    groups = grouped(runs, further, name="created_by__name", email="created_by__email")
    gone = workspace.deleted_usage.filter(day__gte=month.start.date(), day__lt=month.end.date()).values(
        "day", "endpoint", "root_model", "child_model", "runs", "unknown", "cost",
        name=F("user__name"), email=F("user__email"), prompt=F("prompt_tokens"), completion=F("completion_tokens"),
    )  # fmt: skip
    rows: list[dict[str, Any]] = sorted(
        [*groups, *map(dict, gone)],
        key=lambda row: (row["day"], row["email"] or "", row["endpoint"], row["root_model"]),
    )
    found = Usage(month, rows)
    for row in rows:
        found.total.add(row)
    found.members = _lines(rows, _member, found.by_tokens)
    found.models = _lines(rows, _model, found.by_tokens)
    found.days = _days(rows, found)
    return found


def grouped(
    runs: QuerySet[Run], follow_ups: QuerySet[FollowUp] | None = None, **whose: str
) -> Iterable[dict[str, Any]]:
    """Sums of these runs by day, by models, and by whatever says whose they are. Imported ones cost nothing here.

    What follow-ups used counts for who asked them, on that day: ``follow_ups``, or those of these runs.
    """
    runs = runs.filter(imported_from="").order_by()
    by_day = runs.annotate(day=TruncDate("created_at", tzinfo=UTC), **{name: F(path) for name, path in whose.items()})
    models = ("endpoint", "root_model", "child_model")
    sums = {"prompt": Sum("prompt_tokens"), "completion": Sum("completion_tokens"), "cost": Sum("cost")}
    rows = by_day.values("day", *whose, *models).annotate(
        runs=Count("pk"), unknown=Count("pk", filter=Q(cost=None)), **sums
    )
    found = {tuple(row[name] for name in ("day", *whose, *models)): row for row in rows}
    of_runs = FollowUp.objects.filter(run__in=runs)
    for further, day, sign in (
        (of_runs, "run__created_at", -1),
        (of_runs if follow_ups is None else follow_ups, "asked_at", 1),
    ):
        asked = sign > 0
        paths = {name: _path(path, asked) for name, path in (whose | dict(zip(models, models, strict=True))).items()}
        renamed = {f"of_{name}": F(path) for name, path in paths.items()}
        lines = further.order_by().annotate(day=TruncDate(day, tzinfo=UTC), **renamed).values("day", *renamed)
        for line in lines.annotate(unknown=Count("pk", filter=Q(cost=None)), **sums):
            key = (line["day"], *(line[f"of_{name}"] for name in (*whose, *models)))
            empty = {"runs": 0, "unknown": 0, "prompt": 0, "completion": 0, "cost": 0.0}
            row = found.setdefault(key, dict(zip(("day", *whose, *models), key, strict=True)) | empty)
            row["prompt"] += sign * line["prompt"]
            row["completion"] += sign * line["completion"]
            if asked:
                row["unknown"] += line["unknown"]
            if row["cost"] is not None:
                row["cost"] = max(0.0, row["cost"] + sign * (line["cost"] or 0.0))
    return found.values()


def _path(path: str, asked: bool) -> str:
    return path.replace("created_by", "asked_by", 1) if asked and path.startswith("created_by") else f"run__{path}"


def keep_usage(runs: QuerySet[Run]) -> None:
    """Write down what these runs used: they are about to be deleted, and the month's budget must not forget."""
    list(runs.order_by().select_for_update(of=("self",)).values_list("pk"))  # of two who delete them, one counts them
    DeletedUsage.objects.bulk_create(
        DeletedUsage(
            workspace_id=row["of_workspace"], user_id=row["of_user"], day=row["day"], endpoint=row["endpoint"],
            root_model=row["root_model"], child_model=row["child_model"], runs=row["runs"], unknown=row["unknown"],
            cost=row["cost"] or 0.0, prompt_tokens=row["prompt"], completion_tokens=row["completion"],
        )
        for row in grouped(runs, of_workspace="workspace", of_user="created_by")
    )  # fmt: skip


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
