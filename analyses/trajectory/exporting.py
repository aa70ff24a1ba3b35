"""The files that a run can be written as, and how they reach a browser without being in memory whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from analyses.models import Run
from analyses.trajectory import archive, html, jsonl, markdown, notebook
from workspaces.files import inert

AT_ONCE = 256 << 10  # bytes sent at a time


@dataclass(frozen=True)
class Export:
    """One way to write a run."""

    write: Callable[[Run], Iterator[bytes]]
    suffix: str
    content_type: str


EXPORTS = {
    "jsonl": Export(jsonl.export, "jsonl", "application/x-ndjson"),
    "notebook": Export(notebook.export, "ipynb", "application/x-ipynb+json"),
    "markdown": Export(markdown.export, "md", "text/markdown; charset=utf-8"),
    "html": Export(html.export, "html", "text/html; charset=utf-8"),
}


def response(request: HttpRequest, run: Run, export: Export) -> StreamingHttpResponse:
    """The file as a download."""
    pieces = gathered(archive.lines(run) if run.archived else export.write(run))
    # Under ASGI, Django would put a plain iterator into memory whole before it sends the first byte.
    content = _stepped(pieces) if isinstance(request, ASGIRequest) else pieces
    streamed = StreamingHttpResponse(content, content_type=export.content_type)
    return inert(streamed, f"run-{run.number}.{export.suffix}")


def gathered(pieces: Iterator[bytes], size: int = AT_ONCE) -> Iterator[bytes]:
    """Small pieces put together to larger ones."""
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    if held:
        yield b"".join(held)


async def _stepped(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Take each piece on the thread that holds the request's database connection."""
    step = sync_to_async(_next)
    while piece := await step(pieces):
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")
