"""Lists of a workspace's runs: all of them, filtered, searched, in pages. The query count does not grow with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods
from django.views.decorators.vary import vary_on_headers

from analyses import deletion
from analyses.models import ENDED, FollowUp, Run, Status
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.models import Member
from workspaces.roles import May, may

PAGE = 50
PEOPLE = 500
# Of a filter's name, the statuses it shows: people ask what is under way, not whether it waits or runs.
FILTERS = {
    "running": (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED),
    "done": (Status.DONE,),
    "failed": (Status.FAILED,),
    "limit": (Status.LIMIT,),
    "stopped": (Status.STOPPED,),
}
HEAVY = (
    "limits",
    "sandbox",
    "fork",
    "reused",
    "answer_display",
    "corpus_version__corpus__sample_questions",
    "created_by__password",
)


def listed(member: Member) -> Any:
    """The runs of this member's workspace, newest first, without what no row shows."""
    runs = Run.objects.visible_to(member.user).filter(workspace=member.workspace_id)
    runs = runs.select_related("workspace", "corpus_version__corpus", "created_by").defer(*HEAVY)
    return runs.order_by("-created_at", "-pk")


def counts(member: Member) -> dict[str, int]:
    runs = Run.objects.visible_to(member.user).filter(workspace=member.workspace_id)
    by_filter = {name: Count("pk", filter=Q(status__in=statuses)) for name, statuses in FILTERS.items()}
    found: dict[str, int] = runs.order_by().aggregate(all=Count("pk"), **by_filter)
    return found


@login_required
@require_GET
@vary_on_headers("HX-Request")
def run_list(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    chosen = {
        "status": request.GET.get("status", "") if request.GET.get("status") in FILTERS else "",
        "who": _who(request.GET.get("who", ""), member),
        "q": request.GET.get("q", "").strip()[:200],
    }
    who = chosen["who"]
    runs = listed(member)
    if chosen["status"]:
        runs = runs.filter(status__in=FILTERS[chosen["status"]])
    if who:
        runs = runs.filter(created_by=member.user_id if who == "me" else int(who))
    if query := chosen["q"]:
        number = query.removeprefix("#")
        by_number = Q(number=int(number)) if number.isdecimal() and len(number) < 10 else Q()
        further = FollowUp.objects.filter(run=OuterRef("pk"), question__icontains=query)
        runs = runs.filter(
            Q(question__icontains=query)
            | Q(Exists(further))
            | Q(corpus_version__corpus__name__icontains=query)
            | by_number
        )
    paginator = Paginator(runs, PAGE)
    page = paginator.get_page(request.GET.get("page"))
    context = {
        "page": page,
        "runs": page.object_list,
        "live": any(run.status not in ENDED for run in page.object_list),
        "counts": counts(member),
        "chosen": chosen,
        "filters": [
            (words, address(chosen, status=name), chosen["status"] == name, name)
            for name, words in (("", "All"), ("running", "Running"), ("done", "Done"), ("failed", "Failed"),
                                ("limit", "At a limit"), ("stopped", "Stopped"))
        ],
        "mine": address(chosen, who="" if who == "me" else "me"),
        "pages": {name: address(chosen, page=number) for name, number in _neighbours(page).items()},
        "poll": request.get_full_path(),
        "nav": "runs",
        "may_ask": may(member, May.ASK),
    }  # fmt: skip
    whole = not (request.headers.get("HX-Request") and request.headers.get("HX-Target") == "runs")
    if whole:
        context["people"] = people(member, page.object_list)
    return render(request, "analyses/run_list.html" if whole else "analyses/_runs.html", context)


def _who(asked: str, member: Member) -> str:
    """``me``, or another person's number; who they are is told by the runs that are found alone."""
    if not re.fullmatch(r"[0-9]{1,9}", asked):
        return "me" if asked == "me" else ""
    return "me" if int(asked) == member.user_id else str(int(asked))


def people(member: Member, runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Whose runs can be asked for: the other members, and those who left and have a run on this page."""
    others = member.workspace.members.exclude(user=member.user_id).select_related("user")
    found = {str(other.user_id): str(other.user) for other in others.order_by("user__name", "user__email")[:PEOPLE]}
    found |= {str(run.created_by_id): str(run.created_by) for run in runs if run.created_by not in (None, member.user)}
    return sorted(found.items(), key=lambda person: person[1].casefold())


@login_required
@require_http_methods(["GET", "POST"])
def run_delete(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    """Asks first, then deletes a run that has ended."""
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).select_related("workspace")
    run: Run = get_object_or_404(runs, workspace=member.workspace_id, key=key)
    demand(member, May.ASK)
    refused = ""
    if request.method == "POST":
        try:
            deletion.delete_run(run)
        except deletion.UnderWay as error:
            refused = str(error)
        else:
            record(request, Did.DELETED_RUN, workspace=member.workspace, target=run.question, run=run.number)
            messages.success(request, f"Run {run.number} is deleted.")
            return redirect("run-list", workspace=workspace)
    context = {"run": run, "refused": refused, "nav": "runs"}
    return render(request, "analyses/run_delete.html", context, status=409 if refused else 200)


def address(chosen: dict[str, str], **changes: Any) -> str:
    """This list with something changed; a changed filter starts at its first page."""
    given = {name: value for name, value in (chosen | changes).items() if value}
    return f"?{urlencode(given)}" if given else "?"


def _neighbours(page: Any) -> dict[str, int]:
    found = {}
    if page.has_previous():
        found["newer"] = page.previous_page_number()
    if page.has_next():
        found["older"] = page.next_page_number()
    return found
