"""Versions of a corpus: another order of its documents, and the way back to an earlier state."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from analyses.ingest import corpora as changes
from analyses.ingest.uploads import natural
from analyses.models import Corpus, CorpusVersion
from analyses.views.corpora import corpus_of
from workspaces.access import demand
from workspaces.audit import Did, record
from workspaces.roles import May

MOST = 2_000  # documents that are put in order by hand
SORTS = {"title": "By title", "name": "By file name", "date": "By date"}


def seen_version(request: HttpRequest, corpus: Corpus) -> CorpusVersion:
    """The version that the person was looking at."""
    number = request.POST.get("version", "")
    if not number.isdecimal() or len(number) > 9:
        raise Http404
    return get_object_or_404(corpus.versions, number=int(number))


@login_required
@require_http_methods(["GET", "POST"])
def corpus_order(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    """The documents in a list whose rows can be moved; saved at once, as one new version."""
    member, corpus = corpus_of(request, workspace, key)
    demand(member, May.ASK)
    if request.method == "POST":
        seen = seen_version(request, corpus)
        order = _order(request, seen)
        if order == list(range(seen.document_count)):
            messages.info(request, "The documents are in that order already.")
            return redirect(corpus)
        try:
            changes.reorder(corpus, seen, order, request.user)
        except changes.Changed as changed:
            messages.warning(request, str(changed))
        else:
            record(request, Did.CHANGED_CORPUS, workspace=member.workspace, target=corpus.name, ordered=len(order))
        return redirect(corpus)
    version = corpus.latest
    if version is None:
        raise Http404
    documents = version.documents.order_by("position").defer("marks")
    context = {
        "corpus": corpus,
        "version": version,
        "documents": documents if version.document_count <= MOST else [],
        "most": MOST,
        "sorts": SORTS,
        "nav": "corpora",
    }
    return render(request, "analyses/corpus_order.html", context)


def _order(request: HttpRequest, seen: CorpusVersion) -> list[int]:
    """What was sent: a way to sort, or the present positions in their new order."""
    if (by := request.POST.get("sort", "")) in SORTS:
        rows = seen.documents.order_by("position").values_list("position", "title", "name", "meta")
        told = {"title": 1, "name": 2}.get(by)
        keys = {
            row[0]: natural(str(row[told] if told else (row[3] or {}).get("date") or "9999")) for row in rows.iterator()
        }
        return sorted(keys, key=lambda position: (keys[position], position))
    sent = request.POST.get("order", "").split(",")
    return [int(each) for each in sent if each.isdecimal() and len(each) < 8]


@login_required
@require_POST
def corpus_restore(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    """Make an earlier version the latest again, as a new one."""
    member, corpus = corpus_of(request, workspace, key)
    demand(member, May.ASK)
    seen = seen_version(request, corpus)
    number = request.POST.get("to", "")
    if not number.isdecimal() or len(number) > 9:
        raise Http404
    earlier = get_object_or_404(corpus.versions, number=int(number))
    try:
        version = changes.restore(corpus, seen, earlier.number, request.user)
    except changes.Changed as changed:
        messages.warning(request, str(changed))
    else:
        record(
            request, Did.CHANGED_CORPUS, workspace=member.workspace, target=corpus.name, back_to_version=earlier.number
        )
        messages.success(
            request, f"The corpus is as version {earlier.number} was; version {version.number} answers questions now."
        )
    return redirect(corpus)
