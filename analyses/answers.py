"""The answer of a run as its page shows it: prose, a table, a folded structure, or nothing yet, and how to get all of it."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from analyses import texts
from analyses.markup import markdown_html
from analyses.models import EarlierAnswer, Run, Status
from analyses.texts import clean

ROWS_SHOWN = 100
COLUMNS_MOST = 24
CELL_MOST = 400  # characters of one field of a table
TEXT_SHOWN = 60_000
NODES_MOST = 1_500  # of a folded structure
DEPTH_MOST = 12
OPEN_ITEMS = 12  # a list or dict of the first level with at most so many items stands open, if there are few of them
LINE_ITEMS = 200  # of a list of plain values, drawn as one line

REMEDIES = {
    Status.LIMIT: "Ask again with a higher limit, or a narrower question. What was found so far is kept below.",
    Status.STOPPED: "Everything up to there is kept below.",
    Status.FAILED: "Everything up to there is kept below.",
}


@dataclass(frozen=True)
class Earlier:
    """The line of an answer that a later question's has followed on."""

    row: EarlierAnswer
    question: str


@dataclass(frozen=True)
class Answer:
    """What `_answer.html` draws. ``form`` is waiting, none, text, table, list, tree or plain."""

    form: str
    run: Run | EarlierAnswer
    html: SafeString = mark_safe("")  # noqa: S308
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    total: int = 0
    cut: bool = False  # the page does not show all of it
    number: int = 0  # of its question, where the run was asked more than one
    question: str = ""

    @property
    def remedy(self) -> str:
        """What to do about an end that is not done, where the reason does not say so itself."""
        if "is kept" in self.run.reason:
            return ""
        if self.run.status == Status.LIMIT and " in a row" in self.run.reason:
            return "What was found so far is kept below; the errors say what to change before you ask again."
        return REMEDIES.get(Status(self.run.status), "")


def shown_answer(run: Run) -> Answer:
    """The answer to the newest question."""
    shown = _shown(run)
    follow_up = run.newest_follow_up()
    return replace(shown, number=follow_up.number, question=follow_up.question) if follow_up else shown


def earlier_answers(run: Run, start: int = -1) -> list[Earlier]:
    """The answers before it, the newest first; those alone that were put aside after ``start``."""
    if not run.follow_ups:
        return []
    questions = {1: run.question} | dict(run.follow_up_set.values_list("number", "question"))
    rows = run.earlier_answers.filter(born__gt=start, born__lte=run.seq).order_by("-number")
    return [Earlier(row, questions.get(row.number, "")) for row in rows.defer("answer_value", "answer_display")]


def earlier_answer(run: Run, number: int) -> Answer | None:
    """One of them, to be shown."""
    row = run.earlier_answers.filter(number=number).first()
    return _shown(row) if row is not None else None


def _shown(run: Run | EarlierAnswer) -> Answer:
    if not run.ended:
        return Answer("waiting", run)
    if not run.answer_type:
        return Answer("none", run)
    shown: Any = run.answer_display
    if isinstance(shown, str):
        cut = run.answer_cut or len(shown) > TEXT_SHOWN
        return Answer("text", run, html=markdown_html(shown[:TEXT_SHOWN]), cut=cut)
    if records := _records(run):
        columns = list(dict.fromkeys(str(key) for record in records[:ROWS_SHOWN] for key in record))
        rows = [[_field(record.get(name)) for name in columns[:COLUMNS_MOST]] for record in records[:ROWS_SHOWN]]
        cut = run.answer_cut or len(records) > ROWS_SHOWN or len(columns) > COLUMNS_MOST
        total = _length(run) if run.answer_cut else len(records)
        return Answer("table", run, columns=columns[:COLUMNS_MOST], rows=rows, total=total, cut=cut)
    if isinstance(shown, list | dict):
        budget = [NODES_MOST]
        html = _structure(shown, budget, 0)
        return Answer("tree", run, html=html, total=len(shown), cut=run.answer_cut or budget[0] <= 0)
    return Answer("plain", run, html=format_html("{}", _scalar(shown)), cut=run.answer_cut)


