"""Search over a corpus: every hit is a passage that has the words, and its link is to the very characters."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analyses import blobs, search
from analyses.ingest import corpora as changes
from analyses.ingest import loose, uploads
from analyses.models import CorpusVersion
from tests.workspaces.cast import Cast, make_cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return make_cast()


def version(cast: Cast, *texts: str) -> CorpusVersion:
    upload = uploads.start(cast.workspace, cast.ed, name="Fog")
    for number, text in enumerate(texts):
        uploads.receive(upload, f"{number}.txt", io.BytesIO(text.encode()))
    uploads.close(upload)
    uploads.process(upload.pk)
    upload.refresh_from_db()
    assert upload.version
    return upload.version


def text_at(made: CorpusVersion, hit: search.Found) -> str:
    document = made.documents.get(position=hit.position)
    return blobs.read(made.text)[document.byte_start : document.byte_end].decode()[hit.start : hit.end]


LONG = "Zwölf Boote fahren heraus. " * 200


def test_hits_are_of_the_very_characters(cast: Cast) -> None:
    made = version(cast, f"{LONG}The Lamp went dark.\n{LONG}", "No light at all.", f"{LONG}\nA lamp is no bell 🚤.")
    answer = search.search(made, "lamp")
    assert answer.total == 2
    assert {(hit.position, text_at(made, hit)) for hit in answer.hits} == {(0, "Lamp"), (2, "lamp")}
    assert all(hit.words == text_at(made, hit) for hit in answer.hits)
    assert answer.hits[0].title in ("0", "2")


def test_every_word_has_to_be_there_and_quotes_hold_them_together(cast: Cast) -> None:
    made = version(cast, "The lamp went dark.", "Dark was the lamp.", "The bell.")
    assert search.search(made, "lamp dark").total == 2
    assert [hit.position for hit in search.search(made, '"lamp went"').hits] == [0]
    assert search.search(made, "lamp bell").total == 0
    assert search.search(made, "be").total == 1  # not a word: found as it stands


@pytest.mark.parametrize("query", ["zwolf", "ZWÖLF", "zwöl", "Zwölf Boote"])
def test_case_and_accents_do_not_matter(query: str, cast: Cast) -> None:
    made = version(cast, "a\n" + LONG)
    hit = search.search(made, query).hits[0]
    assert text_at(made, hit) in ("Zwölf", "Zwöl", "Boote")


@pytest.mark.parametrize(
    "query",
    [
        "人間",
        "[09:15]",
        "C++",
        "be*ll",
        'a "b',
        "NEAR(a b)",
        "text : x",
        "-dark",
        "(",
        '"',
        "^lamp",
        "{x}",
        "a OR b",
        "\0",
    ],
)
def test_signs_and_scripts_without_spaces_are_found_as_they_stand(query: str, cast: Cast) -> None:
    made = version(cast, f"すべての人間は、生まれながら {query.replace(chr(0), '')} [09:15] C++", "q " * 20)
    answer = search.search(made, query)
    if query.strip('\0"( '):
        assert answer.hits and answer.hits[0].position == 0
    assert search.search(made, "").total == 0


def test_long_line_and_huge_word_are_cut_into_passages(cast: Cast) -> None:
    made = version(cast, "x" * 50_000 + " needle " + "y " * 30_000)
    hit = search.search(made, "needle").hits[0]
    assert text_at(made, hit) == "needle"


@given(
    st.lists(
        st.text(st.sampled_from("ab ß—語🚤\n"), min_size=1, max_size=3000).filter(str.strip), min_size=1, max_size=3
    )
)
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_passages_cover_every_text_without_gap(cast: Cast, texts: list[str]) -> None:
    made = version(cast, *(f"{number}{text}" for number, text in enumerate(texts)))
    packed = blobs.read(made.text)
    covered = b""
    for position, character, start, end, passage in search._passages(made):
        assert packed[start:end].decode() == passage
        document = made.documents.get(position=position)
        assert (
            packed[document.byte_start : start].decode()
            == blobs.read(made.text)[document.byte_start : document.byte_end].decode()[:character]
        )
        covered += packed[start:end]
    assert covered == packed


def test_large_text_is_indexed_beside_the_request(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "AT_ONCE", 2)
    asked: list[Any] = []
    monkeypatch.setattr(search, "build_beside", asked.append)
    made = version(cast, "The lamp went dark.")
    path = f"corpora/{made.corpus.key}/search?q=lamp"
    page = cast.client(cast.vera).get(cast.url(path)).content.decode()
    assert asked == [made] and "being indexed" in page and 'http-equiv="refresh"' in page
    search.build(made)
    assert "<mark>lamp</mark>" in cast.client(cast.vera).get(cast.url(path)).content.decode()


def test_page_escapes_and_links_into_the_reader(cast: Cast) -> None:
    made = version(cast, "<b>The lamp</b> went dark.")
    client = cast.client(cast.ed)
    page = client.get(cast.url(f"corpora/{made.corpus.key}/search?q=lamp")).content.decode()
    assert "&lt;b&gt;The <mark>lamp</mark>&lt;/b&gt;" in page
    assert f"/corpora/{made.corpus.key}/d/0/?c=7-11#cited" in page
    assert "Nothing in these texts" in client.get(cast.url(f"corpora/{made.corpus.key}/search?q=<i>x")).content.decode()
    blobs.delete(made.text)
    search.forget(made.text)
    assert "not kept any more" in client.get(cast.url(f"corpora/{made.corpus.key}/search?q=lamp")).content.decode()


def test_index_goes_with_its_text(cast: Cast, settings: Any) -> None:
    made = version(cast, "The lamp\r\nwent dark.")
    search.search(made, "lamp")
    assert list((Path(settings.DATA_DIR) / "search").rglob("*.sqlite"))
    changes.delete(made.corpus)
    loose.sweep(grace=0)
    assert not list((Path(settings.DATA_DIR) / "search").rglob("*.sqlite"))


def test_indexes_of_corpora_deleted_on_another_host_go(
    cast: Cast, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = version(cast, "The lamp went dark."), version(cast, "The lamp was lit.")
    for made in (gone, kept):
        search.build(made)
    changes.delete(gone.corpus)  # the blob, and an index beside it, go there
    monkeypatch.setattr(search, "_swept", float("-inf"))
    assert search.search(kept, "lamp").total == 1
    assert list((Path(settings.DATA_DIR) / "search").rglob("*.sqlite")) == [search._place(kept)]


def test_search_over_megabytes_is_quick(cast: Cast) -> None:
    made = version(cast, *(f"{number} " + LONG * 30 + f"needle{number % 3}\n" for number in range(25)))
    search.build(made)
    began = time.perf_counter()
    for _ in range(10):
        assert search.search(made, "needle1").total == 8
    assert (time.perf_counter() - began) / 10 < 0.5  # benchmarks/ingest.py has the figure


SPACELESS = {
    "人間": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "灯台守": "その夜、灯台守は時計を見た。",
    "人人生": "人人生而自由，在尊严和权利上一律平等。",
    "自": "人人生而自由",
    "เสรีภาพ": "มนุษย์ทั้งปวงเกิดมามีอิสระและเสมอภาคกัน มีสิทธิและเสรีภาพ",
    "존엄": "모든인간은태어날때부터자유로우며그존엄과권리에있어동등하다",
    "iPhone手机": "他的iPhone手机在桌子上。",
}


@pytest.mark.parametrize("query", SPACELESS)
def test_words_of_scripts_without_spaces_are_ranked_hits_of_the_very_characters(query: str, cast: Cast) -> None:
    others = ("q " * 500, "別の話。" * 300, "다른이야기" * 300, "เรื่องอื่น" * 300)
    rare = SPACELESS[query]
    made = version(cast, *others, "別の話。" * 60 + rare, rare)
    answer = search.search(made, query)
    assert {hit.position for hit in answer.hits} == {4, 5}
    assert all(text_at(made, hit) == query for hit in answer.hits)
    assert answer.hits[0].position == 5  # ranked: the shorter passage says more of it
    assert search.documents_with(made, query) == [4, 5]


def test_combining_marks_do_not_cut_words(cast: Cast) -> None:
    made = version(cast, "मानव हिन्दी में", "हन द", "caf\u0065\u0301 noir")
    assert [hit.position for hit in search.search(made, "हिन्दी").hits] == [0]
    assert [hit.position for hit in search.search(made, "cafe").hits] == [2]


def test_highlight_of_hangul_is_of_the_whole_syllable(cast: Cast) -> None:
    made = version(cast, "학교 한국 사람")
    (hit,) = search.search(made, "한국").hits
    assert text_at(made, hit) == "한국"


def test_an_index_of_an_older_form_makes_place(cast: Cast, settings: Any) -> None:
    made = version(cast, "one two")
    old = search._place(made).with_name(f"{made.text}-{made.pk}.1.sqlite")
    old.parent.mkdir(parents=True)
    old.write_bytes(b"x")
    assert search.search(made, "two").total == 1
    assert not old.exists()
