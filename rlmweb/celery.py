"""The Celery app. Its messages only wake a worker up: the database is the queue."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from celery import Celery
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down

if TYPE_CHECKING:
    from analyses.worker import Worker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlmweb.settings")

app = Celery("rlmweb")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_started: list[Worker] = []  # this process's, from when it is ready


@worker_ready.connect
def start_worker(**_: object) -> None:
    """Sweep for work from the start, not only when a message comes."""
    from analyses.worker import worker

    _started.append(worker())


@worker_shutting_down.connect
def close_worker(**_: object) -> None:
    """Called as soon as the signal arrives: runs end with all they have, Celery does not wait for them."""
    for worker in _started:
        worker.close()


@worker_shutdown.connect
def leave(sender: object = None, **_: object) -> None:
    """All is closed and written: the interpreter's own tidying up, up to seconds on a busy machine, is left out."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(getattr(sender, "exitcode", None) or 0)
