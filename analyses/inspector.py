"""What is fetched about a run when somebody asks: hits of a search, and a cell's variables, messages and figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString

from analyses.conversation import Message, sent_at
from analyses.models import Call, Cell, Run
from analyses.outline import Outline
from analyses.texts import clean

HITS_MOST = 50
VARIABLES_SHOWN = 300
AROUND = 70  # characters of text shown on each side of a hit


@dataclass(frozen=True)
class Hit:
    """A place in the tree where the words stand."""

    anchor: str  # the id of what the link leads to
    where: str  # "cell 3.2, code"
    snippet: SafeString

    @property
    def call(self) -> str:
        return self.anchor.split("-")[1]


def search(run: Run, words: str) -> list[Hit]:
    """The first places, in the order of the tree's numbers, where these words stand: code, replies, outputs, answers."""
    words = words.strip()[:200]
    return sorted(_hits(run, words), key=lambda hit: _order(hit.anchor))[:HITS_MOST] if words else []


def _order(anchor: str) -> list[int]:
    return [int(part) for part in anchor.split("-") if part.isdigit()]


def _hits(run: Run, words: str) -> Iterator[Hit]:
    fields = ("code", "reply", "reasoning", "shown")
    wanted = Q()
    for name in fields:
        wanted |= Q(**{f"{name}__icontains": words})
    cells = (
        Cell.objects.filter(wanted, run=run).order_by("call_number", "number").only("call_number", "number", *fields)
    )
    for cell in cells[:HITS_MOST]:
        name, text = next(
            ((name, text) for name in fields if words.lower() in (text := getattr(cell, name)).lower()),
            ("reply", cell.reply),
        )
        anchor = f"cell-{cell.call_number}-{cell.number}"
        if name == "code":
            line = text.lower()[: text.lower().find(words.lower())].count("\n") + 1
            anchor += f"-L{line}"
        said = {"shown": "output"}.get(name, name)
        yield Hit(anchor, f"cell {cell.call_number}.{cell.number}, {said}", _snippet(text, words))
    for follow_up in run.follow_up_set.filter(question__icontains=words):
        yield Hit(f"follow-up-{follow_up.number}", f"follow-up {follow_up.number}", _snippet(follow_up.question, words))
    for row in run.earlier_answers.filter(answer_display__icontains=words).only("number", "answer_display"):
        yield Hit(f"answer-{row.number}", f"answer v{row.number}", _snippet(_plain(row.answer_display), words))
    asked = Q(title__icontains=words) | Q(instruction__icontains=words) | Q(reason__icontains=words)
    asked |= Q(answer_display__icontains=words)
    calls = Call.objects.filter(asked, run=run, number__gt=1).order_by("number")
    for call in calls.only("number", "title", "instruction", "reason", "answer_display")[:HITS_MOST]:
        for said, text in (
            ("", call.title),
            ("", call.instruction),
            ("", call.reason),
            (", answer", _plain(call.answer_display)),
        ):
            if words.lower() in text.lower():
                yield Hit(f"call-{call.number}", f"call {call.number}{said}", _snippet(text, words))
                break


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _snippet(text: str, words: str) -> SafeString:
    at = max(0, text.lower().find(words.lower()))
    head, hit, tail = (
        text[max(0, at - AROUND) : at],
        text[at : at + len(words)],
        text[at + len(words) : at + len(words) + AROUND],
    )
    return format_html(
        "{}{}<mark>{}</mark>{}{}",
        "…" if at > AROUND else "",
        head,
        hit,
        tail,
        "…" if at + len(words) + AROUND < len(text) else "",
    )


@dataclass(frozen=True)
class Variable:
    name: str
    size: str
    preview: str
    fresh: bool  # new in this cell, or changed by it


@dataclass(frozen=True)
class Inspected:
    """A cell of a call, or a call as of its last cell."""

    call: Call
    cell: Cell | None
    outline: Outline
    variables: list[Variable]
    messages: list[Message]
    kept_back: bool = False  # who asks may not be shown the variables

    @property
    def entry(self) -> Any:
        return self.outline.calls[self.call.number]

    @property
    def all_cost(self) -> float | None:
        return None if self.entry.unpriced else self.entry.all_cost

    @property
    def anchor(self) -> str:
        return f"cell-{self.call.number}-{self.cell.number}" if self.cell else f"call-{self.call.number}"


def inspected(run: Run, call_number: int, cell_number: int | None) -> Inspected | None:
    call = Call.objects.filter(run=run, number=call_number).defer("answer_value", "answer_display").first()
    if call is None:
        return None
    before = Cell.objects.filter(call=call).defer("exchange", "output", "shown", "code").order_by("number")
    cells = list(before.filter(number__lte=cell_number) if cell_number is not None else before)
    cell = cells[-1] if cells and (cell_number is None or cells[-1].number == cell_number) else None
    outline = Outline.of(run)
    for row in cells:
        row.messages = run.contents.messages(row.messages, call)
    kept_back = not run.contents.outputs
    held = [] if kept_back else [cell for cell in cells if cell.variables]
    last = held[-1].variables if held else []
    earlier = {_name(v): v for v in held[-2].variables} if len(held) > 1 else {}
    variables = [
        Variable(
            _name(v), _size(v), clean(str(v.get("preview", "")))[:400], len(held) > 1 and earlier.get(_name(v)) != v
        )
        for v in last[:VARIABLES_SHOWN]
        if isinstance(v, dict)
    ]
    return Inspected(call, cell, outline, variables, sent_at(run, cells), kept_back)


def _name(variable: dict[str, Any]) -> str:
    return clean(str(variable.get("name", "")))[:120]


def _size(variable: dict[str, Any]) -> str:
    return clean(
        " · ".join(str(part) for part in (variable.get("type"), variable.get("size")) if part not in (None, ""))
    )[:120]
