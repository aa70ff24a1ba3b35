"""Text still being written, and the wake-ups that say a run has advanced (design.md, decisions 1, 2 and 8).

Both go through Redis and both may be lost without harm: rows are the truth, and readers look by themselves
every 2 s. Where there is no Redis (the command line), nothing is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

from analyses import outage

EXPIRES = 3600  # seconds
TEXT_MOST = 64_000  # characters kept of one reply or output while it is written; its tail
GAP = 0.1  # seconds between two wake-ups of a run
PATIENCE = 5.0  # seconds for Redis to take what is sent at once
WORKER_KEY = "rlmweb:worker:{host}:{pid}"  # each worker writes its own, expiring (analyses/worker.py)
WORKERS_KNOWN = 2.0  # seconds for which it is not asked again whether one is alive


def group(run_id: int) -> str:
    """The channel group that is told when this run advances."""
    return f"run.{run_id}"


def tell(run_id: int) -> None:
    """Once what is being done stands: wake who watches. For whoever has no LiveRun."""

    def advanced() -> None:  # has a name, which Django says where it fails
        _tell(run_id)

    transaction.on_commit(advanced, robust=True)


def _tell(run_id: int) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(group(run_id), {"type": "run.advanced"})
    except (RedisError, OSError) as error:  # they look by themselves every 2 s
        outage.REDIS.met(error)


def _key(run_id: int) -> str:
    return f"rlmweb:live:{run_id}"


def _field(call: int, cell: int, what: str) -> str:
    return f"{call}.{cell}.{what}"


_unattended: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[float, bool]] = WeakKeyDictionary()
_clients: dict[asyncio.AbstractEventLoop, redis.asyncio.Redis] = {}


def redis_of_loop() -> redis.asyncio.Redis:
    """One client an event loop: a connection belongs to the loop that opened it."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        for dead in [old for old in _clients if old.is_closed()]:
            del _clients[dead]
        _clients[loop] = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, decode_responses=True
        )
    return _clients[loop]


async def close() -> None:
    """Close this loop's connections, before the loop itself ends."""
    if client := _clients.pop(asyncio.get_running_loop(), None):
        await client.aclose()
    if settings.REDIS_URL:
        await get_channel_layer().flush()  # of this loop alone


async def read(run_id: int) -> dict[tuple[int, int, str], str]:
    """The text being written in a run: (call, cell, "reply" | "reasoning" | "output") to the text so far."""
    if not settings.REDIS_URL:
        return {}
    try:
        raw: dict[str, str] = await redis_of_loop().hgetall(_key(run_id))  # type: ignore[assignment]  # decode_responses
    except (RedisError, OSError) as error:
        outage.REDIS.met(error)
        return {}
    outage.REDIS.over()
    return _parsed(raw)


async def unattended() -> bool:
    """Whether no worker gives a sign of life. False where that is not known."""
    if not settings.REDIS_URL:
        return False
    loop = asyncio.get_running_loop()
    at, none = _unattended.get(loop, (float("-inf"), False))
    if time.monotonic() - at < WORKERS_KNOWN:
        return none
    try:
        keys = redis_of_loop().scan_iter(WORKER_KEY.format(host="*", pid="*"), count=1000)
        none = await anext(keys, None) is None
    except (RedisError, OSError) as error:
        outage.REDIS.met(error)
        none = False
    _unattended[loop] = (time.monotonic(), none)
    return none


def left_over(run_id: int) -> dict[tuple[int, int, str], str]:
    """The same, from a thread: what a worker that died had written and not recorded."""
    if not settings.REDIS_URL:
        return {}
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, decode_responses=True
        ) as client:
            raw: dict[str, str] = client.hgetall(_key(run_id))  # type: ignore[assignment]  # decode_responses
    except (RedisError, OSError) as error:
        outage.REDIS.met(error)
        return {}
    outage.REDIS.over()
    return _parsed(raw)


def _parsed(raw: dict[str, str]) -> dict[tuple[int, int, str], str]:
    found = {}
    for name, text in raw.items():
        call, cell, what = name.split(".")
        found[int(call), int(cell), what] = text
    return found


class LiveRun:
    """The writing side, of one run, on the worker's loop. Everything is gathered for up to GAP seconds."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self._texts: dict[str, str] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()
        self._pending: asyncio.Task[None] | None = None
        self._advanced = False

    def append(self, call: int, cell: int, what: str, text: str) -> None:
        name = _field(call, cell, what)
        self._texts[name] = (self._texts.get(name, "") + text)[-TEXT_MOST:]
        self._changed.add(name)
        self._soon()

    def drop(self, call: int, cell: int, whats: Iterable[str]) -> None:
        """Forget text that now stands in a row."""
        for what in whats:
            name = _field(call, cell, what)
            if self._texts.pop(name, None) is not None:
                self._changed.discard(name)
                self._gone.add(name)

    def advance(self) -> None:
        """Rows have changed: wake who watches."""
        self._advanced = True
        self._soon()

    def _soon(self) -> None:
        if settings.REDIS_URL and self._pending is None:
            self._pending = asyncio.get_running_loop().create_task(self._later())

    async def _later(self) -> None:
        # Send at once, then hold back: the first word of a reply should not wait.
        try:
            await self.flush()
            await asyncio.sleep(GAP)
        finally:
            self._pending = None
        if self._changed or self._gone or self._advanced:
            self._soon()

    async def reset(self) -> None:
        """Forget what another process was writing: the run goes on here."""
        if settings.REDIS_URL:
            try:
                await redis_of_loop().delete(_key(self.run_id))
            except (RedisError, OSError) as error:
                outage.REDIS.met(error)

    async def flush(self) -> None:
        changed, self._changed = self._changed, set()
        gone, self._gone = self._gone, set()
        self._advanced = False
        try:
            async with asyncio.timeout(PATIENCE):
                if changed or gone:
                    async with redis_of_loop().pipeline(transaction=True) as pipe:
                        if gone:
                            pipe.hdel(_key(self.run_id), *gone)
                        if texts := {name: self._texts[name] for name in changed if name in self._texts}:
                            pipe.hset(_key(self.run_id), mapping=dict[Any, Any](texts))
                        pipe.expire(_key(self.run_id), EXPIRES)
                        await pipe.execute()
                await get_channel_layer().group_send(group(self.run_id), {"type": "run.advanced"})
        except (RedisError, OSError) as error:
            outage.REDIS.met(error)
        else:
            outage.REDIS.over()

    async def close(self) -> None:
        """Say the last word and forget the text."""
        if not settings.REDIS_URL:
            return
        if self._pending:
            self._pending.cancel()
        self._gone.update(self._texts)
        self._texts.clear()
        self._changed.clear()
        await self.flush()
