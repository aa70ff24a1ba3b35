"""Parts of a run's tree and its answer, on demand: the same for a member and for who has the share's link."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

from asgiref.sync import async_to_sync
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from analyses import blobs, live, moments
from analyses.answers import as_csv, earlier_answer, whole_answer
from analyses.inspector import inspected, search
from analyses.models import Cell, Run
from analyses.nodes import Texts, Tree, body_cells
from analyses.outline import Outline
from analyses.runpage import LISTED, part
from analyses.sharing import shared_run
from workspaces import rates
from workspaces.audit import address_of
from workspaces.files import inert

TEXTS = {"code": ["code"], "reply": ["reply"], "reasoning": ["reasoning", "reply"], "shown": ["shown"]}  # of a cell
WHOLE_SHOWN = 200_000  # characters of a whole output put into the page; more is a download


def watched_run(request: HttpRequest, *, workspace: str = "", key: str = "", token: str = "") -> Run:
    """The run that the address names, if who asks may see it."""
    if token:
        return shared_run(request, token)
    runs = Run.objects.visible_to(request.user).select_related("workspace")
    return get_object_or_404(runs, workspace__slug=workspace, key=key)  # type: ignore[no-any-return]


def _texts(run: Run) -> Texts:
    return {} if run.ended else async_to_sync(live.read)(run.pk)


def _number(request: HttpRequest, name: str) -> int:
    given = request.GET.get(name, "")
    return int(given) if re.fullmatch(r"\d{1,9}", given) else 0


@require_safe
def call_cells(request: HttpRequest, call: int, **where: str) -> HttpResponse:
    """The body of a call that is not on the page from the start. ``first``, ``last``: what fills this gap of a long call, around ``at``."""
    run = watched_run(request, **where)
    first, last = (_number(request, name) for name in ("first", "last"))
    node = part(run, call, _texts(run), wanted=max(first, min(_number(request, "at"), last)))
    if node is None:
        raise Http404
    if last:
        return render(request, "analyses/_call_items.html", {"items": node.items_between(first, last)})
    return render(request, "analyses/_call_part.html", {"call": node, "scopes": [node.body_scope], "seq": run.seq})


@require_safe
def cell_children(request: HttpRequest, call: int, cell: int, **where: str) -> HttpResponse:
    """Child calls of a crowd: in call order from the one after ``after``, or the first of another choice."""
    run = watched_run(request, **where)
    outline = Outline.of(run)
    if call not in outline.calls:
        raise Http404
    show = request.GET.get("show", "")
    start = _number(request, "after")
    numbers = _chosen(outline, call, cell, show) if show else [n for n in outline.children(call, cell) if n > start]
    tree = Tree(outline)
    tree.add_calls(numbers[:LISTED], answers=False)
    tree.add_cells(body_cells(outline, [call]).filter(number=cell).only("call_number", "number", "status"))
    parent = tree.cells.get((call, cell))
    if parent is None:
        raise Http404
    shown = [tree.calls[number] for number in numbers[:LISTED]]
    scopes = [f"c{node.row.number}" for node in shown]
    left = len(numbers) - len(shown)
    to_come = not (show or left or run.ended or parent.over)
    context = {
        "calls": shown,
        "cell": parent,
        "scopes": [*scopes, f"l{call}-{cell}"] if to_come else scopes,
        "after": shown[-1].row.number if shown else start,
        "left": left,
        "show": show,
        "to_come": to_come,
        "seq": run.seq,
    }
    return render(request, "analyses/_children_part.html", context)


def _chosen(outline: Outline, call: int, cell: int, show: str) -> list[int]:
    """A crowd as it is now, by status or by size; a call that changes later stays where it is listed."""
    entries = [outline.calls[number] for number in outline.children(call, cell)]
    if show == "failed":
        entries = [entry for entry in entries if entry.ended and entry.status != "done"]
    elif show == "running":
        entries = [entry for entry in entries if not entry.ended and entry.status != "queued"]
    elif show == "slowest":
        entries.sort(key=lambda entry: -(entry.seconds or 0.0))
    elif show == "costliest":
        entries.sort(key=lambda entry: (-entry.all_cost, -entry.all_tokens))
    return [entry.number for entry in entries]


@require_safe
def call_path(request: HttpRequest, call: int, **where: str) -> HttpResponse:
    """Where a call stands, from the root down: so that a link to it can unfold what is in between."""
    run = watched_run(request, **where)
    outline = Outline.of(run)
    if call not in outline.calls:
        raise Http404
    steps: list[dict[str, Any]] = []
    number: int | None = call
    while number is not None:
        entry = outline.calls[number]
        step: dict[str, Any] = {"call": number, "from": entry.parent}
        if entry.parent is not None and entry.cell is not None:
            siblings = outline.children(entry.parent, entry.cell)
            at = siblings.index(number)
            # The page of the crowd that starts just before it.
            step |= {
                "cell": entry.cell,
                "crowd": outline.is_crowd(entry.parent, entry.cell),
                "after": siblings[at - 1] if at else 0,
            }
        steps.append(step)
        number = entry.parent
    return inert(HttpResponse(json.dumps(steps[::-1]), content_type="application/json"))


@require_safe
def cell_output(request: HttpRequest, call: int, cell: int, **where: str) -> HttpResponseBase:
    """The whole output that was kept of a cell: as text, or as a part of the page. ``of``: another text of its, as text."""
    run = watched_run(request, **where)
    if (of := request.GET.get("of", "")) in TEXTS:
        texts = Cell.objects.filter(run=run).values_list(*TEXTS[of])
        found = get_object_or_404(texts, call_number=call, number=cell)
        whole = "\n\n".join(text for text in found if text)
        return inert(HttpResponse(whole, content_type="text/plain; charset=utf-8"))
    if not run.contents.outputs:
        why = {
            "token": where["token"],
            "title": "This link does not show whole outputs",
            "words": "The page behind it has the outputs of cells as the model saw them. Who gave you the link can let it show them whole.",
        }
        return render(request, "analyses/share_without.html", why, status=404)
    row = get_object_or_404(
        Cell.objects.filter(run=run).only("output", "output_blob", "output_chars"), call_number=call, number=cell
    )
    if not request.htmx:  # type: ignore[attr-defined]
        if row.output_blob:
            return inert(FileResponse(blobs.open(row.output_blob), content_type="text/plain; charset=utf-8"))
        return inert(HttpResponse(row.output, content_type="text/plain; charset=utf-8"))
    text = row.output
    if row.output_blob:
        text = blobs.read(row.output_blob, limit=4 * WHOLE_SHOWN).decode(errors="replace")
    context = {
        "text": text[:WHOLE_SHOWN],
        "where": f"{call}.{cell}",
        "path": f"c/{call}/{cell}",
        "cut": len(text) > WHOLE_SHOWN,
        "chars": row.output_chars,
        "kept": len(text),
    }
    return render(request, "analyses/_whole_output.html", context)


@require_safe
def earlier(request: HttpRequest, number: int, **where: str) -> HttpResponse:
    """The answer to a question before the newest, as a part of the page."""
    found = earlier_answer(watched_run(request, **where), number)
    if found is None:
        raise Http404
    return render(request, "analyses/_earlier_value.html", {"answer": found})


@require_safe
def answer(request: HttpRequest, **where: str) -> HttpResponse:
    """The whole answer as a file: JSON, CSV, Markdown or plain text."""
    run = watched_run(request, **where)
    version = request.GET.get("v", "")
    row = run.earlier_answers.filter(number=int(version)).first() if re.fullmatch(r"\d{1,4}", version) else None
    if not (row or run).answer_type:
        raise Http404
    value = whole_answer(row or run)
    form = request.GET.get("as", "md" if isinstance(value, str) else "json")
    if form == "csv":
        body, kind = as_csv(value), "text/csv"
    elif form in ("md", "txt") and isinstance(value, str):
        body, kind = value, "text/markdown" if form == "md" else "text/plain"
    else:
        body, kind, form = json.dumps(value, ensure_ascii=False, indent=1) + "\n", "application/json", "json"
    response = HttpResponse(body.encode(errors="replace"), content_type=f"{kind}; charset=utf-8")
    return inert(response, f"run-{run.number}-answer.{form}")


@require_safe
def run_search(request: HttpRequest, **where: str) -> HttpResponse:
    """Places in the whole run where words stand, those not on the page too."""
    run = watched_run(request, **where)
    if not rates.SEARCH.spend(request.user.pk or address_of(request)):
        return rates.too_many(request)
    words = request.GET.get("q", "")
    return render(request, "analyses/_found.html", {"words": words.strip(), "hits": search(run, words)})


@require_safe
def run_moments(request: HttpRequest, **where: str) -> HttpResponse:
    """When what happened, for the page's replay. Numbers alone, so that packing them tells nobody anything."""
    run = watched_run(request, **where)
    body = moments.packed(run)
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        response = HttpResponse(gzip.decompress(body), content_type="application/json")
    else:
        response = HttpResponse(body, content_type="application/json", headers={"Content-Encoding": "gzip"})
    response["Vary"] = "Accept-Encoding"
    return inert(response)


@require_safe
def inspector(request: HttpRequest, call: int, cell: int | None = None, **where: str) -> HttpResponse:
    """Variables, messages and figures of a call as of a cell."""
    run = watched_run(request, **where)
    found = inspected(run, call, cell)
    if found is None or (cell is not None and found.cell is None):
        raise Http404
    return render(request, "analyses/_inspector.html", {"found": found, "run": run})
