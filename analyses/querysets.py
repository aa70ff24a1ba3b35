"""Who sees what: every row of this app is reached through one of these, by a person or by a share's token."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone


class _OfWorkspace(models.QuerySet[Any]):
    path = "workspace"  # from the row to its workspace

    def visible_to(self, user: Any) -> Any:
        """Rows of the workspaces of which this person is a member; none for a stranger."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(**{f"{self.path}__members__user": user, f"{self.path}__delete_at": None})


class CorpusQuerySet(_OfWorkspace):
    pass


class DocumentQuerySet(_OfWorkspace):
    path = "version__corpus__workspace"


class RunQuerySet(_OfWorkspace):
    pass


class ShareQuerySet(_OfWorkspace):
    path = "run__workspace"

    def live(self) -> Any:
        """Those whose link opens something, if only after a password: not revoked, not over."""
        lasting = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(lasting, revoked_at=None, run__workspace__delete_at=None)
