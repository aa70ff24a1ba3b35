"""The Django project: settings, urls, asgi, celery. Wiring, no behaviour."""

from rlmweb.celery import app as celery_app

__all__ = ["celery_app"]
