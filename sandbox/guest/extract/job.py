"""One file, read in a process of its own: what kind it is said to be comes from the host, its bytes by a descriptor."""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from . import book, mail, pdf, rtf, webpage, word
from .wire import Out, Refusal

Reader = Callable[[mmap.mmap, Out], None]
READERS: dict[str, Reader] = {
    "pdf": pdf.read,
    "docx": word.read,
    "epub": book.read,
    "rtf": rtf.read,
    "eml": mail.read,
    "html": webpage.read,
}


def warm_up() -> None:
    warnings.simplefilter("ignore")
    sys.setrecursionlimit(3000)  # parsers of hostile files recurse as deep as they are led


def main(wire: int, file: int) -> NoReturn:
    sock = socket.socket(fileno=wire)
    out = Out(sock)
    try:
        order = json.loads(sock.recv(1 << 16))
        if order["kind"] == "attempt":
            _attempt(order["code"], out)
        else:
            # A private copy, page by page where it is written to, which it is not: PDFium's binding asks for such memory.
            READERS[order["kind"]](mmap.mmap(file, 0, access=mmap.ACCESS_COPY), out)
    except Refusal as refusal:
        out.send(op="refused", why=refusal.why, detail=refusal.detail[:500])
    except MemoryError:
        out.send(op="refused", why="memory")
    except RecursionError:
        out.send(op="refused", why="deep")
    except Exception as error:  # noqa: BLE001 — a library that stumbles over a broken file says so in its own way
        out.send(op="refused", why="damaged", detail=f"{type(error).__name__}: {error}"[:500])
    os._exit(0)


def _attempt(code: str, out: Out) -> None:
    """Run the host's own probe exactly as a file would be read: it tries to get out."""
    found: dict[str, Any] = {}
    exec(code, {"FINAL": found.update, "__name__": "probe"})
    out.end(found=found)
