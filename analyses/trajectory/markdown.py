"""A run as a Markdown report: its answer first, then the tree, call by call."""

from __future__ import annotations

from collections.abc import Iterator

from analyses.models import Call, Cell, FollowUp, Run
from analyses.trajectory import prose
from analyses.trajectory.walk import Over, output_of, walk

OUTPUT_MOST = 20_000  # characters of one cell's output


def export(run: Run) -> Iterator[bytes]:
    """The report in pieces."""
    for piece in _pieces(run):
        yield f"{piece}\n\n".encode("utf-8", "replace")


def _pieces(run: Run) -> Iterator[str]:
    yield f"# {prose.inline(run.question)}"
    if len(run.question) > 300:
        yield prose.fenced(run.question)
    yield "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in prose.facts(run))
    for heading, question, said in prose.answers(run):
        yield f"## {heading}"
        if question:
            yield prose.quoted(question)
        yield said
    yield "## Calls and cells"
    for row in walk(run):
        match row:
            case Call():
                yield from _call(row)
            case Cell():
                yield from _cell(row)
            case FollowUp():
                yield f"**Follow-up {row.number}**"
                yield prose.quoted(row.question)
            case Over(call):
                if call.answer_type and call.parent_number is not None:
                    yield f"**Answer of call {call.number}.** {prose.origin(call)}"
                    yield prose.answer(call)


def _call(call: Call) -> Iterator[str]:
    yield f"{'#' * min(6, 3 + call.depth)} {prose.call_name(call)}"
    yield prose.call_facts(call)
    if call.instruction and call.parent_number is not None:
        yield prose.quoted(call.instruction)
    for note in call.notes:
        yield f"*{prose.inline(note, 500)}*"


def _cell(cell: Cell) -> Iterator[str]:
    used = f"{cell.prompt_tokens + cell.completion_tokens:,} tokens · {cell.seconds:.1f} s"
    kind = "Cell" if cell.kind in (Cell.Kind.CODE, Cell.Kind.TOOL) else cell.kind.capitalize()
    yield f"**{kind} {cell.call_number}.{cell.number}** · {cell.status}{prose.cell_mark(cell)} · {used}"
    if said := prose.thoughts(cell):
        yield prose.quoted(said)
    if cell.code:
        yield prose.fenced(cell.code, "python")
        if output := output_of(cell, OUTPUT_MOST):
            yield f"Output, {cell.output_chars:,} characters, of which the model saw {cell.shown_chars:,}:"
            yield prose.fenced(output, "text")
    if cell.error:
        yield prose.fenced(cell.error, "text")
