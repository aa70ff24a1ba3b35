"""Responses whose bytes come from outside: from documents, models, cells and people. None may act as a page of this site."""

from __future__ import annotations

from typing import TypeVar

from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

R = TypeVar("R", bound=HttpResponseBase)
POLICY = (
    "sandbox; default-src 'none'; frame-ancestors 'none'"  # where it is opened after all, it is in an origin of its own
)


def inert(response: R, download: str = "") -> R:
    """Have the browser take these bytes for what their type says, and for nothing that runs. ``download``: the file's name."""
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = POLICY
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    if download:
        response["Content-Disposition"] = content_disposition_header(True, download)  # type: ignore[assignment]
    return response
