"""Runs out as files, and logs in as runs."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from analyses.models import Import, Run
from analyses.trajectory import intake
from analyses.trajectory.exporting import EXPORTS, response
from analyses.trajectory.importing import FORMATS
from analyses.trajectory.limits import LIMITS
from workspaces import rates
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.roles import May


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
    """Choose logs. They are kept here, and read by a worker."""
    member = membership(request, workspace)
    demand(member, May.ASK)
    asked = request.method == "POST"
    if asked and (files := request.FILES.getlist("logs")):
        if not rates.UPLOAD.spend(member.user_id):
            return rates.too_many(request)
        made = intake.start(member.workspace, member.user, files)  # type: ignore[arg-type]
        record(request, Did.IMPORTED, workspace=member.workspace, target=files[0].name, files=len(files))
        intake.wake(made)
        return redirect(made)
    context = {
        "workspace": member.workspace, "nav": "runs", "asked": asked, "formats": FORMATS,
        "most_mb": LIMITS.file_bytes >> 20, "most_files": intake.FILES_MOST,
    }  # fmt: skip
    return render(request, "analyses/run_import.html", context, status=422 if asked else 200)


@login_required
@require_safe
def import_detail(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    """What became of each file, as it stands; the page asks again for the part that changes."""
    member = membership(request, workspace)
    made = get_object_or_404(Import.objects.visible_to(request.user), workspace=member.workspace_id, key=key)
    made.workspace = member.workspace
    files = list(made.files.all())
    told = [outcome for file in files for outcome in file.outcomes]
    keys = [outcome["run"] for outcome in told if "run" in outcome]
    here = set(Run.objects.visible_to(request.user).filter(key__in=keys).values_list("key", flat=True))
    for outcome in told:
        outcome["here"] = outcome.get("run") in here
    context = {"workspace": member.workspace, "nav": "runs", "made": made, "files": files, "runs": len(keys)}
    part = request.headers.get("HX-Target") == "import"
    return render(request, f"analyses/{'_import' if part else 'import_detail'}.html", context)
