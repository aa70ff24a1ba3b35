"""Usage of a month: the sums, the page and the CSV."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from analyses.budgets import Month
from analyses.usage import usage
from tests.workspaces.cast import Cast, make_cast, make_plain_run

NOVEMBER = Month.of(datetime(2025, 11, 5, tzinfo=UTC))


@pytest.fixture
def cast(db: None) -> Cast:
    cast = make_cast()
    used(cast, 1, cast.ed, 1.5, 1000)
    used(cast, 1, cast.ed, 0.5, 500)
    used(cast, 30, cast.adam, 4.0, 100, endpoint="Desk", root_model="=big")
    used(cast, 30, None, None, 50)
    used(cast, 30, cast.ed, 99.0, 1, imported_from="rlmweb")
    make_plain_run(cast.workspace, created_at=datetime(2025, 12, 1, tzinfo=UTC), cost=99.0)
    make_plain_run(cast.elsewhere, created_at=datetime(2025, 11, 1, tzinfo=UTC), cost=99.0)
    return cast


def used(cast: Cast, day: int, who: Any, cost: float | None, tokens: int, **fields: Any) -> None:
    start: dict[str, Any] = {"endpoint": "default", "root_model": "atlas-large", "child_model": "atlas-mini"}
    make_plain_run(
        cast.workspace, created_at=datetime(2025, 11, day, 23, 59, tzinfo=UTC), created_by=who, cost=cost,
        prompt_tokens=tokens, completion_tokens=10, **(start | fields),
    )  # fmt: skip


def test_the_sums_by_member_model_and_day(cast: Cast, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(4):
        found = usage(cast.workspace, NOVEMBER)
    assert (found.total.runs, found.total.cost, found.total.tokens, found.total.unknown) == (4, 6.0, 1690, 1)
    members = [(line.name, line.runs, line.cost, line.part) for line in found.members]
    assert members == [("Adam", 1, 4.0, 100.0), ("Ed", 2, 2.0, 50.0), ("somebody whose account is gone", 1, 0.0, 0.0)]
    assert [(line.name, line.cost) for line in found.models] == [
        ("Desk: =big, children atlas-mini", 4.0),
        ("default: atlas-large, children atlas-mini", 2.0),
    ]
    days = [(day.at.day, day.cost, day.part) for day in found.days if day.at and day.runs]
    assert days == [(1, 2.0, 50.0), (30, 4.0, 100.0)]
    assert len(found.days) == 30


def test_where_nothing_cost_anything_the_bars_are_of_tokens(cast: Cast) -> None:
    cast.workspace.runs.update(cost=0.0)
    found = usage(cast.workspace, NOVEMBER)
    assert found.by_tokens
    assert [line.part for line in found.members] == [100.0, 7.2, 3.9]


def test_the_page_has_a_bar_for_each_day_and_leads_to_other_months(cast: Cast) -> None:
    page = cast.client(cast.vera).get(cast.url("usage/?month=2025-11")).content.decode()
    assert "November 2025" in page
    assert len(re.findall(r'<rect class="is-bar"', page)) == 30
    assert "1 November: $2.00, 1.5 k tokens, 2 runs" in page
    assert 'href="?month=2025-10"' in page
    assert 'href="?month=2025-12"' in page
    assert "style=" not in page
    assert "What 1 run cost is not known" in page


@pytest.mark.parametrize("month", ["", "2025-13", "x", "0001-01", "9999-01", "%00"])
def test_a_month_that_is_none_is_the_present_one(cast: Cast, month: str) -> None:
    page = cast.client(cast.vera).get(cast.url(f"usage/?month={month}")).content.decode()
    assert f"{Month.of().start:%B %Y}" in page
    assert "Nothing was asked in this month." in page


def test_the_csv_has_every_group_and_no_formula(cast: Cast) -> None:
    response = cast.client(cast.vera).get(cast.url("usage/?month=2025-11&as=csv"))
    assert 'filename="usage-' in response.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))  # type: ignore[attr-defined]
    assert len(rows) == 3
    assert {row["root_model"] for row in rows} == {"atlas-large", "'=big"}
    assert [row["cost"] for row in rows if row["member"] == "ed@example.com"] == ["2.0"]
