"""The ask page: a workspace's home. A question goes in, a run comes out; below it what was asked last."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.decorators.vary import vary_on_headers
from django_htmx.middleware import HtmxDetails

from analyses.actions import RunRefused, TooLarge, start_run
from analyses.budgets import least, standings
from analyses.estimates import Estimate, estimate, to_confirm
from analyses.models import ENDED, Corpus, CorpusVersion, Run
from analyses.run_forms import DEFAULTS, RunForm, again
from analyses.sample import load_sample
from analyses.views.run_lists import counts, listed
from workspaces import rates
from workspaces.access import demand, membership
from workspaces.models import Member
from workspaces.roles import May, may

RECENT = 8


class HtmxHttpRequest(HttpRequest):
    htmx: HtmxDetails


@login_required
@require_http_methods(["GET", "POST"])
@vary_on_headers("HX-Request")
def ask(request: HtmxHttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    if request.method == "POST":
        demand(member, May.ASK)
        form = RunForm(request.POST, workspace=member.workspace, versions=latest_versions(member))
        confirm = ""
        if form.is_valid():
            if confirm := _to_confirm(form, member, request.POST.get("confirmed", "")):
                form.add_error(
                    None,
                    f"This may cost {confirm}. Above ${member.workspace.confirm_above:,.2f} this workspace asks first: "
                    "tick “Ask all the same”, or lower the limit of money.",
                )
            elif run := _start(form, member):
                return redirect(run)
        return _page(request, member, form, confirm=confirm)
    if request.htmx and request.htmx.target == "runs":
        return render(request, "analyses/_recent_runs.html", _recent(member))
    start, missing = _start_of_form(request, member)
    return _page(
        request, member, RunForm(workspace=member.workspace, versions=latest_versions(member), initial=start), missing
    )


@login_required
@require_GET
def run_estimate(request: HttpRequest, workspace: str) -> HttpResponse:
    """The estimate alone, for another corpus, strategy or endpoint than the page began with."""
    member = membership(request, workspace)
    chosen = {name: request.GET[name] for name in ("corpus", "part", "strategy", "endpoint") if name in request.GET}
    form = RunForm(workspace=member.workspace, versions=latest_versions(member), initial=chosen)
    return render(request, "analyses/_estimate.html", {"workspace": member.workspace} | _expected(form, member))


@login_required
@require_POST
def sample_load(request: HttpRequest, workspace: str) -> HttpResponse:
    """The sample corpus, for a workspace that was made after the first."""
    member = membership(request, workspace)
    demand(member, May.ASK)
    corpus = load_sample(member.workspace, member.user)
    return redirect(f"{member.workspace.get_absolute_url()}?corpus={corpus.key}")


def latest_versions(member: Member) -> list[CorpusVersion]:
    """The state of each corpus that a new run would read; newest corpora first."""
    newest = CorpusVersion.objects.filter(corpus=OuterRef("pk")).order_by("-number").values("pk")[:1]
    corpora = Corpus.objects.visible_to(member.user).filter(workspace=member.workspace_id)
    ids = corpora.annotate(newest=Subquery(newest)).values("newest")
    return list(CorpusVersion.objects.filter(pk__in=ids).select_related("corpus").order_by("-corpus__created_at"))


def _start(form: RunForm, member: Member) -> Run | None:
    given = form.cleaned_data
    if not rates.ASK.spend(member.user_id):
        form.add_error(None, "You have asked very often within this minute. Wait a little, then ask again.")
        return None
    try:
        return start_run(
            member.workspace,
            member.user,
            question=given["question"],
            corpus_version=form.version,
            documents=form.documents,
            strategy=given["strategy"],
            endpoint=given["endpoint"],
            root_model=given["root_model"],
            child_model=given["child_model"],
            limits=form.limits,
        )
    except RunRefused as refusal:
        form.add_error(None, str(refusal))
        form.too_large = isinstance(refusal, TooLarge)
        return None


def _estimate_of(form: RunForm, member: Member) -> Estimate | None:
    version = form.versions.get(form["corpus"].value() or "")
    characters = version.characters if version else 0
    if form.chosen_part and version and form.chosen_part.version.corpus_id == version.corpus_id:
        characters = form.chosen_part.characters
    return estimate(
        member.workspace, strategy=form["strategy"].value(), endpoint=form.chosen.name, characters=characters
    )


def _expected(form: RunForm, member: Member) -> dict[str, Any]:
    """What the question may cost, and what is left of the month's budgets."""
    if form.chosen.offline:
        return {"offline": True}
    binding = standings(member.workspace, member.user)
    left = {
        "cost": least(*(each.cost_left for each in binding)),
        "tokens": least(*(each.tokens_left for each in binding)),
    }
    return {"offline": False, "estimate": _estimate_of(form, member), "left": left}


def _to_confirm(form: RunForm, member: Member, confirmed: str) -> str:
    """How much the question may cost, where that is above what the workspace asks first for, and not confirmed yet."""
    above = member.workspace.confirm_above
    if above is None or form.chosen.offline:
        return ""
    return to_confirm(above, form.limits["cost"], _estimate_of(form, member), confirmed)


def _start_of_form(request: HttpRequest, member: Member) -> tuple[dict[str, Any], str]:
    """What the address asks the form to start with, and a sentence where that is not all to be had."""
    start: dict[str, Any] = {}
    note = ""
    if key := request.GET.get("from"):
        runs = Run.objects.visible_to(request.user).select_related("workspace", "corpus_version__corpus")
        run = get_object_or_404(runs, workspace=member.workspace_id, key=key)
        start = again(run)
        if "endpoint" not in start:
            note = (
                f"The model endpoint of run {run.number}, {run.endpoint}, is no longer offered: the default is chosen."
            )
    for name in ("question", "corpus", "part"):
        if name in request.GET:
            start[name] = request.GET[name]
    if "corpus" in request.GET and "part" not in request.GET:
        start.pop("part", None)
    return start, note


def _choose(form: RunForm) -> CorpusVersion | None:
    """The version of which documents can be chosen: the corpus that the form shows, where it has several."""
    version = form.versions.get(form["corpus"].value() or "")
    return version if version and version.document_count > 1 else None


def _recent(member: Member) -> dict[str, Any]:
    runs = list(listed(member)[:RECENT])
    return {
        "workspace": member.workspace,
        "runs": runs,
        "live": any(run.status not in ENDED for run in runs),
        "counts": counts(member),
    }


def _page(request: HttpRequest, member: Member, form: RunForm, note: str = "", confirm: str = "") -> HttpResponse:
    recent = _recent(member)
    samples = [version.corpus for version in form.versions.values() if version.corpus.sample_questions]
    corpus = form["corpus"].value()
    if corpus and corpus not in form.versions and not form.is_bound:
        note = "That corpus is not here, or has no text yet: another is chosen."
    context = (
        recent
        | _expected(form, member)
        | {
            "form": form,
            "choose": _choose(form),
            "chosen_positions": form.chosen_part.text.rpartition(":")[2] if form.chosen_part else "",
            "confirm": confirm,
            "note": note,
            "samples": samples,
            "may_ask": may(member, May.ASK),
            "may_endpoints": may(member, May.ENDPOINTS),
            "question_most": DEFAULTS.question_chars,
            "models": sorted({name for run in recent["runs"] for name in (run.root_model, run.child_model)}),
            "nav": "ask",
        }
    )
    return render(request, "analyses/ask.html", context, status=422 if form.is_bound else 200)
