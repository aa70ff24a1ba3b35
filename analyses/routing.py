"""WebSocket routes: a run's page for members, and by a share's link."""

from __future__ import annotations

from typing import Any

from django.urls import path

from analyses.consumers import RunConsumer

websocket_urlpatterns: list[Any] = [
    path("ws/w/<slug:workspace>/r/<str:key>/", RunConsumer.as_asgi()),
    path("ws/s/<str:token>/", RunConsumer.as_asgi()),
]
