"""Verbs that write: what is refused, and with which words."""

from __future__ import annotations

import pytest

from analyses import actions
from analyses.actions import RunRefused
from analyses.models import Corpus, CorpusVersion, Run
from tests.factories import make_run, make_workspace

pytestmark = pytest.mark.django_db


def make_version(characters: int) -> CorpusVersion:
    corpus = Corpus.objects.create(workspace=make_workspace(), name="Logs")
    return CorpusVersion.objects.create(
        corpus=corpus, number=1, text="0" * 64, document_count=1, characters=characters, bytes=characters
    )


def test_a_corpus_too_large_for_a_repl_is_refused_with_the_figures() -> None:
    version = make_version(4 << 30)
    with pytest.raises(RunRefused, match="too large to ask about.*GB"):
        actions.start_run(version.corpus.workspace, None, question="?", corpus_version=version, wake=False)
    assert not Run.objects.exists()


def test_a_corpus_of_another_workspace_is_refused() -> None:
    version = make_version(10)
    with pytest.raises(RunRefused, match="not in this workspace"):
        actions.start_run(make_workspace(), None, question="?", corpus_version=version, wake=False)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"question": " \0 "}, "Write a question"),
        ({"question": "x" * 20_001}, "20,001 characters"),
        ({"limits": {"depth": -1}}, "depth"),
        ({"limits": {"speed": 3}}, "no limit 'speed'"),
        ({"limits": {"cost": float("nan")}}, "cost"),
        ({"endpoint": "nowhere"}, "no model endpoint"),
        ({"endpoint": "offline", "strategy": "react"}, "serves the strategy rlm only"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_written(fields: dict[str, object], word: str) -> None:
    with pytest.raises(RunRefused, match=word):
        actions.start_run(make_workspace(), None, wake=False, **{"question": "?", **fields})  # type: ignore[arg-type]
    assert not Run.objects.exists()


def test_runs_are_numbered_in_their_workspace() -> None:
    workspace, other = make_workspace(), make_workspace()
    numbers = [
        actions.start_run(where, None, question="?", wake=False).number for where in (workspace, workspace, other)
    ]
    assert numbers == [1, 2, 1]


def test_a_queued_run_is_stopped_at_once_and_one_under_way_is_asked_to() -> None:
    queued, running = make_run(), make_run(status="running", lease_token="held")
    for run in (queued, running):
        actions.stop_run(run)
        run.refresh_from_db()
    assert queued.status == "stopped" and queued.seq == 1
    assert running.status == "running" and running.stop_requested_at


@pytest.mark.django_db(transaction=True)
def test_what_is_done_stands_where_nobody_can_be_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(run_id: int) -> None:
        raise RuntimeError("an event loop is at work on this thread")

    monkeypatch.setattr("analyses.live._tell", fails)
    run = make_run(make_workspace())
    Run.objects.filter(pk=run.pk).update(status="paused")
    actions.resume_run(run)
    run.refresh_from_db()
    assert run.status == "queued"
