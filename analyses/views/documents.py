"""One document: its text in windows, its original, its place in the corpus."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST
from django.views.decorators.vary import vary_on_headers

from analyses import blobs
from analyses.ingest import corpora as changes
from analyses.ingest import versions
from analyses.models import Corpus, CorpusVersion, Document
from analyses.reader import Window
from analyses.search import search
from analyses.views.corpora import corpus_of, version_of
from analyses.views.versions import seen_version
from workspaces.access import demand
from workspaces.audit import Did, record
from workspaces.files import inert
from workspaces.roles import May, may


def _document(request: HttpRequest, corpus: Corpus, position: int) -> tuple[CorpusVersion, Document]:
    version = version_of(request, corpus)
    document = get_object_or_404(Document.objects.visible_to(request.user), version=version, position=position)
    document.version = version
    return version, document


@login_required
@require_GET
@vary_on_headers("HX-Request")
def document_detail(request: HttpRequest, workspace: str, key: str, position: int) -> HttpResponse:
    member, corpus = corpus_of(request, workspace, key)
    version, document = _document(request, corpus, position)
    latest = corpus.latest
    try:
        window = Window.of(document, request.GET)
    except blobs.BlobMissing:
        raise Http404("the text of this document is not kept any more") from None
    context = {
        "corpus": corpus,
        "version": version,
        "document": document,
        "window": window,
        "found": search(version, window.query) if window.query and request.GET.get("hits") == "corpus" else None,
        "number": position + 1,
        "is_latest": latest is not None and latest.pk == version.pk,
        "older": f"&version={version.number}" if "version" in request.GET else "",
        "may_ask": may(member, May.ASK),
        "nav": "corpora",
    }
    # The script asks for another window of the same text: the same partial, alone.
    template = "_text.html" if request.headers.get("HX-Request") else "document_detail.html"
    return render(request, f"analyses/{template}", context)


@login_required
@require_GET
def document_original(request: HttpRequest, workspace: str, key: str, position: int) -> FileResponse:
    """The bytes as they were uploaded, always as a download: a page of this site is never made of them."""
    _, corpus = corpus_of(request, workspace, key)
    _, document = _document(request, corpus, position)
    try:
        file = blobs.open(document.original)
    except blobs.BlobMissing:
        raise Http404("the original is not kept any more") from None
    response = FileResponse(file, content_type="application/octet-stream")
    return inert(response, document.name.rpartition("/")[2] or "original")


@login_required
@require_POST
def document_remove(request: HttpRequest, workspace: str, key: str, position: int) -> HttpResponse:
    member, corpus = corpus_of(request, workspace, key)
    demand(member, May.ASK)
    seen = seen_version(request, corpus)
    document = get_object_or_404(seen.documents, position=position)
    try:
        version = changes.remove(corpus, seen, position, request.user)
    except changes.Changed as changed:
        messages.warning(request, str(changed))
    except versions.Empty:
        messages.warning(request, "This is its only document: delete the corpus instead.")
    else:
        record(request, Did.CHANGED_CORPUS, workspace=member.workspace, target=corpus.name, removed=document.title)
        messages.success(
            request,
            f"{document.title} was removed; version {version.number} answers questions now. Earlier runs keep what they read.",
        )
    return redirect(corpus)


@login_required
@require_POST
def document_move(request: HttpRequest, workspace: str, key: str, position: int) -> HttpResponse:
    member, corpus = corpus_of(request, workspace, key)
    demand(member, May.ASK)
    seen = seen_version(request, corpus)
    asked: Any = request.POST.get("to", "")
    if not asked.isdecimal() or not 1 <= int(asked[:9]) <= seen.document_count:
        messages.warning(request, f"There are places 1 to {seen.document_count:,}.")
        return redirect(reverse("document-detail", args=[workspace, key, position]))
    try:
        if int(asked) - 1 != position:
            changes.move(corpus, seen, position, int(asked) - 1, request.user)
            record(request, Did.CHANGED_CORPUS, workspace=member.workspace, target=corpus.name, moved=position + 1)
    except changes.Changed as changed:
        messages.warning(request, str(changed))
        return redirect(corpus)
    return redirect(reverse("document-detail", args=[workspace, key, int(asked) - 1]))
