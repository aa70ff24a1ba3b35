"""Signing in and out happens in Django and django-allauth: their signals are how the audit hears of it."""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed, password_reset, user_signed_up
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from workspaces.audit import Did, record


@receiver(user_signed_up)
def _signed_up(request: Any, user: Any, **_: Any) -> None:
    record(request, Did.SIGNED_UP, user=user)


@receiver(user_logged_in)
def _signed_in(request: Any, user: Any, **_: Any) -> None:
    if request is not None and hasattr(request, "user"):
        record(request, Did.SIGNED_IN, user=user)


@receiver(user_login_failed)
def _failed(credentials: dict[str, Any], request: Any = None, **_: Any) -> None:
    tried = credentials.get("email") or credentials.get("username") or ""
    if request is not None:
        record(request, Did.SIGN_IN_FAILED, email=str(tried))


@receiver(user_logged_out)
def _signed_out(request: Any, user: Any, **_: Any) -> None:
    if user is not None:
        record(request, Did.SIGNED_OUT, user=user)


@receiver(password_changed)
def _changed(request: Any, user: Any, **_: Any) -> None:
    record(request, Did.PASSWORD_CHANGED, user=user)


@receiver(password_reset)
def _reset(request: Any, user: Any, **_: Any) -> None:
    record(request, Did.PASSWORD_RESET, user=user)
