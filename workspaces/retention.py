"""What goes by its age alone: audit entries."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from workspaces.models import AuditEntry


def prune_audit() -> int:
    """Take away entries older than RLMWEB_AUDIT_DAYS; return how many. With 0 days they are kept for ever."""
    if not settings.AUDIT_DAYS:
        return 0
    return AuditEntry.objects.prune(timezone.now() - timedelta(days=settings.AUDIT_DAYS))
