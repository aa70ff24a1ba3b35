"""Named scripts of the scripted endpoint: functions from a request to a reply, keyed on the messages alone."""

from __future__ import annotations

import re
from typing import Any

from tests.scripted.article import article
from tests.scripted.rules import text_of, turn_of

__all__ = ["article", "fanout", "hello", "picky", "turns"]

FENCE = "```"


def cell(code: str) -> str:
    return f"{FENCE}repl\n{code}\n{FENCE}"


def fanout(request: dict[str, Any]) -> str:
    """One root cell starts as many children as the question says, each of two turns; the root ends with their results."""
    text, turn = text_of(request), turn_of(request)
    asked = re.search(r"start (\d+) children", text)
    if asked:
        if turn:
            return cell("FINAL(None)")
        n = asked[1]
        return cell(
            f"pieces = ['x' * (n + 1) for n in range({n})]\nFINAL(await batch_llm_query(*[llm_query(p, 'how long?') for p in pieces]))"
        )
    return cell("FINAL(len(context))") if turn else cell("print(len(context))")


def turns(request: dict[str, Any]) -> str:
    """As many turns as the question says, each printing as many characters as it says; then the end."""
    asked = re.search(r"(\d+) turns of (\d+) characters", text_of(request))
    count, chars = (int(asked[1]), int(asked[2])) if asked else (1, 10)
    if turn_of(request) + 1 < count:
        return "I look at the next part.\n" + cell(f"print('0123456789' * {chars // 10})")
    return cell("FINAL('done')")


def hello(request: dict[str, Any]) -> str:
    return cell("FINAL('hello')")


def picky(request: dict[str, Any]) -> Any:
    """An endpoint that refuses max_tokens and any temperature, as reasoning models' endpoints do."""
    if "max_tokens" in request:
        said = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return {"status": 400, "error": {"message": said, "param": "max_tokens", "code": "unsupported_parameter"}}
    if "temperature" in request:
        said = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
        return {"status": 400, "error": {"message": said, "param": "temperature", "code": "unsupported_value"}}
    return "fine"
