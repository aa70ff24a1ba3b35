"""The system prompts: one a strategy, a dialect, and whether the call may start others. They never change inside a run."""

from __future__ import annotations

from rlm.prompts import recursive, whole

STRATEGIES = ("direct", "react", "codeact", "codeact_subagents", "codeact_files", "rlm")
DIALECTS = ("async", "paper")


def system_prompt(strategy: str = "rlm", dialect: str = "async", *, leaf: bool = False) -> str:
    """Return the system prompt of a kind of call."""
    if strategy == "rlm":
        if dialect == "paper":
            return recursive.PAPER_LEAF if leaf else recursive.PAPER
        return recursive.ASYNC_LEAF if leaf else recursive.ASYNC
    if strategy == "codeact" or (leaf and strategy == "codeact_subagents"):
        return whole.CODEACT
    if strategy == "codeact_subagents":
        return whole.SUBAGENTS
    if strategy == "codeact_files":
        return whole.FILES_LEAF if leaf else whole.FILES
    return whole.REACT if strategy == "react" else whole.DIRECT
