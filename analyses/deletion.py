"""Deletion that really deletes: rows, and the blobs that no other row names. Workspaces go a part at a time, in the sweep."""

from __future__ import annotations

import logging
import time

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from analyses.ingest import corpora, loose
from analyses.models import ENDED, ImportFile, Run, UploadFile
from analyses.recorder import close_unheld
from analyses.usage import keep_usage
from workspaces.audit import Did, record
from workspaces.models import Workspace
from workspaces.retention import prune_audit, prune_sessions

log = logging.getLogger(__name__)

SWEEP_MOST = 3.0  # seconds of one sweep that go into deleting: whoever sweeps has leases to renew
PRUNE_EVERY = 24 * 3600.0
_next_prune = 0.0


class UnderWay(Exception):
    """A run that has not ended cannot be deleted; the message says what to do."""


@transaction.atomic
def delete_run(run: Run) -> None:
    """The run with its calls, cells and shares; its blobs are let go of. What it used stays in the month's sums."""
    this = Run.objects.filter(pk=run.pk)
    locked = this.select_for_update().first()  # nobody asks further in it from here on
    if locked is not None and not locked.ended:
        raise UnderWay("This run is under way. Stop it first, or wait until it has ended.")
    # A fork reads the results that it may reuse from here, as long as it goes on.
    if fork := Run.objects.filter(forked_from=run).exclude(status__in=ENDED).first():
        raise UnderWay(f"A fork of it, run {fork.number}, is under way. Stop that first, or wait until it has ended.")
    shas = loose.of_runs(this)
    keep_usage(this)
    this.delete()
    loose.let_go(shas)


def sweep() -> None:
    """What is due by its age: workspaces whose grace is over, and once a day old audit entries and sessions."""
    global _next_prune
    until = time.monotonic() + SWEEP_MOST
    # Not by the clock of whoever deletes: there is no way back.
    due = set(Workspace.objects.filter(delete_at__lte=Now()).values_list("pk", flat=True))
    for workspace in Workspace.objects.exclude(delete_at=None):
        stopped = _stop_runs(workspace)
        if workspace.pk in due and stopped and not _delete_parts(workspace, until):
            return
    if time.monotonic() >= _next_prune:
        _next_prune = time.monotonic() + PRUNE_EVERY
        if removed := prune_audit():
            log.info("%d audit entries removed by their age", removed)
        prune_sessions()


def _stop_runs(workspace: Workspace) -> bool:
    """End what nobody holds, ask the rest to stop; True where every run has ended."""
    open_runs = workspace.runs.exclude(status__in=ENDED)
    open_runs.filter(stop_requested_at=None).update(stop_requested_at=timezone.now())
    for pk in list(open_runs.filter(lease_token="").values_list("pk", flat=True)):
        close_unheld(pk, "Its workspace was deleted.")
    return not open_runs.exists()


def _delete_parts(workspace: Workspace, until: float) -> bool:
    """Runs, corpora, uploads, then the rest; False where the time is up first: the next sweep goes on."""
    while run := workspace.runs.first():
        delete_run(run)
        if time.monotonic() > until:
            return False
    while corpus := workspace.corpora.first():
        corpora.delete(corpus)
        if time.monotonic() > until:
            return False
    with transaction.atomic():
        files = UploadFile.objects.filter(upload__workspace=workspace).values_list("blob", "text", "marks")
        loose.let_go({sha for row in files for sha in row})
        loose.let_go(ImportFile.objects.filter(batch__workspace=workspace).values_list("blob", flat=True))
        name = workspace.name
        workspace.delete()
        record(None, Did.DELETED_WORKSPACE, target=f"{name}, for good")
    return True
