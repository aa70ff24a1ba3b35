"""The worker: one event loop a process on which all its runs are executed, and a keeper thread that holds
their leases, sees stop requests and sweeps for queued runs (design.md, decisions 3 and 4).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from redis.exceptions import RedisError

from analyses import deletion, ingest, jobs, live, outage, retention
from analyses.execution import Clients, execute
from analyses.leases import KEEPER, Lease, Watch, claim, claim_orphan, expiry, sweep_seconds, under_way
from analyses.models import Run, Status
from analyses.recorder import REFUSALS, Writer, close_rows, close_unheld
from analyses.trajectory import intake
from analyses.wakeups import wake_worker
from analyses.warmth import Warmth
from rlm.endpoints import Endpoint
from rlm.engine import Control, WarmRepl
from sandbox import JailPool, SandboxUnavailable
from sandbox.extraction import probe_extraction

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_SECONDS = 0.5  # between two looks at stop requests
SHUT_DOWN_SECONDS = 3.3  # for all of it: the supervisor kills after 4
MOST_ATTEMPTS = 3  # to take a run up again with nothing new recorded between; then it has failed
PAUSE_SECONDS = 60.0  # how long a paused run's requests under way may go on, before they are given up
PROBE_SECONDS = 60.0  # between two tries of a sandbox that did not work
WORKER_EXPIRES = 15  # seconds: a worker silent for longer counts as dead
STOPPED = "Stopped by a member."
GIVEN_UP = (
    f"The worker that executed this run died {MOST_ATTEMPTS} times in a row without coming any further. "
    "All that was written is kept."
)


@dataclass
class _Held:
    """A run that this process holds: the token of its lease, and how to end it."""

    token: str
    control: Control = field(default_factory=Control)
    done: concurrent.futures.Future[None] | None = None
    pausing_since: float | None = None
    expires_at: datetime | None = None  # as the row said last
    renewed: float = 0.0  # monotonic: when that was seen to change


class Worker:
    """Executes runs in this process. Thread-safe; ``start`` before use, ``close`` once.

    With ``serving`` it also probes the sandbox, sweeps for work and says that it lives; without, it executes
    what it is given (the command line).
    """

    def __init__(self, *, serving: bool = True) -> None:
        self._serving = serving
        self._live = bool(settings.REDIS_URL)
        self._loop = asyncio.new_event_loop()
        self._held: dict[int, _Held] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._writer = Writer()
        self._clients = Clients()
        self._warmth = Warmth()
        self._tidier: threading.Thread | None = None
        self._watch = Watch()
        self._probed = threading.Event()  # the first self-test of the sandbox is over, however it ended
        self._probing: concurrent.futures.Future[None] | None = None
        self._next_probe = 0.0
        self._next_word = 0.0  # when to say again that this worker lives
        self.sandbox: dict[str, Any] = {"ok": False, "reason": "not probed yet"}
        self.reads_files = True  # the jail for PDFs and such holds here, as far as is known

    # — life —

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, name="rlmweb-loop", daemon=True)
        self._thread.start()
        self._pool = asyncio.run_coroutine_threadsafe(self._make_pool(), self._loop).result()
        self._keeper = threading.Thread(target=self._keep, name=KEEPER, daemon=True)
        self._keeper.start()

    async def _make_pool(self) -> JailPool:
        spare = settings.SANDBOX_SPARE if self._serving else 0
        prefix = Path(settings.SANDBOX_PREFIX) if settings.SANDBOX_PREFIX else None
        return JailPool(backend=settings.SANDBOX_BACKEND, prefix=prefix, spare=spare)

    def close(self) -> None:
        """Give every run back to the queue as it is, then end the jails. Waits for no model: a few seconds in all.

        A worker of the command line stops its one run: nobody else has its endpoint.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        with self._lock:
            held = list(self._held.values())
            given_back = list(self._held) if self._serving else []
        for one in held:
            if self._serving:
                self._loop.call_soon_threadsafe(one.control.release)
                continue
            self._loop.call_soon_threadsafe(
                one.control.stop, "The worker was shut down. Everything so far is kept; ask again to go on."
            )
        end = time.monotonic() + SHUT_DOWN_SECONDS
        with contextlib.suppress(DatabaseError):
            self._warmth.close()  # the jails end with their pool
            if self._serving:
                jobs.give_back()

        def left(least: float) -> float:
            return max(least, end - time.monotonic())

        concurrent.futures.wait([one.done for one in held if one.done], timeout=SHUT_DOWN_SECONDS - 1.0)
        try:
            asyncio.run_coroutine_threadsafe(self._release(), self._loop).result(timeout=left(0.5))
        except Exception:
            log.exception("the jails did not end cleanly; the kernel ends them with this process")
        self._writer.close(timeout=left(0.3))
        # A broker that is going away too must not hold this up: the others' sweeps find the runs all the same.
        waking = threading.Thread(target=lambda: list(map(wake_worker, given_back)), daemon=True)
        waking.start()
        waking.join(timeout=left(0.2))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=left(0.1))
        self._keeper.join(timeout=left(0.1))
        if not self._loop.is_running():
            self._loop.close()

    async def _release(self) -> None:
        """Give back what the loop holds: jails, connections to model endpoints and Redis, whatever still runs."""
        await self._pool.close()
        await self._clients.close()
        await live.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # — runs —

    def take(
        self,
        run_id: int,
        *,
        endpoint: Endpoint | None = None,
        tap: Callable[[Any], None] | None = None,
        orphan: Lease | None = None,
    ) -> concurrent.futures.Future[None] | None:
        """Claim and start a queued run; returns when it is claimed, not when it is over.

        None where it is not to be had, or this worker is full. ``orphan``: its worker is gone, and this is the lease it had.
        """
        if self._left_to_others():
            return None
        token = secrets.token_hex(16)
        with self._lock:
            if self._closing.is_set() or run_id in self._held or len(self._held) >= settings.RUNS_AT_ONCE:
                return None
            held = self._held[run_id] = _Held(token)
        run = None
        try:
            if orphan is not None:
                run = claim_orphan(orphan, token, self.sandbox)
            else:
                run = claim(run_id, token, self.sandbox, self._warmth.worker)
        except REFUSALS:  # its own rows are at fault: the others must not wait behind it
            log.exception("run %s cannot be claimed", run_id)
        finally:
            if run is None:
                with self._lock:
                    self._held.pop(run_id, None)
        if run is None:
            return None
        log.info("run %s is executed here", run_id)
        held.done = asyncio.run_coroutine_threadsafe(self._execute(run, held, endpoint, tap), self._loop)
        return held.done

    async def _execute(
        self, run: Run, held: _Held, endpoint: Endpoint | None, tap: Callable[[Any], None] | None
    ) -> None:
        warm = None
        try:
            warm = await execute(
                run,
                pool=self._pool,
                clients=self._clients,
                writer=self._writer,
                control=held.control,
                endpoint=endpoint,
                live=self._live,
                tap=tap,
                elsewhere=self._elsewhere,
                warm=self._warmth.take(run.pk),
                keep_warm=self._serving and settings.WARM_SECONDS > 0,
            )
        except Exception:
            log.exception("run %s could not be recorded to its end", run.pk)
        finally:
            with self._lock:
                self._held.pop(run.pk, None)
        if warm is not None:
            await self._cool(await asyncio.to_thread(_with_rows, self._warmth.keep, run, warm))

    async def _cool(self, repls: list[WarmRepl]) -> None:
        """End REPLs that are kept no longer."""
        for repl in repls:
            await repl.close()

    # — the keeper's thread —

    def _keep(self) -> None:
        """Look at leases and stop requests often, sweep now and then; a database that is away is tried again."""
        if self._serving:
            # Beside: a message may bring a run before it is over, and that run's lease is kept.
            threading.Thread(target=self._first_probe, name="rlmweb-probe", daemon=True).start()
        next_sweep = 0.0
        while not self._closing.wait(LOOK_SECONDS):
            now = time.monotonic()
            try:
                self._look()
                self._look_at_warm()
                if self._probed.is_set() and now >= next_sweep:
                    next_sweep = now + sweep_seconds()
                    self._sweep()
            except DatabaseError as error:
                outage.DATABASE.met(error)
                close_old_connections()
            except Exception:
                log.exception("the keeper failed, trying again")
            else:
                outage.DATABASE.over()
            if self._probed.is_set():
                self._probe_again(now)
                self._say_alive(now)
        if self._serving:
            self._tell_redis(lambda client, key: client.delete(key))
        connection.close()

    def _first_probe(self) -> None:
        try:
            self._probe()
        finally:
            self._probed.set()

    def _probe(self) -> None:
        """Start a first jail: its self-test says whether runs can be served here at all."""
        try:
            asyncio.run_coroutine_threadsafe(self._pool.warm(), self._loop).result(timeout=60)
            self.sandbox = {"ok": True, **self._pool.probe}
        except SandboxUnavailable as error:
            self.sandbox = {"ok": False, "reason": str(error)}
            log.error("runs will be refused: %s", error)
        except Exception as error:
            self.sandbox = {"ok": False, "reason": f"the sandbox's self-test failed: {error!r}"}
            if not self._closing.is_set():
                log.exception("the sandbox's self-test failed")
        threading.Thread(target=self._probe_extraction, name="probe-extraction", daemon=True).start()

    def _probe_extraction(self) -> None:
        """The same for the jail that reads files. Where it does not hold, runs go on, and files that need it are refused."""
        try:
            base = Path(settings.SANDBOX_PREFIX) if settings.SANDBOX_PREFIX else None
            probe_extraction(settings.SANDBOX_BACKEND, base)
        except Exception as error:
            self.reads_files = False
            if not self._closing.is_set():
                log.error("files that need a jail (PDF, Word and such) will be refused: %s", error)

    def _probe_again(self, now: float) -> None:
        """A sandbox that did not work is tried again now and then, while leases are kept."""
        if self._probing is not None and self._probing.done():
            error = self._probing.exception()
            self._probing = None
            if error is None:
                self.sandbox = {"ok": True, **self._pool.probe}
                log.warning("the sandbox works again: runs are taken")
        elif self._probing is None and not self.sandbox["ok"] and now >= self._next_probe:
            self._next_probe = now + PROBE_SECONDS
            self._probing = asyncio.run_coroutine_threadsafe(self._try_a_jail(), self._loop)

    async def _try_a_jail(self) -> None:
        await self._pool.warm()
        await (await self._pool.open()).close()

    def _elsewhere(self, reason: str) -> bool:
        """No sandbox is to be had here for a run: say so, and whether another worker may have one."""
        if self._serving:
            self.sandbox = {"ok": False, "reason": reason}
            self._next_word, self._next_probe = 0.0, time.monotonic() + PROBE_SECONDS
            log.error("no sandbox can be had, other workers have to take the runs: %s", reason)
        return self._left_to_others()

    def _left_to_others(self) -> bool:
        """Whether runs are better left to workers whose sandbox works, as this one's does not."""
        if not self._serving or self.sandbox["ok"]:
            return False
        found: list[bool] = []

        def look(client: redis.Redis, own: str) -> None:
            for key in client.scan_iter(live.WORKER_KEY.format(host="*", pid="*"), count=1000):
                if key.decode() != own and (word := client.get(key)):
                    found.append(json.loads(word)["sandbox"]["ok"])

        self._tell_redis(look)
        return any(found)

    def _look(self) -> None:
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        now = time.monotonic()
        columns = ("pk", "lease_token", "lease_expires_at", "stop_requested_at", "pause_requested_at")
        for pk, token, expires_at, stop_at, pause_at in Run.objects.filter(pk__in=held).values_list(*columns):
            if token != held[pk].token:
                continue  # not claimed yet, over, or taken: the recorder's next write finds out
            if stop_at is not None:
                self._loop.call_soon_threadsafe(held[pk].control.stop, STOPPED)
            else:
                self._heed_pause(held[pk], pause_at is not None)
            if expires_at != held[pk].expires_at:
                held[pk].expires_at, held[pk].renewed = expires_at, now  # just now, by the recorder or below
            if now - held[pk].renewed >= settings.LEASE_SECONDS / 4:
                Run.objects.filter(pk=pk, lease_token=token).update(lease_expires_at=expiry())

    def _look_at_warm(self) -> None:
        """Go on with runs whose REPL waits here, let go of REPLs that are too old or whose run is gone."""
        wanted, gone = self._warmth.look()
        if gone:
            asyncio.run_coroutine_threadsafe(self._cool(gone), self._loop)
        for pk in wanted:
            self.take(pk)

    def _heed_pause(self, held: _Held, wanted: bool) -> None:
        """Let no more requests out; once none is under way, let go of the run: its jail is not held for days."""
        control = held.control
        if wanted and held.pausing_since is None:
            held.pausing_since = time.monotonic()
            self._loop.call_soon_threadsafe(control.pause)
        elif wanted and held.pausing_since is not None and not control.released:
            if control.quiet or time.monotonic() - held.pausing_since > PAUSE_SECONDS:
                self._loop.call_soon_threadsafe(control.release)
        elif not wanted and held.pausing_since is not None and not control.released:
            held.pausing_since = None
            self._loop.call_soon_threadsafe(control.resume)

    def _sweep(self) -> None:
        """Find what no message told of: queued runs, runs whose worker died, uploads left lying."""
        # Gone on with in the very moment in which it came to rest.
        resting = Run.objects.filter(status=Status.PAUSED, lease_token="")
        resting.filter(pause_requested_at=None, stop_requested_at=None).update(status=Status.QUEUED)
        # Stopped in that moment.
        for pk in list(resting.exclude(stop_requested_at=None).values_list("pk", flat=True)):
            close_unheld(pk, STOPPED)
        with self._lock:
            room = settings.RUNS_AT_ONCE - len(self._held)
        queued = Run.objects.filter(status=Status.QUEUED, lease_token="").order_by("created_at")
        for pk in list(queued.values_list("pk", flat=True)[: max(room, 0)]):
            self.take(pk)
        self._take_up_orphans()
        ingest.sweep()
        intake.sweep()
        self.tidy()

    def tidy(self) -> None:
        """Delete and archive what is due, on a thread of its own: leases are renewed meanwhile."""
        with self._lock:
            if self._closing.is_set() or (self._tidier is not None and self._tidier.is_alive()):
                return
            self._tidier = threading.Thread(target=_tidy, name="rlmweb-tidier", daemon=True)
            self._tidier.start()

    def _take_up_orphans(self) -> None:
        with self._lock:
            ours = set(self._held)
        leases = {lease.pk: lease for lease in self._watch.lapsed(but=ours)}
        for run in Run.objects.filter(pk__in=leases):
            if run.stop_requested_at is not None:
                self._close(run, leases[run.pk], Status.STOPPED, STOPPED)
            elif run.attempts >= MOST_ATTEMPTS:
                self._close(run, leases[run.pk], Status.FAILED, GIVEN_UP)
            else:
                self.take(run.pk, orphan=leases[run.pk])

    def _close(self, run: Run, lease: Lease, status: str, reason: str) -> None:
        """End a run that nobody executes, with every row of it."""
        token = secrets.token_hex(16)
        # Take the lease first: of two workers that sweep at once one wins.
        if lease.unchanged(under_way()).update(lease_token=token, lease_expires_at=expiry()):
            close_rows(run, status, reason, token)

    def _say_alive(self, now: float) -> None:
        """Tell /healthz, through Redis, that this worker lives and what its sandbox is like."""
        if now >= self._next_word:
            self._next_word = now + WORKER_EXPIRES / 3
            word = json.dumps({"sandbox": self.sandbox, "reads_files": self.reads_files, "runs": len(self._held)})
            self._tell_redis(lambda client, key: client.set(key, word, ex=WORKER_EXPIRES))

    def _tell_redis(self, say: Callable[[redis.Redis, str], Any]) -> None:
        if not self._live:
            return
        key = live.WORKER_KEY.format(host=socket.gethostname(), pid=os.getpid())
        try:
            with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as client:
                say(client, key)
        except (RedisError, OSError) as error:
            outage.REDIS.met(error)


def _with_rows(do: Callable[..., T], *given: Any) -> T:
    """In a thread of the loop's: nobody else would give its connection back."""
    try:
        return do(*given)
    finally:
        connection.close()


def _tidy() -> None:
    for sweep in (deletion.sweep, retention.sweep):
        try:
            sweep()
        except DatabaseError as error:
            log.warning("what is due by its age waits: %s", error)
        except Exception:
            log.exception("what is due by its age could not be tidied, trying again")
    connection.close()


@cache
def worker() -> Worker:
    """This process's worker, started on first use."""
    one = Worker()
    one.start()
    return one
