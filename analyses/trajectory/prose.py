"""A run's facts and texts as Markdown in which nothing of a model's or a document's acts as markup of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from analyses.endpoints import OFFLINE, OFFLINE_LABEL
from analyses.models import Answered, Call, Cell, EarlierAnswer, Run
from analyses.texts import answer_of, clean
from rlm import parsing

ANSWER_MOST = 200_000  # characters of an answer
TEXT_MOST = 100_000  # of a reply or an output
_MARKS = re.compile(r"([\\`*_\[\]<>#|~])")


def inline(text: str, most: int = 300) -> str:
    """A text on one line that Markdown shows as it is."""
    line = " ".join(clean(text).split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return _MARKS.sub(r"\\\1", line).replace("&", "&amp;")


def fenced(text: str, language: str = "") -> str:
    """A text word for word, in a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{clean(text).rstrip()}\n{fence}"


def quoted(text: str) -> str:
    """A model's Markdown as a quotation: its lists and tables hold, its HTML and images do not."""
    text = clean(text[:TEXT_MOST]).replace("<", "&lt;").replace("![", "!\\[")
    return "\n".join(f"> {line}".rstrip() for line in text.strip().split("\n"))


def answer(row: Answered) -> str:
    """The answer of a run or call: prose quoted, anything else as JSON."""
    shown: Any = row.answer_display
    if row.answer_cut and (value := _whole(row)) is not None:
        shown = value.plain(max_chars=ANSWER_MOST)
    if isinstance(shown, str):
        return quoted(shown)
    return fenced(json.dumps(shown, ensure_ascii=False, indent=1)[:ANSWER_MOST], "json")


def _whole(row: Answered) -> Any:
    try:
        return answer_of(row)
    except (OSError, ValueError):
        return None


def origin(row: Answered) -> str:
    """Whether the answer is an object that a program computed, or text that a model typed."""
    from_what = "from variable" if row.answer_name.isidentifier() else "by"
    said = f"Returned {from_what} `{inline(row.answer_name, 120)}`" if row.answer_name else "Written by the model"
    return f"{said}{', partial' if row.partial else ''}: {inline(row.answer_shape or row.answer_type, 160)}"


def answers(run: Run) -> Iterator[tuple[str, str, str]]:
    """Heading, question and answer for each question of the run, the newest first; without a question, it had but one."""
    questions = dict(run.follow_up_set.values_list("number", "question"))
    rows: list[tuple[int, Run | EarlierAnswer]] = [(run.follow_ups + 1, run)]
    rows += [(row.number, row) for row in run.earlier_answers.order_by("-number")]
    for number, row in rows:
        asked = questions.get(number, run.question) if run.follow_ups else ""
        said = f"{origin(row)}\n\n{answer(row)}" if row.answer_type else "There is none."
        yield f"Answer v{number}" if run.follow_ups else "Answer", asked, said


def _models(run: Run) -> str:
    if run.endpoint == OFFLINE:
        return OFFLINE_LABEL
    children = f", children {run.child_model}" if run.child_model != run.root_model else ""
    return inline(run.root_model + children)


def facts(run: Run) -> list[tuple[str, str]]:
    """What a reader wants to know of the run before its tree."""
    told = [
        ("Status", run.status + (f": {inline(run.reason, 500)}" if run.reason else "")),
        ("Strategy", inline(run.strategy)),
        ("Models", _models(run)),
        ("Calls, cells, depth", f"{run.calls:,}, {run.cells:,}, {run.depth}"),
        ("Tokens", f"{run.prompt_tokens:,} in, {run.completion_tokens:,} out, {run.cached_tokens:,} cached"),
        ("Cost", "unknown" if run.cost is None else f"${run.cost:.4f}"),
        ("Time", f"{run.seconds:.1f} s"),
        ("Began", run.created_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
    ]
    if run.corpus_version:
        version = run.corpus_version
        told.insert(
            1,
            (
                "Corpus",
                f"{inline(version.corpus.name)}, version {version.number}, "
                + (f"{len(run.documents):,} of its " if run.documents is not None else "")
                + f"{version.document_count:,} documents",
            ),
        )
    if run.fork:
        fork, reused = run.fork, run.reused
        place = f"run {fork.get('run', '?')} at cell {fork.get('call', '?')}.{fork.get('cell', '?')}"
        told.append(
            ("Forked from", inline(f"{place}, changed: {', '.join(map(str, fork.get('changed', ()))) or 'nothing'}"))
        )
        told.append(("Reused from there", f"{reused.get('calls', 0):,} calls, {reused.get('cells', 0):,} cells"))
    if run.imported_from:
        told.append(("Imported from", f"{inline(run.imported_from)} ({inline(run.imported_file)})"))
    return told


def call_facts(call: Call) -> str:
    """One line under the heading of a call."""
    parts = [
        call.status,
        inline(call.model),
        f"{call.turns} turns",
        f"{call.prompt_tokens + call.completion_tokens:,} tokens",
    ]
    parts.append("cost unknown" if call.cost is None else f"${call.cost:.4f}")
    if call.started_at is not None and call.finished_at is not None:
        parts.append(f"{max(0.0, call.finished_at - call.started_at):.1f} s")
    if call.reused_at is not None:
        parts.append("reused from the run that this one was forked from")
    asked = f" · asked by cell {call.parent_number}.{call.parent_cell}" if call.parent_number else ""
    said = f"\n\n{inline(call.reason, 500)}" if call.reason else ""
    return f"{' · '.join(parts)} · context: {inline(call.context_shape, 160)}{asked}{said}"


def cell_mark(cell: Cell) -> str:
    """What a fork made of a cell, to be put behind its name."""
    return " · changed by a person" if cell.edited else " · replayed" if cell.reused else ""


def call_name(call: Call) -> str:
    if call.parent_number is None:
        return "Root call"
    about = inline(call.title or call.instruction, 100)
    return f"Call {call.number}{f': {about}' if about else ''}"


def thoughts(cell: Cell) -> str:
    """What a model wrote around its code: reasoning, then prose."""
    prose = parsing.parse(cell.reply).prose if cell.code else cell.reply
    return "\n\n".join(text for text in (cell.reasoning, prose) if text.strip())
