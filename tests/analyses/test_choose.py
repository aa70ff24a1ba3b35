"""Choosing documents of a corpus, asking about them, and what the run and its export say of it."""

from __future__ import annotations

import io
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analyses import forks, ingest
from analyses.actions import RunRefused, TooLarge, start_run
from analyses.ingest import part, uploads
from analyses.ingest.context import decoded, room
from analyses.models import Corpus, CorpusVersion, Document, Run, Share
from analyses.run_forms import again
from analyses.trajectory import importing, jsonl
from analyses.views import choose
from tests.analyses.test_ask import errors, text
from tests.factories import make_run
from tests.workspaces.cast import Cast, make_cast

pytestmark = pytest.mark.django_db

TEXTS = ["one fog", "zwölf 🚤 Boote", "three", "four fog", "fünf"]


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client(cast.ed)


def make_corpus(cast: Cast, texts: list[str] = TEXTS) -> Corpus:
    upload = uploads.start(cast.workspace, cast.ed, name="The Tin Lighthouse")
    for number, each in enumerate(texts, 1):
        uploads.receive(upload, f"e{number}.txt", io.BytesIO(each.encode()))
    uploads.close(upload)
    uploads.process(upload.pk)
    upload.refresh_from_db()
    assert upload.corpus
    return upload.corpus


def latest(corpus: Corpus) -> CorpusVersion:
    assert corpus.latest
    return corpus.latest


@given(st.sets(st.integers(0, 20_000), min_size=1, max_size=50), st.integers(1, 900))
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_positions_survive_being_written(positions: set[int], times: int) -> None:
    positions |= {(each * 7919 * n) % 20_000 for each in positions for n in range(times)}
    written = part.written(positions)
    assert part.positions_of(written) == sorted(positions)
    assert len(written) < 4000


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1,,2", "z", "zzzz!", "9" * 400, "3-1", "1;2"])
def test_what_is_no_list_of_positions_is_none(text: str) -> None:
    assert part.positions_of(text) == []


def test_context_of_some_documents_holds_their_texts_and_no_others(cast: Cast) -> None:
    version = latest(make_corpus(cast))
    value = ingest.context_of(version, [1, 3])
    found: Any = value.python()
    assert [each["text"] for each in found] == ["zwölf 🚤 Boote", "four fog"]
    assert value.memory.size == len("zwölf 🚤 Bootefour fog".encode())  # not the whole corpus
    assert ingest.context_of(version, [4]).python() == "fünf"
    whole: Any = ingest.context_of(version).python()
    assert [each["text"] for each in whole] == TEXTS


def test_what_a_text_takes_of_memory_is_told_without_reading_it(cast: Cast) -> None:
    version = latest(make_corpus(cast))
    assert decoded(version) == len("one fog") + 2 * len("zwölf 🚤 Boote") + len("three") + len("four fog") + 2 * 4
    assert decoded(version, [0, 2]) == len("one fog" + "three")


def test_a_run_on_a_part_notes_its_documents(cast: Cast) -> None:
    version = latest(make_corpus(cast))
    run = start_run(
        cast.workspace, cast.ed, question="Who?", corpus_version=version, documents=[3, 0, 3, 99], wake=False
    )
    assert (run.documents, run.document_chars) == ([0, 3], len("one fogfour fog"))
    whole = start_run(cast.workspace, cast.ed, question="?", corpus_version=version, documents=range(5), wake=False)
    assert (whole.documents, whole.document_chars) == (None, None)
    with pytest.raises(RunRefused, match="at least one document"):
        start_run(cast.workspace, cast.ed, question="?", corpus_version=version, documents=[], wake=False)


