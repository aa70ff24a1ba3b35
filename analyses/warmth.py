"""The REPLs of runs that have ended, kept for a while by the worker that executed them, so that a follow-up starts at once.

They are data like any other: who may not see the run must not find its REPL alive, so it goes as soon as the run does.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from os import getpid

from django.conf import settings
from django.db.models.functions import Now

from analyses.models import ENDED, Run, Status
from rlm.engine import WarmRepl

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kept:
    repl: WarmRepl
    until: float  # monotonic


class Warmth:
    """The warm REPLs of one worker process: within its memory for them, the least recent let go first. Thread-safe.

    Whoever is given a REPL here has to close it.
    """

    def __init__(self) -> None:
        self.worker = f"{socket.gethostname()[:40]}:{getpid()}:{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._kept: dict[int, _Kept] = {}  # by run, the least recent first

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, run_id: int) -> bool:
        return run_id in self._kept

    @property
    def bytes(self) -> int:
        with self._lock:
            return sum(kept.repl.bytes for kept in self._kept.values())

    def keep(self, run: Run, repl: WarmRepl) -> list[WarmRepl]:
        """Keep a run's REPL, if it has ended and stays so; return those that had to go for it, which may be itself."""
        ended = Run.objects.filter(pk=run.pk, status__in=ENDED, archive="", workspace__delete_at=None, lease_token="")
        until = Now() + timedelta(seconds=settings.WARM_SECONDS)
        if not settings.WARM_SECONDS or not ended.update(warm_worker=self.worker, warm_until=until):
            return [repl]
        with self._lock:
            self._kept[run.pk] = _Kept(repl, time.monotonic() + settings.WARM_SECONDS)
            room = settings.WARM_MEMORY_MB << 20
            gone = []
            held = sum(kept.repl.bytes for kept in self._kept.values())
            for pk, kept in self._kept.items():
                if held <= room:
                    break
                held -= kept.repl.bytes
                gone.append(pk)
        return self.let_go(gone)

    def take(self, run_id: int) -> WarmRepl | None:
        """The REPL of a run that goes on here."""
        with self._lock:
            kept = self._kept.pop(run_id, None)
        return kept.repl if kept else None

    def let_go(self, run_ids: Collection[int]) -> list[WarmRepl]:
        """Give up these runs' REPLs; a follow-up of theirs is a replay."""
        with self._lock:
            found = [self._kept.pop(pk).repl for pk in run_ids if pk in self._kept]
        if run_ids:
            ours = Run.objects.filter(pk__in=run_ids, warm_worker=self.worker)
            ours.update(warm_worker="", warm_until=None)
        return found

    def look(self) -> tuple[list[int], list[WarmRepl]]:
        """Runs that go on, whose REPL is wanted here; and the REPLs to be let go of: too old, or no longer anybody's."""
        with self._lock:
            kept = dict(self._kept)
        if not kept:
            return [], []
        ours = Run.objects.filter(pk__in=kept, warm_worker=self.worker, archive="", workspace__delete_at=None)
        status = dict(ours.values_list("pk", "status"))
        wanted = [pk for pk in kept if status.get(pk) == Status.QUEUED]
        now = time.monotonic()
        old = [
            pk for pk, one in kept.items() if pk not in wanted and (pk not in status or one.until <= now or not one.repl.alive)
        ]  # fmt: skip
        return wanted, self.let_go(old)

    def close(self) -> list[WarmRepl]:
        with self._lock:
            every = list(self._kept)
        return self.let_go(every)
