"""Corpora: the list, one of them with its documents and the probe a model starts from, its name, its end."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, Q, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from analyses import ingest
from analyses.corpus_forms import CorpusForm, UploadForm
from analyses.ingest import corpora as changes
from analyses.ingest.formats import READS
from analyses.ingest.limits import UploadLimits, megabytes
from analyses.ingest.part import page_of
from analyses.ledger import Ledger
from analyses.models import Corpus, CorpusVersion, Run, Upload, UploadFile
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.models import Member
from workspaces.roles import May, may

PAGE = 100
UNDO = datetime.timedelta(minutes=15)
TOKEN = 4  # characters a token, about: the measure of the probe and of the ask page
PROBE_AT_ONCE = 8 << 20  # bytes; larger texts take a moment to count, so the page asks for their probe by itself


SORTS: dict[str, tuple[str, ...]] = {
    "": ("-created_at",),
    "changed": ("-changed_at",),
    "name": ("name",),
    "size": ("-characters",),
}
SORT_WORDS = {"": "newest", "changed": "last changed", "name": "name", "size": "largest"}


def _makers(member: Member) -> list[Any]:
    """Others who have made corpora here and still are members: to filter by."""
    made = Corpus.objects.filter(workspace=member.workspace).values("created_by")
    others = member.workspace.members.filter(user__in=made).exclude(user=member.user_id).select_related("user")
    return [each.user for each in others.order_by("user__name", "user__email")[:100]]


@login_required
@require_GET
def corpus_list(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    newest = CorpusVersion.objects.filter(corpus=OuterRef("pk")).order_by("-number")
    corpora = (
        Corpus.objects.visible_to(request.user)
        .filter(workspace=member.workspace)
        .annotate(
            newest_number=Subquery(newest.values("number")[:1]),
            documents=Subquery(newest.values("document_count")[:1]),
            characters=Subquery(newest.values("characters")[:1]),
            bytes=Subquery(newest.values("bytes")[:1]),
            changed_at=Subquery(newest.values("created_at")[:1]),
            run_count=Count("versions__runs", distinct=True),
        )
        .select_related("workspace", "created_by")
        .defer("sample_questions")
    )
    asked = request.GET.get("q", "").strip()[:200]
    who = request.GET.get("who", "")
    sort = request.GET.get("sort", "") if request.GET.get("sort") in SORTS else ""
    if asked:
        corpora = corpora.filter(name__icontains=asked)
    if who == "me":
        corpora = corpora.filter(created_by=request.user)
    elif who.isdecimal() and len(who) < 10:
        corpora = corpora.filter(created_by=int(who), created_by__memberships__workspace=member.workspace_id)
    else:
        who = ""
    page = Paginator(corpora.order_by(*SORTS[sort], "-created_at"), 50).get_page(request.GET.get("page"))
    chosen = {name: value for name, value in (("q", asked), ("who", who), ("sort", sort)) if value}
    mine = who == "me"
    context = {
        "page": page,
        "q": asked,
        "mine": mine,
        "who": who,
        "sort": sort,
        "sorts": SORT_WORDS,
        "people": _makers(member) if page.paginator.count or chosen else [],
        "filtered": bool(chosen),
        "chosen": f"&{urlencode(chosen)}" if chosen else "",
        "under_way": _under_way(request, member),
        "may_ask": may(member, May.ASK),
        "form": UploadForm(),
        "reads": READS,
        "most": megabytes(UploadLimits.of(member.workspace).bytes),
        "nav": "corpora",
    }
    return render(request, "analyses/corpus_list.html", context)


def _under_way(request: HttpRequest, member: Member) -> Any:
    """Uploads that are not a corpus yet, and for a day those that made none: nobody should have to look for them."""
    lately = timezone.now() - datetime.timedelta(days=1)
    uploads = Upload.objects.visible_to(request.user).filter(workspace=member.workspace, corpus=None)
    shown = uploads.filter(
        Q(finished_at=None) | Q(finished_at__gt=lately), Exists(UploadFile.objects.filter(upload=OuterRef("pk")))
    )
    waits = Exists(UploadFile.objects.filter(upload=OuterRef("pk"), state=UploadFile.State.UPLOADING))
    return shown.annotate(waits=waits).select_related("workspace").order_by("-created_at")[:10]


def corpus_of(request: HttpRequest, workspace: str, key: str) -> tuple[Member, Corpus]:
    member = membership(request, workspace)
    visible = Corpus.objects.visible_to(request.user).select_related("workspace")
    return member, get_object_or_404(visible, workspace=member.workspace, key=key)


def version_of(request: HttpRequest, corpus: Corpus) -> CorpusVersion:
    """The version that the address names, or the latest."""
    asked = request.GET.get("version", "")
    versions = corpus.versions.order_by("-number")
    if asked:
        if not asked.isdecimal() or len(asked) > 9:
            raise Http404
        versions = versions.filter(number=int(asked))
    version = versions.first()
    if version is None:
        raise Http404("this corpus has no such version")
    version.corpus = corpus
    return version


@login_required
@require_GET
def corpus_detail(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    member, corpus = corpus_of(request, workspace, key)
    reader = _reader(request, corpus)
    version = reader.corpus_version if reader and reader.corpus_version else version_of(request, corpus)
    versions = list(
        corpus.versions.annotate(run_count=Count("runs")).select_related("created_by").order_by("-number")[:50]
    )
    page, documents = page_of(version, reader.documents if reader else None, PAGE, request.GET.get("page"))
    context = {
        "corpus": corpus,
        "version": version,
        "versions": versions,
        "is_latest": versions[0].number == version.number,
        "reader": reader,
        "undo": _undo(member, version, versions),
        "page": page,
        "documents": documents,
        "tokens": version.characters // TOKEN,
        "probe_url": request.path + "probe" + (f"?version={version.number}" if "version" in request.GET else ""),
        "oversize": (too_large := ingest.oversize(version)),
        "probe": probe_of(version) if too_large or version.bytes <= PROBE_AT_ONCE else None,
        "ledger": _last_ledger(corpus),
        "reads": READS,
        "most": megabytes(UploadLimits.of(member.workspace).bytes),
        "form": UploadForm(),
        "rename_form": CorpusForm(instance=corpus),
        "may_ask": may(member, May.ASK),
        "nav": "corpora",
    }
    return render(request, "analyses/corpus_detail.html", context)


def _undo(member: Member, version: CorpusVersion, versions: Sequence[CorpusVersion]) -> int | None:
    """The version before the latest, while its maker may still think of it."""
    fresh = timezone.now() - version.created_at < UNDO
    if len(versions) < 2 or versions[0].pk != version.pk or not fresh or version.created_by_id != member.user_id:
        return None
    return versions[1].number if may(member, May.ASK) else None


def _reader(request: HttpRequest, corpus: Corpus) -> Run | None:
    """The run that the address names, where it read a part of this corpus: its documents are shown alone."""
    if "run" not in request.GET:
        return None
    runs = Run.objects.visible_to(request.user).select_related("workspace", "corpus_version")
    return get_object_or_404(runs, key=request.GET["run"], corpus_version__corpus=corpus, documents__isnull=False)


def _last_ledger(corpus: Corpus) -> Ledger | None:
    """The ledger of the latest upload, while it is under way or has something to say."""
    upload = corpus.uploads.select_related("workspace").order_by("-created_at").first()
    if upload is None:
        return None
    ledger = Ledger(upload, size=10)
    if not ledger.finished:
        return ledger
    # What is ready stands among the documents; here only what is not.
    state = next((name for name in ("failed", "duplicate", "skipped") if ledger.counts[name]), "")
    return Ledger(upload, size=10, state=state) if state else None


@functools.lru_cache(maxsize=64)
def _probed(text: str, version_id: int, name: str) -> str:
    from rlm.probe import probe  # the engine's own words, word for word

    return probe(ingest.context_of(CorpusVersion.objects.get(pk=version_id)))


def probe_of(version: CorpusVersion) -> str:
    """The words that a root call starts from, or why they cannot be had. A version never changes: kept once told."""
    if too_large := ingest.oversize(version):
        return too_large
    try:
        return _probed(version.text, version.pk, version.corpus.name)
    except ingest.ContextMissing as missing:
        return str(missing)


@login_required
@require_GET
def corpus_probe(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    _, corpus = corpus_of(request, workspace, key)
    version = version_of(request, corpus)
    return render(request, "analyses/_probe.html", {"probe": probe_of(version), "version": version})


@login_required
@require_POST
def corpus_rename(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    member, corpus = corpus_of(request, workspace, key)
    demand(member, May.ASK)
    was = corpus.name
    form = CorpusForm(request.POST, instance=corpus)
    if form.is_valid():
        form.save()
        record(request, Did.CHANGED_CORPUS, workspace=member.workspace, target=corpus.name, was=was)
        messages.success(request, f"The corpus is now called {corpus.name}.")
    else:
        messages.error(request, "A corpus needs a name of 1 to 200 characters.")
    return redirect(corpus)


@login_required
@require_http_methods(["GET", "POST"])
def corpus_delete(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    """Ask first. Runs that read it go with it only where that is said in so many words."""
    member, corpus = corpus_of(request, workspace, key)
    runs = Run.objects.filter(corpus_version__corpus=corpus)
    sure = request.POST.get("runs") == "too"
    refused = ""
    if request.method == "POST":
        demand(member, May.ASK)
        if not runs.exists() or sure:
            try:
                changes.delete(corpus)
            except changes.InUse as error:
                refused = str(error)
            else:
                record(request, Did.DELETED_CORPUS, workspace=member.workspace, target=corpus.name)
                messages.success(request, f"{corpus.name} was deleted.")
                return redirect("corpus-list", workspace)
    context = {
        "corpus": corpus,
        "run_count": runs.count(),
        "runs": runs.select_related("workspace").order_by("-created_at")[:10],
        "may_ask": may(member, May.ASK),
        "refused": refused,
        "nav": "corpora",
    }
    return render(request, "analyses/corpus_delete.html", context, status=409 if request.method == "POST" else 200)
