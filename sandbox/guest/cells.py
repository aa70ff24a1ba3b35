"""One cell: from source to code, and from an exception to a traceback that shows the user's own lines."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
import traceback
import types
from collections.abc import Iterator
from typing import Any

FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
MAX_TRACEBACK = 4096
ASYNC = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)
AWAITED = {"gather", "wait_for"}  # of asyncio: awaited too, where a whole cell awaits nothing
TAKERS = AWAITED | {"create_task", "ensure_future", "as_completed", "wait", "run"}  # want the coroutine itself


class AutoAwait(ast.NodeTransformer):
    """Awaits llm_query where a model forgot to: at the top level, in a def by its blocking twin."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.depth = 0

    def _function(self, node: Any) -> Any:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1
        return node

    visit_FunctionDef = visit_Lambda = visit_ClassDef = _function

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> Any:
        return self._function(node)  # an await would make it an async generator, which nobody iterates

    def visit_Call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in TAKERS:
            if name in AWAITED and not self.depth:
                return ast.copy_location(ast.Await(value=node), node)
            return node
        if name == "batch_llm_query":
            node.keywords = [self.visit(k) for k in node.keywords]
        else:
            self.generic_visit(node)
        if isinstance(node.func, ast.Name) and name in self.names:
            if self.depth:
                node.func.id = f"_blocking_{name}"
                return node
            return ast.copy_location(ast.Await(value=node), node)
        return node


class ShowVars(ast.NodeTransformer):
    """A bare ``SHOW_VARS()`` prints what it returns."""

    def visit_Expr(self, node: ast.Expr) -> Any:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "SHOW_VARS":
            name = ast.copy_location(ast.Name(id="print", ctx=ast.Load()), call)
            node.value = ast.copy_location(ast.Call(func=name, args=[call], keywords=[]), call)
        return node


def remember(filename: str, source: str) -> None:
    """Let tracebacks and inspect find the source. No modification time: the entry is never dropped."""
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)


def forget(code: types.CodeType) -> None:
    """Let the source of a cell go that has left no function behind: ten thousand cells are to cost no memory."""
    inner = (c.co_name for c in code.co_consts if isinstance(c, types.CodeType))
    if all(name in ("<listcomp>", "<setcomp>", "<dictcomp>") for name in inner):
        linecache.cache.pop(code.co_filename, None)


def prepare(source: str, number: int, awaited: frozenset[str]) -> tuple[types.CodeType, frozenset[str]]:
    """Compile a cell; also give the names that stand alone in FINAL(…)."""
    filename = f"<cell {number}>"
    remember(filename, source)
    tree = compile(source, filename, "exec", ast.PyCF_ONLY_AST | FLAGS, dont_inherit=True)
    if any(name in source for name in awaited) and not any(isinstance(node, ASYNC) for node in ast.walk(tree)):
        tree = AutoAwait(awaited).visit(tree)
    if "SHOW_VARS" in source:
        tree = ShowVars().visit(tree)
    names = frozenset(_final_names(tree)) if "FINAL" in source else frozenset()
    code = compile(ast.fix_missing_locations(tree), filename, "exec", FLAGS, dont_inherit=True)
    return code, names


def _final_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "FINAL"
            and len(node.args) == 1
        ):
            argument = node.args[0]
            if isinstance(argument, ast.Name):
                yield argument.id


def is_coroutine(code: types.CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)


def explain(error: BaseException) -> str:
    """The traceback of the user's frames, its cause too; whatever the exception's own methods do."""
    try:
        shown = traceback.TracebackException.from_exception(error, compact=True, max_group_width=5, max_group_depth=3)
        _cut(shown, 0)
        text = "".join(shown.format())
    except BaseException as worse:  # noqa: BLE001 (a cell's own __str__ may do anything)
        if isinstance(worse, KeyboardInterrupt):
            raise
        text = f"{type(error).__name__}: (the exception cannot be shown: {type(worse).__name__})\n"
    text = text.encode("utf-8", "replace").decode()
    if len(text) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters cut …\n{text[-half:]}"
    return text.rstrip("\n")


def _cut(shown: traceback.TracebackException, depth: int) -> None:
    shown.stack = traceback.StackSummary.from_list(
        [f for f in shown.stack if f.filename.startswith(("<cell ", "<tool "))]
    )
    for linked in ("__cause__", "__context__"):
        other = getattr(shown, linked, None)
        if other is not None:
            if depth > 4:
                setattr(shown, linked, None)
            else:
                _cut(other, depth + 1)
    for inner in getattr(shown, "exceptions", None) or ():
        _cut(inner, depth + 1)


def tool_source(function: Any) -> dict[str, str]:
    """Name and source of a function defined in a cell, to define it again in a child."""
    if isinstance(function, str):
        raise TypeError("tools are functions, not their names")
    if not inspect.isfunction(function) and not inspect.isclass(function):
        raise TypeError(f"tools are functions defined in this REPL, not {type(function).__name__}")
    name = function.__name__
    if name == "<lambda>":
        raise TypeError("a lambda cannot be handed down; define the tool with def")
    if inspect.isfunction(function) and function.__closure__:
        raise TypeError(f"{name} uses variables of an enclosing function and cannot be handed down")
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise TypeError(f"{name} was not defined in a cell: its source is not known") from None
    return {"name": name, "source": source}
