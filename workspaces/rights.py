"""Who may see what has become less: open sockets are told at once, instead of at their next look of their own."""

from __future__ import annotations

import logging
from importlib import import_module

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.db import transaction
from django.utils.crypto import constant_time_compare

from workspaces.models import User

log = logging.getLogger(__name__)
GROUP = "rights"  # every feed listens (analyses/feed.py)
CHANGED = "rights.changed"


def changed() -> None:
    """Once what is being done stands: let every feed ask again whether its viewers may look."""
    transaction.on_commit(_tell, robust=True)


def stands(key: str, user: User) -> bool:
    """Whether the session of this key is still theirs: not signed out, not ended elsewhere, of the password they have now."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    mine = session.get(SESSION_KEY) == str(user.pk)
    return mine and constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())


def _tell() -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(GROUP, {"type": CHANGED})
    except Exception as error:  # Redis is away: they look by themselves every few seconds
        log.warning("open pages could not be told that somebody may see less: %s", error)
