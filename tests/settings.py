"""The settings under test: a data directory that goes away, and nothing from the environment of whoever runs the tests.

DATABASE_URL and REDIS_URL alone are kept: with them the same suite runs on PostgreSQL and on a real Redis.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

for _name in list(os.environ):
    if _name.startswith(("RLMWEB_", "OPENAI_", "DJANGO_SECRET", "EMAIL_", "AWS_", "S3_")) or _name == "PORT":
        del os.environ[_name]
os.environ["RLMWEB_EMAIL_VERIFICATION"] = "optional"  # as with a mail server: mails land in pytest-django's outbox
os.environ["RLMWEB_DATA"] = tempfile.mkdtemp(prefix="rlmweb-tests-")
atexit.register(shutil.rmtree, os.environ["RLMWEB_DATA"], ignore_errors=True)

from rlmweb.settings import *  # noqa: E402, F403
from rlmweb.settings import DATA_DIR, STORAGES  # noqa: E402

# Hashing slowly is the real one's virtue; collected files are for a real site.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir()
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = True
