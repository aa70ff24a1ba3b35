"""What each role may do in a workspace: the one matrix, shown in the docs and tested cell by cell."""

from __future__ import annotations

from enum import StrEnum

from workspaces.models import Member

Role = Member.Role


class May(StrEnum):
    SEE = "see corpora, runs and answers"
    ASK = "ask, stop and delete runs, change corpora"
    SHARE = "make, change and revoke shares"
    INVITE = "invite, remove and change the role of members"
    RENAME = "rename the workspace"
    ENDPOINTS = "add, change and remove model endpoints"
    BUDGETS = "set budgets"
    LIMITS = "set limits of uploads"
    RETENTION = "set how long runs are kept"
    SHARES = "see the shares of all runs in one list"
    AUDIT = "read the audit"
    OWN = "make and remove owners"
    DELETE = "delete the workspace, and bring it back"


MATRIX: dict[str, frozenset[May]] = {
    Role.VIEWER: frozenset({May.SEE}),
    Role.EDITOR: frozenset({May.SEE, May.ASK, May.SHARE}),
    Role.ADMIN: frozenset(May) - {May.OWN, May.DELETE},
    Role.OWNER: frozenset(May),
}


def may(member: Member, what: May) -> bool:
    return what in MATRIX[member.role]
