"""Bodies of requests: what is too much is dropped while it comes in, and answered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlmweb import bodies


class Request:
    """As Daphne's, as far as bodies go."""

    def __init__(self, method: bytes, uri: bytes) -> None:
        self.channel = SimpleNamespace(_command=method, _path=uri)
        self.method, self.uri = method, uri
        self.kept = 0
        self.said: Any = None

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 — Twisted's name
        self.kept += len(data)

    def process(self) -> None:
        self.said = "processed"

    def basic_error(self, *said: Any) -> None:
        self.said = said


@pytest.fixture
def request_class() -> Any:
    made = type("Bounded", (Request,), dict(Request.__dict__))
    bodies.bound(made)
    return made


@pytest.mark.parametrize(
    ("method", "uri", "most"),
    [
        (b"POST", b"/w/harbour/corpora/new", bodies.FORM_MOST),
        (b"POST", b"/accounts/login/?next=/runs/import", bodies.FORM_MOST),
        (b"PATCH", b"/w/harbour/uploads/x/tus/3", bodies.PIECE_MOST),
        (b"POST", b"/w/harbour/runs/import?x=1", bodies.LOG_MOST),
    ],
)
def test_what_is_too_much_is_dropped_as_it_comes_and_answered(
    method: bytes, uri: bytes, most: int, request_class: Any
) -> None:
    fits, more = request_class(method, uri), request_class(method, uri)
    piece = bytes(1 << 20)
    for _ in range(most >> 20):
        fits.handleContentChunk(piece)
        more.handleContentChunk(piece)
    for _ in range(50):
        more.handleContentChunk(piece)
    fits.process()
    more.process()
    assert (fits.kept, fits.said) == (most, "processed")
    assert more.kept == most
    assert more.said[0] == 413 and "drop the files on the page" in more.said[2]


def test_the_server_is_taught_it() -> None:
    from daphne.http_protocol import WebRequest

    import rlmweb.asgi  # noqa: F401

    assert WebRequest.process.__module__ == "rlmweb.bodies"
    assert WebRequest.handleContentChunk.__module__ == "rlmweb.bodies"
