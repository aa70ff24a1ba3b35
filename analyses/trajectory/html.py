"""A run as one HTML file that works offline: the page's own partials and styles, folded by the browser, without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from analyses.answers import earlier_answer, earlier_answers, shown_answer
from analyses.models import Call, Cell, FollowUp, Run
from analyses.nodes import CallNode, CellNode, FollowUpNode, Tree
from analyses.outline import Outline
from analyses.runpage import RunState
from analyses.templatetags.icons import sprite
from analyses.texts import clean
from analyses.timeline import Timeline
from analyses.trajectory.walk import Over, output_of, walk

WHOLE_MOST = 20_000  # characters of an output that the model saw only in part
EAGER = 12  # calls up to this number stand open
CALLS_WHOLE = 2_000  # calls up to this number have their cells in the file; a browser would not open it otherwise
# Links and buttons of the page that need its server. Text from models cannot look like these: it is escaped.
_ONLINE = re.compile(r'<a class="linkish" href="c/[^"]*" hx-get[^>]*>[^<]*</a>(?:<kbd[^>]*>o</kbd>)?')
_IN_SUMMARY = re.compile(r'<a class="no" href="#[^"]*" tabindex="-1">([^<]*)</a>')  # a control within a control
_HTMX = re.compile(r' (?:hx-[a-z-]+|data-scope)="[^"]*"')


def export(run: Run) -> Iterator[bytes]:
    """The file in pieces: its head, then each call and cell, with what closes them."""
    run.question = clean(run.question)
    outline = Outline.of(run)
    tree = Tree(outline, bounded=False)  # there is nobody to ask for the rest
    tree.add_follow_ups(run)
    for piece in _pieces(run, outline, tree):
        yield _offline(piece).encode("utf-8", "replace")


def _pieces(run: Run, outline: Outline, tree: Tree) -> Iterator[str]:
    newest = shown_answer(run)
    answers = [newest]
    for each in earlier_answers(run):
        if shown := earlier_answer(run, each.row.number):
            answers.append(replace(shown, number=each.row.number, question=each.question))
    context = {
        "run": run, "state": RunState(run, outline), "answers": answers, "timeline": Timeline.of(run, outline),
        "whole": CALLS_WHOLE, "styles": _styles(), "sprite": _sprite(),
    }  # fmt: skip
    yield render_to_string("analyses/export_page.html", context)
    open_cells: list[bool] = []  # of each call that is not over: whether a cell of it is open
    for row in walk(run, outline, whole=CALLS_WHOLE):
        match row:
            case Call():
                yield from _call(CallNode(tree, row))
                open_cells.append(False)
            case FollowUp():
                yield "</ul></li>" if open_cells[-1] else ""
                open_cells[-1] = False
                line = render_to_string("analyses/_follow_up.html", {"follow_up": FollowUpNode(row)})
                yield _IN_SUMMARY.sub(r'<span class="no">\1</span>', line)
            case Cell():
                if open_cells[-1]:
                    yield "</ul></li>"
                open_cells[-1] = True
                yield from _cell(CellNode(tree, row), whole=run.contents.outputs)
            case Over(call):
                yield f"{'</ul></li>' if open_cells.pop() else ''}</ul>{CallNode(tree, call).leaf('end')}</div></details></li>"
    yield "</ul></section></div></div></main></body></html>\n"


def _call(node: CallNode) -> Iterator[str]:
    opened = " open" if node.row.number <= EAGER else ""
    yield f'<li class="call" id="{node.id}"><details{opened}><summary>{_head(node)}</summary><div class="call-body">'
    yield node.leaf("about")
    if node.row.number > CALLS_WHOLE and node.row.turns:
        yield '<p class="small second">Its cells are left out here. The JSON Lines export has them.</p>'
    yield '<ul class="cells">'


def _cell(node: CellNode, *, whole: bool) -> Iterator[str]:
    yield f'<li class="cell" id="{node.id}"><details open><summary>{_head(node)}</summary><div class="cell-body">'
    yield from (node.leaf(name) for name in ("reply", "code", "output"))
    row = node.row
    if whole and row.output_chars > row.shown_chars:
        yield format_html(
            '<details class="reasoning"><summary><span>The whole output, {} characters</span></summary>'
            '<div class="output"><pre>{}</pre></div></details>',
            f"{row.output_chars:,}",
            output_of(row, WHOLE_MOST),
        )
    yield f'</div></details><ul class="children" id="{node.id}-children">'


def _head(node: CallNode | CellNode) -> str:
    return _IN_SUMMARY.sub(r'<span class="no">\1</span>', node.leaf("head"))


def _offline(piece: str) -> str:
    """Icons from the file's own sprite; nothing that asks a server."""
    piece = piece.replace(f'href="{sprite()}#', 'href="#')
    return _HTMX.sub("", _ONLINE.sub("", piece))


@lru_cache(maxsize=1)
def _styles() -> SafeString:
    """The sheets of the site, and what folds without a script."""
    sheets = [_asset("tokens.css"), _asset("app.css"), _asset("export.css")]
    return mark_safe("\n".join(sheets).replace("</", "<\\/"))  # noqa: S308  files of ours


@lru_cache(maxsize=1)
def _sprite() -> SafeString:
    return mark_safe(re.sub(r"<\?xml[^>]*\?>", "", _asset("icons.svg")))  # noqa: S308  a file of ours


def _asset(name: str) -> str:
    found = finders.find(name)
    if not isinstance(found, str):
        raise FileNotFoundError(f"static/{name} is not there")
    return Path(found).read_text()
