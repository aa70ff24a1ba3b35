"""Budgets of a month: what binds, what is set aside and settled, and what the ask page says and asks."""

from __future__ import annotations

import html
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from analyses.actions import RunRefused, start_run
from analyses.budgets import Month, _within, standings
from analyses.estimates import estimate
from analyses.models import Run, Status
from rlm.limits import Limits
from tests.workspaces.cast import Cast, make_cast, make_corpus, make_plain_run
from workspaces.audit import Did
from workspaces.models import AuditEntry, Budget


@pytest.fixture(autouse=True)
def openai(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-secret-of-the-operator"
    settings.OPENAI_MODEL, settings.OPENAI_SUB_MODEL = "atlas-large", "atlas-mini"


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


def budget(cast: Cast, of: str = "workspace", user: Any = None, **sums: Any) -> Budget:
    return Budget.objects.create(workspace=cast.workspace, of=of, user=user, **sums)


def paid(cast: Cast, cost: float | None = 1.0, tokens: int = 0, **fields: Any) -> Run:
    start: dict[str, Any] = {"status": Status.DONE, "endpoint": "default", "limits": Limits().as_dict()}
    return make_plain_run(cast.workspace, cost=cost, prompt_tokens=tokens, **(start | fields))


def asked(cast: Cast, user: Any = None, **limits: Any) -> dict[str, Any]:
    run = start_run(cast.workspace, user or cast.ed, question="q", endpoint="default", limits=limits, wake=False)
    return dict(run.limits)


def page(response: Any) -> str:
    whole = re.sub(r"</?(td|th|tr)\b[^>]*>", " ", response.content.decode())
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", whole)).split())


def test_without_a_budget_a_run_keeps_its_limits(cast: Cast) -> None:
    paid(cast, 1000.0)
    assert asked(cast) == Limits().as_dict()


def test_a_run_gets_no_more_than_is_left(cast: Cast) -> None:
    budget(cast, cost=10.0)
    paid(cast, 8.5)
    assert asked(cast, cost=2.0)["cost"] == 1.5
    Run.objects.filter(status=Status.QUEUED).update(status=Status.DONE, cost=0.25)  # settled: the hold is let go
    assert asked(cast, cost=None)["cost"] == 1.25


def test_holds_of_runs_under_way_count_and_nothing_left_is_refused(cast: Cast) -> None:
    budget(cast, cost=3.0)
    assert asked(cast, cost=2.0)["cost"] == 2.0
    assert asked(cast, cost=2.0)["cost"] == 1.0
    with pytest.raises(RunRefused) as refusal:
        asked(cast)
    words = "Nothing is left of the workspace’s budget of this month, $3.00: $0.00 used, $3.00 set aside"
    assert str(refusal.value).startswith(words)
    assert Run.objects.count() == 2


def test_a_run_that_has_used_more_than_its_limit_holds_what_it_used(cast: Cast) -> None:
    budget(cast, cost=3.0)
    paid(cast, 2.5, status=Status.RUNNING, limits={"cost": 2.0})
    assert standings(cast.workspace)[0].cost_left == 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {"imported_from": "rlmweb"},
        {"endpoint": "offline"},
        {"created_at": Month.of().start - timedelta(seconds=1)},
        {"created_at": Month.of().end},
    ],
)
def test_what_does_not_count(cast: Cast, fields: dict[str, Any]) -> None:
    budget(cast, cost=1.0)
    paid(cast, 5.0, **fields)
    assert standings(cast.workspace)[0].cost_left == 1.0


def test_another_workspaces_runs_do_not_count(cast: Cast) -> None:
    budget(cast, cost=1.0)
    make_plain_run(cast.elsewhere, cost=5.0, endpoint="default", status=Status.DONE)
    assert standings(cast.workspace)[0].cost_left == 1.0


def test_the_offline_model_is_asked_however_little_is_left(cast: Cast) -> None:
    budget(cast, cost=0.0)
    start_run(cast.workspace, cast.ed, question="q", endpoint="offline", wake=False)
    with pytest.raises(RunRefused):
        asked(cast)


def test_unknown_costs_count_by_their_tokens(cast: Cast) -> None:
    budget(cast, cost=5.0, tokens=1000)
    paid(cast, None, tokens=400)
    standing = standings(cast.workspace)[0]
    assert (standing.cost_left, standing.tokens_left) == (5.0, 600)
    limits = asked(cast)
    assert limits["prompt_tokens"] + limits["completion_tokens"] == 600


def test_a_member_has_everybodys_budget_or_their_own(cast: Cast) -> None:
    budget(cast, "member", cost=1.0)
    budget(cast, "member", user=cast.adam, cost=4.0)
    paid(cast, 0.75, created_by=cast.ed)
    assert asked(cast, cast.ed)["cost"] == 0.25
    assert asked(cast, cast.alice)["cost"] == 1.0
    assert asked(cast, cast.adam)["cost"] == 2.0
    with pytest.raises(RunRefused, match="your budget of this month"):
        asked(cast, cast.ed)


