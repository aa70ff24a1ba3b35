"""Jailed REPLs: a jail for a run, a process for each call in it, Python objects by reference. No Django, no rlm."""

from sandbox.errors import HostError, SandboxError, SandboxUnavailable
from sandbox.jail import Jail
from sandbox.limits import ReplLimits
from sandbox.pool import JailPool
from sandbox.repl import Repl
from sandbox.results import CellResult, HostRequest, Variable
from sandbox.values import CrossingError, Value

__all__ = [
    "CellResult",
    "CrossingError",
    "HostError",
    "HostRequest",
    "Jail",
    "JailPool",
    "Repl",
    "ReplLimits",
    "SandboxError",
    "SandboxUnavailable",
    "Value",
    "Variable",
]
