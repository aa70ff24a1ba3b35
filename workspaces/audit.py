"""Write down who did what. Called by the views that do it, in their transaction or after it; told nothing secret."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from workspaces.models import AuditEntry, User, Workspace


class Did(StrEnum):
    # Of a person's account: these belong to no workspace.
    SIGNED_UP = "signed up"
    SIGNED_IN = "signed in"
    SIGN_IN_FAILED = "failed to sign in"
    FACTOR_FAILED = "failed at the second factor"
    SIGNED_OUT = "signed out"
    SIGNED_OUT_ELSEWHERE = "signed out elsewhere"
    SET_PASSWORD = "set a password"
    PASSWORD_CHANGED = "changed the password"
    PASSWORD_RESET = "reset the password"
    ADDED_FACTOR = "added a second factor"
    REMOVED_FACTOR = "removed a second factor"
    NEW_RECOVERY_CODES = "made new recovery codes"
    CONNECTED = "connected an account elsewhere"
    DISCONNECTED = "disconnected an account elsewhere"
    ADDED_ADDRESS = "added an address"
    CONFIRMED_ADDRESS = "confirmed an address"
    CHANGED_ADDRESS = "changed the address"
    REMOVED_ADDRESS = "removed an address"
    DELETED_ACCOUNT = "deleted their account"
    # Of a workspace.
    MADE_WORKSPACE = "made the workspace"
    RENAMED = "renamed the workspace"
    INVITED = "invited"
    REVOKED_INVITATION = "revoked an invitation"
    JOINED = "joined"
    ADDED_MEMBER = "added a member"
    CHANGED_ROLE = "changed a role"
    REMOVED_MEMBER = "removed a member"
    LEFT = "left"
    ADDED_ENDPOINT = "added a model endpoint"
    CHANGED_ENDPOINT = "changed a model endpoint"
    REMOVED_ENDPOINT = "removed a model endpoint"
    CHANGED_BUDGET = "changed a budget"
    CHANGED_LIMITS = "changed limits of uploads"
    SHARED = "shared a run"
    CHANGED_SHARE = "changed a share"
    REVOKED_SHARE = "revoked a share"
    DELETED_RUN = "deleted a run"
    ARCHIVED_RUN = "archived a run"
    RESTORED_RUN = "brought a run back from its archive"
    CHANGED_RETENTION = "changed how long runs are kept"
    DELETED_WORKSPACE = "deleted the workspace"
    RESTORED_WORKSPACE = "brought the workspace back"
    EXPORTED = "exported a run"
    FORKED = "forked a run"
    EXPORTED_USAGE = "exported the usage"
    EXPORTED_AUDIT = "exported the audit"
    IMPORTED = "imported runs"
    UPLOADED = "began an upload"
    CHANGED_CORPUS = "changed a corpus"
    DELETED_CORPUS = "deleted a corpus"


OF_WORKSPACES = list(Did)[list(Did).index(Did.MADE_WORKSPACE) :]


def record(
    request: HttpRequest | None,
    did: Did,
    *,
    workspace: Workspace | None = None,
    target: object = "",
    user: User | None = None,
    email: str = "",
    **details: Any,
) -> AuditEntry:
    """One entry. The actor is the request's person, unless ``user`` or ``email`` says who it was."""
    actor: Any = user or (request.user if request is not None and request.user.is_authenticated else None)
    return AuditEntry.objects.create(
        workspace=workspace,
        actor=actor,
        actor_email=(actor.email if actor else email)[:254],
        action=did.value,
        target=str(target)[:300],
        details=details,
        address=address_of(request),
    )


def address_of(request: HttpRequest | None) -> str | None:
    if request is None:
        return None
    try:
        return str(get_adapter().get_client_ip(request)) or None
    except PermissionDenied:  # the server told no address: a socket file, say
        return None
