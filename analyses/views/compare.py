"""Two runs of a workspace side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_safe

from analyses.compare import Comparison
from analyses.models import Run
from workspaces.access import membership
from workspaces.models import Member

OTHERS_SHOWN = 12


@dataclass(frozen=True)
class Other:
    """A run to compare with: its forks and what it was forked from, and runs of the same question."""

    run: Run
    word: str
    first: str  # the keys of the two, the older first
    second: str


def others(member: Member, run: Run) -> list[Other]:
    """The newest runs that this one may be compared with."""
    same = Q(question=run.question) & Q(
        corpus_version__corpus=run.corpus_version.corpus if run.corpus_version else None
    )
    near = Q(forked_from=run) | Q(pk=run.forked_from_id or 0)
    runs = Run.objects.visible_to(member.user).filter(same | near, workspace=member.workspace_id).exclude(pk=run.pk)
    found = runs.only("number", "key", "status", "strategy", "root_model", "cost", "forked_from_id").order_by("-number")
    return [
        Other(
            each,
            "forked from this" if each.forked_from_id == run.pk else "this was forked from it" if each.pk == run.forked_from_id
            else "the same question",
            *((run.key, each.key) if run.number < each.number else (each.key, run.key)),
        )
        for each in found[:OTHERS_SHOWN]
    ]  # fmt: skip


@login_required
@require_safe
def compare_pick(request: HttpRequest, workspace: str) -> HttpResponse:
    """Two runs chosen in the list."""
    member = membership(request, workspace)
    keys = list(dict.fromkeys(request.GET.getlist("run")))[:3]
    runs = Run.objects.visible_to(request.user).filter(workspace=member.workspace_id, key__in=keys).order_by("number")
    found = list(runs.values_list("key", flat=True))
    if len(found) != 2:
        messages.info(request, "Choose two runs to compare.")
        return redirect("run-list", workspace=workspace)
    return redirect("compare", workspace, *found)


@login_required
@require_safe
def compare(request: HttpRequest, workspace: str, a: str, b: str) -> HttpResponse:
    """Figures, answers and one call of each, cell by cell. ``calls`` names another pair than the two roots."""
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).select_related("workspace", "corpus_version__corpus")
    one = get_object_or_404(runs, workspace=member.workspace_id, key=a)
    other = get_object_or_404(runs, workspace=member.workspace_id, key=b)
    calls = re.fullmatch(r"(\d{1,9})-(\d{1,9})", request.GET.get("calls", ""))
    page = request.GET.get("page", "1")
    number = int(page) if page.isdecimal() and len(page) < 7 else 1
    found = Comparison.of(one, other, (int(calls[1]), int(calls[2])) if calls else (1, 1), number)
    if found is None or number > found.pages:
        raise Http404
    return render(request, "analyses/compare.html", {"compare": found, "nav": "runs", "calls": calls and calls[0]})
