"""What holds for every answer under a share's link, whichever view gives it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

HEADERS = {
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "no-referrer",  # the address is the key to the page
    "Cache-Control": "private, no-store",  # a link revoked must not live on in a cache
}


class SharedMiddleware:
    """No index, no cache and no other site is told of a shared page, its parts and its files."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith("/s/"):
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        return response
