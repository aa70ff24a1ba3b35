"""HTML → text as a person reads it: headings, lists and tables as lines, no scripts, styles, menus or footers.

html5ever (by nh3) mends what browsers mend; what comes out of it is so plain that a regular expression reads it. On
hostile input html5ever can be slow (its time grows with the square of the depth): the process has its limits.
"""

from __future__ import annotations

import codecs
import html
import mmap
import re
from collections.abc import Collection
from dataclasses import dataclass, field

import nh3

from .wire import Out, Refusal, tidy

HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
PARAGRAPHS = {"p", "pre", "blockquote", "ul", "ol", "dl", "table", "hr", "figure", *HEADINGS}
LINES = {
    "div", "section", "article", "main", "header", "address", "li", "tr", "br", "dt", "dd", "caption", "figcaption", "body",
}  # fmt: skip
KEPT = PARAGRAPHS | LINES | {"td", "th", "title"}
DROPPED = {
    "script", "style", "noscript", "template", "svg", "math", "nav", "footer", "iframe", "object", "select", "button",
    "textarea",
}  # fmt: skip
INLINE = {"a", "span", "b", "i", "em", "strong", "small", "sup", "sub", "img"}  # what else a link may lead to
TOKEN = re.compile(r"<(/?)([a-z0-9]+)((?: [a-z]+=\"[^\"]*\")*)>|([^<]+)")
PLACE = re.compile(r" (?:id|name)=\"([^\"]*)\"")
WHOLE = re.compile(r"<(?:html|body)\b[^>]*>", re.IGNORECASE)
SIGN = "\x01"  # stands in a text that is being drawn where a link leads to; no other does
CELL_MOST = 400  # characters of a table's cell that stays on its row's line
INDENT_MOST = 8
DECLARED = re.compile(
    rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{2,40})|<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.:-]{2,40})""",
    re.IGNORECASE,
)


def read(data: mmap.mmap, out: Out) -> None:
    """A page that the host has decoded."""
    text, title = text_of(data[:].decode("utf-8", "replace"))
    if not text:
        raise Refusal("wordless")
    out.text(tidy(text))
    out.end(title=title)


def decoded(data: bytes) -> str:
    """A page out of an archive: in the encoding that it names, else UTF-8."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    found = DECLARED.search(data[:4096])
    named = (found[1] or found[2]).decode("ascii", "ignore") if found else "utf-8"
    try:
        return data.decode(named, "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def text_of(page: str) -> tuple[str, str]:
    """The text of a page, and its title."""
    text, title, _ = _drawn(page, frozenset())
    return text, title


def places_of(page: str, ids: Collection[str]) -> list[tuple[str, str]]:
    """The text of a page in pieces: each with the id, of these, of the element that begins there; "" for the first."""
    text, _, met = _drawn(page, ids)
    return list(zip(["", *met], text.split(SIGN), strict=False))


def is_whole(page: str, place: str) -> bool:
    """Whether the place that a link names is the page itself."""
    return not place or any(place in PLACE.findall(tag) for tag in WHOLE.findall(page[:20_000]))


def _drawn(page: str, ids: Collection[str]) -> tuple[str, str, list[str]]:
    """Text, title, and what the signs in the text stand for, in order."""
    plain = nh3.clean(
        page,
        tags=KEPT | INLINE if ids else KEPT,
        clean_content_tags=DROPPED,
        attributes={"*": {"id"}, "a": {"id", "name"}} if ids else {},
        link_rel=None,
    ).replace(SIGN, "")
    drawing = _Drawing()
    met: list[str] = []
    for closing, tag, attributes, words in TOKEN.findall(plain):
        if words:
            drawing.words(html.unescape(words))
        elif tag in INLINE:
            pass
        elif closing:
            drawing.closes(tag)
        else:
            drawing.opens(tag)
        for value in dict.fromkeys(PLACE.findall(attributes)):
            if (name := html.unescape(value)) in ids:
                met.append(name)
                drawing.owed += 1
    drawing.end(blank=False)
    while drawing.cells:  # what html5ever closes is closed already: nothing is left
        drawing.close_cell()
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(drawing.lines)).strip("\n")
    return (text + "\n" if text.strip() else ""), " ".join("".join(drawing.title).split()), met


