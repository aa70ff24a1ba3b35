"""What django-allauth asks of us: whether sign-up is open, a first workspace, and mail that cannot break a page."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest

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
