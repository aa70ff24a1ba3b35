"""The settings under test: a data directory that goes away, and nothing from the environment of whoever runs the tests.

DATABASE_URL and REDIS_URL alone are kept: with them the same suite runs on PostgreSQL and on a real Redis.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from tests import services

for _name in list(os.environ):
    if _name.startswith(("RLMWEB_", "OPENAI_", "DJANGO_SECRET", "EMAIL_", "AWS_", "S3_")) or _name == "PORT":
        del os.environ[_name]
if services.REDIS:
    os.environ["REDIS_URL"] = services.redis_of_tests()
os.environ["RLMWEB_EMAIL_VERIFICATION"] = "optional"  # as with a mail server: mails land in pytest-django's outbox
os.environ["RLMWEB_DATA"] = tempfile.mkdtemp(prefix="rlmweb-tests-")
atexit.register(shutil.rmtree, os.environ["RLMWEB_DATA"], ignore_errors=True)

from rlmweb.settings import *  # noqa: E402, F403
from rlmweb.settings import CHANNEL_LAYERS, DATA_DIR, REDIS_URL, STORAGES  # noqa: E402

# Hashing slowly is the real one's virtue; collected files are for a real site.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir()
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = True
WORKERS = False  # a test that wants one starts it

if REDIS_URL:  # what is published is heard in every database of a Redis
    CHANNEL_LAYERS["default"]["CONFIG"]["prefix"] = DATA_DIR.name  # type: ignore[index]
