"""Resumable uploads of one file: tus 1.0 (creation, termination, checksum, expiration) on the rows of an upload's ledger."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.http import http_date
from django.views.decorators.http import require_http_methods

from analyses import tus
from analyses.ingest import uploads
from analyses.ingest.limits import Refused, UploadLimits
from analyses.models import Upload, UploadFile
from analyses.views.uploads import upload_of
from workspaces.access import demand
from workspaces.roles import May

View = Callable[..., HttpResponse]


def _protocol(view: View) -> View:
    """What every answer of the protocol has; its troubles become their statuses."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **where: Any) -> HttpResponse:
        try:
            response = view(request, *args, **where)
        except tus.Trouble as trouble:
            response = HttpResponse(trouble.reason, status=trouble.status, content_type="text/plain; charset=utf-8")
        except OSError as error:
            response = HttpResponse(uploads.trouble(error), status=507, content_type="text/plain; charset=utf-8")
        response.headers["Tus-Resumable"] = tus.VERSION
        response.headers["Cache-Control"] = "no-store"
        return response

    return answer


def _same_version(request: HttpRequest) -> None:
    if request.headers.get("Tus-Resumable") != tus.VERSION:
        raise tus.Trouble(412, f"This is tus {tus.VERSION}: say so in Tus-Resumable.")


def _capabilities(upload: Upload) -> HttpResponse:
    response = HttpResponse(status=204)
    response.headers["Tus-Version"] = tus.VERSION
    response.headers["Tus-Extension"] = tus.EXTENSIONS
    response.headers["Tus-Checksum-Algorithm"] = ",".join(tus.ALGORITHMS)
    response.headers["Tus-Max-Size"] = str(UploadLimits.of(upload.workspace).bytes)
    return response


def _expires(response: HttpResponse, upload: Upload) -> HttpResponse:
    until = upload.created_at + datetime.timedelta(seconds=uploads.FORGOTTEN)
    response.headers["Upload-Expires"] = http_date(until.timestamp())
    return response


def _number(request: HttpRequest, header: str) -> int:
    value = request.headers.get(header, "")
    if not value.isdecimal() or len(value) > 15:
        raise tus.Trouble(400, f"{header} must be a whole number of bytes.")
    return int(value)


@login_required
@require_http_methods(["OPTIONS", "POST"])
@_protocol
def tus_create(request: HttpRequest, workspace: str, upload: str) -> HttpResponse:
    """A row for a file that will come in pieces."""
    member, made = upload_of(request, workspace, upload)
    if request.method == "OPTIONS":
        return _capabilities(made)
    demand(member, May.ASK)
    _same_version(request)
    size = _number(request, "Upload-Length")
    name = tus.metadata(request.headers.get("Upload-Metadata", "")).get("filename", "")
    try:
        (row,) = uploads.announce(made, [(name, size)])
    except Refused as refused:
        raise tus.Trouble(413, refused.reason) from None
    if row is None:
        raise tus.Trouble(409, "This file is here already.")
    if not size:
        _whole(made, row)
    response = HttpResponse(status=201)
    response.headers["Location"] = reverse("tus-file", args=[workspace, upload, row.pk])
    return _expires(response, made)


@login_required
@require_http_methods(["OPTIONS", "HEAD", "PATCH", "DELETE"])
@_protocol
def tus_file(request: HttpRequest, workspace: str, upload: str, file: int) -> HttpResponse:
    """One file on its way: where it stands, more of it, or that it will not come."""
    member, made = upload_of(request, workspace, upload)
    if request.method == "OPTIONS":
        return _capabilities(made)
    demand(member, May.ASK)
    _same_version(request)
    row = get_object_or_404(made.files, pk=file, archive=None)
    if request.method == "HEAD":
        response = HttpResponse()
        response.headers["Upload-Offset"] = str(tus.offset(row))
        response.headers["Upload-Length"] = str(row.size)
        return _expires(response, made)
    if row.state != UploadFile.State.UPLOADING:
        raise tus.Trouble(410, "This file is not expected any more.")
    if request.method == "DELETE":
        uploads.lose(row, "Its upload was cancelled.")
        tus.drop(row.pk)
        uploads.wake(made)
        return HttpResponse(status=204)
    if request.content_type != "application/offset+octet-stream":
        raise tus.Trouble(415, "Pieces come as application/offset+octet-stream.")
    now = tus.append(row, _number(request, "Upload-Offset"), request, request.headers.get("Upload-Checksum", ""))
    UploadFile.objects.filter(pk=row.pk).update(received=now)
    if now == row.size:
        _whole(made, row)
    response = HttpResponse(status=204)
    response.headers["Upload-Offset"] = str(now)
    return _expires(response, made)


def _whole(upload: Upload, row: UploadFile) -> None:
    sha, size = tus.finish(row)
    uploads.arrived(row, sha, size)
    uploads.wake(upload)
