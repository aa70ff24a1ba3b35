"""A run as one Jupyter notebook (nbformat 4.5): its cells as code cells, its child calls as sections. Written cell by cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from analyses.models import Call, Cell, FollowUp, Run
from analyses.trajectory import prose
from analyses.trajectory.walk import Over, output_of, walk

OUTPUT_MOST = 100_000  # characters of one cell's output
HEAD = (
    "A record of a run of a Recursive Language Model. Each call worked in a namespace of its own, "
    "where `context`, `llm_query` and `FINAL` were defined: they are not here, so the cells are to be read, not run."
)


def export(run: Run) -> Iterator[bytes]:
    """The notebook in pieces of a cell each."""
    yield b'{\n "cells": [\n'
    for place, cell in enumerate(_cells(run)):
        yield (b",\n" if place else b"") + b"  " + _json(cell)
    about = {"call_count": run.calls, "cell_count": run.cells, "question": run.question, "status": run.status}
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "rlmweb": about,
    }
    yield b'\n ],\n "metadata": ' + _json(metadata) + b',\n "nbformat": 4,\n "nbformat_minor": 5\n}\n'


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _cells(run: Run) -> Iterator[dict[str, Any]]:
    facts = "\n".join(f"| {name} | {value} |" for name, value in prose.facts(run))
    yield _text("run", f"# {prose.inline(run.question)}\n\n{HEAD}\n\n| | |\n| --- | --- |\n{facts}")
    for place, (heading, question, said) in enumerate(prose.answers(run)):
        asked = f"{prose.quoted(question)}\n\n" if question else ""
        if run.answer_type or run.follow_ups:
            yield _text(f"answer-{place}" if place else "answer", f"## {heading}\n\n{asked}{said}")
    count = 0
    for row in walk(run):
        match row:
            case Call():
                yield _text(f"call-{row.number}", _call(row))
            case FollowUp():
                yield _text(f"follow-up-{row.number}", f"**Follow-up {row.number}**\n\n{prose.quoted(row.question)}")
            case Cell():
                said, mark = prose.thoughts(row), prose.cell_mark(row) if row.code else ""
                if said or mark:
                    yield _text(
                        f"cell-{row.call_number}-{row.number}-text",
                        f"Cell {row.call_number}.{row.number}{mark}\n\n{prose.quoted(said)}".rstrip(),
                    )
                if row.code:
                    count += 1
                    yield _code(row, count)
            case Over(call):
                if call.answer_type and call.parent_number is not None:
                    yield _text(
                        f"call-{call.number}-answer",
                        f"**Answer of call {call.number}.** {prose.origin(call)}\n\n{prose.answer(call)}",
                    )


def _call(call: Call) -> str:
    heading = "#" * min(6, 2 + call.depth)
    asked = f"\n\n{prose.quoted(call.instruction)}" if call.instruction and call.parent_number is not None else ""
    notes = "".join(f"\n\n*{prose.inline(note, 500)}*" for note in call.notes)
    return f"{heading} {prose.call_name(call)}\n\n{prose.call_facts(call)}{asked}{notes}"


def _text(name: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name[:64], "metadata": {}, "source": source}


def _code(cell: Cell, count: int) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = []
    if output := output_of(cell, OUTPUT_MOST):
        outputs.append({"output_type": "stream", "name": "stdout", "text": output})
    if cell.error or cell.killed:
        name, _, value = (cell.error.strip().rpartition("\n")[2] or f"Killed: {cell.killed}").partition(":")
        trace = cell.error.splitlines() or [f"Killed: {cell.killed}"]
        outputs.append(
            {"output_type": "error", "ename": name[:100], "evalue": value.strip()[:1000], "traceback": trace}
        )
    return {
        "cell_type": "code",
        "id": f"cell-{cell.call_number}-{cell.number}",
        "execution_count": count,
        "metadata": {
            "rlmweb": {"call": cell.call_number, "cell": cell.number, "status": cell.status, "seconds": cell.seconds}
        },
        "outputs": outputs,
        "source": cell.code,
    }
