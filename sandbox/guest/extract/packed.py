"""Documents that are zip archives inside (docx, epub): opened only where their parts are of a bearable size."""

from __future__ import annotations

import io
import mmap
import zipfile
import zlib
from typing import Any

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from .wire import Refusal

RATIO = 100
RATIO_FROM = 16 << 20  # unpacked bytes under which no ratio is suspicious
UNPACKED_MOST = 512 << 20
PARTS_MOST = 20_000
TEXTS = (".xml", ".rels", ".html", ".xhtml", ".htm", ".opf", ".ncx")


def unzip(data: mmap.mmap, no_zip: str) -> zipfile.ZipFile:
    """The archive. What zipfile reads of a member is never more than its header says: so the sum says all."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, OSError, EOFError):
        raise Refusal(no_zip) from None
    members = archive.infolist()
    if len(members) > PARTS_MOST:
        raise Refusal("bomb")
    read = [member for member in members if member.filename.lower().endswith(TEXTS)]
    unpacked = sum(member.file_size for member in read)
    packed = max(1, sum(min(member.compress_size, len(data)) for member in read))
    if unpacked > UNPACKED_MOST or (unpacked > RATIO_FROM and unpacked > min(packed, len(data)) * RATIO):
        raise Refusal("bomb")
    if any(member.flag_bits & 1 for member in read):
        raise Refusal("encrypted")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in read):
        raise Refusal("damaged", "a part is packed in an unknown way")
    return archive


def part(archive: zipfile.ZipFile, name: str) -> bytes:
    """A part's bytes; b"" where there is none of that name."""
    try:
        return archive.read(name)
    except KeyError:
        return b""
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise Refusal("damaged", str(error)) from None


def xml(data: bytes) -> Any:
    """A small XML part as a tree, without entities of its own; None where it is empty or broken."""
    if not data:
        return None
    try:
        return ElementTree.fromstring(data)
    except DefusedXmlException:
        raise Refusal("entities") from None
    except (ElementTree.ParseError, ValueError, LookupError):
        return None


def words(tree: Any, name: str) -> list[str]:
    """The texts of all elements of this local name."""
    if tree is None:
        return []
    found = (" ".join("".join(e.itertext()).split()) for e in tree.iter() if _local(e) == name)
    return [text for text in found if text]


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]
