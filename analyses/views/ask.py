from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def ask(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError
