"""The ask page: what it offers, what it refuses, and that nothing typed is lost."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from analyses import run_forms
from analyses.models import Corpus, Run, Status
from analyses.run_forms import SHOWN, LimitField, RunForm, again, written
from rlm.limits import Limits
from tests.workspaces.cast import Cast, make_cast, make_corpus, make_plain_run
from workspaces import rates


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def openai(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-secret-of-the-operator"
    settings.OPENAI_MODEL, settings.OPENAI_SUB_MODEL = "atlas-large", "atlas-mini"


def ask(cast: Cast, who: Any = None, **given: Any) -> Any:
    return cast.client(who or cast.ed).post(cast.url(), given)


def text(response: Any) -> str:
    return html.unescape(response.content.decode())


def errors(response: Any) -> list[str]:
    page = text(response)
    inline = re.findall(r'<div class="field-error"[^>]*>(.*?)</div>', page, re.S)
    said = [words.strip() for block in inline for words in re.findall(r"<p>(.*?)</p>", block, re.S)]
    return said + re.findall(r'role="alert">.*?<span>(.*?)</span>', page, re.S)


def test_a_question_on_a_corpus_makes_a_run_and_leads_to_it(cast: Cast) -> None:
    corpus = make_corpus(cast.workspace, versions=2)
    response = ask(cast, question="Who saw\r\nthe light?", corpus=corpus.key, limit_depth="1", limit_cost="0.50")
    run = Run.objects.get()
    assert response.headers["Location"] == run.get_absolute_url()
    assert (run.question, run.created_by, run.status) == ("Who saw\nthe light?", cast.ed, Status.QUEUED)
    assert run.corpus_version == corpus.latest
    assert run.corpus_version.number == 2
    assert (run.limits["depth"], run.limits["cost"], run.limits["turns"]) == (1, 0.5, 20)
    assert (run.endpoint, run.strategy) == ("offline", "rlm")


def test_a_question_alone_uses_every_default(cast: Cast) -> None:
    """A sample's button sends its question and corpus only."""
    ask(cast, question="How many r are in strawberry?", corpus="")
    run = Run.objects.get()
    assert run.corpus_version is None
    assert run.limits == Limits().as_dict()


def test_every_default_in_the_form_is_the_engines(cast: Cast) -> None:
    page = text(cast.client(cast.ed).get(cast.url()))
    for shown in SHOWN:
        assert f'name="limit_{shown.name}" value="{written(getattr(Limits(), shown.name), shown.name)}"' in page, (
            shown.name
        )
        assert f">{shown.label}</label>" in page


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"question": "  "}, "Write a question first."),
        ({"question": "x" * 20_001}, "The question has 20,001 characters; at most 20,000 are taken."),
        ({"corpus": "gone"}, "That corpus is no longer here. Choose another."),
        ({"endpoint": "atlas"}, "The model endpoint “atlas” is no longer offered. Choose another."),
        ({"strategy": "guess"}, "There is no strategy “guess” here."),
        ({"limit_turns": "many"}, "“many” is not a number."),
        ({"limit_turns": ""}, "Give a number, such as 20."),
        ({"limit_turns": "0"}, "Give a number from 1 to 500."),
        ({"limit_turns": "2.5"}, "Give a whole number."),
        ({"limit_depth": "-1"}, "Give a number from 0 to 10."),
        ({"limit_cost": "nan"}, "Give a number from 0 to 10,000."),
        ({"limit_memory_mb": "999999"}, "Give a number from 1 to 4,096."),
        ({"root_model": "m" * 121}, "Ensure this value has at most 120 characters (it has 121)."),
    ],
)
def test_what_is_wrong_is_said_and_nothing_typed_is_lost(cast: Cast, given: dict[str, str], said: str) -> None:
    typed = {"question": "Who saw the <light>?", "limit_calls": "77", "limit_cell_seconds": "12.5"} | given
    response = ask(cast, **typed)
    assert response.status_code == 422
    assert any(each.startswith(said) for each in errors(response)), errors(response)
    page = text(response)
    assert typed["question"].strip() in page
    assert 'value="77"' in page
    assert 'value="12.5"' in page
    for name, value in given.items():
        if name.startswith("limit_") and value:
            assert f'value="{value}"' in page
            assert re.search(r'<details class="fold" id="ask-limits" open>', page)
    assert not Run.objects.exists()


def test_no_limit_of_money_is_an_empty_field(cast: Cast) -> None:
    ask(cast, question="q", limit_cost="", limit_prompt_tokens=" ")
    limits = Run.objects.get().limits
    assert (limits["cost"], limits["prompt_tokens"], limits["completion_tokens"]) == (None, None, 500_000)


