"""PDF → its text, page by page, as PDFium lays it out: a line as it stands on the page."""

from __future__ import annotations

import ctypes
import mmap
import re

import pypdfium2
import pypdfium2.raw as pdfium

from .wire import Out, Refusal, tidy

DATE = re.compile(r"D:(\d{4})(\d{2})?(\d{2})?")
TORN = re.compile("[\ufffe\x02]\r?\n?")  # how PDFium marks a word that the end of a line tears


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
        text = tidy(TORN.sub("", found.get_text_range()))
    finally:
        found.close()
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")
