"""The moments of a run, for its replay: what they hold, how small they are, who gets them."""

from __future__ import annotations

import gzip
import json

import pytest
from django.test import Client

from analyses import moments
from tests.factories import make_run, make_user, make_workspace

pytestmark = pytest.mark.django_db


def test_moments_are_milliseconds_from_the_roots_start() -> None:
    run = make_run(shape="done")
    found = moments.moments(run)
    root = run.call_set.get(number=1)
    calls, cells = found["calls"], found["cells"]
    assert (
        calls["number"] == [1, 2, 3, 4, 5]
        and calls["parent"] == [0, 1, 1, 1, 1]
        and calls["parent_cell"][1:] == [4] * 4
    )
    assert calls["queued"][0] == calls["started"][0] == 0
    assert found["span"] == calls["finished"][0] == round(1000 * (root.finished_at - root.started_at))
    assert cells["call"][:2] == [1, 1] and cells["tokens"][0] == 2240 and cells["cost"][0] == 9000
    assert len({len(column) for column in cells.values()}) == 1


def test_run_that_never_began_has_no_moments() -> None:
    assert moments.moments(make_run())["span"] == 0


def test_follow_ups_are_asked_when_their_first_turn_begins() -> None:
    found = moments.moments(make_run(shape="further"))
    cells = found["cells"]
    seventh = next(n for n, call in enumerate(cells["call"]) if call == 1 and cells["number"][n] == 7)
    assert found["further"] == [cells["started"][seventh], found["span"]]  # the second has not been taken up
    assert moments.moments(make_run(shape="done"))["further"] == []


def test_unknown_costs_and_what_never_came_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(shape="running")
    run.cell_set.filter(number=1, call_number=1).update(cost=None)
    found = moments.moments(run)
    assert found["cells"]["cost"][0] == -1 and -1 in found["calls"]["finished"] and not found["cut"]
    monkeypatch.setattr(moments, "CELLS_MOST", 3)
    found = moments.moments(run)
    assert found["cut"] and len(found["cells"]["call"]) == 3


def test_moments_are_for_who_sees_the_run_and_packed_where_that_is_understood() -> None:
    owner, stranger = make_user(), make_user()
    run = make_run(make_workspace(owner), "done")
    path = run.get_absolute_url() + "replay"
    clients = {user: Client() for user in (owner, stranger)}
    for user, client in clients.items():
        client.force_login(user)
    plain = clients[owner].get(path)
    assert plain.json() == moments.moments(run) and "Content-Encoding" not in plain
    packed = clients[owner].get(path, headers={"accept-encoding": "br, gzip"})
    assert packed["Content-Encoding"] == "gzip" and json.loads(gzip.decompress(packed.content)) == plain.json()
    assert clients[stranger].get(path).status_code == 404
    share = run.shares.create()
    assert Client().get(share.get_absolute_url() + "replay").json()["span"] > 0
