"""Requests before and after the views: signing in by oneself on one's own machine and out of the way of htmx, odd addresses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib.auth import login
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied, ValidationError
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import resolve_url

from workspaces import rates
from workspaces.adapter import provider_failed
from workspaces.audit import address_of
from workspaces.local import local_owner

log = logging.getLogger(__name__)
MACHINES = "/healthz"  # asked every few seconds, without cookies: each answer would leave a session behind


class LocalOwnerMiddleware:
    """Sign everybody in as the local owner (RLMWEB_LOCAL=1)."""

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


class NulMiddleware:
    """No NUL comes in by an address: PostgreSQL refuses to look for one, and no row is named so."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\0" in request.path_info:
            raise Http404
        asked = request.META.get("QUERY_STRING", "")
        if "%00" in asked or "\0" in asked:
            request.META["QUERY_STRING"] = asked.replace("%00", "").replace("\0", "")
        return self.get_response(request)


class HtmxSignInMiddleware:
    """A part of a page that is asked for after signing out must not become a sign-in page inside the page.

    A write takes the whole page to the sign-in; a part that fetches itself is told 401 and stays as it is.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.headers.get("HX-Request") and response.status_code == 302:
            address = response.headers["Location"]
            if address.startswith(resolve_url(settings.LOGIN_URL)) and not request.path.startswith("/accounts/"):
                if request.method == "GET":
                    return HttpResponse(status=401)
                here = urlsplit(request.headers.get("HX-Current-URL", "")).path or "/"
                return HttpResponse(
                    status=204,
                    headers={"HX-Redirect": f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': here})}"},
                )
        return response


class ProviderMiddleware:
    """What the OpenID Connect provider says may lack anything, or be of another type: a page that says so, no error of ours."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        match = request.resolver_match
        asks = match is not None and match.url_name == "openid_connect_login" and request.method == "POST"
        if asks and not rates.PROVIDER.spend(address_of(request)):
            return rates.too_many(request)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        match = request.resolver_match
        if match is None or match.url_name not in ("openid_connect_login", "openid_connect_callback"):
            return None
        if not isinstance(error, LookupError | TypeError | ValueError | AttributeError | ValidationError | DataError):
            return None
        log.exception("the OpenID Connect provider said what cannot be used")
        return provider_failed(request)
