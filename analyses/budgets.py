"""Budgets of a month: what is used, what runs under way have set aside, and what a new run may take of the rest.

There is no ledger beside the runs: an ended run counts with what it used, one under way with its limits, so that a
hold is settled by the run's end itself. Imported runs and the offline model cost nothing here and count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import BigIntegerField, F, FloatField, Q, QuerySet, Sum, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Greatest
from django.utils import timezone

from analyses.endpoints import OFFLINE
from analyses.models import ENDED, FollowUp, Run
from rlm.limits import Limits
from workspaces.models import Budget, Workspace

WORDS = {Budget.Of.WORKSPACE: "the workspace’s budget of this month", Budget.Of.MEMBER: "your budget of this month"}


class Exhausted(ValueError):
    """Nothing is left; the message says of what, and what to do."""


@dataclass(frozen=True)
class Month:
    start: datetime
    end: datetime

    @classmethod
    def of(cls, moment: datetime | None = None) -> Month:
        """The calendar month, in UTC, that holds this moment or now."""
        at = (moment or timezone.now()).astimezone(UTC)
        start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return cls(start, start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1))


@dataclass(frozen=True)
class Standing:
    """How a month's budget stands."""

    budget: Budget
    used_cost: float
    used_tokens: int
    held_cost: float  # set aside for runs under way
    held_tokens: int

    @property
    def cost_left(self) -> float | None:
        if self.budget.cost is None:
            return None
        return max(0.0, round(self.budget.cost - self.used_cost - self.held_cost, 6))

    @property
    def tokens_left(self) -> int | None:
        if self.budget.tokens is None:
            return None
        return max(0, self.budget.tokens - self.used_tokens - self.held_tokens)


def counted(workspace: Workspace, month: Month) -> QuerySet[Run]:
    """The runs that were asked in this month and may have cost something."""
    runs = Run.objects.filter(workspace=workspace, created_at__gte=month.start, created_at__lt=month.end)
    return runs.filter(imported_from="").exclude(endpoint=OFFLINE)


def standings(workspace: Workspace, user: Any = None, moment: datetime | None = None) -> list[Standing]:
    """The month's budgets that bind this person here, as they stand."""
    binding = list(_binding(workspace, user))
    if not binding:
        return []
    sums = _sums("all", Q()) | (_sums("own", Q(created_by=user)) if user else {})
    found = counted(workspace, Month.of(moment)).aggregate(**sums)
    month = Month.of(moment)
    for more in (_gone(workspace, month, user), _further(workspace, month, user)):
        found |= {name: (found[name] or 0) + (amount or 0) for name, amount in more.items()}
    parts = ("used_cost", "used_tokens", "held_cost", "held_tokens")
    whose = {Budget.Of.WORKSPACE: "all", Budget.Of.MEMBER: "own"}
    return [Standing(each, *(found[f"{whose[Budget.Of(each.of)]}_{part}"] or 0 for part in parts)) for each in binding]


def _binding(workspace: Workspace, user: Any) -> Iterator[Budget]:
    """The workspace's budget, and the member's own or else every member's."""
    rows = list(workspace.budgets.exclude(of=Budget.Of.RUN).order_by("of", "pk"))
    yield from (row for row in rows if row.of == Budget.Of.WORKSPACE)
    if user:
        members = [row for row in rows if row.of == Budget.Of.MEMBER and row.user_id in (None, user.pk)]
        yield from sorted(members, key=lambda row: row.user_id is None)[:1]


def _gone(workspace: Workspace, month: Month, user: Any) -> dict[str, Any]:
    """What runs had used that are deleted since."""
    rows = workspace.deleted_usage.filter(day__gte=month.start.date(), day__lt=month.end.date())
    sums: dict[str, Any] = {}
    for name, whose in (("all", Q()), *([("own", Q(user=user))] if user else [])):
        sums[f"{name}_used_cost"] = Sum("cost", filter=whose)
        sums[f"{name}_used_tokens"] = Sum(F("prompt_tokens") + F("completion_tokens"), filter=whose)
    return rows.exclude(endpoint=OFFLINE).aggregate(**sums)


