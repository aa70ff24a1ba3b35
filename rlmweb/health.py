"""/healthz: whether the database, Redis, a worker and its sandbox work. For load balancers, ./run and whoever looks after it."""

from __future__ import annotations

import json
import logging
from typing import TypedDict

import redis
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

WORKER_KEYS = "rlmweb:worker:*"  # each worker writes its own, expiring (analyses/worker.py)
TIMEOUT = 2  # seconds


class Part(TypedDict):
    ok: bool
    says: str


class Silent(Exception):
    """Redis cannot be asked for the workers; the message says why."""


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    # Anybody may ask: sentences name no host, no path and no error text. Those go to the log.
    parts = {"database": _database()}
    try:
        workers = _read_workers()
    except Silent as reason:
        parts["redis"] = {"ok": False, "says": str(reason)}
        unknown: Part = {"ok": False, "says": "Not known: workers say through Redis that they live."}
        parts |= {"worker": unknown, "sandbox": unknown}
    else:
        parts["redis"] = {"ok": True, "says": "It answers."}
        parts |= {"worker": _worker(workers), "sandbox": _sandbox(workers)}
    ok = all(part["ok"] for part in parts.values())
    response = JsonResponse({"ok": ok, "parts": parts}, status=200 if ok else 503)
    response._has_been_logged = True  # type: ignore[attr-defined]  # a 503 here is an answer, not an error of the site
    return response


def _database() -> Part:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM django_migrations")
    except Error as error:
        log.error("the database does not answer: %s", error)
        return {
            "ok": False,
            "says": "It does not answer, or has not been migrated; the web server's log has the error.",
        }
    return {"ok": True, "says": "It answers."}


def _read_workers() -> list[dict[str, object]]:
    """What each live worker says of itself."""
    if not settings.REDIS_URL:
        raise Silent("There is none: REDIS_URL is not set. Pages work, but show runs with a delay.")
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=True
        ) as client:
            keys = list(client.scan_iter(WORKER_KEYS, count=1000))
            return [json.loads(word) for word in client.mget(keys) if word] if keys else []
    except (RedisError, OSError, ValueError) as error:
        log.error("Redis does not answer: %s", error)
        raise Silent("It does not answer; the web server's log has the error.") from None


def _worker(workers: list[dict[str, object]]) -> Part:
    if not workers:
        return {"ok": False, "says": "None has given a sign of life in the last 15 seconds: questions wait."}
    runs = sum(int(str(worker.get("runs", 0))) for worker in workers)
    return {"ok": True, "says": f"{len(workers)} alive, with {runs} run{'' if runs == 1 else 's'} under way."}


def _sandbox(workers: list[dict[str, object]]) -> Part:
    if not workers:
        return {"ok": False, "says": "Not known: no worker is alive to try it."}
    good = [worker for worker in workers if isinstance(box := worker.get("sandbox"), dict) and box.get("ok")]
    if len(good) < len(workers):
        return {
            "ok": False,
            "says": "A worker refuses runs, its jail's self-test failed; the worker's log has the reason.",
        }
    if not all(worker.get("reads_files", True) for worker in workers):
        return {
            "ok": False,
            "says": "A worker refuses PDFs and such, the self-test of the jail that reads them failed; the worker's log has the reason.",
        }
    return {"ok": True, "says": "The jail's self-test passed."}
