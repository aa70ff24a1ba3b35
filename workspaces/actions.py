"""Verbs that change who is in a workspace. Each checks its rule with the workspace's row held, so none slips past another."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from workspaces.models import Invitation, Member, User, Workspace
from workspaces.roles import May, may

Role = Member.Role


class Refused(ValueError):
    """It cannot be done; the message says why, to the person who tried."""


def _hold(workspace_id: int) -> Workspace:
    return Workspace.objects.select_for_update().get(pk=workspace_id)


def _fresh(member: Member) -> Member:
    """The member as the row stands now; gone is refused."""
    found = Member.objects.select_related("user", "workspace").filter(pk=member.pk).first()
    if found is None:
        raise Refused("That person is not a member any more.")
    return found


def _keep_an_owner(member: Member) -> None:
    others = Member.objects.filter(workspace=member.workspace_id, role=Role.OWNER).exclude(pk=member.pk)
    if member.role == Role.OWNER and not others.exists():
        raise Refused("A workspace has at least one owner. Make somebody else an owner first.")


def _demand(actor: Member, what: May, sentence: str) -> None:
    if not may(actor, what):
        raise Refused(sentence)


@transaction.atomic
def change_role(actor: Member, member: Member, role: str) -> Member:
    _hold(member.workspace_id)
    actor, member = _fresh(actor), _fresh(member)
    _demand(actor, May.INVITE, "Only owners and admins change roles.")
    if Role.OWNER in (role, member.role):
        _demand(actor, May.OWN, "Only an owner makes or changes owners.")
    if role not in Role.values:
        raise Refused(f"There is no role “{role}”.")
    if role != Role.OWNER:
        _keep_an_owner(member)
    could_invite = may(member, May.INVITE)
    member.role = role
    member.save(update_fields=["role"])
    if could_invite and not may(member, May.INVITE):
        _revoke_links(member)
    return member


@transaction.atomic
def remove_member(actor: Member, member: Member) -> None:
    """Take a person out; one who takes out themselves leaves."""
    _hold(member.workspace_id)
    actor, member = _fresh(actor), _fresh(member)
    if actor.pk != member.pk:
        _demand(actor, May.INVITE, "Only owners and admins remove members.")
        if member.role == Role.OWNER:
            _demand(actor, May.OWN, "Only an owner removes an owner.")
    _keep_an_owner(member)
    if may(member, May.INVITE):
        _revoke_links(member)
    member.delete()


def _revoke_links(member: Member) -> None:
    """Who could see the open links may have kept one, to come back by: those that anybody can use are over, and their own."""
    anybodys = Q(email="") | Q(created_by=member.user_id)
    member.workspace.invitations.open().filter(anybodys).update(revoked_at=timezone.now())  # type: ignore[attr-defined]


@transaction.atomic
def invite(actor: Member, *, role: str, email: str = "") -> Invitation:
    _hold(actor.workspace_id)
    actor = _fresh(actor)  # who is just being removed leaves no link behind
    _demand(actor, May.INVITE, "Only owners and admins invite.")
    if role == Role.OWNER:
        _demand(actor, May.OWN, "Only an owner invites owners.")
    email = email.strip().lower()
    if email and actor.workspace.members.filter(user__email=email).exists():
        raise Refused(f"{email} is a member already.")
    return Invitation.objects.create(workspace=actor.workspace, role=role, email=email, created_by=actor.user)


def revoke_invitation(invitation: Invitation) -> None:
    Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None).update(revoked_at=timezone.now())


@transaction.atomic
def accept_invitation(invitation: Invitation, user: User) -> Member:
    """Make this person a member. Of two who use one link at once, one is told that it is over."""
    _hold(invitation.workspace_id)
    now = timezone.now()
    there = Member.objects.filter(workspace=invitation.workspace_id, user=user).first()
    if there is not None:
        return there  # the link stays for who it was meant for
    if invitation.email and not _confirmed(user, invitation.email):
        raise Refused(
            f"This invitation is for {invitation.email}. Sign in with an account on which that address is confirmed."
        )
    open_still = Invitation.objects.open().filter(pk=invitation.pk)
    if not open_still.update(accepted_at=now, accepted_by=user):
        raise Refused("This invitation is over. Ask for a new one.")
    return Member.objects.create(workspace_id=invitation.workspace_id, user=user, role=invitation.role)


@transaction.atomic
def delete_workspace(actor: Member) -> Workspace:
    """Take it out of everybody's sight. Its rows go when the grace is over; until then an owner can bring it back."""
    workspace = _hold(actor.workspace_id)
    _demand(_fresh(actor), May.DELETE, "Only an owner deletes a workspace.")
    if workspace.delete_at is None:
        workspace.delete_at = timezone.now() + timedelta(days=settings.DELETION_DAYS)
        workspace.save(update_fields=["delete_at"])
    return workspace


@transaction.atomic
def restore_workspace(workspace: Workspace) -> None:
    """The caller has seen that it is an owner who asks."""
    workspace = _hold(workspace.pk)
    if workspace.delete_at is not None and workspace.delete_at <= timezone.now():
        raise Refused("It is too late: the workspace is being deleted for good.")
    workspace.delete_at = None
    workspace.save(update_fields=["delete_at"])


@transaction.atomic
def delete_account(user: User) -> None:
    """The person and their memberships; a workspace that nobody else is in goes with them. What they asked in others stays."""
    now = timezone.now()
    for member in list(user.memberships.select_related("workspace").order_by("workspace_id")):
        workspace = _hold(member.workspace_id)
        if not workspace.members.exclude(pk=member.pk).exists():
            workspace.delete_at = now  # nobody is left who could bring it back
            workspace.save(update_fields=["delete_at"])
        elif workspace.delete_at is None:
            try:
                _keep_an_owner(member)
            except Refused:
                raise Refused(
                    f"You are the only owner of {workspace.name}. Make somebody else an owner, or delete the workspace first."
                ) from None
            if may(member, May.INVITE):
                _revoke_links(member)
    user.delete()


def _confirmed(user: User, email: str) -> bool:
    from allauth.account.models import EmailAddress

    return bool(EmailAddress.objects.filter(user=user, email__iexact=email, verified=True).exists())
