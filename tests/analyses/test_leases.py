"""When a worker counts as gone: judged by what it does, not by what some clock says."""

from __future__ import annotations

import threading
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from analyses import leases
from analyses.jobs import Hold
from analyses.leases import Watch, claim_orphan, expiry, lease_of
from analyses.models import Import, Run
from tests.factories import make_run, make_workspace

pytestmark = pytest.mark.django_db


class Time:
    """A steady clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    one = Time()
    monkeypatch.setattr(leases, "time", one)
    return one


def held(ahead: float) -> Run:
    """A run under way whose lease runs out so many seconds from now, by the clock of whoever wrote it."""
    return make_run(status="running", lease_token="mine", lease_expires_at=timezone.now() + timedelta(seconds=ahead))


def sweeps(watch: Watch, time: Time, seconds: float, every: float = 10) -> list[int]:
    """What a worker that sweeps finds in the end."""
    found = watch.lapsed(but=())
    for _ in range(int(seconds / every)):
        time.now += every
        found = watch.lapsed(but=())
    return [lease.pk for lease in found]


def test_a_lease_that_ran_out_is_seen_at_the_second_look(time: Time) -> None:
    run = held(-5)
    watch = Watch(every=lambda: 10)
    assert watch.lapsed(but=()) == []
    assert sweeps(Watch(every=lambda: 10), time, 10) == [run.pk]


def test_a_lease_is_over_after_its_time_though_its_date_lies_far_ahead(time: Time) -> None:
    """Its worker's clock, or the database's, was set back since."""
    run = held(3600)
    assert sweeps(Watch(every=lambda: 10), time, 10) == []
    assert sweeps(Watch(every=lambda: 10), time, 20) == [run.pk]


def test_a_lease_that_is_renewed_is_held_though_its_date_has_passed(time: Time) -> None:
    """Its worker's clock is an hour late."""
    run = held(-3600)
    watch = Watch(every=lambda: 10)
    for n in range(8):
        Run.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=3600 - n))
        assert watch.lapsed(but=()) == []
        time.now += 5


def test_a_gap_in_the_watch_proves_nothing(time: Time) -> None:
    """Where the database was away, whoever holds the run could not renew either."""
    held(-5)
    watch = Watch(every=lambda: 10)
    watch.lapsed(but=())
    time.now += 60
    assert watch.lapsed(but=()) == []
    time.now += 10
    assert watch.lapsed(but=()) != []


@pytest.mark.django_db(transaction=True)
def test_the_lease_of_a_job_is_renewed_after_its_connection_broke(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LEASE_SECONDS = 3
    made = Import.objects.create(workspace=make_workspace())
    keep, broke = Hold.keep, threading.Event()

    def breaks(self: Hold, share: float = 0.25) -> None:
        if not broke.is_set():
            broke.set()
            connection.ensure_connection()
            connection.connection.close()  # as a database that is started again does
        keep(self, share)

    monkeypatch.setattr(Hold, "keep", breaks)

    def expires_at() -> Any:
        return Import.objects.values_list("lease_expires_at", flat=True).get(pk=made.pk)

    with Hold(Import, made.pk) as hold:
        begun, end = expires_at(), monotonic() + 30
        while expires_at() == begun:
            assert monotonic() < end
            sleep(0.05)
        assert hold.held and broke.is_set()


def test_a_worker_that_woke_up_in_time_keeps_its_run(time: Time) -> None:
    run = held(-5)
    seen = lease_of(run.pk)
    assert seen is not None
    Run.objects.filter(pk=run.pk).update(lease_expires_at=expiry())
    assert claim_orphan(seen, "other", {}) is None
    renewed: Any = lease_of(run.pk)
    assert renewed.token == "mine" and renewed.expires_at > timezone.now()
    assert claim_orphan(renewed, "other", {}) is not None
    assert claim_orphan(renewed, "third", {}) is None
