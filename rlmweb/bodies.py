"""How large the body of a request may be, judged while it comes in: Daphne would keep all of it in memory for the app.

Files come by the script in pieces (docs/decisions/0102-uploads.md); a form with more than this is told so. What is too
much is read and dropped, so that a browser that is still sending hears the answer.
"""

from __future__ import annotations

from typing import Any

FORM_MOST = 32 << 20  # bytes of a form, files and all
PIECE_MOST = 65 << 20  # of one piece of a file that comes by tus (analyses/tus.py), or of a log to import
LOG_MOST = 520 << 20  # of logs of runs, which come by form (docs/trajectory.md)
TOO_LARGE = (
    "This form holds more than 32 MB, and nothing of it was kept. Go back and drop the files on the page instead, with "
    "scripts allowed: then they go in pieces, however large they are. Or send fewer at a time."
)


def most(method: bytes, path: bytes) -> int:
    """Bytes that a request may have."""
    if method == b"PATCH":
        return PIECE_MOST
    return LOG_MOST if path.partition(b"?")[0].endswith(b"/runs/import") else FORM_MOST


def bound(request: Any) -> None:
    """Teach Daphne's class of requests to drop what is too much, and to say so."""
    take, process = request.handleContentChunk, request.process

    def handle(self: Any, data: bytes) -> None:
        self.body_size = getattr(self, "body_size", 0) + len(data)
        # Only the channel knows the request line before the body is there.
        if self.body_size <= most(self.channel._command, self.channel._path):
            take(self, data)

    def answer(self: Any) -> Any:
        if getattr(self, "body_size", 0) > most(self.method, self.uri):
            return self.basic_error(413, b"Content Too Large", TOO_LARGE)
        return process(self)

    request.handleContentChunk, request.process = handle, answer