@dataclass
class _Drawing:
    """The lines drawn so far, and where in the page we are."""

    lines: list[str] = field(default_factory=lambda: [""])
    line: str = ""
    prefix: str = ""  # a heading's signs or a list's, of the line that is being drawn
    title: list[str] = field(default_factory=list)
    in_title: bool = False
    verbatim: bool = False
    lists: list[int | None] = field(default_factory=list)  # the last number of each ordered list, None for others
    cells: list[tuple[list[str], str, str, int]] = field(default_factory=list)  # what a cell interrupted
    filled: int = 0  # cells of the row so far
    owed: int = 0  # signs that the next words begin with

    def end(self, *, blank: bool) -> None:
        kept = self.line.rstrip() if self.verbatim else " ".join(self.line.split())
        self.line = ""
        if kept.strip(f" #|-{SIGN}"):
            words = kept.lstrip(SIGN)  # what begins with the line begins with its prefix
            self.lines.append(SIGN * (len(kept) - len(words)) + self.prefix + words)
            self.prefix = ""
        else:
            self.owed += kept.count(SIGN)
        if blank and self.lines[-1]:
            self.lines.append("")

    def words(self, said: str) -> None:
        if self.in_title:
            self.title.append(said)
            return
        if self.owed and (begun := said.lstrip()):
            said = said[: len(said) - len(begun)] + SIGN * self.owed + begun
            self.owed = 0
        if self.verbatim:
            *whole, last = said.split("\n")
            for each in whole:
                self.lines.append((self.line + each).rstrip())
                self.line = ""
            self.line += last
        else:
            self.line += said

    def opens(self, tag: str) -> None:
        if tag == "title":
            self.in_title = True
        elif tag in ("td", "th"):
            self.cells.append((self.lines, self.line, self.prefix, self.filled))
            self.lines, self.line, self.prefix, self.filled = [""], "", "", 0
        else:
            self.end(blank=self._parts(tag))
            if tag in ("ul", "ol"):
                self.lists.append(0 if tag == "ol" else None)
            elif tag == "tr":
                self.filled = 0
            elif tag == "pre":
                self.verbatim = True
            elif tag in HEADINGS:
                self.prefix = HEADINGS[tag]
            elif tag == "li":
                self.prefix = self._bullet()

    def closes(self, tag: str) -> None:
        if tag == "title":
            self.in_title = False
        elif tag in ("td", "th"):
            self.close_cell()
        else:
            if tag in ("ul", "ol") and self.lists:
                self.end(blank=False)
                self.lists.pop()
            self.end(blank=self._parts(tag))
            if tag in ("li", *HEADINGS):
                self.prefix = ""
            elif tag == "pre":
                self.verbatim = False

    def close_cell(self) -> None:
        """A short cell is a part of its row's line; a long one, as of pages that are laid out by tables, stands by itself."""
        if not self.cells:
            return
        self.end(blank=False)
        within = self.lines
        self.lines, self.line, self.prefix, self.filled = self.cells.pop()
        words = " ".join(line.strip() for line in within if line.strip())
        if len(words) - words.count(SIGN) <= CELL_MOST:
            self.line += (" | " if self.filled else "") + words
            self.filled += 1
        elif words:
            self.end(blank=False)
            self.lines.extend(within[1:])
            self.filled = 0

    def _parts(self, tag: str) -> bool:
        """Whether a blank line stands before and after; not so around a list in a list, or a paragraph in one."""
        return tag in PARAGRAPHS and not (self.lists and tag in ("ul", "ol", "p"))

    def _bullet(self) -> str:
        if not self.lists:
            return "- "
        indent = "  " * min(len(self.lists) - 1, INDENT_MOST)
        if self.lists[-1] is None:
            return indent + "- "
        self.lists[-1] += 1
        return f"{indent}{self.lists[-1]}. "
