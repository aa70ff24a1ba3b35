"""The Celery app. Its messages only wake a worker up: the database is the queue."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlmweb.settings")

app = Celery("rlmweb")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
