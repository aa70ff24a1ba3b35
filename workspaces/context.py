"""What every page needs: the workspace it stands in, and the person's workspaces for the switcher."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from workspaces.models import Workspace


def workspace(request: HttpRequest) -> dict[str, Any]:
    """Read only when a template asks: most partials do not."""
    match = getattr(request, "resolver_match", None)
    user = getattr(request, "user", None)
    about: dict[str, Any] = {"local": settings.LOCAL, "signup_open": settings.SIGNUP_OPEN}
    if settings.OIDC_ISSUER:
        about["oidc"] = settings.OIDC_NAME
    if user is None or not user.is_authenticated:
        return about
    slug = match.kwargs.get("workspace") if match else None
    every: Any = SimpleLazyObject(
        lambda: list(
            (Workspace.objects.visible_to(user) | Workspace.objects.deleted_by(user)).distinct().order_by("name", "pk")
        )
    )
    mine: Any = SimpleLazyObject(lambda: [each for each in every if each.delete_at is None])
    deleted: Any = SimpleLazyObject(lambda: [each for each in every if each.delete_at is not None])

    def here() -> Workspace | None:
        return next((w for w in mine if w.slug == slug), mine[0] if mine else None)

    return about | {"workspaces": mine, "deleted_workspaces": deleted, "workspace": SimpleLazyObject(here)}
