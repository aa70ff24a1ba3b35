"""Pages of corpora: what a form sends, what the ledger says, what stays after a change."""

from __future__ import annotations

import errno
import io
import json
import re
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from analyses import blobs, ingest
from analyses.actions import RunRefused, start_run
from analyses.follow_ups import ask_follow_up
from analyses.ingest import corpora as changes
from analyses.ingest import loose, uploads, versions
from analyses.models import Corpus, CorpusVersion, Document, LooseBlob, Run, Upload
from tests.factories import make_run
from tests.workspaces.cast import Cast, make_cast, make_plain_run

pytestmark = pytest.mark.django_db

EVIL = '<script>alert("x")</script>'


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client(cast.ed)


def file(name: str, data: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


def make_corpus(cast: Cast, files: dict[str, bytes], name: str = "The Tin Lighthouse") -> Corpus:
    upload = uploads.start(cast.workspace, cast.ed, name=name)
    for path, data in files.items():
        uploads.receive(upload, path, io.BytesIO(data))
    uploads.close(upload)
    uploads.process(upload.pk)
    upload.refresh_from_db()
    assert upload.corpus
    return upload.corpus


def body(response: Any) -> str:
    return response.content.decode()


def test_the_list_shows_all_or_ones_own_and_keeps_the_choice(client: Client, cast: Cast) -> None:
    for name, who in (("Ledgers", cast.ed), ("Lamp oil", cast.alice)):
        Corpus.objects.create(workspace=cast.workspace, name=name, created_by=who)
    assert {"Ledgers", "Lamp oil"} <= set(re.findall(r"<bdi>(.+?)</bdi>", body(client.get(cast.url("corpora/")))))
    assert re.findall(r"<bdi>(.+?)</bdi>", body(client.get(cast.url("corpora/?who=me")))) == ["Ledgers"]
    assert "No corpus of yours is called like “oil”" in body(client.get(cast.url("corpora/?who=me&q=oil")))
    assert "You have made no corpus here yet." in body(cast.client(cast.vera).get(cast.url("corpora/?who=me")))
    Corpus.objects.bulk_create(
        Corpus(workspace=cast.workspace, name=f"A & B {n}", created_by=cast.ed) for n in range(60)
    )
    page = body(client.get(cast.url("corpora/?who=me&q=A+%26+B")))
    [older] = re.findall(r'<a rel="next" href="(.+?)"', page)
    second = body(client.get(cast.url("corpora/") + older.replace("&amp;", "&")))
    assert len(re.findall(r"<bdi>A &amp; B \d+</bdi>", second)) == 10


def test_the_list_says_who_made_what_and_is_put_in_order(client: Client, cast: Cast) -> None:
    for name, who, text in (("Ledgers", cast.ed, b"one"), ("Lamp oil", cast.alice, b"a longer text")):
        Corpus.objects.filter(pk=make_corpus(cast, {"a.txt": text}, name).pk).update(created_by=who)
    page = body(client.get(cast.url("corpora/")))
    assert f'<option value="{cast.alice.pk}">by Alice</option>' in page and "by Oscar" not in page

    def listed(asked: str) -> list[str]:
        return re.findall(r"<bdi>(.+?)</bdi>", body(client.get(cast.url(f"corpora/?{asked}"))))

    assert listed(f"who={cast.alice.pk}") == ["Lamp oil"]
    assert listed("sort=size") == ["Lamp oil", "Ledgers"]
    assert listed("sort=name&who=me") == ["Ledgers"]
    assert "They have made no corpus here yet." in body(client.get(cast.url(f"corpora/?who={cast.vera.pk}")))
    assert len(listed(f"who={'9' * 30}&sort=x")) == 2


def test_empty_list_offers_the_upload(client: Client, cast: Cast) -> None:
    page = body(client.get(cast.url("corpora/")))
    assert "Bring your first texts" in page
    assert 'enctype="multipart/form-data"' in page
    assert "Bring your first texts" not in body(cast.client(cast.vera).get(cast.url("corpora/")))


def test_plain_form_makes_a_corpus(client: Client, cast: Cast) -> None:
    sent = {
        "name": "Fog",
        "files": [file("a.txt", b"one"), file("b.md", b"# Two")],
        "pasted": "three",
        "pasted_title": "C/d",
    }
    response = client.post(cast.url("corpora/new"), sent, follow=True)
    corpus = Corpus.objects.get()
    assert response.redirect_chain == [(corpus.get_absolute_url(), 302)]
    assert corpus.name == "Fog"
    latest = corpus.latest
    assert latest and [d.name for d in latest.documents.all()] == ["a.txt", "b.md", "C d.txt"]
    page = body(response)
    assert "Documents</dt><dd>3" in page
    assert "`context` is a list of 3 documents" in page


def test_form_with_nothing_in_it_says_so(client: Client, cast: Cast) -> None:
    response = client.post(cast.url("corpora/new"), {"name": "Fog"})
    assert response.status_code == 422
    assert "nothing came with this form" in body(response)
    assert not Upload.objects.exists()


def test_form_with_too_much_says_the_figures(client: Client, cast: Cast, settings: Any) -> None:
    settings.UPLOAD_FILES, settings.UPLOAD_BYTES = 2, 10
    many = {"files": [file(f"{n}.txt", b"x") for n in range(3)]}
    assert "These are 3 files; an upload takes 2." in body(client.post(cast.url("corpora/new"), many))
    large = {"files": [file("a.txt", b"x" * 11)]}
    assert "These files are 11 bytes; an upload takes 10 bytes." in body(client.post(cast.url("corpora/new"), large))


def test_upload_with_nothing_ready_leads_to_its_ledger(client: Client, cast: Cast) -> None:
    response = client.post(
        cast.url("corpora/new"), {"files": [file("a.txt", b""), file("b.txt", b"\x89PNG\r\n\x1a\n")]}, follow=True
    )
    page = body(response)
    assert "/uploads/" in response.redirect_chain[0][0]
    assert "nothing was made" in page
    assert "The file is empty." in page and "this is a PNG image" in page
    assert not Corpus.objects.exists()
    assert "nothing was ready" in body(client.get(cast.url("corpora/")))


def test_names_and_texts_are_shown_not_run(client: Client, cast: Cast) -> None:
    corpus = make_corpus(
        cast, {f"{EVIL}.txt": EVIL.encode(), "e.md": f"# {EVIL}\n".encode(), f"bad{EVIL}.txt": b""}, name=EVIL
    )
    for path in (
        "corpora/",
        f"corpora/{corpus.key}/",
        f"corpora/{corpus.key}/d/0/",
        f"corpora/{corpus.key}/d/0/?q=script",
        f"corpora/{corpus.key}/d/1/?c=0-5",
        f"corpora/{corpus.key}/delete",
    ):
        page = body(client.get(cast.url(path)))
        assert "&lt;script&gt;" in page
        assert EVIL not in page
    response = client.get(cast.url(f"corpora/{corpus.key}/"))
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]


