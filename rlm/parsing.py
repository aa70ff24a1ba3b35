"""From a model's reply to the code of its cell: what real models write, not only what they were asked to write."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass

_OPEN = re.compile(r"^[ \t]*(?:[-*] |\d+\. |>[ ]?)?[ \t]*(`{3,}|~{3,})[ \t]*([^`\n]*)$")
_PYTHON = {"python", "py", "python3", "ipython", "pycon", "tool_code", "code"}
_FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FINAL = re.compile(r"^[ \t>*_`]*(FINAL(?:_VAR)?)[ \t]*\(", re.MULTILINE)
_THINK = re.compile(r"^\s*<(think|thinking|thought|reasoning)>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THINK_END = re.compile(r"^[^\n\"'`]*</(?:think|thinking|thought|reasoning)>[ \t]*$", re.MULTILINE | re.IGNORECASE)
MAX_CODE = 1_000_000  # characters


@dataclass(frozen=True)
class Parsed:
    """What a reply holds. ``code`` is "" where the reply has no cell."""

    code: str
    prose: str  # the reply without its thinking and its cell
    thinking: str = ""  # thinking that the model wrote into the reply itself
    final: str = ""  # FINAL in prose, of a reply without a cell: the code of the cell that does what it says
    final_text: str = ""  # the same, taken as plain text
    unclosed: bool = False  # the cell's fence was never closed


@dataclass(frozen=True)
class _Block:
    label: str
    code: str
    start: int  # lines, fences included
    end: int
    closed: bool


def parse(reply: str) -> Parsed:
    """Find the cell in a reply: every ``repl`` block joined in order, or else what comes closest."""
    thinking, text = split_thinking(reply)
    lines = text[:MAX_CODE].split("\n")
    blocks = _blocks(lines)
    chosen = [b for b in blocks if b.label == "repl"]
    chosen = chosen or [b for b in blocks if b.label in _PYTHON]
    chosen = chosen or [b for b in blocks if not b.label and _is_program(b.code)]
    chosen = [b for b in chosen if b.code.strip()]
    if not chosen and not blocks and _is_program(text) and not _FINAL.match(text.strip()):
        return Parsed(text.strip(), "", thinking)  # the whole reply is code, without any fence
    if chosen:
        inside = {n for b in chosen for n in range(b.start, b.end)}
        prose = "\n".join(line for n, line in enumerate(lines) if n not in inside).strip()
        return Parsed("\n".join(b.code for b in chosen), prose, thinking, unclosed=not chosen[-1].closed)
    final, final_text = _final_in_prose(text)
    return Parsed("", text.strip(), thinking, final, final_text)


def split_thinking(reply: str) -> tuple[str, str]:
    """Split a reply into the thinking written at its head, and the rest."""
    if match := _THINK.match(reply):
        return match[2].strip(), reply[match.end() :].lstrip("\n")
    if match := _THINK_END.search(reply):  # some servers swallow the opening tag
        return reply[: match.end()].rsplit("</", 1)[0].strip(), reply[match.end() :].lstrip("\n")
    return "", reply


def _blocks(lines: list[str]) -> list[_Block]:
    blocks: list[_Block] = []
    at = 0
    while at < len(lines):
        opened = _OPEN.match(lines[at])
        if not opened:
            at += 1
            continue
        fence, label = opened[1], _label(opened[2])
        body, end, closed = _body(lines, at + 1, fence, label)
        blocks.append(_Block(label, textwrap.dedent("\n".join(body)).strip("\n"), at, end, closed))
        at = end
    return blocks


def _label(info: str) -> str:
    words = info.strip().strip("{}.").lower().split()
    return words[0].rstrip("}:,") if words else ""


def _body(lines: list[str], start: int, fence: str, label: str) -> tuple[list[str], int, bool]:
    """Return a block's lines, the line after it, and whether it was closed.

    A fence may also stand inside a string of the code, and some models close it at the end of a line of code: the
    first end that leaves a whole program is taken; where none does, the first plain one.
    """
    mark = fence[0] * 3
    plain: list[tuple[list[str], int]] = []
    candidates: list[tuple[list[str], int]] = []
    for at in range(start, len(lines)):
        stripped = lines[at].strip()
        if stripped.startswith(mark) and stripped.strip(fence[0]) == "" and len(stripped) >= len(fence):
            plain.append((lines[start:at], at + 1))
            candidates.append(plain[-1])
        elif stripped.endswith(mark):
            candidates.append(([*lines[start:at], lines[at].rstrip().rstrip(fence[0])], at + 1))
        else:
            continue
        python = label == "repl" or label in _PYTHON or not label
        if not python or len(candidates) > 40:
            break
        if _compiles("\n".join(candidates[-1][0])):
            return (*candidates[-1], True)
    if plain:
        return (*plain[0], True)
    if candidates:
        return (*candidates[0], True)
    return lines[start:], len(lines), False


def final_expression(code: str) -> str:
    """What a cell's last FINAL was given, where that is worked out and not written out by the model; else "".

    ``FINAL(max(found))`` gives ``max(found)``; ``FINAL("yes")`` and ``FINAL([1, 2])`` give nothing.
    """
    tree = _tree(code)
    if tree is None:
        return ""
    given = [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "FINAL" and node.args
    ]
    if not given:
        return ""
    last = max(given, key=lambda node: (node.lineno, node.col_offset))
    worked_out = any(isinstance(node, ast.Name | ast.Call | ast.Await | ast.Attribute) for node in ast.walk(last))
    return " ".join(ast.unparse(last).split())[:120] if worked_out else ""


def _tree(code: str) -> ast.Module | None:
    try:
        tree = compile(textwrap.dedent(code), "<reply>", "exec", _FLAGS, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree if isinstance(tree, ast.Module) else None


def _compiles(code: str) -> bool:
    return _tree(code) is not None


def _is_program(text: str) -> bool:
    """Say whether an unlabelled text is Python that does something, not prose that happens to parse."""
    if len(text) > MAX_CODE or "(" not in text and "=" not in text:
        return False
    tree = _tree(text)
    if tree is None or not tree.body:
        return False
    return any(
        isinstance(node, ast.Assign | ast.AugAssign | ast.Import | ast.ImportFrom | ast.For | ast.FunctionDef)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await))
        for node in tree.body
    )


def _final_in_prose(text: str) -> tuple[str, str]:
    """Return (code, plain text) of a FINAL that stands at the start of a line, or ("", "")."""
    match = _FINAL.search(text)
    if not match:
        return "", ""
    inner = _argument(text, match.end())
    if inner is None:
        return "", ""
    inner = inner.strip()
    if not inner:
        return "", ""
    quoted = re.fullmatch(r"""(['"])(\w+)\1""", inner)
    if match[1] == "FINAL_VAR" and quoted:
        inner = quoted[2]
    plain = inner
    try:
        plain = str(ast.literal_eval(inner))
        code = f"FINAL({inner})"
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        # A name, or an expression of names, is evaluated; anything else is the answer itself, written out.
        names = re.fullmatch(r"[^\W\d]\w*(?:\.\w+|\[[^\]]*\])*", inner)
        code = f"FINAL({inner})" if names else f"FINAL({inner!r})"
    return code, plain


def _argument(text: str, start: int) -> str | None:
    """Return what stands between the bracket opened before ``start`` and its partner, if the line ends there."""
    depth, quote, at = 1, "", start
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote or char == "\n":
                quote = ""
        elif char in "\"'" and (char == '"' or not text[at - 1].isalnum()):
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                rest = text[at + 1 :].split("\n", 1)[0].strip(" \t.`*_")
                return text[start:at] if not rest else None
        at += 1
    # Never closed, or a quotation mark misled us: take the last bracket there is.
    last = text.rfind(")")
    return text[start:last] if last > start else None
