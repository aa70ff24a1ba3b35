"""Follow-ups through rows and workers: asked, executed warm or rebuilt, counted, refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analyses import actions, deletion, recorder
from analyses.follow_ups import ask_follow_up, refusal
from analyses.ingest import loose
from analyses.leases import claim, lease_of
from analyses.models import Call, Cell, EarlierAnswer, FollowUp, Run
from analyses.recorder import close_rows
from analyses.texts import answer_of
from analyses.warmth import Warmth
from analyses.worker import Worker
from tests.analyses.test_resume import cut, endpoint_of
from tests.factories import make_run, make_user, make_workspace
from tests.rlm.conftest import cell
from tests.rlm.test_follow_ups import FAMILY
from tests.scripted.fixture import Scripted

pytestmark = [pytest.mark.django_db(transaction=True)]

Workers = Callable[..., Worker]
LOOK = Warmth.look


@pytest.fixture
def workers(transactional_db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Start workers that keep REPLs warm, but take nothing unasked."""
    settings.SANDBOX_SPARE = 0
    monkeypatch.setattr(Worker, "_sweep", lambda self: None)
    monkeypatch.setattr(Worker, "_probe", lambda self: None)
    monkeypatch.setattr(Warmth, "look", lambda self: ([], LOOK(self)[1]))
    made: list[Worker] = []

    def start() -> Worker:
        made.append(Worker(serving=True))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


def first_question(server: Scripted, **limits: Any) -> Run:
    return actions.start_run(
        make_workspace(), None, question="What is asked?", endpoint=endpoint_of(server), wake=False, seed="1", limits=limits
    )  # fmt: skip


def execute(worker: Worker, run: Run, server: Scripted, **given: Any) -> Run:
    done = worker.take(run.pk, endpoint=endpoint_of(server), **given)
    assert done is not None
    done.result(timeout=60)
    run.refresh_from_db()
    return run


def further(run: Run, server: Scripted, question: str = "And with one more?") -> FollowUp:
    return ask_follow_up(run, None, question, endpoint=endpoint_of(server), wake=False)


def shown(run: Run) -> Any:
    return run.answer_display


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.firejail
def test_a_follow_up_is_asked_and_answered_warm(
    workers: Workers, scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, worker = scripted(FAMILY), workers()
    run = execute(worker, first_question(server), server)
    assert run.status == "done" and run.answer_display == {"kept": 2}, run.reason
    until(lambda: run.pk in worker._warmth)
    run.refresh_from_db()
    assert run.warm_worker == worker._warmth.worker and run.warm_until > timezone.now() + timedelta(seconds=500)
    assert worker._warmth.bytes > 1_000_000
    before = {name: getattr(run, name) for name in ("calls", "cells", "prompt_tokens", "seconds")}

    follow_up = further(run, server)
    assert (run.status, run.answer_type, run.finished_at, run.follow_ups) == ("queued", "", None, 1)
    assert (follow_up.number, follow_up.after_cell) == (2, 2)
    earlier = EarlierAnswer.objects.get(run=run)
    assert (earlier.number, earlier.status, earlier.answer_display) == (1, "done", {"kept": 2})
    assert answer_of(earlier).python() == {"kept": 2}
    assert claim(run.pk, "other", {}, "another worker") is None, "it is left to the one with the REPL"

    taken: list[bool] = []
    take = worker._warmth.take

    def noted(run_id: int) -> Any:
        taken.append(run_id in worker._warmth)
        return take(run_id)

    monkeypatch.setattr(worker._warmth, "take", noted)
    execute(worker, run, server)
    assert run.status == "done" and taken == [True], run.reason
    kept, length = shown(run)
    assert len(kept) == 3 and length == 2
    root = Call.objects.get(run=run, number=1)
    assert (root.status, root.turns, root.answer_display) == ("done", 4, run.answer_display)
    assert [c.number for c in Cell.objects.filter(call=root)] == [1, 2, 3, 4]
    follow_up.refresh_from_db()
    for name, value in before.items():
        assert getattr(run, name) == pytest.approx(value + getattr(follow_up, name), rel=0.01), name
    assert follow_up.calls == 1 and follow_up.cells == 3 and follow_up.seconds > 0
    assert server.stats()["requests"] == 6
    rows = [*Call.objects.filter(run=run), *Cell.objects.filter(run=run)]
    born = [row.born for row in rows] + [earlier.born, follow_up.born]
    assert len(set(born)) == len(born) and max(row.seq for row in rows) <= run.seq


@pytest.mark.firejail
def test_elsewhere_or_later_it_is_rebuilt(workers: Workers, scripted: Callable[..., Scripted]) -> None:
    server, first, second = scripted(FAMILY), workers(), workers()
    run = execute(first, first_question(server), server)
    until(lambda: run.pk in first._warmth)
    run.refresh_from_db()
    further(run, server)
    assert second.take(run.pk, endpoint=endpoint_of(server)) is None
    Run.objects.filter(pk=run.pk).update(warm_until=timezone.now() - timedelta(seconds=1))
    first._look_at_warm = lambda: None  # type: ignore[method-assign]  # as if it hung
    execute(second, run, server)
    assert run.status == "done" and len(shown(run)[0]) == 3, run.reason
    assert not Cell.objects.filter(run=run, replay_differs=True).exists()
    assert server.stats()["requests"] == 6
    assert first._warmth.look()[1], "the first one lets its REPL go"


@pytest.mark.firejail
def test_a_worker_takes_a_follow_up_to_the_repl_that_it_keeps(
    workers: Workers, scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, worker = scripted(FAMILY), workers()
    monkeypatch.setattr("analyses.endpoints.get", lambda *_, **__: endpoint_of(server))
    monkeypatch.setattr(Warmth, "look", LOOK)
    run = execute(worker, first_question(server), server)
    until(lambda: run.pk in worker._warmth)
    run.refresh_from_db()
    ask_follow_up(run, None, "And with one more?", wake=False)

    def over() -> bool:
        run.refresh_from_db()
        return run.ended

    until(over)
    assert run.status == "done" and len(shown(run)[0]) == 3


@pytest.mark.firejail
def test_the_least_recent_goes_first(workers: Workers, scripted: Callable[..., Scripted], settings: Any) -> None:
    server, worker = scripted("hello"), workers()
    first = execute(worker, first_question(server), server)
    until(lambda: first.pk in worker._warmth)
    settings.WARM_MEMORY_MB = (worker._warmth.bytes >> 20) * 2 + 30
    second = execute(worker, first_question(server), server)
    until(lambda: second.pk in worker._warmth)
    assert first.pk in worker._warmth
    third = execute(worker, first_question(server), server)
    until(lambda: third.pk in worker._warmth and first.pk not in worker._warmth)
    assert second.pk in worker._warmth
    first.refresh_from_db()
    assert (first.warm_worker, first.warm_until) == ("", None)


@pytest.mark.firejail
@pytest.mark.parametrize("gone", ["deleted", "workspace", "expired"])
def test_a_repl_goes_with_its_run(
    workers: Workers, scripted: Callable[..., Scripted], settings: Any, gone: str
) -> None:
    server, worker = scripted("hello"), workers()
    if gone == "expired":
        settings.WARM_SECONDS = 1
    run = execute(worker, first_question(server), server)
    if gone != "expired":
        until(lambda: run.pk in worker._warmth)
    if gone == "deleted":
        deletion.delete_run(run)
    elif gone == "workspace":
        run.workspace.delete_at = timezone.now() + timedelta(days=1)
        run.workspace.save()
    until(lambda: run.pk not in worker._warmth and (gone != "expired" or Run.objects.get(pk=run.pk).warm_worker == ""))


@pytest.mark.firejail
def test_a_stopped_run_is_not_kept_warm_and_can_be_asked_to_go_on(
    workers: Workers, scripted: Callable[..., Scripted]
) -> None:
    script = {"replies": [cell("x = 4\nprint(x)"), cell("import time\ntime.sleep(60)"), cell("FINAL(x)")]}
    server, worker = scripted(script), workers()
    run = first_question(server)
    done = worker.take(run.pk, endpoint=endpoint_of(server))
    assert done is not None
    until(lambda: Cell.objects.filter(run=run, number=2, status="running").exists())
    actions.stop_run(run)
    done.result(timeout=60)
    run.refresh_from_db()
    assert run.status == "stopped" and len(worker._warmth) == 0
    further(run, server, "Go on.")
    execute(worker, run, server)
    assert (run.status, run.answer_display) == ("done", 4), run.reason


@pytest.mark.firejail
def test_a_follow_up_cut_off_anywhere_is_taken_up_by_another_worker(
    workers: Workers, scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers(), workers()
    for most in (0, 1, 3, 5, 8, 10):
        server = scripted(FAMILY)
        run = execute(first, first_question(server), server)
        until(lambda run=run: run.pk in first._warmth)  # type: ignore[misc]
        run.refresh_from_db()
        further(run, server)
        with monkeypatch.context() as patched:
            cut(patched, most)
            execute(first, run, server)
        assert run.status == "running", f"cut after {most}"
        answered = Cell.objects.filter(run=run, replied_at__isnull=False).count()
        asked = server.stats()["requests"]
        Run.objects.filter(pk=run.pk).update(lease_token="dead", lease_expires_at=timezone.now() - timedelta(seconds=9))
        execute(second, run, server, orphan=lease_of(run.pk))
        assert run.status == "done" and len(shown(run)[0]) == 3, f"cut after {most}: {run.reason}"
        assert server.stats()["requests"] - asked == 6 - answered, f"cut after {most}"
        assert EarlierAnswer.objects.get(run=run).answer_display == {"kept": 2}
        assert (run.calls, run.cells, run.failed_calls) == (3, 6, 0)


@pytest.mark.firejail
def test_a_run_that_failed_goes_on_and_has_not_failed_any_more(
    workers: Workers, scripted: Callable[..., Scripted]
) -> None:
    refused = {"status": 401, "error": {"message": "no such key"}}
    rules = [{"turn": 1, "attempt": 0, "reply": refused}, {"turn": 2, "reply": cell("FINAL(x)")}]
    server, worker = scripted({"rules": rules, "replies": [cell("x = 7\nprint(x)")]}), workers()
    run = execute(worker, first_question(server), server)
    assert (run.status, run.failed_calls) == ("failed", 1)
    further(run, server, "Try again.")
    execute(worker, run, server)
    assert (run.status, run.failed_calls, run.answer_display) == ("done", 0, 7), run.reason


def test_a_run_whose_worker_died_too_often_can_be_asked_further(db: None) -> None:
    run = make_run(status="running", endpoint="offline", lease_token="dead", calls=2)
    root = Call.objects.create(run=run, number=1, kind="root", queued_at=1.0, status="waiting", born=1, seq=1)
    Call.objects.create(run=run, number=2, parent=root, queued_at=1.0, status="running", born=2, seq=2)
    assert close_rows(run, "failed", "Its worker died.", "dead")
    run.refresh_from_db()
    assert run.failed_calls == 2
    ask_follow_up(run, None, "And?", wake=False)
    went_on = claim(run.pk, "mine", {})
    assert went_on is not None and went_on.failed_calls == 1


def test_a_follow_up_whose_worker_is_gone_keeps_the_time_that_it_took(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(shape="done", endpoint="offline")
    before = run.seconds
    ask_follow_up(run, None, "And?", wake=False)
    taken = claim(run.pk, "gone", {})
    assert taken is not None
    monkeypatch.setattr(recorder, "seconds_uncounted", lambda run: 40.0)
    assert close_rows(taken, "failed", "Its worker died.", "gone")
    run.refresh_from_db()
    assert (run.seconds - before, run.follow_up_set.get().seconds) == (pytest.approx(40), 40)


def test_what_cannot_be_asked_further_says_why(db: None) -> None:
    assert "under way" in refusal(make_run(shape="running"))
    assert "came in as a log" in refusal(make_run(shape="done", imported_from="rlm"))
    assert "before it began" in refusal(make_run(status="failed"))
    assert "archive" in refusal(make_run(shape="done", archive="0" * 64))
    run = make_run(shape="done", endpoint="offline")
    assert refusal(run) == ""
    for question, says in (("  ", "Write a question"), ("x" * 30_000, "Shorten it")):
        with pytest.raises(actions.RunRefused, match=says):
            ask_follow_up(run, None, question, wake=False)
    run.workspace.delete_at = timezone.now()
    run.workspace.save()
    with pytest.raises(actions.RunRefused, match="deleted"):
        ask_follow_up(run, None, "And?", wake=False)


def test_a_follow_up_that_nobody_has_begun_can_be_stopped_and_asked_again(db: None) -> None:
    run = make_run(shape="done", endpoint="offline")
    answer = run.answer_display
    ask_follow_up(run, make_user(), "And?", wake=False)
    actions.stop_run(run)
    run.refresh_from_db()
    assert (run.status, run.answer_type) == ("stopped", "")
    assert Call.objects.get(run=run, number=1).status == "done"
    ask_follow_up(run, None, "And now?", wake=False)
    assert [e.answer_display for e in EarlierAnswer.objects.filter(run=run)] == [answer, None]
    assert [f.after_cell for f in run.follow_up_set.all()] == [Call.objects.get(run=run, number=1).turns] * 2


def test_the_blob_of_an_earlier_answer_is_kept_while_the_run_is(db: None) -> None:
    from analyses import blobs

    sha = blobs.put(b"an answer of some size")
    run = make_run(shape="done", endpoint="offline", answer_blob=sha)
    ask_follow_up(run, None, "And?", wake=False)
    assert run.answer_blob == "" and EarlierAnswer.objects.get(run=run).answer_blob == sha
    loose.let_go([sha])
    loose.sweep(grace=0)
    assert blobs.exists(sha)
    actions.stop_run(run)
    deletion.delete_run(run)
    loose.sweep(grace=0)
    assert not blobs.exists(sha)


def test_the_page_takes_a_follow_up_from_who_may_ask(db: None, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    cast = {role: make_user() for role in ("owner", "viewer", "stranger")}
    run = make_run(make_workspace(cast["owner"], viewer=cast["viewer"]), "done", endpoint="offline")
    client = {role: Client() for role in cast}
    for role, user in cast.items():
        client[role].force_login(user)
    address = f"{run.get_absolute_url()}follow-up"
    assert client["stranger"].post(address, {"question": "And?"}).status_code == 404
    assert client["viewer"].post(address, {"question": "And?"}).status_code == 403
    assert b"You are a viewer" in client["viewer"].get(run.get_absolute_url()).content
    page = client["owner"].get(run.get_absolute_url()).content.decode()
    assert re.search(r'id="follow-up"[^>]* hidden>', page) is None
    assert 'id="follow-up-question"' in page and "run again, with no request to a model" in page
    refused = client["owner"].post(address, {"question": " "})
    assert refused.status_code == 422 and b"Write a question first." in refused.content
    assert client["owner"].post(address, {"question": "And <b>who</b> else?"}).status_code == 302
    run.refresh_from_db()
    assert (run.status, run.follow_ups) == ("queued", 1)
    assert FollowUp.objects.get(run=run).asked_by == cast["owner"]
    html = client["viewer"].get(run.get_absolute_url()).content.decode()
    assert "And &lt;b&gt;who&lt;/b&gt; else?" in html and 'id="answer-1"' in html and 'id="follow-up-2"' in html
    assert "Answer v2" in html and 'id="follow-up-question"' not in html
    assert re.search(r'id="follow-up"[^>]* hidden>', html)  # no empty frame until the box is fetched
    earlier = client["viewer"].get(f"{run.get_absolute_url()}answers/1")
    assert b"Five guests say they saw it themselves." in earlier.content
    assert client["stranger"].get(f"{run.get_absolute_url()}answers/1").status_code == 404
    assert client["viewer"].get(f"{run.get_absolute_url()}answers/2").status_code == 404
    whole = client["viewer"].get(f"{run.get_absolute_url()}answer?v=1")
    assert whole.status_code == 200 and whole.content.startswith(b"**Five guests")
    assert client["viewer"].get(f"{run.get_absolute_url()}answer").status_code == 404


def test_with_a_script_it_is_asked_in_place(db: None) -> None:
    owner, client = make_user(), Client()
    run = make_run(make_workspace(owner), "done", endpoint="offline")
    client.force_login(owner)
    address = f"{run.get_absolute_url()}follow-up"
    asked = client.post(address, {"question": "And where?"}, headers={"HX-Request": "true"})
    assert "asked-further" in asked["HX-Trigger-After-Swap"]
    # The box goes, until the answer is there; the page's socket tells of the rest.
    assert re.search(rb'id="follow-up"[^>]* hidden>', asked.content) and b"<form" not in asked.content
    assert FollowUp.objects.get(run=run).question == "And where?"


def test_money_is_asked_about_first_where_the_workspace_says_so(db: None, settings: Any) -> None:
    settings.OPENAI_API_KEY, owner = "k", make_user()
    workspace = make_workspace(owner)
    workspace.confirm_above = 1.0
    workspace.save()
    run, client = make_run(workspace, "done", limits={"cost": 5.0}), Client()
    client.force_login(owner)
    address = f"{run.get_absolute_url()}follow-up"
    asked = client.post(address, {"question": "And?"})
    assert asked.status_code == 422 and b"up to $5.00" in asked.content and b">And?</textarea>" in asked.content
    assert client.post(address, {"question": "And?", "confirmed": "up to $5.00"}).status_code == 302
