"""Search in the texts of a corpus; each hit is a deep link into the reader."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from analyses import blobs
from analyses.search import QUERY_MOST, Answer, search
from analyses.views.corpora import corpus_of, version_of
from workspaces import rates


@login_required
@require_GET
def corpus_search(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    _, corpus = corpus_of(request, workspace, key)
    version = version_of(request, corpus)
    if not rates.SEARCH.spend(request.user.pk):
        return rates.too_many(request)
    query = request.GET.get("q", "").strip()[:QUERY_MOST]
    gone = False
    try:
        answer = search(version, query)
    except blobs.BlobMissing:
        answer, gone = Answer([], 0), True
    context = {
        "corpus": corpus,
        "version": version,
        "query": query,
        "answer": answer,
        "gone": gone,
        "older": f"&version={version.number}" if "version" in request.GET else "",
        "nav": "corpora",
    }
    return render(request, "analyses/corpus_search.html", context)
