"""Execute one claimed run: where the engine, the sandbox, a model client and the recorder meet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from analyses import endpoints, forking, ingest, leases, models, recordings
from analyses.blobs import BlobMissing
from analyses.live import LiveRun, redis_of_loop
from analyses.models import Run, Status
from analyses.recorder import REFUSALS, LeaseLost, LetGo, RunRecord, Writer, close_rows
from analyses.texts import Unkept
from analyses.worked import seconds_uncounted
from rlm.client import ModelClient
from rlm.endpoints import Endpoint
from rlm.engine import Control, FollowUp, Recording, Released, RunResult, RunSpec, WarmRepl, solve
from rlm.events import Usage
from rlm.guard import AddressRefused, guarded_client, judged_url
from rlm.limits import Limits
from rlm.offline import OfflineClient
from rlm.replies import Model
from rlm.replycache import FolderCache
from rlm.sharedgate import RedisGate
from sandbox import JailPool, SandboxUnavailable, Value

log = logging.getLogger(__name__)

REFUSED = (
    "Something in it could not be written down. Everything before that is kept. "
    "This is a mistake of rlmweb itself: please report it with what its log says."
)
NO_ROOM = (
    "It was paused because there is no room left for the database. Everything so far is there; when there is room again, "
    "let it go on."
)
UNUSED_CLIENTS = 8  # of which a process keeps the connections, for the next run


@dataclass(eq=False)
class _Shared:
    client: Model
    runs: int = 0  # at work with it


class Clients:
    """Model clients, shared by all runs of this process that use the same endpoint. Of one event loop."""

    def __init__(self) -> None:
        self._shared: list[_Shared] = []  # the longest unused first

    @asynccontextmanager
    async def of(self, endpoint: Endpoint) -> AsyncIterator[Model]:
        """The client for it, which stays open while the run is at work.

        It holds a key and connections: those of settings that have changed since do not gather.
        """
        one = next((one for one in self._shared if one.client.endpoint == endpoint), None)
        if one is None:
            self._shared.append(one := _Shared(self._make(endpoint)))
        one.runs += 1
        try:
            yield one.client
        finally:
            one.runs -= 1
            if one in self._shared:  # else all are closed
                self._shared.remove(one)
                self._shared.append(one)
            await self._close([one for one in self._shared if not one.runs][:-UNUSED_CLIENTS])

    async def close(self) -> None:
        await self._close(list(self._shared))

    async def _close(self, some: list[_Shared]) -> None:
        for one in some:
            self._shared.remove(one)
        for one in some:
            try:
                await one.client.close()
            except Exception:  # no run's fault
                log.exception("a model client did not close")

    def _make(self, endpoint: Endpoint) -> Model:
        if endpoint.offline:
            return OfflineClient(endpoint)
        guarded = isinstance(endpoint, endpoints.GuardedEndpoint)
        return ModelClient(
            endpoint,
            cache=FolderCache(settings.DATA_DIR / "replies") if settings.REPLY_CACHE else None,
            shared=RedisGate(redis_of_loop(), endpoint) if settings.REDIS_URL else None,
            http_client=guarded_client(settings.ENDPOINT_HOSTS) if guarded else None,
        )


async def execute(
    run: Run,
    *,
    pool: JailPool,
    clients: Clients,
    writer: Writer,
    control: Control,
    endpoint: Endpoint | None = None,
    live: bool = True,
    tap: Callable[[Any], None] | None = None,
    elsewhere: Callable[[str], bool] = lambda reason: False,
    warm: WarmRepl | None = None,
    keep_warm: bool = False,
) -> WarmRepl | None:
    """Execute a run whose lease this process holds, to its end, and write that end.

    ``warm``: the root's REPL, where this process has kept it. ``keep_warm``: keep it; the caller gets it, and closes it.

    Never raises for what the run does; a lost lease ends it here without a further word, for another worker
    has it now. A run that has rows is taken up where they end. ``endpoint`` stands in for the run's own where the
    operator gave one on the command line. ``elsewhere`` is told, in a thread, why no sandbox is to be had here, and says
    whether another worker may have one.
    """
    result: RunResult | LetGo | None = None
    kept: WarmRepl | None = None
    try:
        lost = ""
        if run.fork and not run.calls:
            try:
                await asyncio.to_thread(_begin_fork, run)
            except forking.ForkLost as error:
                lost = str(error)
        record = RunRecord(run, writer, live=LiveRun(run.pk) if live else None, tap=tap)
        taken_up = bool(run.calls)
        try:
            if lost:
                await record.finish(_failed(lost))
                return None
            recording = await asyncio.to_thread(_take_up, run, record) if taken_up else None
            if recording is not None and record.live:
                await record.live.reset()
            result = await _solve(
                run, record, pool, clients, control, endpoint, recording, warm=warm, keep_warm=keep_warm
            )
        except BlobMissing as error:
            result = _failed(f"This run cannot be taken up again: a part of its record is gone ({error}).")
        except Released:
            result = LetGo(Status.PAUSED if control.paused else Status.QUEUED)
        except SandboxUnavailable as error:
            if await asyncio.to_thread(elsewhere, str(error)):
                result = LetGo(Status.QUEUED)
            elif taken_up:  # it worked before: what is there is not thrown away
                result = LetGo(Status.PAUSED, f"It was paused because it needs a sandbox. {_sentence(error)}")
            else:
                result = _failed(str(error))
        await record.finish(result)
        kept = result.warm if isinstance(result, RunResult) else None
    except REFUSALS:  # whoever took it up would fail at the same; the recorder has said at what
        await asyncio.to_thread(_refused, run.pk, run.lease_token)
    except DatabaseError as error:  # nothing can be written: its lease runs out, and it is taken up where its rows end
        log.error("run %s is let go of, as the database does not do what it is asked: %s", run.pk, error)
        if "is full" in str(error) or "No space left" in str(error):
            await asyncio.to_thread(_rest, run, NO_ROOM)
    except Unkept as error:
        log.warning("run %s rests: %s", run.pk, error)
        await asyncio.to_thread(_rest, run, str(error))
    except LeaseLost:
        log.warning("run %s: its lease is held elsewhere now; this worker lets go", run.pk)
    finally:
        for one in (warm, result.warm if isinstance(result, RunResult) else None):
            if one is not None and (kept is None or one.jail is not kept.jail):
                await one.close()
    return kept


def _refused(run_id: int, token: str) -> None:
    try:
        close_rows(Run.objects.get(pk=run_id), Status.FAILED, REFUSED, token)
    except (DatabaseError, Run.DoesNotExist) as error:
        log.error("run %s could not be ended: %s", run_id, error)
    finally:
        connection.close()


def _begin_fork(run: Run) -> None:
    """Raises LeaseLost, ForkLost."""
    try:
        forking.begin(run)
    finally:
        connection.close()


def _take_up(run: Run, record: RunRecord) -> Recording:
    """Read what is recorded of a run, and note that it goes on now. Raises LeaseLost, BlobMissing."""
    try:
        record.take_up()
        worked = seconds_uncounted(run)
        recording = recordings.recording_of(run)
        run.seconds, run.resumed_at = run.seconds + worked, timezone.now()
        fields = {"seconds": run.seconds, "resumed_at": run.resumed_at}
        if not Run.objects.filter(pk=run.pk, lease_token=run.lease_token).update(**fields):
            raise LeaseLost(f"run {run.pk} is held by another worker")
        record.has_worked(worked)
        return recording
    finally:
        connection.close()


async def _solve(
    run: Run,
    record: RunRecord,
    pool: JailPool,
    clients: Clients,
    control: Control,
    endpoint: Endpoint | None,
    recording: Recording | None,
    *,
    warm: WarmRepl | None,
    keep_warm: bool,
) -> RunResult:
    try:
        chosen, context, follow_ups = await asyncio.to_thread(_read, run, endpoint)
        if isinstance(chosen, endpoints.GuardedEndpoint):
            await judged_url(chosen.base_url, settings.ENDPOINT_HOSTS)  # a sentence now, not five failed tries later
        spec = RunSpec(
            question=run.question,
            strategy=run.strategy,
            root_model=run.root_model,
            child_model=run.child_model,
            dialect=run.dialect,
            limits=Limits.of(follow_ups[-1].limits if follow_ups else run.limits),
            seed=run.seed,
            has_corpus=run.corpus_version_id is not None,
            follow_ups=tuple(FollowUp(one.question, one.after_cell) for one in follow_ups),
            run_key=run.key,
        )
        if warm is not None and (not follow_ups or warm.turn != follow_ups[-1].after_cell):
            warm = None  # more has been done since, elsewhere
        async with clients.of(chosen) as client:
            return await solve(
                spec,
                context=context,
                pool=pool,
                client=client,
                emit=record,
                control=control,
                record=recording,
                warm=warm,
                keep_warm=keep_warm,
            )
    except (LeaseLost, Released, Unkept, SandboxUnavailable, DatabaseError):
        raise
    except (endpoints.UnknownEndpoint, ingest.ContextMissing, AddressRefused) as error:
        return _failed(str(error))
    except Exception as error:  # a bug of ours must not leave a run that runs for ever
        log.exception("run %s ended by an error of rlmweb itself", run.pk)
        return _failed(
            f"An error in rlmweb itself ended this run ({type(error).__name__}); the worker's log says more."
        )


def _rest(run: Run, reason: str) -> None:
    try:
        leases.rest(run, reason)
    except DatabaseError as error:
        log.error("run %s could not even be paused; it is taken up when its lease has run out: %s", run.pk, error)
    finally:
        connection.close()


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}{'' if said.endswith('.') else '.'}"


def _read(run: Run, endpoint: Endpoint | None) -> tuple[Endpoint, Value, list[models.FollowUp]]:
    """What the run's rows name: its endpoint, unless one was given, its context, and what was asked further.

    In a thread: this reads.
    """
    try:
        chosen = endpoint or endpoints.get(run.endpoint, run.workspace)
        follow_ups = list(run.follow_up_set.order_by("number"))
        if run.corpus_version is None:
            return chosen, Value.of(run.question), follow_ups
        return chosen, ingest.context_of(run.corpus_version, run.documents), follow_ups
    finally:
        connection.close()  # the thread is the loop's, not a request's: nobody else would


def _failed(reason: str) -> RunResult:
    return RunResult(
        status="failed",
        reason=reason,
        answer=None,
        answer_name="",
        partial=False,
        usage=Usage(),
        calls=0,
        cells=0,
        depth=0,
        seconds=0.0,
    )
