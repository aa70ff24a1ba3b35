"""Logs that people sent, read by a worker: who works on them, how far it is, and what became of each.

Every step is a row, as with uploads: a worker that dies in the middle leaves whole runs and its place to the next.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterable
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from analyses import blobs
from analyses.ingest import loose
from analyses.ingest.uploads import clean_name, trouble
from analyses.jobs import Hold, Jobs, LeaseLost
from analyses.models import Import, ImportFile
from analyses.trajectory.importing import Outcome, import_file
from analyses.trajectory.limits import LIMITS
from workspaces.models import User, Workspace

log = logging.getLogger(__name__)

FILES_MOST = 50  # logs in one import
ATTEMPTS_MOST = 3  # times that a worker may die over a file
LOOK_SECONDS = 0.5  # between two notes of how far it is
KEPT_DAYS = 30  # that the page of an import stays
DIED = "The worker died three times while reading it. What stands above it was imported."
GONE = "Its bytes are not here any more. Send it again."


# — what a request does —


def start(workspace: Workspace, user: User | None, files: Iterable[UploadedFile]) -> Import:
    """Keep the files' bytes; a worker does the rest. It sees the import once all of it is here."""
    rows = []
    for position, file in enumerate(files):
        row = ImportFile(position=position, name=clean_name(file.name or "log")[-200:], size=file.size or 0)
        if position >= FILES_MOST:
            _refuse(row, f"At most {FILES_MOST} files are taken at a time.")
        elif row.size > LIMITS.file_bytes:
            _refuse(row, f"The file has {row.size:,} bytes; at most {LIMITS.file_bytes:,} are read.")
        else:
            try:
                row.blob, row.size = blobs.put_file(file)
            except OSError as error:
                _refuse(row, trouble(error))
        rows.append(row)
    with transaction.atomic():
        made = Import.objects.create(workspace=workspace, created_by=user)
        for row in rows:
            row.batch = made
        ImportFile.objects.bulk_create(rows)
    return made


def _refuse(row: ImportFile, reason: str) -> None:
    row.outcomes = [*row.outcomes, _told(Outcome(row.name, reason=reason))]
    row.settled_at = timezone.now()


def _told(outcome: Outcome) -> dict[str, Any]:
    """What the page of the import says of a run, or of what was refused."""
    run = outcome.run
    told: dict[str, Any] = {"format": outcome.format, "reason": outcome.reason, "note": outcome.note}
    if run is not None:
        told |= {"run": run.key, "number": run.number, "calls": run.calls, "cells": run.cells}
        told |= {"errors": outcome.errors, "status": run.status}
    return told


def wake(made: Import) -> None:
    """Have it worked on: by a worker, or here and now where there is no broker."""
    if not settings.WORKERS:
        process(made.pk)
        return
    transaction.on_commit(lambda: _send(made.pk))


def _send(import_id: int) -> None:
    try:
        # By name: tasks.py imports this package, not the other way round.
        current_app.send_task("analyses.import_logs", [import_id], retry=False)
    except Exception as error:  # noqa: BLE001 — kombu's own errors have no common base
        log.warning("import %s: the wake-up was not sent (%s); the sweep will find it", import_id, error)


# — what a worker does —


def process(import_id: int) -> None:
    """Read what is not read yet. Safe to call any number of times."""
    with Hold(Import, import_id) as lease:
        if not lease.held:
            return
        try:
            _Intake(Import.objects.select_related("workspace", "created_by").get(pk=import_id), lease).run()
        except LeaseLost:
            log.warning("import %s went to another worker, or is gone", import_id)


class _Intake:
    """One worker's work on one import."""

    def __init__(self, made: Import, lease: Hold) -> None:
        self.made, self.lease = made, lease
        self._noted = 0.0

    def run(self) -> None:
        for row in self.made.files.filter(settled_at=None).order_by("position"):
            self._take(row)
        with self.lease.writing():
            Import.objects.filter(pk=self.made.pk).update(finished_at=timezone.now())

    def _take(self, row: ImportFile) -> None:
        if row.attempts >= ATTEMPTS_MOST:
            return self._settle(row, Outcome(row.name, reason=DIED))
        row.attempts += 1
        self._keep(row, attempts=row.attempts, read=0)
        refused: list[Outcome] = []
        try:
            with blobs.open(row.blob) as source:
                found = import_file(
                    source, row.name, self.made.workspace, self.made.created_by, before=len(row.outcomes),
                    keep=lambda outcome: self._add(row, outcome), seen=lambda at: self._note(row, at),
                )  # fmt: skip
                refused = [outcome for outcome in found if outcome.run is None]
        except blobs.BlobMissing:
            refused = [Outcome(row.name, reason=GONE)]
        return self._settle(row, *refused)

    def _keep(self, row: ImportFile, **fields: Any) -> None:
        """Write a file's row while the right to do so lasts."""
        with self.lease.writing():
            if not ImportFile.objects.filter(pk=row.pk, settled_at=None).update(**fields):
                raise LeaseLost

    def _add(self, row: ImportFile, outcome: Outcome) -> None:
        """With the run, in its transaction: whoever goes on from here passes over it."""
        row.outcomes = [*row.outcomes, _told(outcome)]
        self._keep(row, outcomes=row.outcomes)

    def _note(self, row: ImportFile, at: int) -> None:
        self.lease.keep()
        now = time.monotonic()
        if now - self._noted > LOOK_SECONDS and at > row.read:
            self._noted, row.read = now, at
            self._keep(row, read=at)

    def _settle(self, row: ImportFile, *refused: Outcome) -> None:
        row.outcomes = [*row.outcomes, *map(_told, refused)]
        self._keep(row, outcomes=row.outcomes, blob="", read=row.size, settled_at=timezone.now())
        loose.let_go([row.blob])


JOBS = Jobs(Import, lambda: Import.objects.filter(finished_at=None), process)


def sweep() -> int:
    """What a worker does every some seconds: imports whose wake-up was lost or whose worker died; old pages go. Never long."""
    Import.objects.filter(finished_at__lt=Now() - datetime.timedelta(days=KEPT_DAYS)).delete()
    return JOBS.sweep()
