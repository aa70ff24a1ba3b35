"""Shares as members see them: made, changed and revoked on a run's page; all of a workspace's in one list."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from analyses import actions
from analyses.models import Run, Share
from analyses.share_forms import ShareForm
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.roles import May

PAGE = 50


def share_context(request: HttpRequest, run: Run, form: ShareForm | None = None, said: str = "") -> dict[str, Any]:
    """What `_share.html` needs: the run's shares, each with its whole address and its form, and the form of a new one."""
    shares = list(run.shares.filter(revoked_at=None).select_related("created_by").order_by("pk"))  # type: ignore[attr-defined]
    for share in shares:
        share.url = request.build_absolute_uri(share.get_absolute_url())
        share.form = form if form and form.share and form.share.pk == share.pk else ShareForm(share=share)
    new = form if form and form.share is None else ShareForm()
    return {"run": run, "shares": shares, "share_form": new, "said": said}


@login_required
@require_POST
def share_make(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    run = _shareable(request, workspace, key)
    form = ShareForm(request.POST)
    if not form.is_valid():
        return _answer(request, run, form=form)
    share = actions.share_run(run, request.user, **form.terms())  # type: ignore[arg-type]
    record(request, Did.SHARED, workspace=run.workspace, target=run.question, run=run.number, **_told(share))
    address = request.build_absolute_uri(share.get_absolute_url())
    return _answer(request, run, f"Anyone with this link sees the run: {address}")


@login_required
@require_POST
def share_change(request: HttpRequest, workspace: str, key: str, share_id: int) -> HttpResponse:
    run = _shareable(request, workspace, key)
    share = get_object_or_404(Share.objects.visible_to(request.user), run=run, pk=share_id, revoked_at=None)
    form = ShareForm(request.POST, share=share)
    if not form.is_valid():
        return _answer(request, run, form=form)
    actions.change_share(share, **form.terms())
    share.refresh_from_db()
    record(request, Did.CHANGED_SHARE, workspace=run.workspace, target=run.question, run=run.number, **_told(share))
    return _answer(request, run, "The link is changed: it opens what you chose, from now on.")


@login_required
@require_POST
def share_revoke(request: HttpRequest, workspace: str, key: str, share_id: int) -> HttpResponse:
    run = _shareable(request, workspace, key)
    share = get_object_or_404(Share.objects.visible_to(request.user), run=run, pk=share_id)
    record(request, Did.REVOKED_SHARE, workspace=run.workspace, target=run.question, run=run.number)
    actions.revoke_share(share)
    return _answer(request, run, "The link is revoked: it opens nothing any more.")


@login_required
@require_safe
def share_list(request: HttpRequest, workspace: str) -> HttpResponse:
    """Every live link into this workspace."""
    member = membership(request, workspace)
    demand(member, May.SHARES)
    live = Share.objects.visible_to(request.user).filter(run__workspace=member.workspace).live()
    shares = live.select_related("run__workspace", "created_by").order_by("-created_at", "-pk")
    page = Paginator(shares, PAGE).get_page(request.GET.get("page"))
    return render(request, "analyses/share_list.html", {"page": page})


def _told(share: Share) -> dict[str, Any]:
    """A share's terms for the audit; not its link, and not its password."""
    return {
        "until": f"{share.expires_at:%Y-%m-%d %H:%M}" if share.expires_at else "no end",
        "password": "yes" if share.password else "no",
        "source texts": "yes" if share.with_sources else "no",
        "outputs": "whole" if share.with_outputs else "as the model saw them",
    }


def _shareable(request: HttpRequest, workspace: str, key: str) -> Run:
    member = membership(request, workspace)
    runs = Run.objects.visible_to(request.user).filter(workspace=member.workspace_id).select_related("workspace")
    run: Run = get_object_or_404(runs, key=key)
    demand(member, May.SHARE)
    return run


def _answer(request: HttpRequest, run: Run, said: str = "", form: ShareForm | None = None) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return render(request, "analyses/_share.html", share_context(request, run, form, said))
    if said:
        messages.success(request, said)
    for errors in form.errors.values() if form else ():
        messages.error(request, " ".join(map(str, errors)))
    if request.POST.get("back") == "list":
        return redirect("share-list", workspace=run.workspace.slug)
    return redirect(run)
