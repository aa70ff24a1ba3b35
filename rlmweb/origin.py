"""WebSockets open from this site's own pages alone: the rule that Django holds forms to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.utils.http import is_same_domain

App = Callable[[Any, Any, Any], Awaitable[Any]]
PORTS = {"http": 80, "https": 443}


class SameOrigin:
    """A page of another site, or of another port of this machine, is refused: browsers would send our cookies along."""

    def __init__(self, application: App) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if not allowed(dict(scope["headers"])):
            return await WebsocketDenier()(scope, receive, send)
        return await self.application(scope, receive, send)


def allowed(headers: dict[bytes, bytes]) -> bool:
    try:
        origin = urlsplit(headers.get(b"origin", b"").decode("ascii"))
        host = headers.get(b"host", b"").decode("ascii").lower()
        mine = urlsplit(f"{origin.scheme}://{host}")
        if origin.scheme not in PORTS or not origin.hostname:
            return False
        if not validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS):
            return False
        port = PORTS[origin.scheme]
        if (origin.hostname, origin.port or port) == (mine.hostname, mine.port or port):
            return True
        return any(
            origin.scheme == trusted.scheme and is_same_domain(origin.netloc, trusted.netloc.lstrip("*"))
            for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS)
        )
    except ValueError:  # no ASCII, or no port that is one
        return False
