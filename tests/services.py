"""The PostgreSQL and the Redis of DATABASE_URL and REDIS_URL, where tests run on them: a part of its own for each process.

Of Redis a process takes two databases, counted from the one that is named: for its tests, and for the installations that
they start. In PostgreSQL pytest-django makes a database for the tests; each installation gets one too.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

POSTGRES = os.environ.get("DATABASE_URL", "") if os.environ.get("DATABASE_URL", "").startswith("postgres") else ""
REDIS = os.environ.get("REDIS_URL", "")
REDIS_DATABASES = 16  # what a Redis has unless it is told otherwise

about_sqlite = pytest.mark.skipif(bool(POSTGRES), reason="it is about SQLite alone")
about_embedded_redis = pytest.mark.skipif(bool(REDIS), reason="it is about the embedded Valkey, or no Redis at all")


def redis_of_tests() -> str:
    return _redis(0)


def _redis(further: int) -> str:
    parts = urlsplit(REDIS)
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    number = int(parts.path.strip("/") or 0) + 2 * process + further
    if number >= REDIS_DATABASES:
        raise SystemExit(f"REDIS_URL must name an earlier database: so many processes would need number {number}")
    return parts._replace(path=f"/{number}").geturl()


def drop_by_force() -> None:
    """The database of the tests goes although threads that ended with no word left their connections to it."""
    from django.db.backends.postgresql.creation import DatabaseCreation

    def drop(self: Any, name: str, verbosity: int) -> None:
        with self._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {self.connection.ops.quote_name(name)} WITH (FORCE)")

    DatabaseCreation._destroy_test_db = drop


@contextmanager
def installation() -> Iterator[dict[str, str]]:
    """The settings that lead an installation to services of its own; none where the tests run on the defaults."""
    environment = {}
    if REDIS:
        import redis

        environment["REDIS_URL"] = _redis(1)
        with redis.Redis.from_url(environment["REDIS_URL"]) as client:
            client.flushdb()
    if not POSTGRES:
        yield environment
        return
    import psycopg
    from psycopg import sql

    name = f"installation_{secrets.token_hex(6)}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield environment | {"DATABASE_URL": urlsplit(POSTGRES)._replace(path=f"/{name}").geturl()}
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
