"""Run a command that ends when the process that started it ends, however that one ended.

Run as a script, by the supervisor: python -I -S rlmweb/leash.py PROGRAM ARGUMENTS…
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    # SIGKILL, since the supervisor that would insist on an end is gone. A worker's jails end with it (docs/sandbox.md).
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ.get("RLMWEB_SUPERVISOR", os.getppid())):
        sys.exit("the supervisor has ended")  # before the line above took hold
    os.execvp(sys.argv[1], sys.argv[1:])
