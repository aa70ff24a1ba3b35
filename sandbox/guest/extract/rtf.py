"""RTF → text, by striprtf. Paragraphs are lines, cells of a table are parted by bars; pictures and footnotes are left out."""

from __future__ import annotations

import mmap
import re

from striprtf.striprtf import rtf_to_text

from .wire import Out, Refusal, tidy

TITLE = re.compile(r"\{\\title\s([^{}]{1,2000})\}")
AUTHOR = re.compile(r"\{\\author\s([^{}]{1,500})\}")
CREATED = re.compile(r"\{\\creatim\\yr(\d{4})\\mo(\d{1,2})\\dy(\d{1,2})")
INFO_MOST = 1 << 18


def read(data: mmap.mmap, out: Out) -> None:
    if not data[:64].lstrip().startswith(b"{\\rtf"):
        raise Refusal("no_rtf")
    source = data[:].decode("latin-1")  # RTF is ASCII; what is not, is bytes of a code page
    text = re.sub(r"\n{3,}", "\n\n", tidy(_plain(source))).strip("\n")
    if not text.strip():
        raise Refusal("blank")
    out.text(text + "\n")
    head = source[:INFO_MOST]
    created = CREATED.search(head)
    out.end(
        title=_info(TITLE, head),
        author=_info(AUTHOR, head),
        date="{}-{:0>2}-{:0>2}".format(*created.groups()) if created else "",
    )


def _plain(source: str) -> str:
    # Halves of characters beyond the first plane come one by one.
    text = rtf_to_text(source, errors="replace")
    return str(text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _info(what: re.Pattern[str], head: str) -> str:
    found = what.search(head)
    return " ".join(tidy(_plain(r"{\rtf1 " + found[1] + "}")).split()) if found else ""
