"""A script from data: rules on the messages, first match wins; no state but how often the same request came."""

from __future__ import annotations

import re
from typing import Any

from tests.scripted.server import Script


def turn_of(request: dict[str, Any]) -> int:
    """Return how many replies the conversation has so far."""
    return sum(m["role"] == "assistant" for m in request["messages"])


def text_of(request: dict[str, Any]) -> str:
    return "\n".join(str(m.get("content") or "") for m in request["messages"] if m["role"] != "system")


def script_of(given: dict[str, Any]) -> Script:
    """Make a script function of its JSON form."""
    rules = given.get("rules", [])
    replies = given.get("replies", [])
    default = given.get("default", "```repl\nFINAL(None)\n```")

    def script(request: dict[str, Any]) -> Any:
        turn, text = turn_of(request), text_of(request)
        for rule in rules:
            if "turn" in rule and rule["turn"] != turn:
                continue
            if "attempt" in rule and rule["attempt"] != request["attempt"]:
                continue
            if "model" in rule and rule["model"] != request["model"]:
                continue
            if "match" in rule and not re.search(rule["match"], text):
                continue
            return rule["reply"]
        if turn < len(replies):
            return replies[turn]
        return default

    return script