def test_a_corpus_too_large_to_ask_about_offers_its_documents(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast)
    version = latest(corpus)
    CorpusVersion.objects.update(characters=3 << 30, bytes=3 << 30)
    Document.objects.filter(position=2).update(characters=3 << 30, byte_end=4 << 30, byte_start=1 << 30)
    version.refresh_from_db()
    with pytest.raises(TooLarge, match="too large to ask about. Its text is 3.2 GB"):
        start_run(cast.workspace, cast.ed, question="?", corpus_version=version, wake=False)
    response = client.post(cast.url(), {"question": "Who?", "corpus": corpus.key})
    assert "choose some of its documents" in errors(response)[0]
    page = text(response)
    assert f'href="{cast.url(f"corpora/{corpus.key}/choose")}"' in page and "Choose documents of" in page
    # … and the others can be asked about
    fits = client.get(cast.url(f"corpora/{corpus.key}/choose"), {"do": "fit"}, follow=True)
    assert fits.context["choice"].chosen == {0, 1, 3, 4}
    assert fits.context["total"].decoded < room()
    leads = client.get(cast.url(f"corpora/{corpus.key}/choose"), {"do": "ask", "chosen": "0-1,3-4"})
    asked = {name: value[0] for name, value in parse_qs(urlsplit(leads.headers["Location"]).query).items()}
    assert asked == {"corpus": corpus.key, "part": f"{corpus.key}:1:0-1,3-4"}
    client.post(cast.url(), asked | {"question": "Who?"})
    assert Run.objects.get().documents == [0, 1, 3, 4]


def test_too_large_a_part_is_refused_too(cast: Cast) -> None:
    version = latest(make_corpus(cast))
    CorpusVersion.objects.update(characters=3 << 30, bytes=3 << 30)
    Document.objects.update(characters=2 << 30, byte_end=2 << 30, byte_start=0)
    version.refresh_from_db()
    with pytest.raises(TooLarge, match="These documents are too large .* choose fewer"):
        start_run(cast.workspace, cast.ed, question="?", corpus_version=version, documents=[0, 1], wake=False)


def chosen(client: Client, corpus: Corpus, **asked: Any) -> list[int]:
    """What is chosen after these fields were sent."""
    response = client.get(f"{corpus.get_absolute_url()}choose", asked, follow=True)
    assert response.status_code == 200
    return sorted(response.context["choice"].chosen)


def test_ticks_of_a_page_stand_in_for_what_it_showed(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast)
    assert chosen(client, corpus, chosen="0,4", shown="0-2", d=["1"], do="find") == [1, 4]
    assert chosen(client, corpus, chosen="0,4,77", shown="", d=["3"], do="find") == [0, 4]  # a tick of no page
    assert chosen(client, corpus, do="all") == [0, 1, 2, 3, 4]
    assert chosen(client, corpus, chosen="0-4", do="none", q="e2") == [0, 2, 3, 4]
    assert chosen(client, corpus, do="all", q="fog", **{"in": "texts"}) == [0, 3]
    assert chosen(client, corpus, do="all", q="e1.txt") == [0]
    assert chosen(client, corpus, d="x", shown="z%%", chosen="-", page="x") == []


def test_pages_keep_what_was_chosen_on_others(client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "PAGE", 2)
    corpus = make_corpus(cast)
    response = client.get(f"{corpus.get_absolute_url()}choose", {"shown": "0-1", "d": ["1"], "page": "2"}, follow=True)
    assert sorted(response.context["choice"].chosen) == [1]
    assert [row.position for row in response.context["choice"].rows] == [2, 3]
    assert response.context["choice"].elsewhere.count == 1
    assert "1 document, 13 characters" in text(response)


def test_nothing_chosen_is_said(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast)
    assert "Choose at least one document." in text(client.get(f"{corpus.get_absolute_url()}choose", {"do": "ask"}))


def test_all_documents_are_no_part(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast)
    response = client.get(f"{corpus.get_absolute_url()}choose", {"do": "ask", "chosen": "0-4"})
    assert response.headers["Location"] == f"{cast.url()}?corpus={corpus.key}"