def _is_table(shown: Any) -> bool:
    return isinstance(shown, list) and bool(shown) and all(isinstance(record, dict) and record for record in shown)


def _records(run: Run | EarlierAnswer) -> list[dict[str, Any]]:
    """The answer's records, if it is a list of nothing else. One that was cut ends with a text that says so."""
    shown = run.answer_display
    if run.answer_cut and isinstance(shown, list) and len(shown) > 1 and isinstance(shown[-1], str):
        shown = shown[:-1]
    return shown if isinstance(shown, list) and _is_table(shown) else []


def _length(run: Run | EarlierAnswer) -> int:
    """How many items a list has of which the row holds only some: its shape says so."""
    found = re.search(r"\[([\d,]+)", run.answer_shape)
    return int(found[1].replace(",", "")) if found else 0


def _field(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else _scalar(value)
    return clean(text if len(text) <= CELL_MOST else text[: CELL_MOST - 1] + "…")


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _structure(value: Any, budget: list[int], depth: int) -> SafeString:
    """Lists and dicts as nested details, as far as the budget of nodes goes."""
    budget[0] -= 1
    if not isinstance(value, list | dict) or not value:
        text = _scalar(value)
        return format_html('<span class="leaf">{}</span>', clean(text[:4000] + ("…" if len(text) > 4000 else "")))
    if budget[0] <= 0 or depth >= DEPTH_MOST:
        return format_html('<span class="leaf">… {} more</span>', len(value))
    if isinstance(value, list) and len(value) > OPEN_ITEMS and not any(isinstance(one, list | dict) for one in value):
        line = ", ".join(_scalar(one) for one in value[:LINE_ITEMS])
        more = f", … {len(value) - LINE_ITEMS:,} more" if len(value) > LINE_ITEMS else ""
        return format_html('<p class="leaf">{}{}</p>', clean(line[:4000]), more)
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    few = len(pairs) <= OPEN_ITEMS
    items: list[SafeString] = []
    for key, item in pairs:
        if budget[0] <= 0:
            items.append(format_html("<li>… {} more</li>", len(pairs) - len(items)))
            break
        inner = _structure(item, budget, depth + 1)
        if isinstance(item, list | dict) and item:
            opened = mark_safe(" open") if depth == 0 and few and len(item) <= OPEN_ITEMS else ""  # noqa: S308
            kind = f"{len(item)} {'keys' if isinstance(item, dict) else 'items'}"
            items.append(
                format_html(
                    "<li><details{}><summary><b>{}</b> <span>{}</span></summary>{}</details></li>",
                    opened,
                    clean(str(key)),
                    kind,
                    inner,
                )
            )
        else:
            items.append(format_html("<li><b>{}</b> {}</li>", clean(str(key)), inner))
    return format_html('<ul class="value">{}</ul>', format_html_join("", "{}", ((item,) for item in items)))


# — the whole of it —


def whole_answer(run: Run | EarlierAnswer) -> Any:
    """The whole answer, JSON-like."""
    value = texts.answer_of(run) if run.answer_cut else None
    return run.answer_display if value is None else value.plain(max_chars=1 << 40)


def as_csv(value: Any) -> str:
    """A list of records as CSV. A leading character that a spreadsheet would take for a formula is set off."""
    records = (
        value if _is_table(value) else [{"value": item} for item in (value if isinstance(value, list) else [value])]
    )
    columns = list(dict.fromkeys(str(key) for record in records for key in record))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_harmless(name) for name in columns])
    for record in records:
        writer.writerow([_harmless("" if (item := record.get(name)) is None else _scalar(item)) for name in columns])
    return out.getvalue()


def _harmless(text: str) -> str:
    numeric = text.lstrip("-").replace(".", "", 1).isdigit()
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not numeric else text
