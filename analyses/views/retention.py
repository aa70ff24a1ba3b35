"""How long runs are kept: the workspace's setting, and a run's own: keep it, archive it, bring it back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from analyses.models import ENDED, Run
from analyses.retention import due
from analyses.wakeups import wake_tidier
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.models import Member, Workspace
from workspaces.roles import May, may

DAYS_MOST = 3650
CHOICES = (
    (Workspace.RunsThen.KEEP, "Keep runs for good"),
    (Workspace.RunsThen.ARCHIVE, "Archive them: question, answer and figures stay, calls and cells are packed away and can be brought back"),
    (Workspace.RunsThen.DELETE, "Delete them, with every shared link to them; this cannot be undone"),
)  # fmt: skip


class RetentionForm(forms.Form):
    runs_then = forms.ChoiceField(label="When a run is old", choices=CHOICES, widget=forms.RadioSelect)
    runs_days = forms.IntegerField(
        label="Days after its end",
        min_value=1,
        max_value=DAYS_MOST,
        error_messages={"required": f"Write a number of days, from 1 to {DAYS_MOST:,}."},
    )


@login_required
@require_http_methods(["GET", "POST"])
def retention(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    kept = {"runs_then": member.workspace.runs_then, "runs_days": member.workspace.runs_days}
    form = RetentionForm(request.POST or None, initial=kept)
    concerned: int | None = None  # runs that would go at once: asked about first
    if request.method == "POST":
        demand(member, May.RETENTION)
        if form.is_valid():
            given = form.cleaned_data
            setting = Workspace(pk=member.workspace.pk, **given)
            concerned = due(setting).count()
            if not concerned or request.POST.get("confirmed") == _confirmation(given):
                Workspace.objects.filter(pk=member.workspace.pk).update(**given)
                record(
                    request, Did.CHANGED_RETENTION, workspace=member.workspace, target=given["runs_then"],
                    days=given["runs_days"], was=kept["runs_then"], was_days=kept["runs_days"],
                )  # fmt: skip
                wake_tidier()
                messages.success(request, "The setting is kept.")
                return redirect("retention", workspace=workspace)
    return render(
        request,
        "analyses/retention.html",
        {
            "form": form,
            "concerned": concerned,
            "confirm": _confirmation(form.cleaned_data) if concerned else "",
            "may_change": may(member, May.RETENTION),
            "chosen": dict(CHOICES)[Workspace.RunsThen(member.workspace.runs_then)],
            **_counts(member),
        },
        status=422 if form.errors or concerned else 200,
    )


def _confirmation(given: dict[str, Any]) -> str:
    """What the box says yes to: another choice made meanwhile is asked about anew."""
    return f"{given['runs_then']} {given['runs_days']}"


def _counts(member: Member) -> dict[str, Any]:
    runs = Run.objects.visible_to(member.user).filter(workspace=member.workspace_id).order_by()
    found: dict[str, Any] = runs.aggregate(
        runs=Count("pk"),
        archived=Count("pk", filter=~Q(archive="")),
        archived_bytes=Sum("archive_bytes", default=0),
        kept=Count("pk", filter=Q(kept=True)),
    )
    return found


def _run(request: HttpRequest, workspace: str, key: str) -> Run:
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).select_related("workspace")
    run: Run = get_object_or_404(runs, workspace=member.workspace_id, key=key)
    demand(member, May.ASK)
    return run


@login_required
@require_POST
def run_keep(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    """Keep the run whatever its age, or (with ``kept`` empty) no longer."""
    run = _run(request, workspace, key)
    kept = bool(request.POST.get("kept"))
    Run.objects.filter(pk=run.pk).update(kept=kept)
    messages.success(
        request, "The run is kept, whatever its age." if kept else "The run goes the way of all runs of its age."
    )
    return redirect(run)


@login_required
@require_POST
def run_archive(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    run = _run(request, workspace, key)
    asked = Run.objects.filter(pk=run.pk, status__in=ENDED, archive="", calls__gt=0)
    if asked.update(archive_asked_at=timezone.now(), archive_refused=""):
        record(request, Did.ARCHIVED_RUN, workspace=run.workspace, target=run.question, run=run.number)
        wake_tidier()
        messages.success(request, f"Run {run.number} is being archived: a worker packs it in a moment.")
    else:
        messages.error(request, "Only a run that has ended, with calls in it, can be archived.")
    return redirect(run)


@login_required
@require_POST
def run_restore(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    run = _run(request, workspace, key)
    if Run.objects.filter(pk=run.pk, restore_asked_at=None).exclude(archive="").update(restore_asked_at=timezone.now()):
        record(request, Did.RESTORED_RUN, workspace=run.workspace, target=run.question, run=run.number)
        wake_tidier()
    return redirect(run)
