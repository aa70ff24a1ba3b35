"""The article's two problems, as a model of each strategy would work on them: fruits and their r's, flat and nested.

In the five strategies that show a model everything, the scripted model types its answer out, and makes the slip that real
ones make (a strawberry with two r's). In ``rlm`` it returns the variable.
"""

from __future__ import annotations

import json
from typing import Any

FLAT = "Name 50 fruits and return a dictionary of each name with the number of r in it."
NESTED = "For fruits, vegetables and animals: name 50 each, and return a dictionary of dictionaries of the number of r in each."
FRUITS = [
    "apple",
    "apricot",
    "avocado",
    "banana",
    "bilberry",
    "blackberry",
    "blackcurrant",
    "blueberry",
    "boysenberry",
    "cherry",
    "clementine",
    "cloudberry",
    "coconut",
    "cranberry",
    "currant",
    "date",
    "elderberry",
    "feijoa",
    "fig",
    "gooseberry",
    "grape",
    "grapefruit",
    "guava",
    "honeydew",
    "jackfruit",
    "kiwi",
    "kumquat",
    "lemon",
    "lime",
    "lychee",
    "mango",
    "mandarin",
    "melon",
    "mulberry",
    "nectarine",
    "olive",
    "orange",
    "papaya",
    "peach",
    "pear",
    "persimmon",
    "pineapple",
    "plum",
    "pomegranate",
    "quince",
    "raspberry",
    "rambutan",
    "redcurrant",
    "strawberry",
    "tangerine",
]
VEGETABLES = [f"vegetable-{n}r" for n in range(50)]
ANIMALS = [f"animal-{'r' * (n % 4)}-{n}" for n in range(50)]
LISTS = {"fruits": FRUITS, "vegetables": VEGETABLES, "animals": ANIMALS}
TRUTH = {name: name.count("r") for name in FRUITS}
NESTED_TRUTH = {kind: {name: name.count("r") for name in names} for kind, names in LISTS.items()}
SLIP = {**TRUTH, "strawberry": 2}
NESTED_SLIP = {**NESTED_TRUTH, "fruits": SLIP}


def cell(code: str, label: str = "repl") -> str:
    return f"```{label}\n{code}\n```"


def article(request: dict[str, Any]) -> Any:
    """Reply as a model of the strategy that the system prompt is of."""
    messages = request["messages"]
    system, first = str(messages[0]["content"]), str(messages[1]["content"]) if len(messages) > 1 else ""
    turn = sum(m["role"] == "assistant" for m in messages)
    nested = "each, and return a dictionary of dictionaries" in first
    if request.get("tools"):
        return react(turn, nested)
    if "You work on data that you cannot see" in system:
        return recursive(first, turn, nested)
    if "sub_agent" in system or "You can also run Python" in system:
        return codeact(system, first, turn, nested)
    return json.dumps(NESTED_SLIP if nested else SLIP)


def names_in(first: str) -> list[str] | None:
    """Return the list that a child was asked to make, if it was."""
    for kind, names in LISTS.items():
        if f"List 50 {kind}" in first:
            return names
    return None


def recursive(first: str, turn: int, nested: bool) -> str:
    if (names := names_in(first)) is not None:
        return cell(f"FINAL({names!r})")
    if "count the r in 50 names of this kind" in first:
        if turn == 0:
            return cell(
                "names = await llm_query(f'List 50 {context}.', schema={'type': 'array', 'minItems': 50})\nprint(len(names))"
            )
        return cell("FINAL({name: name.count('r') for name in names})")
    if nested:
        if turn == 0:
            code = "kinds = ['fruits', 'vegetables', 'animals']\nfound = await batch_llm_query(*[llm_query(k, 'count the r in 50 names of this kind') for k in kinds])\n"
            return cell(code + "table = dict(zip(kinds, found))\nprint({k: len(v) for k, v in table.items()})")
        return cell("FINAL(table)")
    if turn == 0:
        return cell(
            "names = await llm_query('List 50 fruits.')\nassert len(set(names)) == 50\ntable = {n: n.count('r') for n in names}\nprint(len(table))"
        )
    return cell("FINAL(table)")


def codeact(system: str, first: str, turn: int, nested: bool) -> str:
    if (names := names_in(first)) is not None:
        return json.dumps(names)
    typed = json.dumps(NESTED_SLIP if nested else SLIP)
    if "write_file" in system and turn == 0:
        return cell("write_file('plan', 'name them, count, answer')\nprint(list_files(), read_file('plan'))", "python")
    if "sub_agent" in system and turn < 2:
        kinds = list(LISTS) if nested else ["fruits"]
        code = (
            f"import asyncio, json\nlists = await asyncio.gather(*[sub_agent(f'List 50 {{k}}.') for k in {kinds!r}])\n"
        )
        code += "print({n: n.count('r') for text in lists for n in json.loads(text)})"
        return (
            cell(code, "python") if "answered:" not in first and turn < (2 if "write_file" in system else 1) else typed
        )
    if turn == 0:
        return cell(
            f"lists = {LISTS if nested else {'fruits': FRUITS}!r}\nprint({{k: {{n: n.count('r') for n in v}} for k, v in lists.items()}})",
            "python",
        )
    return typed


def react(turn: int, nested: bool) -> Any:
    if turn == 0:
        return {
            "tool_calls": [
                {"name": "calculate", "arguments": {"expression": "25 * 2"}},
                {"name": "list_documents", "arguments": {}},
            ]
        }
    if turn == 1:
        return {"tool_calls": [{"name": "count", "arguments": {"pattern": "r"}}]}
    return json.dumps(NESTED_SLIP if nested else SLIP)