def _further(workspace: Workspace, month: Month, user: Any) -> dict[str, Any]:
    """What follow-ups used and hold: theirs who asked them and when, not the run's who and when."""
    rows = FollowUp.objects.filter(run__workspace=workspace, run__imported_from="").exclude(run__endpoint=OFFLINE)
    tokens: Any = F("prompt_tokens") + F("completion_tokens")
    limit_tokens: Any = _whole("prompt_tokens") + _whole("completion_tokens")
    cost = Coalesce(F("cost"), Value(0.0))
    limit_cost = Coalesce(Cast(KT("limits__cost"), FloatField()), Value(0.0))
    held = Q(number=F("run__follow_ups") + 1) & ~Q(run__status__in=ENDED)
    both = [("all", Q(), Q())] + ([("own", Q(asked_by=user), Q(run__created_by=user))] if user else [])
    theirs: dict[str, Any] = {}
    twice: dict[str, Any] = {}  # with the runs that they are of
    for name, asked, began in both:
        theirs |= {
            f"{name}_used_cost": Sum(cost, filter=asked & ~held),
            f"{name}_used_tokens": Sum(tokens, filter=asked & ~held),
            f"{name}_held_cost": Sum(Greatest(limit_cost, cost), filter=asked & held),
            f"{name}_held_tokens": Sum(
                Greatest(limit_tokens, tokens, output_field=BigIntegerField()), filter=asked & held
            ),
        }
        twice[f"{name}_used_cost"] = Sum(cost, filter=began & Q(run__cost__isnull=False))
        twice[f"{name}_used_tokens"] = Sum(tokens, filter=began)
    found = rows.filter(asked_at__gte=month.start, asked_at__lt=month.end).aggregate(**theirs)
    less = rows.filter(run__created_at__gte=month.start, run__created_at__lt=month.end).aggregate(**twice)
    return {name: (amount or 0) - (less.get(name) or 0) for name, amount in found.items()}


def _sums(name: str, whose: Q) -> dict[str, Any]:
    # Of a run with follow-ups the own question is answered, whatever the run does now.
    answered = Q(status__in=ENDED) | Q(follow_ups__gt=0)
    over, under_way = whose & answered, whose & ~answered
    cost = Coalesce(F("cost"), Value(0.0))  # unknown: its tokens count
    tokens: Any = F("prompt_tokens") + F("completion_tokens")
    limit_cost = Coalesce(Cast(KT("limits__cost"), FloatField()), Value(0.0))
    limit_tokens: Any = _whole("prompt_tokens") + _whole("completion_tokens")
    return {
        f"{name}_used_cost": Sum(cost, filter=over),
        f"{name}_used_tokens": Sum(tokens, filter=over),
        f"{name}_held_cost": Sum(Greatest(limit_cost, cost), filter=under_way),
        f"{name}_held_tokens": Sum(Greatest(limit_tokens, tokens, output_field=BigIntegerField()), filter=under_way),
    }


def _whole(limit: str) -> Any:
    return Coalesce(Cast(KT(f"limits__{limit}"), BigIntegerField()), Value(0), output_field=BigIntegerField())


def least(*amounts: Any) -> Any:
    """The smallest of those that are set; None where none is."""
    return min((amount for amount in amounts if amount is not None), default=None)


def fitted(workspace: Workspace, user: Any, limits: Limits) -> Limits:
    """The run's limits, lowered to what the budgets leave; raises Exhausted. The caller holds the workspace's row."""
    run = workspace.budgets.filter(of=Budget.Of.RUN).first()
    binding = standings(workspace, user)
    for each in binding:
        _demand_something(each)
    cost = least(limits.cost, run and run.cost, *(each.cost_left for each in binding))
    tokens = least(run and run.tokens, *(each.tokens_left for each in binding))
    limits = replace(limits, cost=cost)
    return limits if tokens is None else _within(limits, tokens)


def _demand_something(standing: Standing) -> None:
    budget = standing.budget
    if standing.cost_left == 0:
        most, used, held = (f"${n:,.2f}" for n in (budget.cost, standing.used_cost, standing.held_cost))
    elif standing.tokens_left == 0:
        most, used, held = (f"{n:,} tokens" for n in (budget.tokens, standing.used_tokens, standing.held_tokens))
    else:
        return
    raise Exhausted(
        f"Nothing is left of {WORDS[Budget.Of(budget.of)]}, {most}: {used} used, {held} set aside for runs under way. "
        f"An owner or admin can raise it; a new month begins on {Month.of().end:%-d %B}."
    )


def _within(limits: Limits, tokens: int) -> Limits:
    """Prompt and reply together get no more than these tokens: each its own limit, or six parts to one."""
    prompt, reply = limits.prompt_tokens, limits.completion_tokens
    share = tokens - tokens // 7
    most = max(share, tokens - reply) if reply is not None else share
    prompt = most if prompt is None else min(prompt, most)
    rest = tokens - prompt
    return replace(limits, prompt_tokens=prompt, completion_tokens=rest if reply is None else min(reply, rest))
