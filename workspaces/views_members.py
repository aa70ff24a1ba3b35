"""Who is in a workspace: invitations and the page they lead to, roles, removal, leaving."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.mail import send_mail
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.template.loader import render_to_string
from django.views.decorators.http import require_http_methods, require_POST

from workspaces import actions, rates
from workspaces.access import demand, membership
from workspaces.audit import Did, address_of, record
from workspaces.forms import InviteForm
from workspaces.models import Invitation, Member
from workspaces.roles import May

log = logging.getLogger(__name__)


@login_required
@require_POST
def invite(request: HttpRequest, workspace: str) -> HttpResponse:
    from workspaces.views import settings_page

    member = membership(request, workspace)
    demand(member, May.INVITE)
    form = InviteForm(request.POST, actor=member)
    if not form.is_valid():
        return settings_page(request, member, invite_form=form)
    if not rates.INVITE.spend(member.workspace_id):
        form.add_error(None, "Many invitations were made within this hour. Wait a little, then make more.")
        return settings_page(request, member, invite_form=form)
    try:
        invitation = actions.invite(member, role=form.cleaned_data["role"], email=form.cleaned_data["email"])
    except actions.Refused as refusal:
        form.add_error(None, str(refusal))
        return settings_page(request, member, invite_form=form)
    record(request, Did.INVITED, workspace=member.workspace, target=invitation.email or "by link", role=invitation.role)
    messages.success(request, _sent(request, invitation))
    return redirect("workspace-settings", workspace=workspace)


def _sent(request: HttpRequest, invitation: Invitation) -> str:
    """Mail the link where that can be done; say what was done."""
    link = request.build_absolute_uri(invitation.get_absolute_url())
    if not invitation.email:
        return "The link is made. Send it to the person you invite; it can be used once."
    if settings.EMAIL_BACKEND.endswith("console.EmailBackend"):
        return f"The link is made. This instance sends no mail: give the link to {invitation.email} yourself."
    name = " ".join(invitation.workspace.name.split())
    text = render_to_string("workspaces/invitation_mail.txt", {"invitation": invitation, "link": link})
    try:
        send_mail(f"Invitation to {name} on rlmweb", text, settings.DEFAULT_FROM_EMAIL, [invitation.email])
    except (SMTPException, OSError) as error:
        log.error("an invitation could not be mailed: %s", error)
        return f"The link is made, but the mail to {invitation.email} could not be sent: give them the link yourself."
    return f"A mail with the link went to {invitation.email}."


@login_required
@require_POST
def invitation_revoke(request: HttpRequest, workspace: str, invitation_id: int) -> HttpResponse:
    member = membership(request, workspace)
    invitation = get_object_or_404(Invitation, workspace=member.workspace_id, pk=invitation_id)
    demand(member, May.INVITE)
    actions.revoke_invitation(invitation)
    record(request, Did.REVOKED_INVITATION, workspace=member.workspace, target=invitation.email or "by link")
    messages.success(request, "The invitation is revoked.")
    return redirect("workspace-settings", workspace=workspace)


@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """What the link leads to. Who is not signed in comes back here after signing in or up."""
    found = Invitation.objects.open().select_related("workspace", "created_by").filter(token=token).first()
    if found is None:
        request.session.pop("invitation", None)
        if request.user.is_authenticated and (mine := _accepted(request, token)):
            return redirect(mine.workspace)
        if not rates.INVITATION.spend(address_of(request)):
            return rates.too_many(request)
        return render(request, "workspaces/invitation_over.html", status=404)
    refusal = ""
    if not request.user.is_authenticated:
        request.session["invitation"] = token  # opens sign-up where it is closed (adapter.py)
        if request.method == "POST":
            return redirect(f"{resolve_url(settings.LOGIN_URL)}?next={found.get_absolute_url()}")
    elif request.method == "POST":
        try:
            member = actions.accept_invitation(found, request.user)  # type: ignore[arg-type]
        except actions.Refused as error:
            refusal = str(error)
        else:
            request.session.pop("invitation", None)
            record(request, Did.JOINED, workspace=member.workspace, role=member.role)
            request.session.cycle_key()  # this person may more than before
            messages.success(request, f"You are in {member.workspace.name}, as {member.role}.")
            return redirect(member.workspace)
    context: dict[str, Any] = {"invitation": found, "refusal": refusal}
    return render(request, "workspaces/invitation.html", context, status=403 if refusal else 200)


def _accepted(request: HttpRequest, token: str) -> Member | None:
    """Their membership that this link made, while it lasts: whoever comes by it again is not told that it is over."""
    mine = Member.objects.select_related("workspace").filter(user=request.user.pk, workspace__delete_at=None)
    return mine.filter(workspace__invitations__token=token, workspace__invitations__accepted_by=request.user.pk).first()


@login_required
@require_POST
def member_role(request: HttpRequest, workspace: str, member_id: int) -> HttpResponse:
    actor, member = _both(request, workspace, member_id)
    demand(actor, May.INVITE)
    try:
        was = member.role
        changed = actions.change_role(actor, member, request.POST.get("role", ""))
    except actions.Refused as refusal:
        messages.error(request, str(refusal))
    else:
        record(
            request, Did.CHANGED_ROLE, workspace=actor.workspace, target=changed.user.email, was=was, now=changed.role
        )
        messages.success(request, f"{changed.user} is {changed.role} now.")
    return redirect("workspace-settings", workspace=workspace)


@login_required
@require_POST
def member_remove(request: HttpRequest, workspace: str, member_id: int) -> HttpResponse:
    """Remove a member, or leave."""
    actor, member = _both(request, workspace, member_id)
    leaving = actor.pk == member.pk
    if not leaving:
        demand(actor, May.INVITE)
    try:
        actions.remove_member(actor, member)
    except actions.Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("workspace-settings", workspace=workspace)
    did = Did.LEFT if leaving else Did.REMOVED_MEMBER
    record(request, did, workspace=actor.workspace, target="" if leaving else member.user.email, role=member.role)
    if leaving:
        messages.success(request, f"You have left {actor.workspace.name}.")
        return redirect("home")
    messages.success(request, f"{member.user} is not a member any more.")
    return redirect("workspace-settings", workspace=workspace)


def _both(request: HttpRequest, workspace: str, member_id: int) -> tuple[Member, Member]:
    actor = membership(request, workspace)
    members = Member.objects.select_related("user", "workspace").filter(workspace=actor.workspace_id)
    return actor, get_object_or_404(members, pk=member_id)
