"""What becomes of runs by their age, as their workspace has set it: kept, archived or deleted; and archives asked back."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Greatest, Now
from django.utils import timezone

from analyses import blobs
from analyses.deletion import UnderWay, delete_run
from analyses.models import ENDED, Run
from analyses.recorder import REFUSALS
from analyses.trajectory.archive import CannotArchive, archive, restore
from analyses.trajectory.limits import LogRefused
from workspaces.audit import Did, record
from workspaces.models import Workspace

log = logging.getLogger(__name__)

SWEEP_MOST = 20.0  # seconds of one sweep; what is left waits for the next
LEFT_ALONE = 300.0  # seconds for which a run is left alone with which something went wrong
AGAIN_AFTER = timedelta(days=1)  # what could not be archived is tried again


def due(workspace: Workspace) -> Any:
    """The runs whose time has come, oldest first. What a member said to keep is never among them."""
    runs = Run.objects.filter(workspace=workspace, status__in=ENDED, kept=False)
    if workspace.runs_then == Workspace.RunsThen.KEEP:
        return runs.none()
    before = Now() - timedelta(days=workspace.runs_days)  # not by the clock of whoever deletes
    ended = Coalesce("finished_at", "created_at")
    # A log that came in yesterday is not old because the run in it is.
    since = Greatest(ended, Coalesce("imported_at", ended), Coalesce("restored_at", ended))
    runs = runs.annotate(since=since).filter(since__lt=before)
    if workspace.runs_then == Workspace.RunsThen.ARCHIVE:
        untried = Q(archive_tried_at=None) | Q(archive_tried_at__lt=timezone.now() - AGAIN_AFTER)
        runs = runs.filter(untried, archive="", calls__gt=0)
    return runs.order_by("since", "pk")


def sweep() -> None:
    """Bring back what was asked for, then archive or delete what is due, for a bounded time."""
    until = time.monotonic() + SWEEP_MOST
    for run in Run.objects.exclude(restore_asked_at=None).exclude(archive="").order_by("restore_asked_at"):
        _alone(bring_back, run.pk, run)
    for run in Run.objects.exclude(archive_asked_at=None).filter(archive="").order_by("archive_asked_at"):
        _alone(pack, run.pk, run)
    for workspace in Workspace.objects.filter(delete_at=None).exclude(runs_then=Workspace.RunsThen.KEEP):
        # All at once: on SQLite nothing can be written after a query that is half read, where others have written meanwhile.
        for pk in list(due(workspace).values_list("pk", flat=True)):
            _alone(_settle, pk, workspace.pk, pk)
            if time.monotonic() > until:
                return


_left_alone: dict[int, float] = {}  # runs with which something went wrong here, and until when (monotonic)


def _alone(do: Callable[..., Any], pk: int, *given: Any) -> None:
    """What goes wrong with one run keeps no other waiting, and is not tried again at each look."""
    if _left_alone.get(pk, 0.0) > time.monotonic():
        return
    _left_alone.pop(pk, None)
    try:
        do(*given)
    except Exception as error:
        _left_alone[pk] = time.monotonic() + LEFT_ALONE
        if isinstance(error, DatabaseError):
            raise  # it may be away: the next look begins with the others
        log.exception("run %s: what is due by its age, or was asked for, waits", pk)


def _settle(workspace_id: int, pk: int) -> None:
    """As the workspace says now: a member may have kept the run, asked further in it or changed the setting meanwhile."""
    with transaction.atomic():
        workspace = Workspace.objects.filter(pk=workspace_id, delete_at=None).first()
        run = due(workspace).filter(pk=pk).select_for_update().first() if workspace else None
        if workspace is None or run is None:
            return
        about = {"workspace": workspace, "target": run.question, "run": run.number, "by": "its age"}
        if workspace.runs_then == Workspace.RunsThen.DELETE:
            with contextlib.suppress(UnderWay):  # a fork reads it
                delete_run(run)
                record(None, Did.DELETED_RUN, **about)
            return
    if pack(run):
        record(None, Did.ARCHIVED_RUN, **about)


def pack(run: Run) -> bool:
    """Archive a run; where that fails it stays as it is."""
    try:
        archive(run)
    except Exception as error:
        if isinstance(error, DatabaseError) and not isinstance(error, REFUSALS):
            raise  # it is busy or away: as soon as it is back
        expected = isinstance(error, CannotArchive) or blobs.of_store(error)
        log.warning("run %s could not be archived, it stays as it is: %s", run.pk, error, exc_info=not expected)
        here = Run.objects.filter(pk=run.pk, archive="")
        here.exclude(archive_asked_at=None).update(archive_refused=_told(error))
        here.update(archive_asked_at=None, archive_tried_at=timezone.now())
        return False
    return True


def _told(error: Exception) -> str:
    """For whoever asked for the archive."""
    why, then = "something went wrong; the worker’s log says more", "archive it again later"
    if isinstance(error, CannotArchive):
        return f"It was not archived. {error} Nothing of it is lost, and it can be archived again."
    if blobs.no_room(error):
        why, then = "there is no room left where archives are kept", "when there is room again, archive it once more"
    elif blobs.of_store(error):
        why, then = (
            "the store cannot be written to where archives are kept",
            "when that works again, archive it once more",
        )
    return f"It was not archived because {why}. Everything in it is still here; {then}."


def bring_back(run: Run) -> None:
    """Make an archived run's rows again; where that fails, its page says so and the archive stays."""
    try:
        restore(run)
    except Exception as error:
        if isinstance(error, DatabaseError) and not isinstance(error, REFUSALS):
            raise
        expected = isinstance(error, LogRefused) or blobs.of_store(error)
        log.error("run %s could not be brought back from its archive: %s", run.pk, error, exc_info=not expected)
        Run.objects.filter(pk=run.pk).update(restore_asked_at=None, archive_tried_at=timezone.now())
