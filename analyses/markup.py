"""Text from models and cells as safe HTML: highlighted code with a link for every line, and sanitised Markdown."""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from pygments import lex
from pygments.filters import NameHighlightFilter
from pygments.lexers.python import PythonLexer
from pygments.token import STANDARD_TYPES, Name, _TokenType

from analyses.texts import clean

REPL_NAMES = [
    "context", "question", "llm_query", "batch_llm_query", "rlm_query", "llm_query_batched", "rlm_query_batched",
    "llm_complete", "FINAL", "FINAL_VAR", "SHOW_VARS", "budget", "history", "answer_with", "write_file", "read_file",
    "list_files",
]  # fmt: skip
HIGHLIGHT_MOST = 60_000  # characters; longer code is shown plain
MARKDOWN_MOST = 400_000
_LINE_NUMBER = re.compile(r"\bline (\d+)")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def _lexer() -> PythonLexer:
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    lexer.add_filter(NameHighlightFilter(names=REPL_NAMES, tokentype=Name.Builtin.Pseudo))
    return lexer


_PYTHON = _lexer()


def _css_class(token: _TokenType) -> str:
    while token not in STANDARD_TYPES:
        token = token.parent  # type: ignore[assignment]
    return STANDARD_TYPES[token]


_KEPT = ("k", "s", "m", "nb", "nf", "nc", "nn", "c", "ow", "bp")


@lru_cache(maxsize=1024)
def code_lines(code: str) -> tuple[str, ...]:
    """Highlight Python; one piece of safe HTML for each line."""
    code = clean(code).replace("\r\n", "\n")
    if len(code) > HIGHLIGHT_MOST:
        return tuple(line.translate(_ESCAPES) for line in code.split("\n"))
    lines: list[list[str]] = [[]]
    for token, text in lex(code, _PYTHON):
        css = _css_class(token)
        # Classes without a colour of their own only make the page longer.
        css = css if css.startswith(_KEPT) else ""
        for number, piece in enumerate(text.split("\n")):
            if number:
                lines.append([])
            if piece:
                safe = piece.translate(_ESCAPES)
                lines[-1].append(f'<span class="{css}">{safe}</span>' if css else safe)
    return tuple("".join(line) for line in lines)


def code_html(code: str, where: str, error: str = "") -> SafeString:
    """The lines of a cell with their numbers as links; ``where`` is the cell's id. The line that raised is marked."""
    lines = code_lines(code.rstrip("\n"))
    raised = [int(found) for found in _LINE_NUMBER.findall(error)]
    bad = raised[-1] if raised and raised[-1] <= len(lines) else 0
    return mark_safe(  # noqa: S308  the lines are escaped above, the rest is ours
        "".join(
            f'<span class="line{" is-error" if number == bad else ""}" id="{where}-L{number}">'
            f'<a class="ln" tabindex="-1" href="#{where}-L{number}">{number}</a>{line}</span>'
            for number, line in enumerate(lines, 1)
        )
    )


_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
_TAGS = {
    "p", "br", "hr", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "s", "a",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


@lru_cache(maxsize=256)
def markdown_html(text: str) -> SafeString:
    """Markdown as HTML of a few harmless tags: no images (they would call elsewhere), no raw HTML, headings below ours."""
    text = clean(text)
    if len(text) > MARKDOWN_MOST:
        return format_html("<pre>{}</pre>", text)
    html = _MARKDOWN.render(text)
    html = re.sub(r"<(/?)h([1-4])>", lambda found: f"<{found[1]}h{min(6, int(found[2]) + 2)}>", html)
    # Scrolling sideways needs an element of its own around a table.
    html = nh3.clean(
        html,
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)  # noqa: S308  sanitised by nh3


def paragraphs(text: str) -> SafeString:
    """Prose of a model, as it wrote it: blank lines part paragraphs, the rest is kept."""
    pieces = [piece.strip("\n") for piece in re.split(r"\n\s*\n", clean(text)) if piece.strip()]
    return format_html_join("", "<p>{}</p>", ((piece,) for piece in pieces))
