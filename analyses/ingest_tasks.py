"""Celery's door to the intake of uploads. The rows are the queue; a message only says that there is something to do."""

from __future__ import annotations

from celery import shared_task

from analyses.ingest import uploads


@shared_task(name="analyses.process_upload")
def process_upload(upload_id: int) -> None:
    uploads.process(upload_id)
