"""What anyone with a link sees: the run's page, its password, its preview for chat apps, its files, its source texts."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from analyses import blobs, preview, sharing
from analyses.endpoints import OFFLINE
from analyses.ingest.part import page_of
from analyses.models import CorpusVersion, Document, Run, Share, Status
from analyses.reader import Window
from analyses.runpage import WORDS, run_page_context
from analyses.share_forms import UnlockForm
from analyses.trajectory.exporting import EXPORTS
from analyses.trajectory.exporting import response as exported
from workspaces.audit import address_of
from workspaces.files import inert
from workspaces.rates import EXPORT, too_many

DOCUMENTS = 100  # listed on a page


@require_safe
def share_detail(request: HttpRequest, token: str) -> HttpResponse:
    """The same page as members see, without what only a member may do. A dead or unknown token is told 404."""
    share = sharing.live_share(token)
    if not sharing.is_open(share, request.COOKIES):
        return _locked(request, share, UnlockForm())
    run = share.run
    context = run_page_context(run, request.GET) | {
        "share": share,
        "socket": f"/ws{share.get_absolute_url()}",
        "sources_url": _sources_url(share),
        "card": _card(request, share),
    }
    response = render(request, "analyses/share_detail.html", context)
    sharing.count_view(request, response, share)
    return response


@require_POST
def share_unlock(request: HttpRequest, token: str) -> HttpResponse:
    """The password of a link. Guesses are counted, by address and in all."""
    share = sharing.live_share(token)
    form = UnlockForm(request.POST)
    if form.is_valid():
        try:
            if sharing.try_password(request, share, form.cleaned_data["password"]):
                response = redirect(share)
                sharing.unlock(response, share)
                return response
        except sharing.TooManyTries:
            form.add_error("password", "Too many tries. Wait five minutes, then try again.")
            return _locked(request, share, form, status=429)
        form.add_error("password", "That is not the password.")
    return _locked(request, share, form, status=403)


def _locked(request: HttpRequest, share: Share, form: UnlockForm, status: int = 200) -> HttpResponse:
    """Nothing of the run, its question included."""
    context = {"share": share, "form": form, "card": _card(request, share)}
    return render(request, "analyses/share_locked.html", context, status=status)


def _card(request: HttpRequest, share: Share) -> dict[str, str]:
    """What chat apps show of a link. They ask without a password: of a locked one they are told that it is locked."""
    run = share.run
    title, said = "A shared run", "Opens with a password."
    if not share.password:
        version = run.corpus_version
        title = run.question[:200]
        told = [WORDS[Status(run.status)], f"{run.calls:,} calls", f"{run.cells:,} cells"]
        told += [f"{len(run.documents or ()) or version.document_count:,} documents"] if version else []
        said = ", ".join(told) + ". Watch how a Recursive Language Model worked it out."
    image = request.build_absolute_uri(reverse("share-preview", args=[share.token]))
    return {
        "title": title,
        "said": said,
        "url": request.build_absolute_uri(share.get_absolute_url()),
        "image": f"{image}?{preview.mark_of(share)}",  # another address for another image: chat apps keep them long
    }


@require_safe
def share_preview(request: HttpRequest, token: str) -> HttpResponse:
    """A drawn summary of the tree; of a link with a password an image that tells nothing."""
    share = sharing.live_share(token)
    tag = f'"{preview.mark_of(share)}"'
    response: HttpResponse
    if request.headers.get("If-None-Match") == tag:
        response = HttpResponseNotModified()
    else:
        response = inert(HttpResponse(preview.png_of(share), content_type="image/png"))
    response["Cache-Control"] = "private, no-cache"  # may be kept, and is asked about again each time
    response["ETag"] = tag
    return response


@require_safe
def share_export(request: HttpRequest, token: str, format: str) -> HttpResponseBase:
    """The run as a file, as far as the share contains it."""
    run = sharing.shared_run(request, token)
    if format not in EXPORTS:
        raise Http404
    if run.archived:  # what is packed is packed whole
        context = {
            "token": token,
            "title": "This run is in the archive",
            "words": "Its calls and cells are packed away, so that there is nothing to download now. A member of its "
            "workspace can bring them back; then this address gives the file.",
        }
        return render(request, "analyses/share_without.html", context, status=409)
    if not EXPORT.spend(f"{token}:{address_of(request)}"):
        return too_many(request)
    run.sandbox = {}  # of this instance
    run.endpoint = run.endpoint if run.endpoint == OFFLINE else ""
    return exported(request, run, EXPORTS[format])


# — source texts —


def _sources_url(share: Share) -> str:
    run = share.run
    return reverse("share-sources", args=[share.token]) if share.with_sources and run.corpus_version_id else ""


def _with_sources(request: HttpRequest, token: str) -> tuple[Run, CorpusVersion]:
    run = sharing.shared_run(request, token)
    if not run.contents.sources or run.corpus_version is None:
        raise Http404
    return run, run.corpus_version


@require_safe
def share_sources(request: HttpRequest, token: str) -> HttpResponse:
    """The documents that the run read."""
    run, version = _with_sources(request, token)
    page, documents = page_of(version, run.documents, DOCUMENTS, request.GET.get("page"))
    context = {"run": run, "version": version, "page": page, "documents": documents}
    return render(request, "analyses/share_sources.html", context)


@require_GET
@vary_on_headers("HX-Request")
def share_document(request: HttpRequest, token: str, position: int) -> HttpResponse:
    """One of them, in windows, as its members read it."""
    run, version = _with_sources(request, token)
    if run.documents is not None and position not in run.documents:
        raise Http404  # of the corpus, and not of what this run read
    document = get_object_or_404(Document.objects.filter(version=version), position=position)
    document.version = version
    try:
        window = Window.of(document, request.GET)
    except blobs.BlobMissing:
        raise Http404 from None
    context = {"run": run, "document": document, "window": window, "number": position + 1, "older": ""}
    template = "_text.html" if request.headers.get("HX-Request") else "share_document.html"
    return render(request, f"analyses/{template}", context)
