from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def corpus_list(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def corpus_new(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def corpus_detail(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError
