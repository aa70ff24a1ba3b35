"""Forks: the page on which a cell, an instruction, a model or limits are changed, and the one that asks failed children again."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from analyses import forks
from analyses.actions import RunRefused
from analyses.endpoints import OFFLINE
from analyses.estimates import estimate, to_confirm
from analyses.fork_forms import ForkForm
from analyses.forking import RETRY
from analyses.models import Call, Cell, Run
from workspaces import rates
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.models import Member
from workspaces.roles import May

OFTEN = "You have asked very often within this minute. Wait a little, then try again."


@login_required
@require_http_methods(["GET", "POST"])
def run_fork(request: HttpRequest, workspace: str, key: str, call: int, cell: int) -> HttpResponse:
    """Another run, from this cell on."""
    member, run = _run(request, workspace, key)
    demand(member, May.ASK)
    found = _cell(run, call, cell)
    context: dict[str, Any] = {"run": run, "cell": found, "call": found.call, "nav": "runs"}
    if reason := forks.why_not(run) or ("" if found.status in forks.OVER else "This cell has not ended yet."):
        return render(request, "analyses/fork.html", context | {"refused": reason}, status=409)
    posted = request.POST if request.method == "POST" else None
    form = ForkForm(posted, run=run, cell=found, way=request.GET.get("way", ""))
    if posted is not None and form.is_valid():
        change = form.change
        if confirm := _to_confirm(run, member, change.limits["cost"], posted.get("confirmed", "")):
            context["confirm"] = confirm
            form.add_error(None, _asks_first(member, confirm))
        elif not rates.ASK.spend(member.user_id):
            form.add_error(None, OFTEN)
        else:
            try:
                forked = forks.fork_run(run, member.user, change)
            except RunRefused as refusal:
                form.add_error(None, str(refusal))
            else:
                return _told(request, member, run, forked)
    try:
        context |= {"form": form, "ways": form.ways}
    except RunRefused as refusal:
        return render(request, "analyses/fork.html", context | {"refused": str(refusal)}, status=409)
    return render(request, "analyses/fork.html", context, status=422 if form.is_bound else 200)


@login_required
@require_http_methods(["GET", "POST"])
def run_retry(request: HttpRequest, workspace: str, key: str, call: int, cell: int) -> HttpResponse:
    """Failed child calls of this cell, asked again: one, several, or all of them."""
    member, run = _run(request, workspace, key)
    demand(member, May.ASK)
    found = _cell(run, call, cell)
    failed = forks.failed_children(run, call, cell)
    given = request.POST if request.method == "POST" else request.GET
    wanted = [int(text) for text in given.getlist("child") if text.isdecimal() and len(text) < 10]
    children = wanted or failed
    context: dict[str, Any] = {"run": run, "cell": found, "nav": "runs", "children": children, "failed": failed}
    refused = forks.why_not(run)
    if request.method == "POST" and not refused:
        if confirm := _to_confirm(run, member, run.limits.get("cost"), request.POST.get("confirmed", "")):
            context["confirm"], refused = confirm, _asks_first(member, confirm)
        elif not rates.ASK.spend(member.user_id):
            refused = OFTEN
        else:
            try:
                return _told(
                    request,
                    member,
                    run,
                    forks.retry_children(run, member.user, call=call, cell=cell, children=children),
                )
            except RunRefused as refusal:
                refused = str(refusal)
    try:
        if not forks.why_not(run):
            context["forecast"] = forks.foreseen(run, call, cell, RETRY, retried=children)
    except RunRefused as refusal:
        refused = refused or str(refusal)
    if not failed and not refused:
        refused = "None of its child calls has failed."
    titles = Call.objects.filter(run=run, number__in=children[:12]).order_by("number")
    context |= {"refused": refused, "titles": titles.only("number", "title", "reason", "status")}
    return render(request, "analyses/fork_retry.html", context, status=422 if request.method == "POST" else 200)


def _told(request: HttpRequest, member: Member, run: Run, forked: Run) -> HttpResponse:
    record(request, Did.FORKED, workspace=member.workspace, target=run.question, run=run.number, fork=forked.number)
    return redirect(forked)


def _run(request: HttpRequest, workspace: str, key: str) -> tuple[Member, Run]:
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).select_related("workspace", "corpus_version__corpus")
    return member, get_object_or_404(runs, workspace=member.workspace_id, key=key)


def _cell(run: Run, call: int, cell: int) -> Cell:
    cells = Cell.objects.select_related("call").defer("messages", "variables", "exchange", "output")
    return get_object_or_404(cells, run=run, call_number=call, number=cell)  # type: ignore[no-any-return]


def _asks_first(member: Member, confirm: str) -> str:
    return (
        f"This may cost {confirm}. Above ${member.workspace.confirm_above:,.2f} this workspace asks first: "
        "tick “Start all the same”, or lower the limit of money."
    )


def _to_confirm(run: Run, member: Member, limit: float | None, confirmed: str) -> str:
    """How much the fork may cost, where that is above what the workspace asks first for, and not confirmed yet."""
    above = member.workspace.confirm_above
    if above is None or run.endpoint == OFFLINE:
        return ""
    characters = run.document_chars or (run.corpus_version.characters if run.corpus_version else 0)
    expected = estimate(member.workspace, strategy=run.strategy, endpoint=run.endpoint, characters=characters)
    return to_confirm(above, limit, expected, confirmed)
