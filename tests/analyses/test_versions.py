"""Changing a corpus later: replaced, put in order, removed and taken back; each a version that says what changed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from analyses import blobs
from analyses.ingest import corpora as changes
from analyses.ingest import uploads
from analyses.models import Corpus, CorpusVersion
from tests.analyses.test_corpora import body, make_corpus
from tests.analyses.test_ingest_uploads import texts
from tests.workspaces.cast import Cast, make_cast, make_plain_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client(cast.ed)


@pytest.fixture
def corpus(cast: Cast) -> Corpus:
    return make_corpus(cast, {"e1.txt": b"one", "e2.txt": b"two", "e3.txt": b"three"})


def latest(corpus: Corpus) -> CorpusVersion:
    assert corpus.latest
    return corpus.latest


def add(corpus: Corpus, files: dict[str, bytes], **options: Any) -> CorpusVersion:
    upload = uploads.start(corpus.workspace, None, corpus=corpus, **options)
    for name, data in files.items():
        uploads.receive(upload, name, io.BytesIO(data))
    uploads.close(upload)
    uploads.process(upload.pk)
    return latest(corpus)


def post(client: Client, corpus: Corpus, what: str, **data: Any) -> Any:
    return client.post(f"{corpus.get_absolute_url()}{what}", {"version": latest(corpus).number} | data, follow=True)


def test_a_document_is_replaced_in_its_place(client: Client, corpus: Corpus) -> None:
    address = f"{corpus.get_absolute_url()}add?replace=1&version=1"
    assert "takes the place of document 2, <bdi>E2</bdi>" in body(client.get(address))
    made = client.post(address, {"files": [SimpleUploadedFile("e2-new.txt", b"TWO")]}, follow=True)
    assert made.status_code == 200
    version = latest(corpus)
    assert (version.number, texts(version)) == (2, ["one", "TWO", "three"])
    assert version.change == "E2 replaced by E2 new"
    assert texts(corpus.versions.get(number=1)) == ["one", "two", "three"]


def test_the_script_begins_a_replacement_with_the_same_address(client: Client, corpus: Corpus) -> None:
    url = client.post(f"{corpus.get_absolute_url()}add?replace=0&version=1", {}, headers={"X-Upload": "begin"}).json()[
        "url"
    ]
    upload = corpus.uploads.get(key=url.split("/")[-2])
    uploads.receive(upload, "e1.txt", io.BytesIO(b"ONE"))
    uploads.close(upload)
    uploads.process(upload.pk)
    assert texts(latest(corpus)) == ["ONE", "two", "three"]
    assert latest(corpus).change == "E1 replaced"


def test_a_document_that_has_moved_or_gone_meanwhile(corpus: Corpus) -> None:
    second = latest(corpus).documents.get(position=1)
    waiting = uploads.start(corpus.workspace, None, corpus=corpus, replaces=second)
    changes.move(corpus, latest(corpus), 1, 0, None)
    uploads.receive(waiting, "e2.txt", io.BytesIO(b"TWO"))
    uploads.close(waiting)
    uploads.process(waiting.pk)
    assert texts(latest(corpus)) == ["TWO", "one", "three"]  # found at its new place
    assert texts(add(corpus, {"e9.txt": b"nine"}, replaces=second)) == [
        "TWO",
        "one",
        "three",
        "nine",
    ]  # gone: at the end


def test_a_replacement_that_is_no_text_changes_nothing(corpus: Corpus) -> None:
    version = add(corpus, {"e2.txt": b"\x89PNG\r\n\x1a\n"}, replaces=latest(corpus).documents.get(position=1))
    assert version.number == 1


@pytest.mark.parametrize("place", ["x", "9", "-1", "9" * 12])
def test_a_document_that_is_not_there_is_not_replaced(place: str, client: Client, corpus: Corpus) -> None:
    assert client.get(f"{corpus.get_absolute_url()}add?replace={place}").status_code == 404


def test_documents_are_put_in_another_order(client: Client, corpus: Corpus) -> None:
    post(client, corpus, "order", order="2,0,1")
    assert texts(latest(corpus)) == ["three", "one", "two"]
    assert latest(corpus).change == "order changed"
    post(client, corpus, "order", sort="name")
    assert texts(latest(corpus)) == ["one", "two", "three"]
    said = post(client, corpus, "order", sort="title")
    assert "in that order already" in body(said)
    assert latest(corpus).number == 3


@pytest.mark.parametrize("order", ["", "0,1", "0,1,1", "0,1,2,3", "x", "2,1,0,-1"])
def test_an_order_that_is_none_changes_nothing(order: str, client: Client, corpus: Corpus) -> None:
    said = post(client, corpus, "order", order=order)
    if order != "2,1,0,-1":  # what is no number is left out
        assert "The corpus has changed meanwhile." in body(said)
        assert latest(corpus).number == 1


def test_removing_can_be_undone_and_says_what_it_was(client: Client, corpus: Corpus) -> None:
    run = make_plain_run(corpus.workspace, corpus_version=latest(corpus))
    removed = post(client, corpus, "d/1/remove")
    page = body(removed)
    assert texts(latest(corpus)) == ["one", "three"]
    assert 'id="undo"' in page and "<bdi>E2 removed</bdi>" in page
    post(client, corpus, "restore", to="1")
    version = latest(corpus)
    assert (version.number, version.change, texts(version)) == (3, "as version 1 was", ["one", "two", "three"])
    assert version.text == corpus.versions.get(number=1).text  # not packed again
    run.refresh_from_db()
    assert run.corpus_version and run.corpus_version.number == 1


def test_undo_is_offered_to_who_made_the_change(cast: Cast, corpus: Corpus, client: Client) -> None:
    post(client, corpus, "d/0/remove")
    assert 'id="undo"' in body(client.get(corpus.get_absolute_url()))
    assert 'id="undo"' not in body(cast.client(cast.alice).get(corpus.get_absolute_url()))
    assert 'id="undo"' not in body(client.get(corpus.get_absolute_url() + "?version=1"))


def test_going_back_on_what_somebody_has_changed_meanwhile_is_refused(client: Client, corpus: Corpus) -> None:
    changes.remove(corpus, latest(corpus), 0, None)
    add(corpus, {"e4.txt": b"four"})
    said = client.post(f"{corpus.get_absolute_url()}restore", {"version": "2", "to": "1"}, follow=True)
    assert "The corpus has changed meanwhile." in body(said)
    assert latest(corpus).number == 3
    assert client.post(f"{corpus.get_absolute_url()}restore", {"version": "3", "to": "9"}).status_code == 404


def test_the_list_of_versions_says_what_changed(client: Client, corpus: Corpus) -> None:
    add(corpus, {"e4.txt": b"four", "e5.txt": b"five"})
    add(corpus, {"e6.txt": b"six"})
    changes.remove(corpus, latest(corpus), 0, None)
    assert [each.change for each in corpus.versions.order_by("number")] == [
        "", "2 documents added", "E6 added", "E1 removed",
    ]  # fmt: skip
    page = body(client.get(corpus.get_absolute_url()))
    assert "2 documents added" in page and "first version" in page
    assert page.count("Go back<") == 3


def test_a_version_that_is_packed_already_is_not_packed_again(corpus: Corpus) -> None:
    kept = {path for path in Path(blobs.workshop()).parent.rglob("*") if path.is_file()}
    changes.restore(corpus, latest(corpus), 1, None)
    assert {path for path in Path(blobs.workshop()).parent.rglob("*") if path.is_file()} == kept


def test_viewers_change_nothing(cast: Cast, corpus: Corpus) -> None:
    vera = cast.client(cast.vera)
    for what in ("order", "restore"):
        assert vera.post(f"{corpus.get_absolute_url()}{what}", {"version": "1", "to": "1"}).status_code == 403
    assert "Change the order" not in body(vera.get(corpus.get_absolute_url()))


def test_hits_are_looked_for_in_the_document_or_in_the_corpus(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"fog here\n" + b"other words\n" * 3000 + b"fog again", "b.txt": b"more fog"})
    here = client.get(f"{corpus.get_absolute_url()}d/0/?q=fog")
    window = here.context["window"]
    assert (window.hit_count, window.strokes) == (2, ["0.0%", "99.8%"])
    page = body(here)
    assert 'aria-label="Whole document, 2 hits, the part shown now"' in page
    assert "This document <b>2</b>" in page and page.count('class="hit-at"') == 2
    all_of_it = client.get(f"{corpus.get_absolute_url()}d/0/?q=fog&hits=corpus")
    assert {hit.position for hit in all_of_it.context["found"].hits} == {0, 1}
    assert f"{corpus.get_absolute_url()}d/1/?q=fog&amp;hits=corpus&amp;c=5-8#cited" in body(all_of_it)
    nothing = body(client.get(f"{corpus.get_absolute_url()}d/1/?q=words"))
    assert "Nothing in this document. The corpus may have it." in nothing


def test_the_overview_shows_the_cited_range(client: Client, corpus: Corpus, cast: Cast) -> None:
    long = make_corpus(cast, {"a.txt": b"ten words \n" * 10_000})
    page = body(client.get(f"{long.get_absolute_url()}d/0/?c=55000-55100"))
    assert 'class="cited-at" x="50.00%" width="0.30%"' in page
    assert "one cited range, the part shown now" in page
    assert 'id="overview"' not in body(client.get(f"{corpus.get_absolute_url()}d/0/"))  # all of it is shown
