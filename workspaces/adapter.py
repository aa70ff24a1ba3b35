"""What django-allauth asks of us: whether sign-up is open, a first workspace, and mail that cannot break a page."""

from __future__ import annotations

import logging
import time
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
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from requests import RequestException, Response, Session
from urllib3.exceptions import HTTPError

from workspaces import actions
from workspaces.audit import Did, record
from workspaces.models import Invitation, User, Workspace

log = logging.getLogger(__name__)

PROVIDER_SECONDS = 10.0  # until it connects, between two pieces of its answer, and for the whole of it
PROVIDER_MOST = 1 << 20  # bytes of an answer


def _invitation(request: HttpRequest) -> Invitation | None:
    """The one this person is on the way to."""
    token = request.session.get("invitation")
    return Invitation.objects.open().filter(token=token).first() if token else None


def _place(request: HttpRequest, user: User) -> None:
    """A newcomer's first workspace, where no invitation leads to one.

    Where sign-up is closed, a link lets one person in: it is used up here, or else it would make accounts without end.
    """
    invitation = _invitation(request)
    if invitation is None:
        Workspace.start(f"{user}’s workspace", user)
    elif not settings.SIGNUP_OPEN and not invitation.email:
        try:
            member = actions.accept_invitation(invitation, user)
        except actions.Refused:  # somebody was quicker; the account is not made
            raise ImmediateHttpResponse(render(request, "workspaces/invitation_over.html", status=404)) from None
        record(request, Did.JOINED, workspace=member.workspace, user=user, role=member.role)


def _bound_to(request: HttpRequest) -> str:
    """The one address that may sign up here, by an invitation to it; empty: any."""
    invitation = None if settings.SIGNUP_OPEN else _invitation(request)
    return invitation.email if invitation else ""


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return bool(settings.SIGNUP_OPEN) or _invitation(request) is not None

    def clean_email(self, email: str) -> str:
        match = context.request.resolver_match
        if match and match.url_name in ("account_signup", "socialaccount_signup"):
            bound = _bound_to(context.request)
            if bound and email.lower() != bound:
                raise ValidationError(f"The invitation is for {bound}: sign up with that address.")
        return email

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            user = super().save_user(request, user, form, commit)
            if commit:
                _place(request, user)
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
        for address in sociallogin.email_addresses:  # some providers write the word; any word is true to Python
            address.verified = address.verified is True or address.verified == "true"
        return user

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        with transaction.atomic():
            user: User = super().save_user(request, sociallogin, form)
            if not user.memberships.exists():  # with a form, AccountAdapter has seen to it
                _place(request, user)
        return user

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        bound = _bound_to(request)
        return super().is_open_for_signup(request, sociallogin) and bound in ("", sociallogin.user.email.lower())

    def get_requests_session(self) -> Session:
        return _ProviderSession()


class _ProviderSession(Session):
    """A provider that does not answer, refuses, or says what cannot be is a page that says so and a line in the log.

    All that OpenID Connect asks for is answered by a JSON object, none of them long.
    """

    def request(self, *args: Any, **kwargs: Any) -> Response:
        kwargs = {"timeout": PROVIDER_SECONDS} | kwargs | {"stream": True}
        try:
            response = super().request(*args, **kwargs)
            with response:
                _read(response)
            response.raise_for_status()
            _judge(response)
        except (RequestException, HTTPError, OSError, ValueError) as error:
            log.error("the OpenID Connect provider: %s", error)
            raise ImmediateHttpResponse(provider_failed(context.request)) from None
        return response


def provider_failed(request: HttpRequest) -> HttpResponse:
    return render(request, "socialaccount/authentication_error.html", status=502)


def _read(response: Response) -> None:
    """The whole body, within bounds of size and time: a provider that trickles holds a thread of the site."""
    until = time.monotonic() + PROVIDER_SECONDS
    body = bytearray()
    while piece := response.raw.read1(65_536, decode_content=True):
        body += piece
        if len(body) > PROVIDER_MOST:
            raise ValueError(f"{response.url} answers with more than {PROVIDER_MOST >> 10} KB")
        if time.monotonic() > until:
            raise ValueError(f"{response.url} takes longer than {PROVIDER_SECONDS} s to answer")
    response._content = bytes(body)


def _judge(response: Response) -> None:
    try:
        said = response.json()
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ValueError(f"{response.url} does not answer with a JSON object")
    if response.request.path_url.endswith("/.well-known/openid-configuration"):
        for name in ("issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"):
            if not str(said.get(name)).startswith(("https://", "http://")):
                raise ValueError(f"{response.url} names no {name}")


class SessionsAdapter(DefaultUserSessionsAdapter):  # type: ignore[misc]
    def end_sessions(self, sessions: Any) -> None:
        super().end_sessions(sessions)
        record(context.request, Did.SIGNED_OUT_ELSEWHERE, sessions=len(sessions))
