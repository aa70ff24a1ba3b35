"""Choose documents of a corpus to ask about: ticked on pages, kept in the address, with their sizes against a call's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.paginator import Page, Paginator
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.functional import cached_property
from django.views.decorators.http import require_GET

from analyses import blobs
from analyses.ingest import part
from analyses.ingest.context import DECODED, room
from analyses.models import CorpusVersion
from analyses.search import QUERY_MOST, documents_with
from analyses.views.corpora import corpus_of, version_of
from workspaces.access import demand
from workspaces.roles import May

PAGE = 200
ACTS = ("ask", "all", "none", "fit", "find")


@dataclass(frozen=True)
class Sizes:
    """What some documents come to."""

    count: int = 0
    characters: int = 0
    decoded: int = 0  # bytes of a call's memory

    def plus(self, characters: int, decoded: int) -> Sizes:
        return Sizes(self.count + 1, self.characters + characters, self.decoded + decoded)


class Choice:
    """What the address says: which documents are chosen, which are looked at, and what a button asks for."""

    def __init__(self, version: CorpusVersion, asked: QueryDict) -> None:
        self.version = version
        self.query = asked.get("q", "").strip()[:QUERY_MOST]
        self.texts = asked.get("in") == "texts"
        self.act = asked.get("do", "") if asked.get("do") in ACTS else ""
        self.page_asked = asked.get("page", "1")
        chosen = {position for position in part.positions_of(asked.get("chosen", "")) if position in self.sizes}
        # A page of ticks stands in for what was chosen of the documents that it showed.
        shown = set(part.positions_of(asked.get("shown", "")))
        ticked = {int(each) for each in asked.getlist("d") if each.isdecimal() and len(each) < 8}
        self.chosen: set[int] = (chosen - shown) | (ticked & shown & self.sizes.keys())

    @cached_property
    def sizes(self) -> dict[int, tuple[int, int]]:
        """Of every document: its characters, and the bytes of memory that they take."""
        rows = self.version.documents.annotate(decoded=DECODED).order_by("position")
        return {
            position: (chars, size) for position, chars, size in rows.values_list("position", "characters", "decoded")
        }

    @cached_property
    def matching(self) -> list[int] | None:
        """The documents looked at, in order; None while their texts are being indexed."""
        if not self.query:
            return list(self.sizes)
        if self.texts:
            try:
                return documents_with(self.version, self.query)
            except blobs.BlobMissing:
                return []
        named = self.version.documents.filter(Q(title__icontains=self.query) | Q(name__icontains=self.query))
        return list(named.order_by("position").values_list("position", flat=True))

    def do(self) -> None:
        """Change what is chosen as the button says."""
        matching = self.matching or []
        if self.act == "all":
            self.chosen.update(matching)
        elif self.act == "none":
            self.chosen.difference_update(matching)
        elif self.act == "fit":
            left = room() - self.of(self.chosen).decoded
            for position in matching:
                if position not in self.chosen and self.sizes[position][1] <= left:
                    self.chosen.add(position)
                    left -= self.sizes[position][1]

    def of(self, positions: set[int]) -> Sizes:
        total = Sizes()
        for position in positions:
            total = total.plus(*self.sizes[position])
        return total

    @cached_property
    def page(self) -> Page[Any]:
        return Paginator(self.matching or [], PAGE).get_page(self.page_asked)

    @cached_property
    def rows(self) -> list[Any]:
        """The documents on this page, with what they take of a call's memory, and whether they are chosen."""
        rows = self.version.documents.filter(position__in=list(self.page.object_list)).annotate(
            decoded=DECODED, size=F("byte_end") - F("byte_start")
        )
        found = list(rows.order_by("position").defer("marks", "meta"))
        for row in found:
            row.chosen = row.position in self.chosen
        return found

    def url(self, **more: Any) -> str:
        """This page's address, without what only a button said."""
        said = {
            "version": self.version.number,
            "q": self.query,
            "in": "texts" if self.texts else "",
            "chosen": part.written(self.chosen) if self.chosen else "",
        } | more
        return "?" + urlencode({name: value for name, value in said.items() if value})

    @property
    def chosen_text(self) -> str:
        return part.written(self.chosen) if self.chosen else ""

    @property
    def shown_text(self) -> str:
        return part.written(self.page.object_list) if self.page.object_list else ""

    @property
    def elsewhere(self) -> Sizes:
        """What is chosen and does not stand on this page: the script adds the ticks."""
        return self.of(self.chosen - set(self.page.object_list))


@login_required
@require_GET
def corpus_choose(request: HttpRequest, workspace: str, key: str) -> HttpResponse:
    member, corpus = corpus_of(request, workspace, key)
    demand(member, May.ASK)
    version = version_of(request, corpus)
    choice = Choice(version, request.GET)
    if choice.act:
        choice.do()
        if choice.act == "ask" and choice.chosen:
            asked = {"corpus": corpus.key}
            if len(choice.chosen) < len(choice.sizes):
                asked["part"] = f"{corpus.key}:{version.number}:{choice.chosen_text}"
            return redirect(f"{member.workspace.get_absolute_url()}?{urlencode(asked)}")
        if choice.act != "ask":
            return redirect(request.path + choice.url())
    if "page" in request.GET and "shown" in request.GET:  # a page was turned by a button: ticks and all
        return redirect(request.path + choice.url(page=choice.page.number))
    context = {
        "corpus": corpus,
        "version": version,
        "choice": choice,
        "total": choice.of(choice.chosen),
        "room": room(),
        "nothing": choice.act == "ask",
        "nav": "corpora",
    }
    return render(request, "analyses/corpus_choose.html", context)
