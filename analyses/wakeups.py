"""Telling a worker that there is work. If that is lost, the workers' sweep finds the run all the same."""

from __future__ import annotations

import logging

from celery import current_app

log = logging.getLogger(__name__)


def wake_worker(run_id: int) -> None:
    """Have a queued run looked at now."""
    try:
        # By name: tasks.py imports the worker, which gives runs back by this.
        current_app.send_task("analyses.execute_run", [run_id], retry=False)
    except Exception as error:
        log.warning("run %s: no worker could be woken (%s); a worker's sweep will find it", run_id, error)
