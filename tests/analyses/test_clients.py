"""A worker's model clients: shared by its runs, and closed when they are many and nobody is at work with them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from analyses.execution import UNUSED_CLIENTS, Clients
from rlm.endpoints import Endpoint


class Fake:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    made: list[Fake] = []

    def make(_: Clients, endpoint: Endpoint) -> Any:
        made.append(Fake(endpoint))
        return made[-1]

    monkeypatch.setattr(Clients, "_make", make)
    return made


def endpoint(key: int) -> Endpoint:
    return Endpoint(name="desk", base_url="http://127.0.0.1:9/v1", api_key=f"key {key}")


async def test_clients_of_settings_that_nobody_uses_any_more_are_closed(made: list[Fake]) -> None:
    clients = Clients()
    async with clients.of(endpoint(0)) as first, clients.of(endpoint(0)) as again:
        assert first is again
        for key in range(1, 31):
            async with clients.of(endpoint(key)):
                pass
        assert not made[0].closed  # a run is at work with it
    assert len(made) == 31 and sum(not one.closed for one in made) == UNUSED_CLIENTS
    assert not made[0].closed and made[1].closed  # used last, used first
    async with clients.of(endpoint(0)) as client:
        assert client is first
        await clients.close()
    assert [one.closed for one in made] == [1] * 31


async def test_more_clients_than_are_kept_unused_may_be_at_work(made: list[Fake]) -> None:
    clients = Clients()
    async with AsyncExitStack() as stack:
        for key in range(30):
            await stack.enter_async_context(clients.of(endpoint(key)))
        assert not any(one.closed for one in made)
    assert sum(not one.closed for one in made) == UNUSED_CLIENTS
    await clients.close()
