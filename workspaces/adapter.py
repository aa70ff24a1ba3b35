"""What django-allauth asks of us: whether sign-up is open, a first workspace, and mail that cannot break a page."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import render
from requests import RequestException, Response, Session

from workspaces.audit import Did, record
from workspaces.models import Invitation, User, Workspace

log = logging.getLogger(__name__)


def _invited(request: HttpRequest) -> bool:
    token = request.session.get("invitation")
    return bool(token) and Invitation.objects.open().filter(token=token).exists()


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_OPEN) or _invited(request)

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user = super().save_user(request, user, form, commit)
            if commit and not _invited(request):  # who is invited has a workspace to go to
                Workspace.start(f"{user}’s workspace", user)
        return user

    def send_mail(self, template_prefix: str, email: str, context_: dict[str, Any]) -> None:
        """A mail server that does not answer must not turn a finished sign-up into an error page."""
        try:
            super().send_mail(template_prefix, email, context_)
        except (SMTPException, OSError) as error:
            log.error("mail %s could not be sent: %s", template_prefix, error)
            messages.warning(
                context.request, "A mail to you could not be sent just now. Try again later, or tell the operator."
            )


class SocialAccountAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Who comes by the operator's OpenID Connect provider; an account of ours is never taken over by its address alone."""

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> User:
        user: User = super().populate_user(request, sociallogin, data)
        user.name = str(data.get("name") or "")[:120]
        return user

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        with transaction.atomic():
            user: User = super().save_user(request, sociallogin, form)
            if not _invited(request) and not user.memberships.exists():  # with a form, AccountAdapter has made it
                Workspace.start(f"{user}’s workspace", user)
        return user

    def get_requests_session(self) -> Session:
        return _ProviderSession(timeout=10)


class _ProviderSession(Session):
    """A provider that does not answer, or refuses, is a page that says so and a line in the log."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout

    def request(self, *args: Any, **kwargs: Any) -> Response:
        kwargs.setdefault("timeout", self.timeout)
        try:
            response = super().request(*args, **kwargs)
            response.raise_for_status()
        except RequestException as error:
            log.error("the OpenID Connect provider: %s", error)
            page = render(context.request, "socialaccount/authentication_error.html", status=502)
            raise ImmediateHttpResponse(page) from None
        return response


class SessionsAdapter(DefaultUserSessionsAdapter):  # type: ignore[misc]
    def end_sessions(self, sessions: Any) -> None:
        super().end_sessions(sessions)
        record(context.request, Did.SIGNED_OUT_ELSEWHERE, sessions=len(sessions))
