"""The fixed tools of strategy ``react``: what the API is told of them, and the code that does them inside the jail.

They run as cells, because a model's regular expression may take for ever and its arithmetic may fill a memory.
"""

from __future__ import annotations

from typing import Any


def _tool(name: str, description: str, **parameters: dict[str, Any]) -> dict[str, Any]:
    required = [n for n, p in parameters.items() if "default" not in p]
    schema = {"type": "object", "properties": parameters, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    _tool("list_documents", "List the documents: index, title, number of characters."),
    _tool(
        "search",
        "Search all documents. mode 'words' ranks passages by the words of the query (BM25); mode 'regex' finds a Python "
        "regular expression, case ignored.",
        query={"type": "string"},
        mode={"type": "string", "enum": ["words", "regex"], "default": "words"},
        limit={"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
    ),
    _tool(
        "read",
        "Read a span of one document.",
        document={"type": "integer", "description": "index of the document"},
        start={"type": "integer", "default": 0},
        length={"type": "integer", "maximum": 20000, "default": 4000},
    ),
    _tool(
        "count",
        "Count how often a Python regular expression matches, case ignored, in all documents together and in each.",
        pattern={"type": "string"},
    ),
    _tool(
        "calculate",
        "Evaluate an arithmetic expression of Python, such as (3+4)*2 or sum([1, 2]).",
        expression={"type": "string"},
    ),
]
NAMES = {tool["function"]["name"] for tool in TOOLS}

SOURCE = """
import ast as _ast, collections as _collections, math as _math, re as _re

_docs = context if isinstance(context, list) else [context]
_docs = [d if isinstance(d, dict) else {"title": "", "text": d} for d in _docs]
_docs = [(str(d.get("title") or d.get("name") or ""), str(d.get("text", d))) for d in _docs]

def list_documents():
    return "\\n".join(f"{n}: {title or '(untitled)'} ({len(text):,} characters)" for n, (title, text) in enumerate(_docs))

def _around(text, start, end, margin=150):
    return " ".join(text[max(0, start - margin):end + margin].split())

def search(query, mode="words", limit=10):
    limit = max(1, min(int(limit), 50))
    found = _regex_hits(query) if mode == "regex" else _word_hits(query)
    rows = [f"[document {n}, character {at}] {passage}" for n, at, passage in found[:limit]]
    return "\\n".join(rows + [f"({len(found):,} found in all)"]) if rows else "Nothing was found."

def _regex_hits(pattern):
    found = []
    for n, (_, text) in enumerate(_docs):
        for m in _re.finditer(pattern, text, _re.I):
            found.append((n, m.start(), _around(text, m.start(), m.end())))
            if len(found) >= 10000:
                return found
    return found

def _word_hits(query, size=600):
    words = set(_re.findall(r"\\w+", query.lower()))
    passages = [(n, at, text[at:at + size]) for n, (_, text) in enumerate(_docs) for at in range(0, len(text) or 1, size)]
    counts = [_collections.Counter(w for w in _re.findall(r"\\w+", p.lower()) if w in words) for _, _, p in passages]
    holding = _collections.Counter(w for c in counts for w in c)
    weight = {w: _math.log(1 + (len(passages) - h + 0.5) / (h + 0.5)) for w, h in holding.items()}
    scores = [sum(weight[w] * 2.2 * k / (k + 1.2) for w, k in c.items()) for c in counts]
    best = sorted((i for i, s in enumerate(scores) if s > 0), key=lambda i: -scores[i])
    return [(passages[i][0], passages[i][1], " ".join(passages[i][2].split())) for i in best]

def read(document, start=0, length=4000):
    title, text = _docs[int(document)]
    start, length = max(0, int(start)), max(1, min(int(length), 20000))
    return text[start:start + length] or f"(document {document} has {len(text):,} characters)"

def count(pattern):
    each = [len(_re.findall(pattern, text, _re.I)) for _, text in _docs]
    shown = ", ".join(f"{n}: {k:,}" for n, k in enumerate(each) if k)
    return f"{sum(each):,} in all" + (f" (by document: {shown})" if len(each) > 1 and shown else "")

_allowed = {"sum": sum, "min": min, "max": max, "abs": abs, "round": round, "len": len, "sorted": sorted, "sqrt": _math.sqrt,
            "log": _math.log, "exp": _math.exp, "pi": _math.pi}

def calculate(expression):
    tree = _ast.parse(expression, mode="eval")
    for node in _ast.walk(tree):
        if isinstance(node, (_ast.Attribute, _ast.Lambda)) or (isinstance(node, _ast.Name) and node.id not in _allowed):
            raise ValueError("only numbers, lists, operators and " + ", ".join(sorted(_allowed)))
    return str(eval(compile(tree, "<expression>", "eval"), {"__builtins__": {}}, dict(_allowed)))
"""