@pytest.mark.parametrize(
    ("name", "typed", "number"),
    [("prompt_tokens", "3,000,000", 3_000_000), ("prompt_tokens", "3 000 000", 3_000_000), ("cost", "$2.50", 2.5),
     ("run_seconds", "90.5", 90.5), ("depth", "0", 0), ("cost", "0", 0)],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(name: str, typed: str, number: float) -> None:
    [shown] = [shown for shown in SHOWN if shown.name == name]
    assert LimitField(shown).clean(typed) == number


@pytest.mark.parametrize(
    ("name", "value"),
    [("cost", 0.5), ("cost", 2.0), ("cost", 0.005), ("cost", 1_234.5), ("cost", None), ("prompt_tokens", 3_000_000),
     ("prompt_tokens", None), ("run_seconds", 600.0), ("run_seconds", 12.5), ("run_seconds", 1_234.125), ("depth", 0)],
)  # fmt: skip
def test_a_written_limit_reads_back_as_itself(name: str, value: float | None) -> None:
    [shown] = [shown for shown in SHOWN if shown.name == name]
    assert LimitField(shown).clean(written(value, name)) == value


def test_the_offline_endpoint_is_named_for_what_it_is_and_serves_rlm_only(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_forms, "strategies", lambda: ("rlm", "direct"))
    assert "offline extractive model, not a language model</option>" in text(cast.client(cast.ed).get(cast.url()))
    response = ask(cast, question="q", strategy="direct")
    assert "serves the strategy rlm only" in " ".join(errors(response))
    assert not Run.objects.exists()


def test_endpoint_of_the_environment_comes_first_and_its_key_is_nowhere(cast: Cast, openai: None) -> None:
    page = text(cast.client(cast.ed).get(cast.url()))
    assert page.index("atlas-large, children atlas-mini</option>") < page.index("not a language model</option>")
    assert "sk-secret" not in page
    ask(cast, question="q", child_model="atlas-nano")
    run = Run.objects.get()
    assert (run.endpoint, run.root_model, run.child_model) == ("default", "atlas-large", "atlas-nano")


def test_models_typed_for_another_endpoint_do_not_name_the_offline_one(cast: Cast, openai: None) -> None:
    ask(cast, question="q", endpoint="offline", root_model="atlas-large")
    assert Run.objects.get().root_model == "offline"


def test_asking_again_starts_with_what_a_run_asked(cast: Cast, openai: None) -> None:
    corpus = make_corpus(cast.workspace)
    other = make_corpus(cast.workspace, "Accounts")
    limits = Limits().as_dict() | {"depth": 1, "cost": None, "run_seconds": 90.5}
    run = make_plain_run(
        cast.workspace, "Who?", corpus_version=corpus.latest, endpoint="default", root_model="atlas-large",
        child_model="atlas-nano", limits=limits,
    )  # fmt: skip
    page = text(cast.client(cast.ed).get(cast.url(f"?from={run.key}")))
    assert ">Who?</textarea>" in page
    assert f'<option value="{corpus.key}" selected>' in page
    assert f'<option value="{other.key}">' in page
    assert 'name="child_model" value="atlas-nano"' in page
    assert 'name="root_model" value="atlas' not in page  # the endpoint's own stays unwritten, and may change with it
    assert 'name="limit_depth" value="1"' in page
    assert 'name="limit_run_seconds" value="90.5"' in page
    form = RunForm(versions=[corpus.latest], initial=again(run))  # type: ignore[list-item]
    assert form["limit_cost"].value() == ""
    assert cast.client(cast.ed).get(cast.url("?from=no-such")).status_code == 404
    theirs = make_plain_run(cast.elsewhere, "Secret?")
    assert cast.client(cast.ed).get(cast.url(f"?from={theirs.key}")).status_code == 404


def test_asking_again_on_an_endpoint_that_is_gone_says_so(cast: Cast) -> None:
    run = make_plain_run(cast.workspace, endpoint="desk", root_model="m")
    page = text(cast.client(cast.ed).get(cast.url(f"?from={run.key}")))
    assert "The model endpoint of run 1, desk, is no longer offered: the default is chosen." in page


def test_the_address_can_choose_corpus_and_question(cast: Cast) -> None:
    corpus, _ = make_corpus(cast.workspace), make_corpus(cast.workspace, "Newer")
    page = text(cast.client(cast.ed).get(cast.url(f"?corpus={corpus.key}&question=Why+%3Cb%3E%3F")))
    assert f'<option value="{corpus.key}" selected>The Tin Lighthouse (4.12 M characters)</option>' in page
    assert ">Why <b>?</textarea>" in page
    assert "another is chosen" in text(cast.client(cast.ed).get(cast.url("?corpus=gone")))


def test_a_corpus_of_another_workspace_cannot_be_asked(cast: Cast) -> None:
    theirs = make_corpus(cast.elsewhere, "Their papers")
    assert "Their papers" not in text(cast.client(cast.ed).get(cast.url()))
    response = ask(cast, question="q", corpus=theirs.key)
    assert errors(response) == ["That corpus is no longer here. Choose another."]
    assert not Run.objects.exists()


def test_a_corpus_without_text_yet_is_not_offered(cast: Cast) -> None:
    make_corpus(cast.workspace, "Still extracting", versions=0)
    assert "Still extracting" not in text(cast.client(cast.ed).get(cast.url()))


def test_a_viewer_sees_the_form_explained_and_cannot_ask(cast: Cast) -> None:
    make_corpus(cast.workspace, sample_questions=["Who?"])
    page = text(cast.client(cast.vera).get(cast.url()))
    assert "You are a viewer of this workspace" in page
    assert '<fieldset class="askfields" disabled' in page
    assert ask(cast, cast.vera, question="q").status_code == 403
    assert not Run.objects.exists()


def test_an_outsider_is_told_nothing(cast: Cast) -> None:
    assert cast.client(cast.oscar).get(cast.url()).status_code == 404
    assert ask(cast, cast.oscar, question="q").status_code == 404
    assert cast.client(None).get(cast.url()).headers["Location"].startswith("/accounts/login/?next=/w/")


def test_a_new_workspace_is_shown_what_to_do(cast: Cast) -> None:
    client = cast.client(cast.ed)
    assert "Bring your own texts" in text(client.get(cast.url()))
    corpus = make_corpus(cast.workspace, sample_questions=["Who saw the light?", "How often?"])
    page = text(client.get(cast.url()))
    assert "Ask the sample, or bring your own texts" in page
    assert "not a language model" in page
    sample = re.search(r'<form method="post"[^>]*>.*?name="question" value="Who saw the light\?"', page, re.S)
    assert sample
    ask(cast, question="Who saw the light?", corpus=corpus.key)  # what that form sends
    assert Run.objects.get().corpus_version == corpus.latest


def test_the_sample_corpus_is_loaded_once_on_request(cast: Cast) -> None:
    client = cast.client(cast.ed)
    assert "Load the sample corpus" in text(client.get(cast.url()))
    page = client.post(cast.url("sample"), follow=True)
    corpus = Corpus.objects.get()
    assert page.redirect_chain == [(cast.url(f"?corpus={corpus.key}"), 302)]
    assert corpus.sample_questions[0] in text(page)
    assert corpus.latest.document_count == 24  # type: ignore[union-attr]
    assert "Load the sample corpus" not in text(page)
    client.post(cast.url("sample"))
    assert Corpus.objects.count() == 1


def test_asking_too_often_is_cut_off_and_the_question_kept(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "ASK", rates.Rate("ask-in-test", 2, 60))
    for _ in range(2):
        assert ask(cast, question="q").status_code == 302
    response = ask(cast, question="The third?")
    assert response.status_code == 422
    assert "very often" in errors(response)[0]
    assert "The third?" in text(response)
    assert Run.objects.count() == 2
    assert ask(cast, cast.adam, question="q").status_code == 302  # another person's count


def test_recent_runs_ask_for_themselves_only_while_one_is_under_way(cast: Cast) -> None:
    client = cast.client(cast.vera)
    part = {"HX-Request": "true", "HX-Target": "runs"}
    run = make_plain_run(cast.workspace, status=Status.RUNNING)
    assert 'hx-trigger="every 3s"' in text(client.get(cast.url()))
    response = client.get(cast.url(), headers=part)
    assert text(response).strip().startswith('<section class="panel"')
    assert "<html" not in text(response)
    assert "HX-Request" in response.headers["Vary"]
    Run.objects.filter(pk=run.pk).update(status=Status.DONE)
    assert "hx-trigger" not in text(client.get(cast.url(), headers=part))


def test_the_page_takes_the_same_queries_however_much_there_is(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for number in range(12):
        corpus = make_corpus(cast.workspace, f"Corpus {number}", versions=3)
        make_plain_run(cast.workspace, f"Question {number}", corpus_version=corpus.latest, created_by=cast.ed)
    client = cast.client(cast.ed)
    with django_assert_max_num_queries(8):  # session, person, member, corpora, endpoints, runs, counts, switcher
        client.get(cast.url())


def test_a_posted_flood_is_refused_before_it_is_read(cast: Cast) -> None:
    response = ask(cast, question="x" * (9 << 20))
    assert response.status_code == 400
    assert not Run.objects.exists()
