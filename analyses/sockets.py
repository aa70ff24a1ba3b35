"""Daphne's WebSocket, for pages that watch: a frame is made once for all of them, and who does not read is let go."""

from __future__ import annotations

import logging
import struct
from functools import lru_cache

from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

log = logging.getLogger(__name__)

BEHIND_MOST = 2 << 20  # bytes that wait for a page which does not take them; as many again lie in the kernel's buffers
TRY_AGAIN = 1013  # the page comes back after it, and asks from where it stands
CLOSE_WITHIN = 10.0  # seconds in which it may still read up to there; then the line is cut


@lru_cache(maxsize=16)
def framed(text: str) -> bytes:
    """A text as one frame of the wire. From a server frames are not masked: the same bytes serve everybody."""
    payload = text.encode("utf-8", "replace")
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


class PageProtocol(WebSocketProtocol):  # type: ignore[misc]  # daphne has no types
    """Counts what waits beyond what the transport holds by itself, and closes with TRY_AGAIN where it is too much."""

    behind: int | None = None  # bytes since the transport was full; None: it is not
    closeHandshakeTimeout = CLOSE_WITHIN

    def onOpen(self) -> None:
        super().onOpen()
        self.closeHandshakeTimeout = CLOSE_WITHIN
        # The HTTP request that this socket began as is still asked to pause and go on; now it is us.
        self.transport.unregisterProducer()
        self.transport.registerProducer(_Tap(self), True)

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:
        if binary or self.state != self.STATE_OPEN:
            super().serverSend(content, binary)
            return
        data = framed(content)  # type: ignore[arg-type]  # text
        if self.behind is not None:
            self.behind += len(data)
            if self.behind > BEHIND_MOST:
                log.warning("a page that does not read is let go: %d bytes wait for %s", self.behind, self.client_addr)
                self.sendCloseFrame(code=TRY_AGAIN, reasonUtf8=b"too far behind", isReply=False)
                return
        self.transport.write(data)


class _Tap:
    """Told by the transport when its buffer is full, and when it has drained."""

    def __init__(self, protocol: PageProtocol) -> None:
        self.protocol = protocol

    def pauseProducing(self) -> None:
        if self.protocol.behind is None:  # it is said again at every write
            self.protocol.behind = 0

    def resumeProducing(self) -> None:
        self.protocol.behind = None

    def stopProducing(self) -> None:
        """The line is gone; Daphne hears of that by itself."""


def install() -> None:
    """Have Daphne make these."""
    WebSocketFactory.protocol = PageProtocol
