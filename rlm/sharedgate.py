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

LEASE = 30.0  # seconds; a place whose worker died is free again after this
RENEW = LEASE / 3  # seconds between two renewals of the places that this worker holds
LOOK = 0.05  # seconds until a full gate is tried again
PATIENCE = 1.0  # seconds for Redis to answer
QUIET = 30.0  # seconds without Redis until it is tried again: meanwhile each worker keeps to its own gate

# The time is Redis's own: the workers' clocks may differ.
# KEYS: places (sorted set, member -> end of its lease), next (time of the next request that the rate allows).
# ARGV: member, most at once, gap between two requests, lease. Returns how long to wait, in ms; 0: you are in.
ENTER = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now))
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return -1 end
local free = tonumber(redis.call('GET', KEYS[2]) or '0')
if free > now then return math.ceil((free - now) * 1000) end
redis.call('ZADD', KEYS[1], string.format('%.6f', now + ARGV[4]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[4] * 1000))
if tonumber(ARGV[3]) > 0 then
  redis.call('SET', KEYS[2], string.format('%.6f', now + ARGV[3]), 'PX', math.ceil(ARGV[3] * 1000) + 1000)
end
return 0
"""
# KEYS: places. ARGV: lease, members. Those that a Redis which was emptied has forgotten are counted again.
KEEP = """
local time = redis.call('TIME')
local till = string.format('%.6f', time[1] + time[2] / 1000000 + ARGV[1])
for n = 2, #ARGV do redis.call('ZADD', KEYS[1], till, ARGV[n]) end
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[1] * 1000))
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
        self._held: set[str] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def enter(self) -> str:
        """Wait for a place; returns what ``leave`` wants. Without Redis there is no wait: the worker's own gate holds."""
        place = secrets.token_hex(8)
        while time.monotonic() >= self._without_until:
            try:
                async with asyncio.timeout(PATIENCE):
                    wait = await self._redis.eval(ENTER, 2, *self._keys, place, self._most, repr(self._gap), LEASE)
            except (RedisError, OSError, TimeoutError) as error:
                self._without_until = time.monotonic() + QUIET
                log.warning("endpoint limits hold for this worker alone, as Redis cannot be reached: %s", error)
                return ""
            if wait == 0:
                self._held.add(place)
                if self._keeper is None or self._keeper.done():
                    self._keeper = asyncio.create_task(self._keep())
                return place
            await asyncio.sleep(LOOK if wait < 0 else wait / 1000)
        return ""

    async def leave(self, place: str) -> None:
        if place:
            self._held.discard(place)
            try:
                await self._redis.zrem(self._keys[0], place)
            except (RedisError, OSError):
                log.debug("a place of the shared gate could not be given back; its lease ends by itself")

    async def _keep(self) -> None:
        """Renew the places held here, as long as there are any."""
        while self._held:
            await asyncio.sleep(RENEW)
            if not self._held or time.monotonic() < self._without_until:
                continue
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._redis.eval(KEEP, 1, self._keys[0], LEASE, *self._held)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("the places of the shared gate could not be renewed: %s", error)
