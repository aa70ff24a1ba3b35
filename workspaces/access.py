"""The first line of a view: who is here, and may they. An outsider is told 404, a member without the role 403."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from workspaces.models import Member
from workspaces.roles import May, may


def membership(request: HttpRequest, slug: str) -> Member:
    """This person's membership of the workspace; 404 where there is none, or the workspace is deleted."""
    if not request.user.is_authenticated:  # views also carry login_required; this is for those that answer strangers
        return get_object_or_404(Member.objects.none())
    here = Member.objects.select_related("workspace").filter(workspace__delete_at=None)
    member = get_object_or_404(here, user=request.user, workspace__slug=slug)
    member.user = request.user  # known already: no second read
    return member


def demand(member: Member, what: May) -> None:
    if not may(member, what):
        raise PermissionDenied(f"Your role here is {member.role}: it may not {what}.")
