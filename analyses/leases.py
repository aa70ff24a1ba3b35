"""Leases: who executes a run or does a job beside (jobs.py), and when that worker counts as gone (design.md, decision 3).

A lease is judged by whether it is renewed, as seen by the process that looks: its own steady clock, which no setting of a
machine's time moves. The date in the row, by the database's clock, only shortens the wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import BooleanField, ExpressionWrapper, F, Q
from django.db.models.functions import Coalesce, Now

from analyses.models import ENDED, FAILURES, Call, FollowUp, Run, Status
from analyses.texts import NO_ANSWER

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Hashable)

SWEEP_SECONDS = 10.0  # between two looks at what nobody does
WRITER, KEEPER = "rlmweb-writer", "rlmweb-keeper"  # how the names of threads begin whose work keeps leases
UNDER_WAY = (Status.RUNNING, Status.WAITING)


@dataclass(frozen=True)
class Lease:
    """A lease as it stood when it was read. What is done to its row on the strength of it holds only if it still does."""

    pk: int  # of the run, upload or import
    token: str
    expires_at: datetime

    def unchanged(self, rows: Any) -> Any:
        """Its row, of these; none where the lease is another by now."""
        return rows.filter(pk=self.pk, lease_token=self.token, lease_expires_at=self.expires_at)


def sweep_seconds() -> float:
    """A lease is short in tests alone: then there is less to wait for, too."""
    return min(SWEEP_SECONDS, settings.LEASE_SECONDS / 2)


def under_way() -> Any:
    """The runs that somebody executes, or did when they were last heard of."""
    return Run.objects.filter(status__in=UNDER_WAY, lease_expires_at__isnull=False)


def expiry() -> Any:
    """When a lease that is renewed now runs out."""
    return Now() + timedelta(seconds=settings.LEASE_SECONDS)


def lease_of(run_id: int) -> Lease | None:
    """The lease under which a run is executed."""
    rows = under_way().filter(pk=run_id)
    return next((Lease(*row) for row in rows.values_list("pk", "lease_token", "lease_expires_at")), None)


@transaction.atomic
def claim(run_id: int, token: str, sandbox: dict[str, Any], worker: str = "") -> Run | None:
    """Take the lease of a queued run by one conditional update; None where somebody else was first.

    ``worker``: who asks. A follow-up is left for a few seconds to the one that holds its run's REPL.
    """
    ours = Q(warm_worker__in=["", worker]) | Q(warm_until__lt=Now())
    taken = Run.objects.filter(ours, pk=run_id, status=Status.QUEUED, lease_token="").update(
        status=Status.RUNNING,
        lease_token=token,
        lease_expires_at=expiry(),
        started_at=Coalesce(F("started_at"), Now()),
        sandbox=sandbox,
        warm_worker="",
        warm_until=None,
        seq=F("seq") + 1,
    )
    if not taken:
        return None
    run = Run.objects.select_related("corpus_version__corpus").get(pk=run_id)
    if (follow_up := run.newest_follow_up()) is not None:
        _reopen_root(run, follow_up)
    return run


def _reopen_root(run: Run, follow_up: FollowUp) -> None:
    """The root call goes on with the follow-up; what it had answered stands in the earlier answers."""
    root = Call.objects.filter(run=run, number=1, status__in=ENDED, seq__lt=follow_up.born).first()
    if root is None:
        return  # it has gone on with it before
    if root.status in FAILURES and run.failed_calls:
        run.failed_calls -= 1
        run.save(update_fields=["failed_calls"])
    fields = {"status": Status.RUNNING, "reason": "", "finished_at": None, "seq": run.seq}
    Call.objects.filter(pk=root.pk).update(**fields | NO_ANSWER)


def claim_orphan(lease: Lease, token: str, sandbox: dict[str, Any]) -> Run | None:
    """Take over a run whose worker is gone; None where somebody else was first, or its worker woke up."""
    taken = lease.unchanged(under_way()).update(
        lease_token=token, lease_expires_at=expiry(), attempts=F("attempts") + 1, sandbox=sandbox
    )
    if not taken:
        return None
    log.warning("run %s: its worker is gone; it is taken up here", lease.pk)
    return Run.objects.select_related("corpus_version__corpus").get(pk=lease.pk)


def rest(run: Run, reason: str) -> bool:
    """Let go of a run until a person says that it may go on; False where it was not ours any more."""
    mine = Run.objects.filter(pk=run.pk, lease_token=run.lease_token, status__in=UNDER_WAY)
    return bool(
        mine.update(
            status=Status.PAUSED,
            reason=reason,
            pause_requested_at=Now(),
            lease_token="",
            lease_expires_at=None,
            seq=F("seq") + 1,
        )
    )


def bound_waits(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Each new connection of those who keep leases."""
    if threading.current_thread().name.startswith((WRITER, KEEPER)):
        bind(connection)


def bind(connection: BaseDatabaseWrapper, bound: bool = True) -> None:
    """On PostgreSQL, a worker that hangs in the middle of a transaction must not hold up the others' leases for ever.

    Its transaction is ended by the server; whoever keeps leases waits for nobody for long. ``bound`` False: as it was.
    """
    if connection.vendor == "postgresql":
        to = int(settings.LEASE_SECONDS * 250) if bound else "DEFAULT"
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = {to}; SET lock_timeout = {to}")


connection_created.connect(bound_waits, dispatch_uid="rlmweb-leases")


class Still:
    """Since when things stand as they do, by this process's steady clock. To be told of all of them every ``every`` seconds."""

    def __init__(self, every: Callable[[], float] = sweep_seconds) -> None:
        self._every = every
        self._looked = float("-inf")
        self._since: dict[Any, float] = {}

    def seconds(self, things: Iterable[T]) -> dict[T, float]:
        """For how long each has been seen to stand so."""
        now = time.monotonic()
        # After a gap (the database was away, this process hung) nobody knows who could not stir either.
        known = self._since if now - self._looked < 2.5 * self._every() else {}
        self._looked, self._since = now, {thing: known.get(thing, now) for thing in things}
        return {thing: now - since for thing, since in self._since.items()}


class Watch:
    """Sees which leases are no longer renewed, of all rows that ``held`` gives. To be asked every ``every`` seconds."""

    def __init__(self, held: Callable[[], Any] = under_way, every: Callable[[], float] = sweep_seconds) -> None:
        self._held, self._still = held, Still(every)

    def lapsed(self, but: Collection[int] = ()) -> list[Lease]:
        """The leases whose workers are gone, but for those of these rows."""
        over = ExpressionWrapper(Q(lease_expires_at__lt=Now()), output_field=BooleanField())
        rows = self._held().exclude(pk__in=but).annotate(over=over)
        found = {
            Lease(pk, token, expires_at): is_over
            for pk, token, expires_at, is_over in rows.values_list("pk", "lease_token", "lease_expires_at", "over")
        }
        # A living worker renews every quarter: half of it in silence is enough where the date has passed too.
        return [
            lease
            for lease, seconds in self._still.seconds(found).items()
            if seconds >= settings.LEASE_SECONDS / (2 if found[lease] else 1)
        ]
