"""Shares: making and revoking a run's public links, and the page that anyone with a link sees."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from analyses import actions
from analyses.models import Run, Share
from analyses.runpage import run_page_context
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.roles import May


def links(request: HttpRequest, run: Run) -> list[Share]:
    """The run's live shares, each with its whole address."""
    shares = list(run.shares.live().select_related("created_by").order_by("pk"))  # type: ignore[attr-defined]
    for share in shares:
        share.url = request.build_absolute_uri(share.get_absolute_url())
    return shares


@login_required
@require_POST
def share_make(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    run = _shareable(request, workspace, key)
    share = actions.share_run(run, request.user)  # type: ignore[arg-type]
    record(request, Did.SHARED, workspace=run.workspace, target=run.question, run=run.number)
    address = request.build_absolute_uri(share.get_absolute_url())
    return _answer(request, run, f"Anyone with this link sees the run: {address}")


@login_required
@require_POST
def share_revoke(request: HttpRequest, workspace: str, key: str, share_id: int) -> HttpResponse:
    run = _shareable(request, workspace, key)
    record(request, Did.REVOKED_SHARE, workspace=run.workspace, target=run.question, run=run.number)
    actions.revoke_share(get_object_or_404(Share.objects.visible_to(request.user), run=run, pk=share_id))
    return _answer(request, run, "The link is revoked: it opens nothing any more.")


def _shareable(request: HttpRequest, workspace: str, key: str) -> Run:
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).filter(workspace=member.workspace_id).select_related("workspace")
    run: Run = get_object_or_404(runs, key=key)
    demand(member, May.SHARE)
    return run


def _answer(request: HttpRequest, run: Run, said: str) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return render(request, "analyses/_share.html", {"run": run, "shares": links(request, run), "said": said})
    messages.success(request, said)
    return redirect(run)


@require_safe
def share_detail(request: HttpRequest, token: str) -> HttpResponse:
    """The same page as members see, without what only a member may do. A revoked or unknown token is told 404."""
    runs = Run.objects.shared(token).select_related("workspace", "corpus_version__corpus")
    run: Run = get_object_or_404(runs)
    context = run_page_context(run) | {"socket": f"/ws{request.path}"}
    response = render(request, "analyses/share_detail.html", context)
    response["X-Robots-Tag"] = "noindex, nofollow"
    response["Referrer-Policy"] = "no-referrer"  # the address is the key to the page
    response["Cache-Control"] = "private, no-store"  # a link revoked must not live on in a cache
    return response
