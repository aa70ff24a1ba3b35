"""What every page needs: the workspace it stands in, and the person's workspaces for the switcher."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from workspaces.models import Workspace


def workspace(request: HttpRequest) -> dict[str, Any]:
    match = getattr(request, "resolver_match", None)
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    mine = list(Workspace.objects.visible_to(user).order_by("name"))
    slug = match.kwargs.get("workspace") if match else None
    return {"workspaces": mine, "workspace": next((w for w in mine if w.slug == slug), mine[0] if mine else None)}
