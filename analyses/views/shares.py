from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def share_make(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def share_revoke(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def share_detail(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def share_answer(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def share_children(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def share_output(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError
