"""What can be worked out from the question alone: letters, words, lengths, arithmetic."""

from __future__ import annotations

import ast
import operator
import re
from typing import Any

OPERATORS: dict[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


def letter_count(letter: str, things: list[str]) -> dict[str, int]:
    """How often a letter (or a few) stands in each of some words."""
    return {thing: thing.lower().count(letter.lower()) for thing in things}


def arithmetic(expression: str) -> float | int:
    """Work out + - * / and powers of numbers; nothing else is looked at."""

    def work(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            left, right = work(node.left), work(node.right)
            if isinstance(node.op, ast.Pow) and (abs(left) > 10**6 or abs(right) > 1000):
                raise ValueError("too large a power")
            return OPERATORS[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](work(node.operand))
        raise ValueError("not arithmetic")

    clean = (
        re.sub(r"(?<=\d),(?=\d{3})", "", expression)
        .replace("^", "**")
        .replace("×", "*")
        .replace("÷", "/")
        .replace("−", "-")
    )
    result: float | int = work(ast.parse(clean.strip(), mode="eval").body)
    return result
