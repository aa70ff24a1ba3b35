"""How a reader tells the host what it found: frames of two lengths, a little JSON, a piece of text."""

from __future__ import annotations

import json
import re
import socket
import struct
from typing import Any

HEADER = struct.Struct("<II")
PIECE = 1 << 17  # characters of one frame
TITLE_MOST = 300  # characters
# NUL and its like, which no text has; lone surrogates, which UTF-8 has no bytes for; what Unicode has set aside.
ODD = re.compile("[\0-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\ufeff]")


class Refusal(Exception):
    """The file is not read; `why` is one of the host's list."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(why, detail)
        self.why, self.detail = why, detail


def tidy(text: str) -> str:
    """Text with \\n line ends, without what no text should hold."""
    return ODD.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n"))


class Out:
    """The host's end decides what of this it believes."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.said = False  # whether any text went out

    def send(self, text: str = "", **message: Any) -> None:
        data, words = json.dumps(message).encode(), text.encode("utf-8", "replace")
        self._socket.sendall(HEADER.pack(len(data), len(words)) + data + words)

    def text(self, text: str) -> None:
        """A piece of the document. It ends as the reader wants it to end."""
        for at in range(0, len(text), PIECE):
            self.send(text[at : at + PIECE], op="text")
            self.said = True

    def page(self, number: int, of: int) -> None:
        """The next piece of text begins this page."""
        self.send(op="page", number=number, of=of)

    def chapter(self, title: str) -> None:
        """The next piece of text begins this part of the table of contents."""
        self.send(op="chapter", title=title[:TITLE_MOST])

    def end(self, **about: Any) -> None:
        self.send(op="end", **about)
