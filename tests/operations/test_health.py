"""/healthz says what works, in sentences that give nothing away."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from django.db import OperationalError, connection
from django.test import Client

pytestmark = pytest.mark.django_db


class FakeRedis:
    """Redis as far as /healthz asks it."""

    def __init__(self, workers: dict[str, Any]) -> None:
        self.workers = workers

    def __enter__(self) -> FakeRedis:
        return self

    def __exit__(self, *_: object) -> None: ...

    def scan_iter(self, match: str, count: int) -> list[str]:
        return [name for name in self.workers if name.startswith(match.rstrip("*"))]

    def mget(self, keys: list[str]) -> list[str | None]:
        return [self.workers[key] and json.dumps(self.workers[key]) for key in keys]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Callable[..., None]:
    """Which workers have given a sign of life."""

    def set_workers(**found: Any) -> None:
        settings.REDIS_URL = "redis://127.0.0.1:1/0"
        fake = FakeRedis({f"rlmweb:worker:{name}": value for name, value in found.items()} | {"rlmweb:live:1": {}})
        monkeypatch.setattr(redis.Redis, "from_url", lambda *_, **__: fake)

    return set_workers


def ask(client: Client) -> tuple[int, dict[str, Any]]:
    response = client.get("/healthz")
    assert "no-store" in response["Cache-Control"]
    return response.status_code, response.json()


def test_health_with_a_live_worker_is_well(client: Client, workers: Callable[..., None]) -> None:
    workers(a={"sandbox": {"ok": True}, "runs": 2}, gone=None)
    status, health = ask(client)
    assert status == 200 and health["ok"]
    assert health["parts"]["worker"]["says"] == "1 alive, with 2 runs under way."


def test_health_without_a_worker_is_not_well(client: Client, workers: Callable[..., None]) -> None:
    workers()
    status, health = ask(client)
    assert status == 503 and not health["ok"]
    assert {name: part["ok"] for name, part in health["parts"].items()} == {
        "database": True,
        "redis": True,
        "worker": False,
        "sandbox": False,
    }


def test_health_with_one_broken_sandbox_is_not_well_and_tells_no_reason(
    client: Client, workers: Callable[..., None]
) -> None:
    workers(a={"sandbox": {"ok": True}, "runs": 0}, b={"sandbox": {"ok": False, "reason": "/srv/secret"}, "runs": 0})
    status, health = ask(client)
    assert status == 503
    assert health["parts"]["worker"]["ok"] and not health["parts"]["sandbox"]["ok"]
    assert "secret" not in json.dumps(health)


def test_health_where_files_cannot_be_read_is_not_well(client: Client, workers: Callable[..., None]) -> None:
    workers(a={"sandbox": {"ok": True}, "reads_files": False, "runs": 0})
    status, health = ask(client)
    assert status == 503 and "PDFs" in health["parts"]["sandbox"]["says"]


def test_health_without_redis_answers_all_the_same(client: Client, settings: LazySettings) -> None:
    settings.REDIS_URL = "redis://:password@127.0.0.1:1/0"
    status, health = ask(client)
    assert status == 503
    assert health["parts"]["database"]["ok"] and not health["parts"]["redis"]["ok"]
    assert "password" not in json.dumps(health) and "127.0.0.1" not in json.dumps(health)


def test_health_without_a_database_answers_all_the_same(
    client: Client, workers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(a={"sandbox": {"ok": True}, "runs": 0})

    def refuse() -> None:
        raise OperationalError("host db.internal is away")

    monkeypatch.setattr(connection, "cursor", refuse)
    status, health = ask(client)
    assert status == 503
    assert not health["parts"]["database"]["ok"] and "internal" not in json.dumps(health)


def test_health_can_only_be_read(client: Client) -> None:
    assert client.post("/healthz").status_code == 405
    assert client.head("/healthz").status_code in (200, 503)