def test_a_budget_of_each_run_lowers_its_limits_alone(cast: Cast) -> None:
    budget(cast, "run", cost=0.5, tokens=70_000)
    paid(cast, 100.0)
    for _ in range(3):
        limits = asked(cast)
        assert (limits["cost"], limits["prompt_tokens"], limits["completion_tokens"]) == (0.5, 60_000, 10_000)


@pytest.mark.parametrize("prompt", [None, 0, 1000, 3_000_000])
@pytest.mark.parametrize("reply", [None, 0, 1000, 500_000])
@pytest.mark.parametrize("tokens", [1, 6, 7, 5000, 10_000_000])
def test_prompts_and_replies_together_stay_within_the_tokens(
    prompt: int | None, reply: int | None, tokens: int
) -> None:
    limits = _within(Limits(prompt_tokens=prompt, completion_tokens=reply), tokens)
    assert limits.prompt_tokens is not None
    assert limits.completion_tokens is not None
    assert 0 <= limits.prompt_tokens + limits.completion_tokens <= tokens
    if prompt is not None and reply is not None and prompt + reply <= tokens:
        assert (limits.prompt_tokens, limits.completion_tokens) == (prompt, reply)


def test_months_are_those_of_the_calendar_in_utc() -> None:
    month = Month.of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    assert (month.start, month.end) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert Month.of(month.end).start == month.end


@pytest.mark.django_db(transaction=True)
def test_of_two_who_ask_at_once_the_second_sees_what_the_first_set_aside() -> None:
    cast = make_cast()
    budget(cast, cost=3.0)
    together = threading.Barrier(4)
    got: list[float | None] = []

    def one() -> None:
        together.wait()
        try:
            got.append(asked(cast, cost=2.0)["cost"])
        except RunRefused:
            got.append(None)
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=lambda cost: cost or 0) == [None, None, 1.0, 2.0]


# — pages —


def test_budgets_are_set_by_admins_and_stand_in_the_audit(cast: Cast) -> None:
    client = cast.client(cast.adam)
    given = {"workspace_cost": "$50", "workspace_tokens": "3,000,000", "run_cost": "2.5", "confirm_above": "1"}
    response = client.post(cast.url("settings/budgets/"), given, follow=True)
    assert "The workspace, money $50.00 $0.00 used $0.00 set aside $50.00 left" in page(response)
    rows = cast.workspace.budgets.order_by("of").values_list("of", "cost", "tokens")
    assert list(rows) == [("run", 2.5, None), ("workspace", 50.0, 3_000_000)]
    entry = AuditEntry.objects.get(action=Did.CHANGED_BUDGET.value)
    assert entry.details == {
        "workspace_cost": 50.0, "workspace_tokens": 3_000_000, "run_cost": 2.5, "confirm_above": 1.0,
    }  # fmt: skip
    client.post(cast.url("settings/budgets/"), {})
    cast.workspace.refresh_from_db()
    assert (cast.workspace.budgets.count(), cast.workspace.confirm_above) == (0, None)


def test_a_budget_that_is_no_number_is_refused_and_kept_in_the_form(cast: Cast) -> None:
    response = cast.client(cast.adam).post(cast.url("settings/budgets/"), {"workspace_cost": "plenty"})
    assert response.status_code == 422
    assert "“plenty” is not a number." in page(response)
    assert not Budget.objects.exists()


def test_a_member_is_given_a_budget_and_it_is_taken_back(cast: Cast) -> None:
    client = cast.client(cast.alice)
    member = cast.workspace.members.get(user=cast.ed)
    response = client.post(cast.url("settings/budgets/member"), {"member": member.pk, "cost": "4"}, follow=True)
    assert "Ed has a budget of their own." in page(response)
    assert cast.workspace.budgets.get(user=cast.ed).cost == 4.0
    client.post(cast.url("settings/budgets/member"), {"member": member.pk})
    assert not Budget.objects.exists()
    other = cast.elsewhere.members.get()
    assert client.post(cast.url("settings/budgets/member"), {"member": other.pk, "cost": "4"}).status_code == 422


def test_what_is_left_stands_on_the_ask_page_and_nothing_left_is_said(cast: Cast) -> None:
    budget(cast, cost=50.0, tokens=1_000_000)
    paid(cast, 8.8)
    client = cast.client(cast.ed)
    assert "$41.20 and 1.00 M tokens of this month’s budget are left." in page(client.get(cast.url()))
    Run.objects.update(cost=50.0)
    response = client.post(cast.url(), {"question": "Who?", "endpoint": "default"})
    assert response.status_code == 422
    assert "Nothing is left of the workspace’s budget of this month, $50.00" in page(response)
    assert "Who?" in page(response)


