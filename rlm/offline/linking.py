"""Put a cell together: the lines of a step, and before them the functions of ``cells/`` that they use and the REPL has not."""

from __future__ import annotations

import ast
import pprint
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

MODULES: Final = (
    "ranking", "reading", "counting", "people", "facts", "quoting", "merging", "leads", "gist", "tables", "tablework", "sums",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A definition at the top of a module, as it stands in a cell: without annotations."""

    source: str
    uses: frozenset[str]


def cell(run: str, values: Mapping[str, Any] | None = None, known: Iterable[str] = ()) -> str:
    """The code of a cell: imports, functions, values as literals, then the lines that use them. ``known``: names that are there."""
    parts, imports = _library()
    here, needed = set(known) | set(values or ()), set()
    waiting = list(names_in(run))
    while waiting:
        name = waiting.pop()
        if name in here or name in needed:
            continue
        if name in parts:
            needed.add(name)
            waiting += parts[name].uses
        elif name in imports:
            needed.add(name)
    code = sorted(imports[name] for name in needed if name in imports)
    body = [part.source for name, part in parts.items() if name in needed]
    literals = "\n".join(f"{name} = {_literal(value, len(name) + 3)}" for name, value in (values or {}).items())
    return "\n\n".join(filter(None, ["\n".join(code), *body, literals, run.strip()]))


def names_in(code: str) -> frozenset[str]:
    """The names that some code reads and does not give itself."""
    try:
        tree = compile(code, "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return frozenset()
    nodes = list(ast.walk(tree))
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name)) - own


def defined_in(code: str) -> frozenset[str]:
    """The functions, classes, constants and modules that a cell left behind it."""
    try:
        tree = compile(code, "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return frozenset()
    found: set[str] = set()
    for node in tree.body if isinstance(tree, ast.Module) else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(one.asname or one.name for one in node.names)
        elif isinstance(node, ast.Assign):
            targets = (name for target in node.targets for name in ast.walk(target))
            found.update(name.id for name in targets if isinstance(name, ast.Name) and name.id.isupper())
    return frozenset(found)


@cache
def _library() -> tuple[dict[str, Part], dict[str, str]]:
    """The definitions of all modules by name, in order, and the imports by what they bring."""
    parts: dict[str, Part] = {}
    imports: dict[str, str] = {}
    for module in MODULES:
        source = (files("rlm.offline.cells") / f"{module}.py").read_text("utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                imports |= {one.asname or one.name: ast.unparse(node) for one in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__":
                imports |= {one.name: f"from {node.module} import {one.name}" for one in node.names}
            elif names := _names_of(node):
                told = _plain(source, node)
                parts |= dict.fromkeys(names, Part(told, names_in(told) - names))
    return parts, imports


def _names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)} - {"__all__"}


def _plain(source: str, node: ast.stmt) -> str:
    """The source of a definition without annotations: in a cell they are only in the way."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    data = b"".join(lines)
    cuts: list[tuple[int, int]] = []
    for one in ast.walk(node):
        if isinstance(one, ast.arg) and one.annotation is not None:
            end = at(one.annotation.end_lineno or 0, one.annotation.end_col_offset or 0)
            cuts.append((at(one.lineno, one.col_offset) + len(one.arg.encode()), end))
        elif isinstance(one, ast.FunctionDef) and one.returns is not None:
            cuts.append((data.rindex(b" ->", 0, at(one.returns.lineno, one.returns.col_offset)),
                         at(one.returns.end_lineno or 0, one.returns.end_col_offset or 0)))  # fmt: skip
        elif isinstance(one, ast.AnnAssign) and one.value is not None:
            target = at(one.target.end_lineno or 0, one.target.end_col_offset or 0)
            cuts.append((target, at(one.annotation.end_lineno or 0, one.annotation.end_col_offset or 0)))
    first, last = at(node.lineno, 0), at(node.end_lineno or 0, node.end_col_offset or 0)
    for a, b in sorted(cuts, reverse=True):
        data = data[:a] + data[b:]
        last -= b - a
    text = data[first:last].decode()
    comment = data[last:].decode().split("\n", 1)[0]
    text += comment if comment.strip().startswith("#") and "noqa" not in comment and "fmt" not in comment else ""
    text = re.sub(r"def (\w+)\(\n\s+([^()]*?),?\n\s*\):", lambda m: f"def {m[1]}({' '.join(m[2].split())}):", text)
    return re.sub(r"  # (?:fmt|noqa|type):.*", "", text)


def _literal(value: Any, indent: int) -> str:
    """A value as people write it: short ones on a line, a record's fields one below the other, texts never cut."""
    if len(repr(value)) + indent < 110 or isinstance(value, str):
        return repr(value)
    if isinstance(value, dict) and any(isinstance(one, dict | list | str) for one in value.values()):
        fields = [f"{key!r}: {_literal(one, 110)}" for key, one in value.items()]
        return "{\n    " + ",\n    ".join(fields) + ",\n}"
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return "[" + ", ".join(_literal(one, indent) for one in value) + "]"
    if indent == 110:  # a field: on its own line already
        return repr(value)
    return pprint.pformat(value, width=110 - indent, compact=True, sort_dicts=False).replace("\n", "\n" + " " * indent)
