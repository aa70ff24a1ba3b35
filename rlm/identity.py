"""Who a call is, whenever and wherever it runs again: what replay, reuse and comparison go by (design.md, decision 5)."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def request_hash(context_digest: str, instruction: str, schema: Any, tools: Any, model: str, kind: str = "") -> str:
    """Hash what a call was asked for. ``model`` is the one named in the request, "" where none was."""
    whole = [context_digest, instruction, schema, tools, model, kind]
    return _sha(json.dumps(whole, sort_keys=True, ensure_ascii=False, default=str))


def identity(parent: str, cell: int, request: str, earlier: int) -> str:
    """Identify a call by its parent, the cell that asked, the request, and how many equal ones came before there."""
    return _sha(f"{parent}\0{cell}\0{request}\0{earlier}")


def repl_seed(run_seed: str, call_identity: str) -> str:
    """Seed a call's REPL: the same in every run that shares the run's seed and the call's identity."""
    return _sha(f"{run_seed}\0{call_identity}")


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
