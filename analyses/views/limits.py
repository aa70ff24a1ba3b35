"""A workspace's limits of uploads: what holds, and who set it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from analyses.ingest.limits import NAMES, UploadLimits
from analyses.limit_forms import LABELS, LimitsForm, shown
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.roles import May, may


@login_required
@require_http_methods(["GET", "POST"])
def upload_limits(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    form = LimitsForm(workspace=member.workspace)
    if request.method == "POST":
        demand(member, May.LIMITS)
        form = LimitsForm(request.POST, workspace=member.workspace)
        if form.is_valid():
            changed = form.save()
            record(request, Did.CHANGED_LIMITS, workspace=member.workspace, **changed)
            messages.success(request, "The limits are kept. They hold for uploads from now on.")
            return redirect("upload-limits", workspace=workspace)
    holds = UploadLimits.of(member.workspace)
    context = {
        "form": form,
        "rows": [
            {
                "label": LABELS[name][0],
                "about": LABELS[name][1],
                "value": shown(name, getattr(holds, name)),
                "own": name in holds.own,
            }
            for name in NAMES
        ],
        "may_change": may(member, May.LIMITS),
    }
    return render(request, "analyses/upload_limits.html", context, status=422 if form.is_bound else 200)
