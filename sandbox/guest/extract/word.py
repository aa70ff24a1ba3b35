"""Word documents → text: mammoth makes HTML of the body with its tables, lists and footnotes, which is read as any page."""

from __future__ import annotations

import io
import mmap
import re

import defusedxml
import mammoth
from defusedxml.common import DefusedXmlException

from . import packed, webpage
from .wire import Out, Refusal, tidy

STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => h2:fresh"
BACK = re.compile(' <a href="#(?:foot|end)note-ref-[^"]{1,40}">↑</a>')  # the way back from a footnote
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

defusedxml.defuse_stdlib()  # mammoth reads XML by the standard library; entities of a document's own are refused


def read(data: mmap.mmap, out: Out) -> None:
    if data[:8] == OLE:
        raise Refusal("encrypted" if data.find("EncryptedPackage".encode("utf-16-le")) >= 0 else "old_office")
    archive = packed.unzip(data, "no_docx")
    names = set(archive.namelist())
    if "[Content_Types].xml" not in names or not any(name.startswith("word/") for name in names):
        raise Refusal("no_docx")
    try:
        page = mammoth.convert_to_html(io.BytesIO(data), style_map=STYLES, convert_image=_no_image).value
    except DefusedXmlException:
        raise Refusal("entities") from None
    except (KeyError, OSError) as error:
        raise Refusal("no_docx", str(error)) from None
    text, _ = webpage.text_of(BACK.sub("", page))
    if not text:
        raise Refusal("blank")
    out.text(tidy(text))
    about = packed.xml(packed.part(archive, "docProps/core.xml"))
    out.end(
        title=" ".join(packed.words(about, "title")[:1]),
        author=" ".join(packed.words(about, "creator")[:1]),
        date=" ".join(packed.words(about, "created")[:1])[:10],
    )


def _no_image(image: object) -> list[object]:
    return []