def test_the_ask_page_says_the_part_and_refuses_it_for_another_corpus(client: Client, cast: Cast) -> None:
    corpus, other = make_corpus(cast), make_corpus(cast, ["a", "b"])
    asked = {"corpus": corpus.key, "part": f"{corpus.key}:1:0,3"}
    page = text(client.get(cast.url(), asked))
    assert "Only 2 of 5 documents of" in page and "15 characters" in page
    said = client.post(cast.url(), asked | {"question": "Who?", "corpus": other.key})
    assert "The chosen documents are of The Tin Lighthouse: choose that corpus, or untick them." in errors(said)
    gone = client.post(cast.url(), asked | {"question": "Who?", "part": f"{corpus.key}:7:0"})
    assert "The documents that were chosen are not here any more. Choose again." in errors(gone)
    assert not Run.objects.exists()
    client.post(cast.url(), {"question": "Who?", "corpus": corpus.key})  # unticked: the whole
    assert Run.objects.get().documents is None


def test_a_part_of_another_workspace_is_none(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast)
    Corpus.objects.update(workspace=cast.elsewhere)
    own = make_corpus(cast, ["a", "b"])
    said = client.post(cast.url(), {"question": "?", "corpus": own.key, "part": f"{corpus.key}:1:0"})
    assert "The documents that were chosen are not here any more. Choose again." in errors(said)


def test_a_part_of_an_older_version_stays_that_version(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast)
    more = uploads.start(cast.workspace, cast.ed, corpus=corpus)
    uploads.receive(more, "e6.txt", io.BytesIO(b"six"))
    uploads.close(more)
    uploads.process(more.pk)
    client.post(cast.url(), {"question": "Who?", "corpus": corpus.key, "part": f"{corpus.key}:1:0"})
    run = Run.objects.get()
    assert run.corpus_version and (run.corpus_version.number, run.documents) == (1, [0])
    assert again(run)["part"] == f"{corpus.key}:1:0"


def test_the_pages_say_which_documents_a_run_read(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast)
    run = start_run(cast.workspace, cast.ed, question="?", corpus_version=latest(corpus), documents=[1, 3], wake=False)
    page = text(client.get(run.get_absolute_url()))
    assert "2 of 5 documents</a>, 21 characters" in page
    listed = client.get(corpus.get_absolute_url(), {"run": run.key})
    assert [document.position for document in listed.context["documents"]] == [1, 3]
    assert f"run {run.number}</a> read" in text(listed)
    whole = start_run(cast.workspace, cast.ed, question="?", corpus_version=latest(corpus), wake=False)
    assert client.get(corpus.get_absolute_url(), {"run": whole.key}).status_code == 404


def test_the_export_names_the_documents_that_were_read(cast: Cast) -> None:
    version = latest(make_corpus(cast))
    run = make_run(cast.workspace, "done", corpus_version=version, documents=[1, 3], document_chars=21)
    exported = b"".join(jsonl.export(run))
    lines = [json.loads(line) for line in exported.splitlines()]
    (corpus,) = [line for line in lines if line["type"] == "corpus"]
    assert (corpus["documents"], corpus["of"], corpus["characters"], corpus["bytes"]) == (2, 5, 21, 25)
    assert [line["position"] for line in lines if line["type"] == "document"] == [1, 3]
    (outcome,) = importing.import_file(io.BytesIO(exported), "run.jsonl", cast.workspace, cast.ed)
    assert outcome.run, outcome.reason
    assert b"".join(jsonl.export(outcome.run)) == exported


def test_a_share_shows_no_document_that_the_run_did_not_read(cast: Cast) -> None:
    version = latest(make_corpus(cast))
    run = start_run(cast.workspace, cast.ed, question="?", corpus_version=version, documents=[1, 3], wake=False)
    share, client = Share.objects.create(run=run, with_sources=True), Client()
    listed = client.get(reverse("share-sources", args=[share.token]))
    assert [document.position for document in listed.context["documents"]] == [1, 3]
    told = [client.get(reverse("share-document", args=[share.token, position])).status_code for position in range(5)]
    assert told == [404, 200, 404, 200, 404]


def test_a_fork_reads_the_same_documents(cast: Cast) -> None:
    run = start_run(
        cast.workspace, cast.ed, question="?", corpus_version=latest(make_corpus(cast)), documents=[1, 3], wake=False
    )
    kept = forks._fields(run)
    assert (kept["documents"], kept["document_chars"]) == ([1, 3], 21)
