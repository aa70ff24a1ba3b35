"""Take away audit entries that are older than the retention."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from workspaces.retention import prune_audit


class Command(BaseCommand):
    help = "Remove audit entries older than RLMWEB_AUDIT_DAYS."

    def handle(self, **_: Any) -> None:
        if not settings.AUDIT_DAYS:
            self.stdout.write("RLMWEB_AUDIT_DAYS is 0: entries are kept for ever.")
            return
        removed = prune_audit()
        self.stdout.write(f"{removed} entries removed, older than {settings.AUDIT_DAYS} days.")
