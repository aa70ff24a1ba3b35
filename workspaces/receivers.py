"""What is heard by signal: signing in and out, for the audit; and that somebody may see less, wherever it was done."""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed, password_reset, user_signed_up
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
