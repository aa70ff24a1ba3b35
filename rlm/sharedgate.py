"""An endpoint's limits over all workers, kept in Redis: how many requests at once, how many a minute."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from typing import Any

from redis.exceptions import RedisError

from rlm.endpoints import Endpoint

log = logging.getLogger(__name__)

LEASE = 900.0  # seconds; a place whose worker died is free again after this
LOOK = 0.05  # seconds until a full gate is tried again
PATIENCE = 1.0  # seconds for Redis to answer
QUIET = 30.0  # seconds without Redis until it is tried again: meanwhile each worker keeps to its own gate

# KEYS: places (sorted set, member -> end of its lease), next (time of the next request that the rate allows).
# ARGV: now, member, most at once, gap between two requests, lease. Returns how long to wait, in ms; 0: you are in.
ENTER = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return -1 end
local free = tonumber(redis.call('GET', KEYS[2]) or '0')
local now = tonumber(ARGV[1])
if free > now then return math.ceil((free - now) * 1000) end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[5]), ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[5] * 1000))
if tonumber(ARGV[4]) > 0 then redis.call('SET', KEYS[2], now + tonumber(ARGV[4]), 'PX', math.ceil(ARGV[4] * 1000) + 1000) end
return 0
"""


class RedisGate:
    """The gate that the workers of one installation share for one endpoint. ``redis``: a redis.asyncio client."""

    def __init__(self, redis: Any, endpoint: Endpoint) -> None:
        name = hashlib.sha256(f"{endpoint.base_url}\0{endpoint.api_key}".encode()).hexdigest()[:32]
        self._keys = [f"rlm:gate:{name}:places", f"rlm:gate:{name}:next"]
        self._redis = redis
        self._most = endpoint.max_concurrency
        self._gap = 60.0 / endpoint.requests_per_minute if endpoint.requests_per_minute else 0.0
        self._without_until = 0.0

    async def enter(self) -> str:
        """Wait for a place; returns what ``leave`` wants. Without Redis there is no wait: the worker's own gate holds."""
        place = secrets.token_hex(8)
        while time.monotonic() >= self._without_until:
            try:
                async with asyncio.timeout(PATIENCE):
                    wait = await self._redis.eval(
                        ENTER, 2, *self._keys, repr(time.time()), place, self._most, repr(self._gap), LEASE
                    )
            except (RedisError, OSError, TimeoutError) as error:
                self._without_until = time.monotonic() + QUIET
                log.warning("endpoint limits hold for this worker alone, as Redis cannot be reached: %s", error)
                return ""
            if wait == 0:
                return place
            await asyncio.sleep(LOOK if wait < 0 else wait / 1000)
        return ""

    async def leave(self, place: str) -> None:
        if place:
            try:
                await self._redis.zrem(self._keys[0], place)
            except (RedisError, OSError):
                log.debug("a place of the shared gate could not be given back; its lease ends by itself")
