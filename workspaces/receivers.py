"""What is heard by signal: signing in and out, for the audit; and that somebody may see less, wherever it was done."""

from __future__ import annotations

from typing import Any

from allauth.account.signals import (
    email_added,
    email_changed,
    email_confirmed,
    email_removed,
    password_changed,
    password_reset,
    password_set,
    user_signed_up,
)
from allauth.mfa.signals import authentication_failed, authenticator_added, authenticator_removed, authenticator_reset
from allauth.socialaccount.signals import social_account_added, social_account_removed
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.contrib.sessions.models import Session
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.utils import timezone

from workspaces import rights
from workspaces.audit import Did, record
from workspaces.models import Member, User, Workspace


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


@receiver(password_set)
def _set(request: Any, user: Any, **_: Any) -> None:
    record(request, Did.SET_PASSWORD, user=user)


@receiver(authenticator_added)
def _factor_added(request: Any, user: Any, authenticator: Any, **_: Any) -> None:
    record(request, Did.ADDED_FACTOR, user=user, target=authenticator.get_type_display())


@receiver(authenticator_removed)
def _factor_removed(request: Any, user: Any, authenticator: Any, **_: Any) -> None:
    record(request, Did.REMOVED_FACTOR, user=user, target=authenticator.get_type_display())


@receiver(authenticator_reset)
def _codes_made(request: Any, user: Any, **_: Any) -> None:
    record(request, Did.NEW_RECOVERY_CODES, user=user)


@receiver(authentication_failed)
def _factor_failed(request: Any, user: Any, **_: Any) -> None:
    record(request, Did.FACTOR_FAILED, user=user)


@receiver(social_account_added)
def _connected(request: Any, sociallogin: Any, **_: Any) -> None:
    record(request, Did.CONNECTED, user=sociallogin.user, target=sociallogin.account.get_provider().name)


@receiver(social_account_removed)
def _disconnected(request: Any, socialaccount: Any, **_: Any) -> None:
    record(request, Did.DISCONNECTED, user=socialaccount.user, target=socialaccount.get_provider().name)


@receiver(email_added)
def _address_added(request: Any, user: Any, email_address: Any, **_: Any) -> None:
    record(request, Did.ADDED_ADDRESS, user=user, target=email_address.email)


@receiver(email_removed)
def _address_removed(request: Any, user: Any, email_address: Any, **_: Any) -> None:
    record(request, Did.REMOVED_ADDRESS, user=user, target=email_address.email)


@receiver(email_confirmed)
def _address_confirmed(request: Any, email_address: Any, **_: Any) -> None:
    record(request, Did.CONFIRMED_ADDRESS, user=email_address.user, target=email_address.email)


@receiver(email_changed)
def _address_changed(request: Any, user: Any, to_email_address: Any, **_: Any) -> None:
    record(request, Did.CHANGED_ADDRESS, user=user, target=to_email_address.email)


@receiver(post_delete, sender=Member)
def _removed(**_: Any) -> None:
    rights.changed()


@receiver(post_save, sender=Workspace)
def _workspace_deleted(instance: Workspace, **_: Any) -> None:
    if instance.delete_at is not None:
        rights.changed()


@receiver(post_save, sender=User)
def _person_changed(instance: User, created: bool, update_fields: Any = None, **_: Any) -> None:
    """Deactivated, or of another password, with which their other sessions are over."""
    if not created and update_fields != frozenset({"last_login"}):
        rights.changed()


@receiver(post_delete, sender=Session)
def _session_over(instance: Session, **_: Any) -> None:
    """Signed out, ended from the list of sessions, or followed by one of another key. Not: cleared away by age."""
    if instance.expire_date > timezone.now():
        rights.changed()
