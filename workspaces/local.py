"""The owner of an instance that one person runs on their own machine."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import transaction

from workspaces.models import User, Workspace


@transaction.atomic
def local_owner() -> tuple[User, str]:
    """The local owner with a workspace, made if there is none; and their password, if it was made just now."""
    user = User.objects.filter(email=settings.LOCAL_OWNER_EMAIL).first()
    password = ""
    if user is None:
        password = secrets.token_urlsafe(12)
        user = User.objects.create_superuser(settings.LOCAL_OWNER_EMAIL, password, name="Owner")
    if not Workspace.objects.visible_to(user).exists():
        Workspace.start("My workspace", user)
    return user, password
