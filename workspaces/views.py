"""Where a person lands."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from workspaces.models import Workspace


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """To the person's first workspace; one is made where there is none (they left the last one)."""
    workspace = Workspace.objects.visible_to(request.user).order_by("members__joined_at").first()
    if workspace is None:
        workspace = Workspace.start(f"{request.user}’s workspace", request.user)  # type: ignore[arg-type]
    return redirect(workspace)
