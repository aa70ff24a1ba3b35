"""Telling a worker that there is work. If that is lost, the workers' sweep finds the run all the same."""

from __future__ import annotations

import logging

from celery import current_app

log = logging.getLogger(__name__)


def wake_worker(run_id: int, later: float = 0.0) -> None:
    """Have a queued run looked at now, or some seconds later."""
    _send("analyses.execute_run", run_id, later=later)


def wake_tidier() -> None:
    """Have what was asked of the archive done now."""
    _send("analyses.tidy")


def _send(task: str, *arguments: int, later: float = 0.0) -> None:
    try:
        # By name: tasks.py imports the worker, which gives runs back by this.
        current_app.send_task(task, list(arguments), retry=False, countdown=later or None)
    except Exception as error:
        log.warning("%s %s: no worker could be woken (%s); a worker's sweep will find it", task, arguments, error)
