"""A run's page for members of its workspace, and its buttons: stop, pause, go on."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh, trigger_client_event

from analyses import actions
from analyses.endpoints import OFFLINE
from analyses.estimates import to_confirm
from analyses.follow_ups import ask_follow_up, follow_up_box
from analyses.forks import why_not
from analyses.models import Run
from analyses.runpage import run_page_context
from analyses.views.compare import others
from analyses.views.shares import share_context
from rlm.limits import Limits
from workspaces import rates
from workspaces.access import demand, membership
from workspaces.models import Member
from workspaces.roles import May, may


@login_required
@require_safe
def run_detail(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).select_related(
        "workspace", "corpus_version__corpus", "created_by", "forked_from__workspace"
    )
    run: Run = get_object_or_404(runs, workspace=member.workspace_id, key=key)
    return _page(request, member, run)


def _page(request: HttpRequest, member: Member, run: Run, **box: str) -> HttpResponse:
    if request.htmx.target == "archived":  # type: ignore[attr-defined]  # asks whether the archive is back
        return HttpResponseClientRefresh() if not (run.archived and run.restore_asked_at) else HttpResponse(status=204)
    if request.htmx.target == "archiving":  # type: ignore[attr-defined]  # asks what became of it
        pending = run.archive_asked_at is not None and not run.archived
        return HttpResponse(status=204) if pending else render(request, "analyses/_archiving.html", {"run": run})
    may_share = may(member, May.SHARE)
    context = run_page_context(run, request.GET) | {
        "nav": "runs",
        "may_edit": may(member, May.ASK),
        "may_fork": may(member, May.ASK) and not why_not(run),
        "others": others(member, run),
        "source": run.forked_from,
        "may_share": may_share,
        "corpus": run.corpus_version.corpus if run.corpus_version else None,
        "by": "you" if run.created_by_id == request.user.pk else run.created_by,
        "restoring": run.restore_asked_at is not None,
        "failed": run.archived and run.archive_tried_at is not None,
        "socket": f"/ws{run.get_absolute_url()}",
    }
    if run.ended or box:
        context["box"] = follow_up_box(run, member, **box)
    if may_share:
        context |= share_context(request, run)
    response = render(request, "analyses/run_detail.html", context, status=422 if box else 200)
    response["Cache-Control"] = "no-store"  # going back must not show a page that stands at an old seq
    return response


@login_required
@require_POST
def run_stop(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    return _told(request, workspace, key, actions.stop_run)


@login_required
@require_POST
def run_pause(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    return _told(request, workspace, key, actions.pause_run)


@login_required
@require_POST
def run_resume(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    return _told(request, workspace, key, actions.resume_run)


@login_required
@require_http_methods(["GET", "POST"])
def run_follow_up(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    """The box for a follow-up; asking one."""
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).select_related("workspace", "corpus_version__corpus", "created_by")
    run: Run = get_object_or_404(runs, workspace=member.workspace_id, key=key)
    box: dict[str, str] = {}
    if request.method == "POST":
        demand(member, May.ASK)
        question = request.POST.get("question", "")
        above = None if run.endpoint == OFFLINE else member.workspace.confirm_above
        confirmed, confirm = request.POST.get("confirmed", ""), ""
        if above is not None:
            confirm = to_confirm(above, Limits.of(run.limits).cost, None, confirmed)
        box = {"question": question[:50_000]}
        if confirm:
            box |= {"confirm": confirm, "error": f"This may cost {confirm}. Tick “Ask all the same” to go on."}
        elif not rates.ASK.spend(member.user_id):
            box["error"] = "You have asked very often within this minute. Wait a little, then ask again."
        else:
            try:
                ask_follow_up(run, member.user, question)
            except actions.RunRefused as refusal:
                box["error"] = str(refusal)
            else:
                if not request.htmx:  # type: ignore[attr-defined]
                    return redirect(run)
                context = {"run": run, "box": follow_up_box(run, member)}
                done = render(request, "analyses/_follow_up_box.html", context)
                return trigger_client_event(done, "asked-further", after="swap")
    if not request.htmx:  # type: ignore[attr-defined]
        return _page(request, member, run, **box)
    context = {"run": run, "box": follow_up_box(run, member, **box)}
    return render(request, "analyses/_follow_up_box.html", context, status=422 if box else 200)


def _told(request: HttpRequest, workspace: str, key: str, tell: Callable[[Run], None]) -> HttpResponse:
    """What a button on the page tells a run; the page changes when its rows do."""
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).select_related("workspace")
    run: Run = get_object_or_404(runs, workspace=member.workspace_id, key=key)
    demand(member, May.ASK)
    tell(run)
    return HttpResponse(status=204) if request.htmx else redirect(run)  # type: ignore[attr-defined]
