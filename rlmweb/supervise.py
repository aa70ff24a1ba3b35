"""supervisor as ./run needs it: everything ends within 5 s, and no wait before the next start is longer than half a minute.

Run as a script: python -I rlmweb/supervise.py -n -c CONFIG
"""

from __future__ import annotations

import signal
import sys

from supervisor import process, supervisord
from supervisor.options import ServerOptions
from supervisor.poller import Poller

LOOK = 0.1  # seconds between two looks; supervisor's own is 1, and every step of an end costs one
LONGEST_WAIT = 30  # seconds; supervisor's own waits grow by one second a failure, for ever


class QuickPoller(Poller):
    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        found: tuple[list[int], list[int]] = super().poll(min(timeout, LOOK))
        return found


class Program(process.Subprocess):
    backoff: int  # failures in a row
    delay: float  # when it may be started again

    def change_state(self, new_state: int, expected: bool = True) -> None:
        super().change_state(new_state, expected)
        if self.backoff > LONGEST_WAIT:
            self.delay -= self.backoff - LONGEST_WAIT
            self.backoff = LONGEST_WAIT


class Options(ServerOptions):
    def __init__(self) -> None:
        super().__init__()
        self.poller = QuickPoller(self)

    def setsignals(self) -> None:
        # A closed terminal ends it; started with nohup, it goes on.
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        super().setsignals()
        if ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    process.Subprocess = Program  # what supervisor's configuration makes of a program
    options = Options()
    options.realize(sys.argv[1:])
    options.first, options.test = True, False
    supervisord.go(options)
