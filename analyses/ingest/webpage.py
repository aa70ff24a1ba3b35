"""HTML → text as a person reads it: headings, lists and tables as lines, no scripts, styles, menus or footers.

html5ever (by nh3) mends what browsers mend; what comes out of it is so plain that a regular expression reads it. On
hostile input html5ever can be slow (its time grows with the square of the depth), so large or odd pages are read in a
process of their own with limits of time and memory: this file run as a script. It imports nothing of ours.
"""

from __future__ import annotations

import html
import re
import resource
import subprocess
import sys
from pathlib import Path

import nh3

HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
PARAGRAPHS = {"p", "pre", "blockquote", "ul", "ol", "dl", "table", "hr", "figure", *HEADINGS}
LINES = {
    "div",
    "section",
    "article",
    "main",
    "header",
    "address",
    "li",
    "tr",
    "br",
    "dt",
    "dd",
    "caption",
    "figcaption",
    "body",
}
KEPT = PARAGRAPHS | LINES | {"td", "th", "title"}
DROPPED = {
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "math",
    "nav",
    "footer",
    "iframe",
    "object",
    "select",
    "button",
    "textarea",
}
TOKEN = re.compile(r"<(/?)([a-z0-9]+)>|([^<]+)")
DECLARED = re.compile(
    rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{2,40})|<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.:-]{2,40})""",
    re.IGNORECASE,
)

SMALL = 300_000  # characters, of which
TAGS = 20_000  # and
ENTITIES = 20_000  # at most make a page that is read here
SECONDS = 30
MEMORY = 2 << 30


class Unreadable(Exception):
    """The page cannot be read within the limits."""


def declared(head: bytes) -> str:
    """The encoding that a page names."""
    found = DECLARED.search(head)
    return (found[1] or found[2]).decode("ascii", "ignore") if found else ""


def read(page: str) -> tuple[str, str]:
    """The text of a page, and its title."""
    if len(page) <= SMALL and page.count("<") <= TAGS and page.count("&") <= ENTITIES:
        return _text(page)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-X", "utf8", str(Path(__file__))],
            input=page, capture_output=True, text=True, encoding="utf-8", timeout=2 * SECONDS, check=True, env={},
        )  # fmt: skip
    except (subprocess.SubprocessError, UnicodeDecodeError):
        raise Unreadable(
            f"It could not be read within {SECONDS} seconds and {MEMORY >> 20} MB: it is too large or built to be hard to read."
        ) from None
    title, _, text = done.stdout.partition("\0")
    return text, title


def _text(page: str) -> tuple[str, str]:
    plain = nh3.clean(page, tags=KEPT, clean_content_tags=DROPPED, attributes={}, link_rel=None)
    lines, line, title = [""], "", []
    verbatim = depth_of_title = 0
    cells = 0

    def end(blank: bool) -> None:
        nonlocal line
        kept = line.rstrip() if verbatim else " ".join(line.split())
        line = ""
        if kept.strip(" #|-"):
            lines.append(kept)
        if blank and lines[-1]:
            lines.append("")

    for closing, tag, words in TOKEN.findall(plain):
        if words:
            said = html.unescape(words)
            if depth_of_title:
                title.append(said)
            elif verbatim:
                *whole, last = said.split("\n")
                for each in whole:
                    lines.append((line + each).rstrip())
                    line = ""
                line += last
            else:
                line += said
            continue
        if tag == "title":
            depth_of_title = 0 if closing else 1
        elif tag in ("td", "th"):
            if not closing:
                line += " | " if cells else ""
                cells += 1
        else:
            end(tag in PARAGRAPHS)
            if tag == "tr":
                cells = 0
            if tag == "pre":
                verbatim = 0 if closing else 1
            elif not closing and tag in HEADINGS:
                line = HEADINGS[tag]
            elif not closing and tag == "li":
                line = "- "
    end(False)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return (text + "\n" if text.strip() else ""), " ".join("".join(title).split())


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found, name = _text(sys.stdin.read())
    sys.stdout.write(f"{name}\0{found}")
