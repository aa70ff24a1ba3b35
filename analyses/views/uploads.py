"""Files come in: the form of a new corpus or of more files for one, and the ledger of what became of each."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.decorators.vary import vary_on_headers

from analyses.corpus_forms import UploadForm
from analyses.ingest import uploads
from analyses.ingest.formats import READS
from analyses.ingest.limits import Refused, UploadLimits, megabytes
from analyses.ledger import Ledger
from analyses.models import Corpus, Document, Upload
from analyses.views.corpora import version_of
from workspaces import rates
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.models import Member
from workspaces.roles import May, may

ANNOUNCED_MOST = 10_000  # files told of in one request


@login_required
@require_http_methods(["GET", "POST"])
def corpus_new(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    if request.method == "POST":
        return _sent(request, member, None)
    return _form(request, member, UploadForm(), None)


@login_required
@require_http_methods(["GET", "POST"])
def corpus_add(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    member = membership(request, workspace)
    corpus = get_object_or_404(Corpus.objects.visible_to(request.user), workspace=member.workspace, key=key)
    replaces = _replaced(request, corpus)
    if request.method == "POST":
        return _sent(request, member, corpus, replaces)
    return _form(request, member, UploadForm(), corpus, replaces)


def _replaced(request: HttpRequest, corpus: Corpus) -> Document | None:
    """The document that the address names, in whose place the files shall come."""
    place = request.GET.get("replace", "")
    if not place:
        return None
    if not place.isdecimal() or len(place) > 9:
        raise Http404
    return get_object_or_404(Document, version=version_of(request, corpus), position=int(place))


def _sent(
    request: HttpRequest, member: Member, corpus: Corpus | None, replaces: Document | None = None
) -> HttpResponse:
    """A form with everything in it, or from the script: only the name, the files follow."""
    demand(member, May.ASK)
    if not rates.UPLOAD.spend(member.user_id):
        return rates.too_many(request)
    if request.headers.get("X-Upload") == "begin":
        made = _start(request, member, corpus, request.POST.get("name", ""), replaces)
        return JsonResponse({"url": made.get_absolute_url()}, status=201)
    form = UploadForm(request.POST, request.FILES, limits=UploadLimits.of(member.workspace))
    if not form.is_valid():
        return _form(request, member, form, corpus, replaces)
    made = _start(request, member, corpus, form.cleaned_data["name"], replaces)
    for name, file in form.sent():
        uploads.receive(made, name, file)
    uploads.close(made)
    uploads.wake(made)
    made.refresh_from_db()
    if made.version_id and made.corpus:
        return redirect(made.corpus)
    return redirect(made)


def _start(request: HttpRequest, member: Member, corpus: Corpus | None, name: str, replaces: Document | None) -> Upload:
    made = uploads.start(member.workspace, request.user, corpus=corpus, name=name, replaces=replaces)
    record(request, Did.UPLOADED, workspace=member.workspace, target=corpus.name if corpus else made.name)
    return made


def _form(
    request: HttpRequest, member: Member, form: UploadForm, corpus: Corpus | None, replaces: Document | None = None
) -> HttpResponse:
    limits = UploadLimits.of(member.workspace)
    context = {
        "form": form,
        "corpus": corpus,
        "replaces": replaces,
        "action": request.get_full_path() if replaces else request.path,
        "form_named": corpus is None,
        "reads": READS,
        "most": megabytes(limits.bytes),
        "may_ask": may(member, May.ASK),
        "nav": "corpora",
    }
    return render(request, "analyses/corpus_new.html", context, status=422 if form.errors else 200)


def upload_of(request: HttpRequest, workspace: str, key: str) -> tuple[Member, Upload]:
    """An upload of a workspace of which this person is a member."""
    member = membership(request, workspace)
    visible = Upload.objects.visible_to(request.user).select_related("workspace", "corpus__workspace", "version")
    return member, get_object_or_404(visible, workspace=member.workspace, key=key)


def _ledger(request: HttpRequest, upload: Upload) -> Ledger:
    return Ledger(upload, state=request.GET.get("state", ""), page=request.GET.get("page", "1"))


@login_required
@require_GET
def upload_detail(request: HttpRequest, workspace: str, upload: str) -> HttpResponse:
    member, made = upload_of(request, workspace, upload)
    context = {
        "upload": made,
        "ledger": _ledger(request, made),
        "corpus": made.corpus,
        "may_ask": may(member, May.ASK),
        "reads": READS,
        "most": megabytes(UploadLimits.of(member.workspace).bytes),
        "nav": "corpora",
    }
    return render(request, "analyses/upload_detail.html", context)


@login_required
@require_GET
@vary_on_headers("HX-Request")
def upload_ledger(request: HttpRequest, workspace: str, upload: str) -> HttpResponse:
    """The ledger alone, for a page that watches. Once the corpus is there it is what to look at, failed files included."""
    member, made = upload_of(request, workspace, upload)
    ledger = _ledger(request, made)
    response = render(
        request, "analyses/_ledger.html", {"upload": made, "ledger": ledger, "may_ask": may(member, May.ASK)}
    )
    if ledger.finished and made.version_id and made.corpus:
        response.headers["HX-Redirect"] = made.corpus.get_absolute_url()
    return response


@login_required
@require_POST
def upload_files(request: HttpRequest, workspace: str, upload: str) -> HttpResponse:
    """From the script: a list of files to come (JSON), the bytes of some (multipart), or that some are lost (JSON)."""
    member, made = upload_of(request, workspace, upload)
    demand(member, May.ASK)
    if request.content_type == "application/json":
        said = _json(request)
        if "lost" in said:
            gone = made.files.filter(pk__in=[int(pk) for pk in list(said["lost"])[:ANNOUNCED_MOST]])
            for lost in gone:
                uploads.lose(
                    lost,
                    "The browser could not read it any more: it was moved, changed or deleted meanwhile. Add it again.",
                )
            uploads.wake(made)
            return JsonResponse({"lost": len(gone)})
        try:
            files = [(str(file["name"]), max(0, int(file["size"]))) for file in said["files"]]
            if len(files) > ANNOUNCED_MOST:
                raise Refused(f"Tell of at most {ANNOUNCED_MOST:,} files at a time.")
            rows_or_none = uploads.announce(made, files)
        except Refused as refused:
            return JsonResponse({"reason": refused.reason}, status=422)
        except (KeyError, TypeError, ValueError):
            raise SuspiciousOperation("a list of files that is none") from None
        return JsonResponse({"ids": [row.pk if row else None for row in rows_or_none]})
    sent = request.FILES.getlist("files")
    try:
        ids = [int(pk) for pk in request.POST.get("ids", "").split(",")]
    except ValueError:
        raise SuspiciousOperation("files without their numbers") from None
    rows = {row.pk: row for row in made.files.filter(pk__in=ids, state=uploads.State.UPLOADING)}
    for pk, file in zip(ids, sent, strict=False):
        if (
            row := rows.get(pk)
        ) is not None:  # one that is here already was sent twice: the connection broke before we could say so
            uploads.receive(made, row.name, file, row)
    uploads.wake(made)
    return JsonResponse({"received": len(sent)})


def _json(request: HttpRequest) -> dict[str, Any]:
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError):
        raise SuspiciousOperation("not JSON") from None
    if not isinstance(said, dict):
        raise SuspiciousOperation("not a JSON object")
    return said


@login_required
@require_POST
def upload_close(request: HttpRequest, workspace: str, upload: str) -> HttpResponse:
    member, made = upload_of(request, workspace, upload)
    demand(member, May.ASK)
    uploads.close(made)
    uploads.wake(made)
    return redirect(made)


@login_required
@require_POST
def upload_cancel(request: HttpRequest, workspace: str, upload: str) -> HttpResponse:
    member, made = upload_of(request, workspace, upload)
    demand(member, May.ASK)
    uploads.cancel(made)
    uploads.wake(made)
    messages.info(request, "The rest of the upload was cancelled. What was ready stays.")
    return redirect(made)


@login_required
@require_POST
def upload_retry(request: HttpRequest, workspace: str, upload: str, file: int) -> HttpResponse:
    member, made = upload_of(request, workspace, upload)
    demand(member, May.ASK)
    row = get_object_or_404(made.files, pk=file)
    if uploads.retry(row):
        uploads.wake(made)
    else:
        messages.warning(request, f"{row.name} cannot be tried again here: add the file once more.")
    return redirect(reverse("upload-detail", args=[workspace, upload]))
