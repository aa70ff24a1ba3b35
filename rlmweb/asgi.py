"""The ASGI entry point: pages over HTTP, live runs over WebSocket."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlmweb.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from daphne.http_protocol import WebRequest

from analyses import sockets
from analyses.routing import websocket_urlpatterns
from rlmweb.bodies import bound
from rlmweb.origin import SameOrigin

sockets.install()
bound(WebRequest)

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": SameOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
