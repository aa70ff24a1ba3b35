"""PDF → its text, page by page, as PDFium reads it off the page, with lines that only the margin broke joined again."""

from __future__ import annotations

import ctypes
import mmap
import re
from dataclasses import replace

import pypdfium2
import pypdfium2.raw as pdfium

from .flow import Line, joined
from .wire import Out, Refusal, tidy

LINE_END = re.compile("(\r\n|\ufffe|\x02)")  # the latter two where PDFium took a word's hyphen and the line's end away
DATE = re.compile(r"D:(\d{4})(\d{2})?(\d{2})?")


def read(data: mmap.mmap, out: Out) -> None:
    try:
        document = pypdfium2.PdfDocument((ctypes.c_ubyte * len(data)).from_buffer(data))
    except pypdfium2.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise Refusal("encrypted") from None
        raise Refusal("no_pdf" if b"%PDF-" not in data[:1024] else "damaged_pdf", str(error)) from None
    pages = len(document)
    empty = broken = 0
    for index in range(pages):
        words = ""
        try:
            page = document[index]
            try:
                words = _text(page)
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            broken += 1
        if not words:
            empty += 1
        elif out.said:
            out.text("\n")  # between pages; it ends the one before
        out.page(index + 1, pages)
        if words:
            out.text(words + "\n")
    if not out.said:
        raise Refusal("damaged_pdf" if broken or not pages else "pictures")
    about = document.get_metadata_dict(skip_empty=True)
    date = DATE.match(about.get("CreationDate", ""))
    out.end(
        title=about.get("Title", ""),
        author=about.get("Author", ""),
        date="-".join(part for part in date.groups() if part) if date else "",
        pages=pages,
        empty=empty - broken,
        broken=broken,
    )


def _text(page: pypdfium2.PdfPage) -> str:
    found = page.get_textpage()
    try:
        return tidy(joined(_lines(found))).strip("\n")
    finally:
        found.close()


def _lines(page: pypdfium2.PdfTextPage) -> list[Line]:
    text = page.get_text_range()
    # A character beyond the first plane may count twice there: then places cannot be told, and lines stay lines.
    placed = len(text) == page.count_chars()
    lines, at = [], 0
    parts = LINE_END.split(text)
    for raw, end in zip(parts[::2], [*parts[1::2], ""], strict=True):
        words = raw.strip()
        line = _placed(page, words, at + len(raw) - len(raw.lstrip())) if placed and words else Line(words)
        lines.append(replace(line, torn=end != "" and end != "\r\n"))
        at += len(raw) + len(end)
    return lines


def _placed(page: pypdfium2.PdfTextPage, words: str, at: int) -> Line:
    first = words.split(maxsplit=1)[0]
    left, base, _ = _place(page, at)
    return Line(
        words,
        left,
        _place(page, at + len(words) - 1)[2],
        base,
        _place(page, at + len(first) - 1)[2] - left,
        pdfium.FPDFText_GetFontSize(page, at),
    )


def _place(page: pypdfium2.PdfTextPage, at: int) -> tuple[float, float, float]:
    """A character's left edge, base line and right edge."""
    left, right, bottom, top, x, y = (ctypes.c_double() for _ in range(6))
    pdfium.FPDFText_GetCharBox(page, at, left, right, bottom, top)
    pdfium.FPDFText_GetCharOrigin(page, at, x, y)
    return left.value, y.value, right.value
