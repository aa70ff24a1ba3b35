"""Jobs that a worker does beside runs: uploads and imports are read. One worker at a time has the lease of each.

It is dated and judged as a run's is (leases.py). What is written on the strength of it is written in a transaction that asks
for it first: a worker that hung, and was taken for gone, changes nothing when it wakes.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from analyses.leases import KEEPER, Watch, bind, expiry

log = logging.getLogger(__name__)

AT_ONCE = 20  # jobs of a kind that one process takes up by itself: each takes threads and connections to the database

_holds: set[Hold] = set()  # of this process
_lock = threading.Lock()


class LeaseLost(Exception):
    """Another worker has taken the job: stop writing."""


class Hold:
    """The lease of a job that nobody else has, renewed while it is held. `held` is False where it was not to be had."""

    def __init__(self, model: Any, pk: int) -> None:
        self.model, self.pk, self.token = model, pk, secrets.token_hex(16)
        self.held = False
        self._renewed = 0.0
        self._end = threading.Event()

    def __enter__(self) -> Self:
        bind(connection)
        free = self.model.objects.filter(pk=self.pk, finished_at=None, lease_expires_at=None)
        self.held = bool(free.update(lease_token=self.token, lease_expires_at=expiry()))
        self._renewed = time.monotonic()
        if self.held:
            with _lock:
                _holds.add(self)
            name = f"{KEEPER}-{self.model.__name__}-{self.pk}"
            threading.Thread(target=self._keep_beside, name=name, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        with _lock:
            _holds.discard(self)
        self.give_back()
        with contextlib.suppress(DatabaseError):
            bind(connection, bound=False)

    def _mine(self) -> Any:
        return self.model.objects.filter(pk=self.pk, lease_token=self.token)

    def give_back(self) -> None:
        """Let the next worker have it at once."""
        if self.held:
            self.held = False
            self._mine().update(lease_token="", lease_expires_at=None)

    def check(self) -> None:
        """Whether it is still held, as far as is known here. What is written asks the database: `writing`."""
        if not self.held:
            raise LeaseLost

    def keep(self, share: float = 0.25) -> None:
        """Renew it where that share of its time has passed, and check it."""
        self.check()
        now = time.monotonic()
        if now - self._renewed >= settings.LEASE_SECONDS * share:
            self.held = bool(self._mine().update(lease_expires_at=expiry()))
            self._renewed = now
        self.check()

    def _keep_beside(self) -> None:
        """While the thread that works is busy elsewhere."""
        try:
            while not self._end.wait(settings.LEASE_SECONDS / 12):
                try:
                    self.keep(1 / 3)
                except DatabaseError as error:
                    log.warning("the lease of %s %s was not renewed: %s", self.model.__name__, self.pk, error)
                    connection.close()  # the next try has a new one
        except LeaseLost:
            pass
        finally:
            connection.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that is this worker's: LeaseLost, and nothing of it stays, where the lease is not held any more."""
        with transaction.atomic():
            self.assure()
            yield

    def assure(self) -> None:
        """Inside a transaction: nobody takes the lease before its end."""
        if not self.held or not self._mine().update(lease_token=self.token):
            self.held = False
            raise LeaseLost


def give_back() -> None:
    """This process ends: others need not wait for the leases that it holds."""
    with _lock:
        holds = list(_holds)
    for hold in holds:
        hold.give_back()


class Jobs:
    """All jobs of a kind: those that nobody does are found, and done on a thread of their own each."""

    def __init__(self, model: Any, waiting: Callable[[], Any], do: Callable[[int], None]) -> None:
        self._model, self._waiting, self._do = model, waiting, do
        self._watch = Watch(lambda: model.objects.filter(finished_at=None, lease_expires_at__isnull=False))
        self._busy: set[int] = set()

    def sweep(self) -> int:
        """To be asked now and then; never long. Says how many were found."""
        open_jobs = self._model.objects.filter(finished_at=None)
        for lease in self._watch.lapsed():
            if lease.unchanged(open_jobs).update(lease_token="", lease_expires_at=None):
                log.warning("%s %s: its worker is gone; it is taken up again", self._model.__name__.lower(), lease.pk)
        with _lock:
            room = AT_ONCE - len(self._busy)
        found = list(self._waiting().filter(lease_expires_at=None).values_list("pk", flat=True)[: max(0, room)])
        for pk in found:
            self._beside(pk)
        return len(found)

    def _beside(self, pk: int) -> None:
        """Whoever sweeps has leases to renew."""
        with _lock:
            if pk in self._busy:
                return
            self._busy.add(pk)
        name = f"{self._model.__name__.lower()}-{pk}"
        threading.Thread(target=self._run, args=(pk, name), name=name, daemon=True).start()

    def _run(self, pk: int, name: str) -> None:
        try:
            self._do(pk)
        except Exception:
            log.exception("%s", name)
        finally:
            with _lock:
                self._busy.discard(pk)
            connection.close()
