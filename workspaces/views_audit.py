"""The audit of a workspace: a list with filters, and the same as CSV."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from workspaces import rates
from workspaces.access import demand, membership
from workspaces.audit import OF_WORKSPACES, Did, record
from workspaces.models import AuditEntry, Workspace
from workspaces.roles import May
from workspaces.sheets import csv_response

PAGE = 100
COLUMNS = ("at", "actor", "action", "target", "details", "address")


@login_required
@require_GET
def audit(request: HttpRequest, workspace: str) -> HttpResponseBase:
    member = membership(request, workspace)
    demand(member, May.AUDIT)
    chosen = {name: request.GET.get(name, "").strip()[:200] for name in ("action", "who", "since", "until")}
    entries = _filtered(member.workspace, chosen)
    if request.GET.get("as") == "csv":
        if not rates.EXPORT.spend(member.user_id):
            return rates.too_many(request)
        told: dict[str, Any] = {name: value for name, value in chosen.items() if value}
        record(request, Did.EXPORTED_AUDIT, workspace=member.workspace, **told)
        rows = (_cells(entry) for entry in entries.iterator(chunk_size=500))
        return csv_response(f"audit-{workspace}", COLUMNS, rows)
    page = Paginator(entries, PAGE).get_page(request.GET.get("page"))
    query = urlencode({name: value for name, value in chosen.items() if value})
    context = {
        "page": page,
        "chosen": chosen,
        "actions": [did.value for did in OF_WORKSPACES],
        "query": f"&{query}" if query else "",
    }
    return render(request, "workspaces/audit.html", context)


def _filtered(workspace: Workspace, chosen: dict[str, str]) -> Any:
    entries = workspace.audit.all()
    if chosen["action"]:
        entries = entries.filter(action=chosen["action"])
    if chosen["who"]:
        entries = entries.filter(actor_email__icontains=chosen["who"])
    if since := _day(chosen["since"]):
        entries = entries.filter(at__gte=timezone.make_aware(datetime.combine(since, time.min)))
    if until := _day(chosen["until"]):
        entries = entries.filter(at__lte=timezone.make_aware(datetime.combine(until, time.max)))
    return entries


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _cells(entry: AuditEntry) -> tuple[str, ...]:
    details = json.dumps(entry.details, ensure_ascii=False) if entry.details else ""
    return (entry.at.isoformat(), entry.actor_email, entry.action, entry.target, details, entry.address or "")
