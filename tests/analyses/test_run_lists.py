"""Lists of runs: filters, search, pages, and who sees whose."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from analyses.models import Status
from analyses.templatetags.figures import ago, took
from analyses.views.run_lists import FILTERS
from tests.workspaces.cast import Cast, make_cast, make_corpus, make_plain_run, make_user


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


def questions(cast: Cast, query: str = "", who: Any = None) -> list[str]:
    page = cast.client(who or cast.vera).get(cast.url(f"runs/{query}")).content.decode()
    return re.findall(r'<a id="run-link-[^>]*>(.*?)</a>', page)


def test_newest_first_and_of_this_workspace_alone(cast: Cast) -> None:
    for question in ("first", "second"):
        make_plain_run(cast.workspace, question)
    make_plain_run(cast.elsewhere, "theirs")
    assert questions(cast) == ["second", "first"]


def test_each_status_has_one_filter() -> None:
    assert sorted(status for statuses in FILTERS.values() for status in statuses) == sorted(Status)


def test_filters_by_status_and_by_person(cast: Cast) -> None:
    for status in Status:
        make_plain_run(
            cast.workspace, status, status=status, created_by=cast.vera if status == Status.DONE else cast.ed
        )
    assert sorted(questions(cast, "?status=running")) == ["paused", "queued", "running", "waiting"]
    assert questions(cast, "?status=failed") == ["failed"]
    assert questions(cast, "?who=me") == ["done"]
    assert questions(cast, "?who=me&status=failed") == []
    assert len(questions(cast, "?status=nonsense")) == len(Status)


def test_a_person_is_chosen_by_name_and_stays_chosen(cast: Cast) -> None:
    left = make_user("Lena")
    make_plain_run(cast.workspace, "of Ed", created_by=cast.ed)
    make_plain_run(cast.workspace, "of one who left", created_by=left)
    make_plain_run(cast.elsewhere, "of Oscar", created_by=cast.oscar)
    assert questions(cast, f"?who={cast.ed.pk}") == ["of Ed"]
    assert questions(cast, f"?who={left.pk}") == ["of one who left"]
    assert questions(cast, f"?who={cast.oscar.pk}") == []
    page = cast.client(cast.vera).get(cast.url(f"runs/?who={cast.ed.pk}")).content.decode()
    assert f'<option value="{cast.ed.pk}" selected>Ed</option>' in page
    assert f'href="?status=done&amp;who={cast.ed.pk}"' in page
    whole = cast.client(cast.vera).get(cast.url("runs/")).content.decode()
    assert re.findall(r'<option value="\d+">(.*?)</option>', whole) == ["Adam", "Alice", "Ed", "Lena"]
    assert "Oscar" not in cast.client(cast.vera).get(cast.url(f"runs/?who={cast.oscar.pk}")).content.decode()
    assert questions(cast, f"?who={10**12}") == questions(cast, "?who=x'") == questions(cast)


def test_search_in_questions_corpora_and_numbers(cast: Cast) -> None:
    corpus = make_corpus(cast.workspace, "Harbour accounts")
    make_plain_run(cast.workspace, "Who saw the light?", corpus_version=corpus.latest)
    make_plain_run(cast.workspace, "100% of <what>?")
    assert questions(cast, "?q=LIGHT") == ["Who saw the light?"]
    assert questions(cast, "?q=harbour") == ["Who saw the light?"]
    assert questions(cast, "?q=%23" + "2") == ["100% of &lt;what&gt;?"]
    assert questions(cast, "?q=100%25") == ["100% of &lt;what&gt;?"]
    assert questions(cast, "?q=%00") == questions(cast)
    page = cast.client(cast.vera).get(cast.url("runs/?q=no+such")).content.decode()
    assert "No run here is like that." in page
    assert 'value="no such"' in page


def test_pages_keep_the_filter(cast: Cast) -> None:
    for number in range(53):
        make_plain_run(cast.workspace, f"question {number}", number=number + 1, status=Status.DONE)
    assert len(questions(cast, "?status=done")) == 50
    page = cast.client(cast.vera).get(cast.url("runs/?status=done&q=question")).content.decode()
    assert "1 to 50 of 53" in page
    assert 'rel="next" href="?status=done&amp;q=question&amp;page=2"' in page
    assert questions(cast, "?status=done&page=2") == ["question 2", "question 1", "question 0"]
    assert questions(cast, "?page=99") == questions(cast, "?page=2")
    assert questions(cast, "?page=x") == questions(cast)


def test_the_list_asks_for_itself_only_while_a_run_is_under_way(cast: Cast) -> None:
    client = cast.client(cast.vera)
    run = make_plain_run(cast.workspace, status=Status.WAITING)
    page = client.get(cast.url("runs/?who=")).content.decode()
    assert f'hx-get="{cast.url("runs/?who=")}" hx-trigger="every 4s"' in page
    run.status = Status.LIMIT
    run.save()
    part = client.get(cast.url("runs/"), headers={"HX-Request": "true", "HX-Target": "runs"}).content.decode()
    assert "hx-trigger" not in part
    assert "<html" not in part


def test_an_ended_runs_reason_stands_in_its_row(cast: Cast) -> None:
    make_plain_run(cast.workspace, status=Status.FAILED, reason="The endpoint <refused> the key.")
    page = cast.client(cast.vera).get(cast.url("runs/")).content.decode()
    assert "no corpus: The endpoint &lt;refused&gt; the key." in page


def test_an_empty_list_says_where_to_begin(cast: Cast) -> None:
    assert "Nothing has been asked yet" in cast.client(cast.vera).get(cast.url("runs/")).content.decode()


def test_an_outsider_is_told_404(cast: Cast) -> None:
    assert cast.client(cast.oscar).get(cast.url("runs/")).status_code == 404


def test_the_list_takes_the_same_queries_however_long(cast: Cast, django_assert_max_num_queries: Any) -> None:
    corpus = make_corpus(cast.workspace)
    for number in range(60):
        make_plain_run(cast.workspace, number=number + 1, corpus_version=corpus.latest, created_by=cast.ed)
    client = cast.client(cast.ed)
    with django_assert_max_num_queries(8):  # session, person, member, counts, count, runs, people, switcher
        client.get(cast.url("runs/"))


@pytest.mark.parametrize(
    ("back", "words"),
    [({"seconds": 20}, "now"), ({"minutes": 12, "seconds": 5}, "12 min ago"), ({"hours": 2, "minutes": 1}, "2 h ago")],
)
def test_times_ago_in_words(back: dict[str, int], words: str) -> None:
    assert f">{words}</time>" in ago(timezone.now() - timedelta(**back))


def test_times_long_ago_are_dates() -> None:
    assert re.search(r">\d+ \w{3} 20\d\d</time>", ago(timezone.now() - timedelta(days=400)))


@pytest.mark.django_db
def test_a_run_under_way_shows_how_long_it_has_taken(cast: Cast) -> None:
    run = make_plain_run(cast.workspace, started_at=timezone.now() - timedelta(seconds=75))
    assert took(run) in ("1:15", "1:16")
    run.started_at = None
    assert took(run) == ""