def test_script_sends_names_then_bytes_then_closes(client: Client, cast: Cast) -> None:
    begun = client.post(cast.url("corpora/new"), {"name": "Fog"}, headers={"X-Upload": "begin"})
    assert begun.status_code == 201
    url = begun.json()["url"]
    told = {
        "files": [
            {"name": "s1/e1.txt", "size": 3},
            {"name": "s1/e2.txt", "size": 3},
            {"name": "s1/gone.txt", "size": 9},
        ]
    }
    ids = client.post(f"{url}files", json.dumps(told), content_type="application/json").json()["ids"]
    assert len(set(ids)) == 3
    page = body(client.get(f"{url}ledger", headers={"HX-Request": "true"}))
    assert page.count("not here yet") == 3 and 'hx-trigger="every 1s"' in page

    sent = {"ids": f"{ids[0]},{ids[1]}", "files": [file("e1.txt", b"one"), file("e2.txt", b"two")]}
    assert client.post(f"{url}files", sent).json() == {"received": 2}
    assert client.post(f"{url}files", sent | {"files": [file("e1.txt", b"one"), file("e2.txt", b"two")]}).json() == {
        "received": 2
    }
    again = client.post(f"{url}files", json.dumps(told), content_type="application/json").json()["ids"]
    assert again == [None, None, ids[2]]  # whoever comes back with the same files goes on
    client.post(f"{url}files", json.dumps({"lost": [ids[2]]}), content_type="application/json")
    client.post(f"{url}close")
    corpus = Corpus.objects.get()
    assert corpus.latest and [d.name for d in corpus.latest.documents.all()] == ["s1/e1.txt", "s1/e2.txt"]
    done = client.get(f"{url}ledger", headers={"HX-Request": "true"})
    assert done.headers["HX-Redirect"] == corpus.get_absolute_url()
    assert "moved, changed or deleted" in body(client.get(corpus.get_absolute_url()))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"{",
        b'{"files": 3}',
        b'{"files": [{"name": "a"}]}',
        b'{"files": [{"name": "a", "size": "x"}]}',
        b"[" * 90000,
    ],
)
def test_nonsense_from_a_script_is_refused(said: bytes, client: Client, cast: Cast) -> None:
    url = client.post(cast.url("corpora/new"), headers={"X-Upload": "begin"}).json()["url"]
    assert client.post(f"{url}files", said, content_type="application/json").status_code == 400
    assert client.post(f"{url}files", {"ids": "x", "files": [file("a.txt", b"one")]}).status_code == 400


