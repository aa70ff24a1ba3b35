"""The usage page: what a month's runs took, by member, model and day, for every member to see; and as CSV."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from analyses.budgets import Month, standings
from analyses.usage import COLUMNS, as_rows
from analyses.usage import usage as usage_of
from workspaces import rates
from workspaces.access import membership
from workspaces.audit import Did, record
from workspaces.sheets import csv_response


@login_required
@require_GET
def usage(request: HttpRequest, workspace: str) -> HttpResponseBase:
    member = membership(request, workspace)
    month = _month(request.GET.get("month", ""))
    found = usage_of(member.workspace, month)
    if request.GET.get("as") == "csv":
        if not rates.EXPORT.spend(member.user_id):
            return rates.too_many(request)
        record(request, Did.EXPORTED_USAGE, workspace=member.workspace, month=f"{month.start:%Y-%m}")
        return csv_response(f"usage-{workspace}-{month.start:%Y-%m}", COLUMNS, as_rows(found))
    now = Month.of()
    context = {
        "usage": found,
        "month": month,
        "earlier": month.start - timedelta(days=1),
        "later": month.end if month.end <= now.start else None,
        "standings": standings(member.workspace, member.user) if month == now else [],
        "width": len(found.days) * 10,
        "nav": "usage",
    }
    return render(request, "analyses/usage.html", context)


def _month(text: str) -> Month:
    """The month that an address names, such as 2026-11; the present one where it names none."""
    try:
        named = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        return Month.of()
    return Month.of(named) if named.year >= 2000 and named <= timezone.now() else Month.of()
