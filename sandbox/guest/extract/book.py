"""EPUB → text: the documents of its spine, in reading order, each as any page is read."""

from __future__ import annotations

import mmap
import posixpath
import urllib.parse

from . import contents, packed, webpage
from .wire import Out, Refusal, tidy

READABLE = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "application/xml", "text/xml", "")


def read(data: mmap.mmap, out: Out) -> None:
    archive = packed.unzip(data, "no_epub")
    container = packed.xml(packed.part(archive, "META-INF/container.xml"))
    if container is None:
        raise Refusal("no_epub")
    opf = next((e.get("full-path", "") for e in container.iter() if packed._local(e) == "rootfile"), "")
    package = packed.xml(packed.part(archive, opf)) if opf else None
    if package is None:
        raise Refusal("no_epub")
    if packed.part(archive, "META-INF/encryption.xml") and _locked(packed.part(archive, "META-INF/encryption.xml")):
        raise Refusal("encrypted")
    folder = posixpath.dirname(opf)
    items = {
        e.get("id", ""): (e.get("href", ""), e.get("media-type", "").lower(), e.get("properties", ""))
        for e in package.iter()
        if packed._local(e) == "item"
    }
    chapters = contents.of(archive, package, folder)
    spine = [e for e in package.iter() if packed._local(e) == "itemref"]
    for number, reference in enumerate(spine, 1):
        href, kind, properties = items.get(reference.get("idref", ""), ("", "", ""))
        if not href or kind not in READABLE or "nav" in properties.split():
            continue
        path = posixpath.normpath(posixpath.join(folder, urllib.parse.unquote(href.partition("#")[0])))
        _page(webpage.decoded(packed.part(archive, path)), chapters.get(path, []), out)
        if number % 10 == 0:
            out.send(op="part", number=number, of=len(spine))
    if not out.said:
        raise Refusal("blank")
    out.end(
        title=" ".join(packed.words(package, "title")[:1]),
        author=", ".join(packed.words(package, "creator")[:5]),
        date=" ".join(packed.words(package, "date")[:1])[:10],
        language=" ".join(packed.words(package, "language")[:1]),
    )


def _page(page: str, chapters: list[tuple[str, str]], out: Out) -> None:
    """A document of the spine, with what the table of contents says begins in it."""
    titles: dict[str, list[str]] = {}
    for place, title in chapters:
        titles.setdefault("" if webpage.is_whole(page, place) else place, []).append(title)
    pieces = webpage.places_of(page, titles.keys() - {""})
    if not any(text for _, text in pieces):
        return
    if out.said:
        out.text("\n")
    for place, text in pieces:
        for title in titles.pop(place, []):
            out.chapter(title)
        out.text(tidy(text))


def _locked(encryption: bytes) -> bool:
    """Whether its texts are encrypted, and not only its fonts, which is common."""
    tree = packed.xml(encryption)
    if tree is None:
        return False
    uris = [e.get("URI", "").lower() for e in tree.iter() if packed._local(e) == "CipherReference"]
    return any(uri.endswith((".html", ".xhtml", ".htm", ".xml")) for uri in uris)
