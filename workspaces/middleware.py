"""Sign the local owner in, where one person runs rlmweb on their own machine (RLMWEB_LOCAL=1)."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import login
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied
from django.http import HttpRequest, HttpResponse

from workspaces.local import local_owner

MACHINES = "/healthz"  # asked every few seconds, without cookies: each answer would leave a session behind


class LocalOwnerMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not settings.LOCAL:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # Settings refuse other hosts in this mode; this refuses a request that came from elsewhere all the same.
        if request.META.get("REMOTE_ADDR") not in ("127.0.0.1", "::1", None):
            raise PermissionDenied
        if not request.path.startswith(MACHINES) and not request.user.is_authenticated:
            user, _ = local_owner()
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        return self.get_response(request)