# — estimates —


def past(cast: Cast, costs: list[float | None], characters: int = 0, **fields: Any) -> None:
    version = None
    if characters:
        version = make_corpus(cast.workspace).latest
        version.characters = characters  # type: ignore[union-attr]
        version.save()  # type: ignore[union-attr]
    for n, cost in enumerate(costs, 1):
        paid(cast, cost, seconds=float(n), corpus_version=version, **fields)


def test_an_estimate_is_the_median_and_what_95_of_100_stay_under(cast: Cast) -> None:
    past(cast, [n / 100 for n in range(1, 101)], characters=1_000_000)
    found = estimate(cast.workspace, strategy="rlm", endpoint="default", characters=2_000_000)
    assert found is not None
    assert (found.runs, found.sized, found.cost_most, found.seconds_most) == (100, True, 0.95, 95.0)
    assert found.cost == pytest.approx(0.505)


def test_an_estimate_compares_like_with_like(cast: Cast) -> None:
    past(cast, [1.0] * 5, characters=1_000_000)
    past(cast, [5.0] * 5, characters=10_000_000)
    past(cast, [9.0] * 5)
    past(cast, [77.0] * 9, strategy="react")
    past(cast, [77.0] * 9, endpoint="other")
    past(cast, [77.0] * 9, status=Status.FAILED)
    past(cast, [77.0] * 9, imported_from="rlmweb")
    costs = {}
    for characters in (0, 900_000, 12_000_000, 50):
        found = estimate(cast.workspace, strategy="rlm", endpoint="default", characters=characters)
        assert found is not None
        costs[characters] = (found.cost, found.sized)
    assert costs == {0: (9.0, True), 900_000: (1.0, True), 12_000_000: (5.0, True), 50: (5.0, False)}
    assert estimate(cast.workspace, strategy="direct", endpoint="default", characters=0) is None


def test_unknown_costs_leave_the_time(cast: Cast) -> None:
    past(cast, [None] * 5)
    found = estimate(cast.workspace, strategy="rlm", endpoint="default", characters=0)
    assert found is not None
    assert (found.cost, found.cost_most, found.seconds) == (None, None, 3.0)
    assert "Likely 0:03; under 0:05 in 95 of 100 like it." in page(cast.client(cast.ed).get(cast.url()))


def test_the_estimate_follows_what_is_chosen(cast: Cast) -> None:
    past(cast, [0.5] * 6, strategy="react")
    client = cast.client(cast.vera)
    assert "Too few runs like it" in page(client.get(cast.url()))
    part = client.get(cast.url("estimate?corpus=&strategy=react&endpoint=default"))
    assert part.content.decode().lstrip().startswith("Likely <b>")  # what stands inside the line, which stays
    assert "Likely $0.500 and 0:03; under $0.500 and 0:06 in 95 of 100 like it. From 6 runs" in page(part)
    assert "Costs nothing." in page(client.get(cast.url("estimate?endpoint=offline")))
    assert client.get(cast.url("estimate?endpoint=%00&corpus=x&strategy=y")).status_code == 200


@pytest.mark.parametrize(("cost", "said"), [("2.00", "up to $2.00"), ("", "any amount")])
def test_a_dear_question_is_asked_about_first(cast: Cast, cost: str, said: str) -> None:
    cast.workspace.confirm_above = 1.0
    cast.workspace.save()
    client = cast.client(cast.ed)
    given = {"question": "Who?", "endpoint": "default", "limit_cost": cost}
    response = client.post(cast.url(), given)
    assert response.status_code == 422
    assert f"This may cost {said}" in page(response)
    assert not Run.objects.exists()
    confirmed = re.findall(r'name="confirmed" value="([^"]+)"', response.content.decode())
    assert client.post(cast.url(), given | {"confirmed": "up to $0.10"}).status_code == 422  # of another question
    assert client.post(cast.url(), given | {"confirmed": html.unescape(confirmed[0])}).status_code == 302


def test_a_question_that_has_cost_little_so_far_is_not_asked_about(cast: Cast) -> None:
    cast.workspace.confirm_above = 1.0
    cast.workspace.save()
    client = cast.client(cast.ed)
    assert client.post(cast.url(), {"question": "q", "endpoint": "offline"}).status_code == 302
    assert client.post(cast.url(), {"question": "q", "endpoint": "default", "limit_cost": "1"}).status_code == 302
    past(cast, [0.1] * 20)
    assert client.post(cast.url(), {"question": "q", "endpoint": "default"}).status_code == 302


def test_standings_take_five_queries(cast: Cast, django_assert_num_queries: Any) -> None:
    budget(cast, cost=1.0)
    budget(cast, "member", cost=1.0)
    with django_assert_num_queries(5):
        assert len(standings(cast.workspace, cast.ed, timezone.now())) == 2
