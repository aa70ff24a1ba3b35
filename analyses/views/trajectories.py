"""Runs out as files, and logs in as runs."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from analyses.models import Run
from analyses.trajectory.exporting import EXPORTS, response
from analyses.trajectory.importing import FORMATS, Outcome, import_file
from analyses.trajectory.limits import LIMITS
from workspaces import rates
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.roles import May

FILES_MOST = 50  # logs in one request


@login_required
@require_safe
def run_export(request: HttpRequest, workspace: str, key: str, format: str) -> HttpResponseBase:
    """The run as a file of one of four kinds."""
    runs = Run.objects.visible_to(request.user).select_related("workspace", "corpus_version__corpus")
    run = get_object_or_404(runs, workspace__slug=workspace, key=key)
    if format not in EXPORTS:
        raise Http404
    if run.archived and format != "jsonl":
        messages.error(request, "This run is archived. Bring it back first, or download it as JSON Lines.")
        return redirect(run)
    if not rates.EXPORT.spend(request.user.pk):
        return rates.too_many(request)
    record(request, Did.EXPORTED, workspace=run.workspace, target=run.question, run=run.number, format=format)
    return response(request, run, EXPORTS[format])


@login_required
@require_http_methods(["GET", "POST"])
def run_import(request: HttpRequest, workspace: str) -> HttpResponse:
    """Choose logs; then what became of each."""
    member = membership(request, workspace)
    demand(member, May.ASK)
    outcomes: list[Outcome] = []
    if request.method == "POST":
        if not rates.UPLOAD.spend(member.user_id):
            return rates.too_many(request)
        for file in request.FILES.getlist("logs")[:FILES_MOST]:
            outcomes += import_file(file, file.name or "log", member.workspace, member.user)  # type: ignore[arg-type]
        if outcomes:
            made = sum(outcome.run is not None for outcome in outcomes)
            record(request, Did.IMPORTED, workspace=member.workspace, target=outcomes[0].file, runs=made)
        left = len(request.FILES.getlist("logs")) - FILES_MOST
        if left > 0:
            outcomes.append(Outcome(f"{left} more", reason=f"At most {FILES_MOST} files are taken at a time."))
    context = {
        "workspace": member.workspace, "nav": "runs", "outcomes": outcomes, "asked": request.method == "POST",
        "formats": FORMATS, "most_mb": LIMITS.file_bytes >> 20, "most_files": FILES_MOST,
    }  # fmt: skip
    return render(request, "analyses/run_import.html", context)