def test_announcing_more_than_fits_is_refused_with_figures(client: Client, cast: Cast, settings: Any) -> None:
    settings.UPLOAD_FILES = 2
    url = client.post(cast.url("corpora/new"), headers={"X-Upload": "begin"}).json()["url"]
    told = {"files": [{"name": f"{n}.txt", "size": 1} for n in range(3)]}
    response = client.post(f"{url}files", json.dumps(told), content_type="application/json")
    assert response.status_code == 422
    assert response.json() == {
        "reason": "An upload takes 2 files; this one would have 3. Whoever runs this server can raise that limit."
    }


def test_files_are_added_as_a_new_version(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    response = client.post(
        cast.url(f"corpora/{corpus.key}/add"), {"files": [file("b.txt", b"two"), file("c.txt", b"one")]}, follow=True
    )
    page = body(response)
    assert corpus.versions.count() == 2
    assert "Same bytes as a.txt, document 1. Kept once." in page
    assert 'id="versions"' in page
    old = body(client.get(cast.url(f"corpora/{corpus.key}/?version=1")))
    assert "an earlier state" in old and "b.txt" not in old
    assert client.get(cast.url(f"corpora/{corpus.key}/?version=3")).status_code == 404
    assert client.get(cast.url(f"corpora/{corpus.key}/?version=x")).status_code == 404


def test_failed_file_is_retried_from_the_page(client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    real = uploads.extract
    monkeypatch.setattr(uploads, "extract", lambda *_: 1 / 0)
    page = body(client.post(cast.url("corpora/new"), {"files": [file("a.txt", b"one")]}, follow=True))
    monkeypatch.setattr(uploads, "extract", real)
    action = re.search(r'action="([^"]+/retry)"', page)
    assert action
    client.post(action[1])
    assert Corpus.objects.get().latest is not None


def test_packing_that_fails_is_said_and_tried_again(
    client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = versions.pack
    monkeypatch.setattr(versions, "pack", full)
    page = body(
        client.post(cast.url("corpora/new"), {"files": [file("a.txt", b"one"), file("b.txt", b"two")]}, follow=True)
    )
    assert "disk is full" in page and "Try again" in page
    assert not Corpus.objects.exists()
    monkeypatch.setattr(versions, "pack", real)
    upload = Upload.objects.get()
    client.post(f"{upload.get_absolute_url()}close")
    latest = Corpus.objects.get().latest
    assert latest and blobs.read(latest.text) == b"onetwo"


def test_adding_to_a_corpus_whose_text_is_gone_ends_with_a_reason(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    assert corpus.latest
    blobs.delete(corpus.latest.text)
    page = body(client.post(cast.url(f"corpora/{corpus.key}/add"), {"files": [file("b.txt", b"two")]}, follow=True))
    assert "nothing can be added to it" in page
    assert corpus.versions.count() == 1


def test_cancel_keeps_what_is_ready(client: Client, cast: Cast) -> None:
    url = client.post(cast.url("corpora/new"), headers={"X-Upload": "begin"}).json()["url"]
    told = {"files": [{"name": "a.txt", "size": 3}, {"name": "b.txt", "size": 3}]}
    ids = client.post(f"{url}files", json.dumps(told), content_type="application/json").json()["ids"]
    client.post(f"{url}files", {"ids": ids[0], "files": [file("a.txt", b"one")]})
    page = body(client.post(f"{url}cancel", follow=True))
    assert "What was ready stays." in page and "Cancelled before it was taken in." in page
    assert Corpus.objects.get().latest.document_count == 1  # type: ignore[union-attr]


def test_many_documents_come_in_pages(client: Client, cast: Cast, django_assert_max_num_queries: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for n in range(130):
            archive.writestr(f"{n}.txt", f"document {n}")
    corpus = make_corpus(cast, {"a.zip": packed.getvalue()})
    with django_assert_max_num_queries(18):
        first = body(client.get(cast.url(f"corpora/{corpus.key}/")))
    assert first.count('id="document-') == 100
    assert "1 to 100 of 130" in first
    assert body(client.get(cast.url(f"corpora/{corpus.key}/?page=2"))).count('id="document-') == 30


def test_list_costs_the_same_for_many(client: Client, cast: Cast, django_assert_max_num_queries: Any) -> None:
    for n in range(12):
        corpus = Corpus.objects.create(workspace=cast.workspace, name=f"Corpus {n}")
        CorpusVersion.objects.create(corpus=corpus, number=1, text="0" * 64, document_count=3, characters=9, bytes=9)
    with django_assert_max_num_queries(10):
        page = body(client.get(cast.url("corpora/")))
    assert page.count('id="corpus-') == 12


def test_probe_is_the_engines_word_for_word(client: Client, cast: Cast) -> None:
    from analyses.ingest import context_of
    from rlm.probe import probe

    corpus = make_corpus(cast, {"a.txt": b"one <b>", "b.txt": b"two"})
    assert corpus.latest
    response = client.get(cast.url(f"corpora/{corpus.key}/"))
    assert response.context["probe"] == probe(context_of(corpus.latest))
    assert "&lt;b&gt;" in body(response)
    assert "<pre" in body(client.get(cast.url(f"corpora/{corpus.key}/probe")))


def test_corpus_whose_text_is_gone_is_said_and_not_an_error(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"only here"})
    assert corpus.latest
    blobs.delete(corpus.latest.text)
    assert "not in the blob storage any more" in body(client.get(cast.url(f"corpora/{corpus.key}/")))
    assert client.get(cast.url(f"corpora/{corpus.key}/d/0/")).status_code == 404
    assert client.get(cast.url(f"corpora/{corpus.key}/d/0/original")).status_code == 404


def test_corpus_is_renamed(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    client.post(cast.url(f"corpora/{corpus.key}/rename"), {"name": "  New\n name "})
    corpus.refresh_from_db()
    assert corpus.name == "New name"
    assert "needs a name" in body(client.post(cast.url(f"corpora/{corpus.key}/rename"), {"name": ""}, follow=True))


def test_document_is_removed_in_a_new_version_and_stays_in_the_old(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one", "b.txt": "zwölf".encode(), "c.txt": b"three"})
    first = corpus.latest
    client.post(cast.url(f"corpora/{corpus.key}/d/1/remove"), {"version": 1})
    latest = corpus.latest
    assert first and latest and latest.number == 2
    assert blobs.read(latest.text) == b"onethree"
    assert blobs.read(first.text).decode() == "onezwölfthree"
    assert [(d.name, d.char_start, d.byte_start) for d in latest.documents.all()] == [("a.txt", 0, 0), ("c.txt", 3, 3)]
    # The page that was looked at is an old one now.
    stale = client.post(cast.url(f"corpora/{corpus.key}/d/1/remove"), {"version": 1}, follow=True)
    assert "changed meanwhile" in body(stale)
    assert corpus.versions.count() == 2


def test_last_document_is_not_removed(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    page = body(client.post(cast.url(f"corpora/{corpus.key}/d/0/remove"), {"version": 1}, follow=True))
    assert "delete the corpus instead" in page
    assert corpus.versions.count() == 1


def test_document_is_moved(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one", "b.txt": b"two", "c.txt": b"three"})
    response = client.post(cast.url(f"corpora/{corpus.key}/d/0/move"), {"version": 1, "to": 3})
    assert response.headers["Location"].endswith("/d/2/")
    assert corpus.latest and blobs.read(corpus.latest.text) == b"twothreeone"
    for to in ("0", "4", "x", ""):
        client.post(cast.url(f"corpora/{corpus.key}/d/0/move"), {"version": 2, "to": to})
    assert corpus.versions.count() == 2


def test_original_is_a_download_of_the_very_bytes(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"s/<b>é.txt": "eins\r\nzwei".encode("utf-16")})
    response = client.get(cast.url(f"corpora/{corpus.key}/d/0/original"))
    assert b"".join(response.streaming_content) == "eins\r\nzwei".encode("utf-16")  # type: ignore[arg-type]
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]


def test_corpus_is_deleted_with_its_blobs(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one\r\n", "b.txt": b"two"})
    assert corpus.latest
    text = corpus.latest.text
    assert "cannot be undone" in body(client.get(cast.url(f"corpora/{corpus.key}/delete")))
    response = client.post(cast.url(f"corpora/{corpus.key}/delete"))
    assert response.headers["Location"] == cast.url("corpora/")
    assert not Corpus.objects.exists() and not Document.objects.exists() and not Upload.objects.exists()
    assert LooseBlob.objects.filter(sha=text).exists()
    loose.sweep(grace=0)
    assert not blobs.exists(text)
    assert [path for path in Path(blobs.workshop()).parent.rglob("*") if path.is_file()] == []


def test_corpus_that_runs_read_is_deleted_only_with_them(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    run = make_plain_run(cast.workspace, corpus_version=corpus.latest, status="done")
    response = client.post(cast.url(f"corpora/{corpus.key}/delete"))
    assert response.status_code == 409
    assert "1 run reads this corpus" in body(response)
    assert Corpus.objects.exists() and Run.objects.exists()

    Run.objects.filter(pk=run.pk).update(status="running")
    response = client.post(cast.url(f"corpora/{corpus.key}/delete"), {"runs": "too"})
    assert response.status_code == 409
    assert "reading this corpus right now" in body(response)

    Run.objects.filter(pk=run.pk).update(status="stopped")
    client.post(cast.url(f"corpora/{corpus.key}/delete"), {"runs": "too"})
    assert not Corpus.objects.exists() and not Run.objects.exists()


def test_question_about_a_corpus_that_was_deleted_meanwhile_is_refused(cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    version = corpus.latest
    changes.delete(corpus)
    with pytest.raises(RunRefused, match="deleted meanwhile"):
        start_run(cast.workspace, cast.ed, question="?", corpus_version=version, wake=False)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("further", [False, True], ids=["a new run", "a follow-up"])
def test_nothing_asked_while_a_corpus_is_deleted_goes_with_it(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, further: bool
) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    ended = make_run(cast.workspace, "done", corpus_version=corpus.latest, endpoint="offline")
    refused: list[str] = []

    def ask() -> None:
        try:
            if further:
                ask_follow_up(ended, cast.ed, "And?", wake=False)
            else:
                start_run(cast.workspace, cast.ed, question="?", corpus_version=corpus.latest, wake=False)
        except RunRefused as refusal:
            refused.append(str(refusal))
        finally:
            connection.close()

    asker = threading.Thread(target=ask)
    real = loose.of_runs

    def meanwhile(runs: Any) -> set[str]:
        asker.start()
        asker.join(1)  # it waits for the deletion, or is done
        return real(runs)

    monkeypatch.setattr(loose, "of_runs", meanwhile)
    changes.delete(corpus)
    asker.join()
    assert len(refused) == 1 and "deleted" in refused[0]
    assert not Run.objects.exists() and not Corpus.objects.exists()


def test_large_corpus_asks_for_its_probe_by_itself(client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyses.views import corpora

    monkeypatch.setattr(corpora, "PROBE_AT_ONCE", 2)
    corpus = make_corpus(cast, {"a.txt": b"one"})
    page = body(client.get(cast.url(f"corpora/{corpus.key}/")))
    assert 'hx-trigger="load"' in page and "Counting a long text" in page


def test_corpus_too_large_for_a_repl_says_the_figures(client: Client, cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    assert corpus.latest and not ingest.oversize(corpus.latest)
    CorpusVersion.objects.update(characters=3 << 30, bytes=3 << 30)
    Document.objects.update(characters=3 << 30, byte_end=3 << 30)
    page = body(client.get(cast.url(f"corpora/{corpus.key}/")))
    assert "Its text is 3.2 GB: in a REPL it would take about 3.2 GB; a call of 2.1 GB has room for 1.3 GB." in page
    assert "choose some of its documents" in page


def test_viewer_sees_and_cannot_change(cast: Cast) -> None:
    corpus = make_corpus(cast, {"a.txt": b"one"})
    vera = cast.client(cast.vera)
    page = body(vera.get(cast.url(f"corpora/{corpus.key}/")))
    assert "Add documents" not in page and "Ask about it" not in page
    assert vera.post(cast.url("corpora/new"), {"pasted": "x"}).status_code == 403
