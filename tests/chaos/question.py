"""The run that is disturbed: a root of four turns and 40 children of two, with a long output, long messages and a long answer."""

from __future__ import annotations

import re
from typing import Any

CHILDREN = 40
QUESTION = "How long are the pieces?"
LIMITS = {"depth": 2, "calls_in_flight": 8, "run_seconds": 3000}
CHILD = re.compile(r"# Instruction\nhow long is piece (\d+)\?")


def _cell(code: str) -> str:
    return f"I look.\n\n```repl\n{code}\n```"


def replies(children: int) -> int:
    return 4 + 2 * children


def script(delay: float = 0.25, children: int = CHILDREN) -> dict[str, Any]:
    """For the scripted endpoint: replies stream, so that there is text under way at any moment."""

    def reply(code: str) -> dict[str, Any]:
        return {"text": _cell(code), "delay": delay, "pause": 0.02, "piece": 30}

    child = "# Instruction\nhow long is piece"
    return {
        "rules": [
            {"match": child, "turn": 0, "reply": reply("n = len(context)\nprint(n, 'of', context[:9])")},
            {"match": child, "reply": reply("FINAL(n)")},
            {"turn": 0, "reply": reply("notes = [f'{n} {context}' for n in range(900)]\nprint(notes)")},
            {
                "turn": 1,
                "reply": reply(
                    f"parts = await batch_llm_query(*[llm_query(f'piece {{n}}: ' + 'x' * n, f'how long is piece {{n}}?') "
                    f"for n in range({children})])\nprint(parts)"
                ),
            },
            {"turn": 2, "reply": reply("total = sum(parts)\nprint(len(notes), total)")},
            {"turn": 3, "reply": reply("FINAL([total, parts, notes])")},
        ]
    }


def place_of(request: dict[str, Any]) -> tuple[int, int]:
    """Which turn a request is for: the piece (-1: the root) and the turn, from 1."""
    turn = 1 + sum(m["role"] == "assistant" for m in request["messages"])
    said = "\n".join(str(m.get("content") or "") for m in request["messages"] if m["role"] == "user")
    found = CHILD.search(said)
    return (int(found[1]) if found else -1), turn
