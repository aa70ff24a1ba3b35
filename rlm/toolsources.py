"""Functions handed down from one REPL to another: what a model is told of them, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from rlm.probe import clip, clip_line
from rlm.spec import Tool


def describe_tools(tools: Sequence[Tool]) -> str:
    """Return a line for each: its signature, and the first line of its docstring."""
    return "\n".join(f"- `{_signature(tool)}`" + (f": {doc}" if (doc := _doc(tool)) else "") for tool in tools[:50])


def _node(tool: Tool) -> ast.AST | None:
    try:
        body = ast.parse(tool.source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return next((n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)), None)


def _signature(tool: Tool) -> str:
    node = _node(tool)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        awaited = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
        return clip_line(f"{awaited}{tool.name}({ast.unparse(node.args)})", 200)
    return clip_line(f"{tool.name}(…)", 200)


def _doc(tool: Tool) -> str:
    node = _node(tool)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ""
    return clip(clip_line((ast.get_docstring(node) or "").partition("\n")[0], 200), 200)
