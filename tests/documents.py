"""Small PDFs, Word documents, books and mails, made by hand: as many pages, parts and oddities as a test asks for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from xml.sax.saxutils import escape

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def pdf(pages: Sequence[str], *, title: str = "", author: str = "", created: str = "") -> bytes:
    """A PDF of these pages, in Helvetica; a page of "" is blank, a line stands as it is. Latin letters only."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        lines = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in page.split("\n")]
        stream = "BT /F1 11 Tf 50 780 Td 14 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
        data = stream.encode("cp1252") if page else b""
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(data), data))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    about = {"Title": title, "Author": author, "CreationDate": created}
    objects.append(b"<< %s >>" % b" ".join(f"/{k} ({v})".encode("cp1252") for k, v in about.items() if v))
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    xref = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        len(objects),
        xref,
    )
    return bytes(out)


def zipped(parts: dict[str, bytes | str], *, first: str = "") -> bytes:
    """A zip; `first` is stored and not deflated, as a book's mimetype is."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data, zipfile.ZIP_STORED if name == first else None)
    return made.getvalue()


def paragraph(text: str, style: str = "", extra: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r>{extra}</w:p>'


def item(text: str, level: int = 0, numbered: bool = False) -> str:
    number = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{2 if numbered else 1}"/></w:numPr>'
    return f"<w:p><w:pPr>{number}</w:pPr><w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def table(rows: Sequence[Sequence[str]]) -> str:
    cells = "".join("<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) + "</w:tr>" for row in rows)
    return f"<w:tbl>{cells}</w:tbl>"


def docx(body: str, *, title: str = "", author: str = "", footnotes: Sequence[str] = (), before: str = "") -> bytes:
    """A Word document of this body (made of paragraph, item, table); `before` stands before its root element."""
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{i}"><w:name w:val="{n}"/></w:style>'
        for i, n in (("Title", "Title"), ("Heading1", "heading 1"), ("Heading2", "heading 2"))
    )
    levels = "".join(
        f'<w:abstractNum w:abstractNumId="{n}">'
        + "".join(f'<w:lvl w:ilvl="{i}"><w:numFmt w:val="{kind}"/></w:lvl>' for i in range(3))
        + f'</w:abstractNum><w:num w:numId="{n}"><w:abstractNumId w:val="{n}"/></w:num>'
        for n, kind in ((1, "bullet"), (2, "decimal"))
    )
    notes = "".join(f'<w:footnote w:id="{i}">{paragraph(note)}</w:footnote>' for i, note in enumerate(footnotes, 1))
    kinds = ("styles", "numbering", "footnotes")
    relations = "".join(f'<Relationship Id="r{k}" Type="{RELATION}/{k}" Target="{k}.xml"/>' for k in kinds)
    packages = "http://schemas.openxmlformats.org/package/2006"
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{packages}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
            "_rels/.rels": f'<Relationships xmlns="{packages}/relationships"><Relationship Id="r1" Type="{RELATION}/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/_rels/document.xml.rels": f'<Relationships xmlns="{packages}/relationships">{relations}</Relationships>',
            "word/document.xml": f'{before}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>',
            "word/styles.xml": f'<w:styles xmlns:w="{WORD}">{styles}</w:styles>',
            "word/numbering.xml": f'<w:numbering xmlns:w="{WORD}">{levels}</w:numbering>',
            "word/footnotes.xml": f'<w:footnotes xmlns:w="{WORD}">{notes}</w:footnotes>',
            "docProps/core.xml": '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"'
            ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/">'
            f"<dc:title>{escape(title)}</dc:title><dc:creator>{escape(author)}</dc:creator>"
            "<dcterms:created>2024-05-06T07:08:09Z</dcterms:created></cp:coreProperties>",
        }
    )


def epub(
    chapters: dict[str, str],
    *,
    title: str = "A book",
    author: str = "",
    spine: Sequence[str] = (),
    before: str = "",
    contents: Sequence[tuple[str, str]] = (),
    ncx: bool = False,
) -> bytes:
    """A book: file names and the bodies of their pages, read in the order of `spine`.

    `contents`: where each part begins ("c1" or "c1#place") and its title; told as EPUB 3 does, or by an `ncx` as EPUB 2.
    """
    items = "".join(
        f'<item id="{name}" href="text/{name}.xhtml" media-type="application/xhtml+xml"/>' for name in chapters
    )
    if contents and ncx:
        items += '<item id="toc" href="nav/toc.ncx" media-type="application/x-dtbncx+xml"/>'
    elif contents:
        items += '<item id="toc" href="nav/toc.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    order = "".join(f'<itemref idref="{name}"/>' for name in spine or chapters)
    parts: dict[str, bytes | str] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "OEBPS/book.opf": f'{before}<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{escape(title)}</dc:title><dc:creator>{escape(author)}</dc:creator><dc:date>1911-10-01</dc:date>"
        f"<dc:language>en</dc:language></metadata><manifest>{items}</manifest><spine>{order}</spine></package>",
    }
    targets = [
        (f"../text/{name}.xhtml{mark}{place}", escape(words))
        for (name, mark, place), words in ((target.partition("#"), words) for target, words in contents)
    ]
    if contents and ncx:
        points = "".join(
            f'<navPoint><navLabel><text>{words}</text></navLabel><content src="{target}"/></navPoint>'
            for target, words in targets
        )
        parts["OEBPS/nav/toc.ncx"] = (
            f'{before}<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{points}</navMap></ncx>'
        )
    elif contents:
        links = "".join(f'<li><a href="{target}">{words}</a></li>' for target, words in targets)
        parts["OEBPS/nav/toc.xhtml"] = (
            f'{before}<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body>'
            f'<nav epub:type="toc"><ol>{links}</ol></nav></body></html>'
        )
    for name, body in chapters.items():
        parts[f"OEBPS/text/{name}.xhtml"] = (
            '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml">'
            f"<head><title>{name}</title></head><body>{body}</body></html>"
        )
    return zipped(parts, first="mimetype")


def rtf(text: str, *, title: str = "", author: str = "") -> bytes:
    """An RTF document; a line is a paragraph, a tab parts cells of a table's row."""

    def words(line: str) -> str:
        escaped = line.replace("\\", r"\\").replace("{", r"\{").replace("}", r"\}")
        units = escaped.encode("utf-16-le")
        codes = [int.from_bytes(units[i : i + 2], "little") for i in range(0, len(units), 2)]
        return "".join(chr(c) if c < 128 else rf"\u{c if c < 32768 else c - 65536}?" for c in codes)

    info = rf"{{\info{{\title {words(title)}}}{{\author {words(author)}}}{{\creatim\yr2024\mo5\dy6}}}}"
    fonts = r"{\fonttbl{\f0\fswiss\fcharset0 Helvetica;}}{\colortbl;\red255\green0\blue0;}"
    body = "\n".join(rf"\pard {words(line)}\par" for line in text.split("\n"))
    return (r"{\rtf1\ansi\ansicpg1252\deff0" + fonts + info + "\n" + body + "}").encode("ascii")


def mail(
    subject: str,
    body: str,
    *,
    page: str = "",
    attached: dict[str, bytes] | None = None,
    date: str = "Mon, 06 May 2024 07:08:09 +0200",
) -> bytes:
    message = EmailMessage()
    message["From"] = "Dána Vane <vane@harbour.example>"
    message["To"] = "plum@harbour.example"
    message["Subject"], message["Date"] = subject, date
    if body:
        message.set_content(body)
        if page:
            message.add_alternative(page, subtype="html")
    else:
        message.set_content(page, subtype="html")
    for name, data in (attached or {}).items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def mbox(mails: Sequence[bytes]) -> bytes:
    return b"".join(b"From vane@harbour.example Mon May  6 07:08:09 2024\n" + each + b"\n\n" for each in mails)
