"""Celery's doorway: a message only wakes this worker up; the database is the queue."""

from __future__ import annotations

from celery import shared_task


@shared_task(name="analyses.execute_run")
def execute_run(run_id: int) -> None:
    """Claim the run if it is still to be had, and hand it to the process's event loop."""
    from analyses.worker import worker

    worker().take(run_id)


@shared_task(name="analyses.tidy")
def tidy() -> None:
    """Archive or bring back what somebody asked for, and what is due."""
    from analyses.worker import worker

    worker().tidy()


@shared_task(name="analyses.process_upload")
def process_upload(upload_id: int) -> None:
    """Take in the files of an upload: decode, pack, make the corpus version."""
    from analyses.ingest import uploads

    uploads.process(upload_id)


@shared_task(name="analyses.import_logs")
def import_logs(import_id: int) -> None:
    """Read logs that somebody sent, and make their runs."""
    from analyses.trajectory import intake

    intake.process(import_id)
