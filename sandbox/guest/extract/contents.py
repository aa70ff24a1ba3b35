"""A book's table of contents, as it gives it: by its navigation document (EPUB 3), else by its NCX (EPUB 2)."""

from __future__ import annotations

import posixpath
import urllib.parse
import zipfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

from . import packed
from .wire import Refusal

MOST = 5_000  # entries
TYPE = "{http://www.idpf.org/2007/ops}type"


def of(archive: zipfile.ZipFile, package: Any, folder: str) -> dict[str, list[tuple[str, str]]]:
    """Path of a document → the ids in it, "" for its beginning, at which parts of the book begin, with their titles."""
    items = [e for e in package.iter() if packed._local(e) == "item"]
    navigation = [e.get("href", "") for e in items if "nav" in e.get("properties", "").split()]
    ncx = [e.get("href", "") for e in items if e.get("media-type", "") == "application/x-dtbncx+xml"]
    for href, entries in [*((href, _navigation) for href in navigation[:1]), *((href, _ncx) for href in ncx[:1])]:
        path = posixpath.normpath(posixpath.join(folder, urllib.parse.unquote(href)))
        try:
            tree = packed.xml(packed.part(archive, path))
        except Refusal:  # a book can be read without
            continue
        found: dict[str, list[tuple[str, str]]] = {}
        for target, title in islice(entries(tree) if tree is not None else (), MOST):
            file, _, place = urllib.parse.unquote(target).partition("#")
            whole = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
            if title and file:
                found.setdefault(whole, []).append((place, title))
        if found:
            return found
    return {}


def _navigation(tree: Any) -> Iterator[tuple[str, str]]:
    for nav in tree.iter():
        if packed._local(nav) == "nav" and "toc" in nav.get(TYPE, "").split():
            for link in nav.iter():
                if packed._local(link) == "a":
                    yield link.get("href", ""), " ".join("".join(link.itertext()).split())


def _ncx(tree: Any) -> Iterator[tuple[str, str]]:
    for point in tree.iter():
        if packed._local(point) == "navPoint":
            label = next((e for e in point if packed._local(e) == "navLabel"), None)
            target = next((e.get("src", "") for e in point if packed._local(e) == "content"), "")
            yield target, " ".join("".join(label.itertext()).split()) if label is not None else ""
