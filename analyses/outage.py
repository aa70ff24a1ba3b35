"""Something that others run is away, and is tried again all the time: one line in the log when it goes, one when it is back."""

from __future__ import annotations

import logging
import threading
import time

import redis

log = logging.getLogger(__name__)

REMIND = 300.0  # seconds after which it is said once more


class Outage:
    """Of one thing, in this process. Thread-safe."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._since = self._said = 0.0  # monotonic; 0: it is there

    def met(self, error: BaseException | str) -> None:
        """It did not answer."""
        now = time.monotonic()
        with self._lock:
            self._since = self._since or now
            if self._said and now - self._said < REMIND:
                return
            self._said = now
        log.warning("%s, trying again: %s", self._what, error)

    def over(self) -> None:
        """It answered."""
        if not self._since:
            return
        with self._lock:
            since, self._since, self._said = self._since, 0.0, 0.0
        if since:
            log.warning("%s: this is over after %.0f s", self._what, time.monotonic() - since)


class RedisAway(logging.Filter):
    """Says once, instead of with a traceback every second, that Redis is away: for the logger of the channel layer."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            return True
        REDIS.met(error)
        return False


REDIS = Outage("Redis cannot be reached: text being written is not shown meanwhile")
DATABASE = Outage("the database does not do what it is asked")
