"""The Celery app. Its messages only wake a worker up: the database is the queue."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlmweb.settings")

app = Celery("rlmweb")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def start_worker(**_: object) -> None:
    """Sweep for work from the start, not only when a message comes."""
    from analyses.worker import worker

    worker()


@worker_shutting_down.connect
def close_worker(**_: object) -> None:
    """Called as soon as the signal arrives: runs end with all they have, Celery does not wait for them."""
    from analyses.worker import worker

    worker().close()
