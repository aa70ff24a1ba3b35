from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def run_list(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def run_detail(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def run_stop(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def run_answer(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def cell_children(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError


def cell_output(request: HttpRequest, **where: object) -> HttpResponse:
    raise NotImplementedError
