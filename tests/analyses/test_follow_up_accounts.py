"""What follow-ups cost is counted for who asked them and when, against budgets and on the page of usage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from analyses import deletion
from analyses.budgets import Month, standings
from analyses.follow_ups import ask_follow_up
from analyses.models import FollowUp, Run
from analyses.usage import usage
from rlm.endpoints import Endpoint
from tests.factories import make_run, make_user, make_workspace
from workspaces.models import Budget

PAID = Endpoint(name="paid", base_url="http://127.0.0.1:9/v1", root_model="m")


@pytest.fixture
def asked(db: None) -> tuple[Run, Any, Any]:
    """A run that cost its asker $1, two months ago; a follow-up by another member, that has used $0.50 of $3 so far."""
    owner, other = make_user(), make_user()
    workspace = make_workspace(owner, editor=other)
    Budget.objects.create(workspace=workspace, of=Budget.Of.WORKSPACE, cost=20.0)
    Budget.objects.create(workspace=workspace, of=Budget.Of.MEMBER, cost=10.0)
    run = make_run(
        workspace, "done", endpoint="paid", created_by=owner, limits={"cost": 3.0},
        created_at=timezone.now() - timedelta(days=62),
    )  # fmt: skip
    Run.objects.filter(pk=run.pk).update(cost=1.0, prompt_tokens=1000, completion_tokens=0)
    run.refresh_from_db()
    follow_up = ask_follow_up(run, other, "And?", endpoint=PAID, wake=False)
    FollowUp.objects.filter(pk=follow_up.pk).update(cost=0.5, prompt_tokens=300)
    Run.objects.filter(pk=run.pk).update(cost=1.5, prompt_tokens=1300)
    run.refresh_from_db()
    return run, owner, other


def test_budgets_count_a_follow_up_for_who_asked_it_and_when(asked: tuple[Run, Any, Any]) -> None:
    run, owner, other = asked
    for user, member in ((owner, (0.0, 0.0)), (other, (0.0, 3.0))):
        whole, own = standings(run.workspace, user)
        assert (whole.used_cost, whole.held_cost) == (0.0, 3.0)
        assert (own.used_cost, own.held_cost) == member
    [whole, own] = standings(run.workspace, owner, run.created_at)
    assert (whole.used_cost, own.used_cost, whole.held_cost) == (1.0, 1.0, 0.0)
    Run.objects.filter(pk=run.pk).update(status="done")
    [whole, own] = standings(run.workspace, other)
    assert (whole.used_cost, whole.held_cost, own.used_cost) == (0.5, 0.0, 0.5)


def test_usage_shows_it_there_and_keeps_it_when_the_run_is_deleted(asked: tuple[Run, Any, Any]) -> None:
    run, owner, other = asked
    Run.objects.filter(pk=run.pk).update(status="done")
    month, before = Month.of(), Month.of(run.created_at)
    for _ in range(2):
        now, then = usage(run.workspace, month), usage(run.workspace, before)
        assert (now.total.cost, now.total.tokens, now.total.runs) == (0.5, 300, 0)
        assert (then.total.cost, then.total.tokens, then.total.runs) == (1.0, 1000, 1)
        assert [line.name for line in now.members] == [other.email]
        if Run.objects.filter(pk=run.pk).exists():
            deletion.delete_run(Run.objects.get(pk=run.pk))


def test_a_run_is_found_by_its_follow_ups_and_says_how_many_it_has(asked: tuple[Run, Any, Any]) -> None:
    run, owner, _ = asked
    client = Client()
    client.force_login(owner)
    FollowUp.objects.filter(run=run).update(question="And the harbourmaster?")
    found = client.get(f"/w/{run.workspace.slug}/runs/?q=harbourmaster").content.decode()
    assert run.key in found and "1 follow-up" in found
    page = client.get(f"{run.get_absolute_url()}search?q=harbourmaster").content.decode()
    assert "#follow-up-2" in page
    page = client.get(f"{run.get_absolute_url()}search?q=Perpetua").content.decode()
    assert "#answer-1" in page


@pytest.mark.firejail
@pytest.mark.django_db(transaction=True)
def test_the_command_asks_further_and_the_offline_model_answers_the_new_question(
    capsys: Any, settings: Any, tmp_path: Any
) -> None:
    text = tmp_path / "light.txt"
    text.write_text(
        "Perpetua Vane keeps the lighthouse at Gullwick.\n\nIgnatius Plum bakes bread in the harbour.\n" * 3
    )
    with pytest.raises(SystemExit):
        call_command("ask", "--question", "Who keeps the lighthouse?", "--json", str(text))
    run = Run.objects.get()
    assert run.status == "done" and "Perpetua" in str(run.answer_display), run.reason
    capsys.readouterr()
    with pytest.raises(SystemExit):
        call_command("ask", "--follow-up", run.key, "--question", "Who bakes bread?", "--json")
    run.refresh_from_db()
    assert run.status == "done" and run.follow_ups == 1, run.reason
    assert "Ignatius" in str(run.answer_display)
    assert '"status": "done"' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call_command("ask", "--follow-up", "nowhere", "--question", "Who?", "--json")
    assert "There is no run" in capsys.readouterr().out
