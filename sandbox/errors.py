"""What can go wrong with the sandbox itself. What a cell does wrong is a result, not one of these."""

from __future__ import annotations


class SandboxError(RuntimeError):
    """The jail or REPL broke, or was used after its end."""


class SandboxUnavailable(SandboxError):
    """No jail can be had here; the message says what to do."""


class HostError(Exception):
    """Raised by ``on_request``: the cell that asked gets it as LLMQueryError with this message."""
