"""A run's page for members of its workspace, and the stop button."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from analyses import actions
from analyses.models import Run
from analyses.runpage import run_page_context


@require_safe
def run_detail(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    runs = Run.objects.visible_to(request.user).select_related("workspace", "corpus_version__corpus", "created_by")
    run = get_object_or_404(runs, workspace__slug=workspace, key=key)
    may_edit = Run.objects.editable_by(request.user).filter(pk=run.pk).exists()
    shares = list(run.shares.filter(revoked_at=None).order_by("pk")) if may_edit else []
    for share in shares:
        share.url = request.build_absolute_uri(share.get_absolute_url())
    context = run_page_context(run) | {
        "nav": "runs",
        "may_edit": may_edit,
        "shares": shares,
        "corpus": run.corpus_version.corpus if run.corpus_version else None,
        "by": "you" if run.created_by_id == request.user.pk else run.created_by,
        "socket": f"/ws{run.get_absolute_url()}",
    }
    response = render(request, "analyses/run_detail.html", context)
    response["Cache-Control"] = "no-store"  # going back must not show a page that stands at an old seq
    return response


@require_POST
def run_stop(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    run = get_object_or_404(
        Run.objects.visible_to(request.user).select_related("workspace"), workspace__slug=workspace, key=key
    )
    if not Run.objects.editable_by(request.user).filter(pk=run.pk).exists():
        raise PermissionDenied
    actions.stop_run(run)
    return HttpResponse(status=204) if request.htmx else redirect(run)  # type: ignore[attr-defined]
