"""What goes by its age alone: audit entries, and sessions that are over."""

from __future__ import annotations

from datetime import timedelta

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from workspaces.models import AuditEntry


def prune_audit() -> int:
    """Take away entries older than RLMWEB_AUDIT_DAYS; return how many. With 0 days they are kept for ever."""
    if not settings.AUDIT_DAYS:
        return 0
    return AuditEntry.objects.prune(timezone.now() - timedelta(days=settings.AUDIT_DAYS))


def prune_sessions(at_once: int = 1000, most: int = 50_000) -> int:
    """Take away sessions that have run out; return how many. Whoever comes back signs in again as it is."""
    over = Session.objects.filter(expire_date__lt=timezone.now())
    removed = 0
    while removed < most and (keys := list(over.values_list("pk", flat=True)[:at_once])):
        UserSession.objects.filter(session_key__in=keys).delete()
        removed += Session.objects.filter(pk__in=keys).delete()[0]
    return removed
