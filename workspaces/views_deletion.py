"""Deleting a workspace and bringing it back; deleting one's account."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from workspaces import actions, rates
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.forms import AccountDeleteForm
from workspaces.models import Workspace
from workspaces.roles import May


@login_required
@require_POST
def workspace_delete(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    demand(member, May.DELETE)
    deleted = actions.delete_workspace(member)
    record(request, Did.DELETED_WORKSPACE, workspace=deleted, target=deleted.name)
    return redirect("workspace-deleted", workspace=workspace)


@login_required
@require_http_methods(["GET", "POST"])
def workspace_deleted(request: HttpRequest, workspace: str) -> HttpResponse:
    """For its owners, while it can be brought back; for everybody else there is no such workspace."""
    found = get_object_or_404(Workspace.objects.deleted_by(request.user), slug=workspace)
    if request.method == "POST":
        try:
            actions.restore_workspace(found)
        except actions.Refused as refusal:
            messages.error(request, str(refusal))
            return redirect("home")
        record(request, Did.RESTORED_WORKSPACE, workspace=found, target=found.name)
        messages.success(request, f"{found.name} is back. Runs that were stopped stay stopped.")
        return redirect(found)
    return render(request, "workspaces/workspace_deleted.html", {"deleted": found})


@login_required
@require_http_methods(["GET", "POST"])
def account_delete(request: HttpRequest) -> HttpResponse:
    if settings.LOCAL:
        raise Http404("The local owner is the instance’s own.")
    user = request.user
    form = AccountDeleteForm(request.POST or None, user=user)
    if request.method == "POST":
        if not rates.DELETE_ACCOUNT.spend(user.pk):
            form.add_error(None, "That was tried often. Wait a few minutes.")
        elif form.is_valid():
            try:
                with transaction.atomic():
                    record(request, Did.DELETED_ACCOUNT)
                    actions.delete_account(user)  # type: ignore[arg-type]
            except actions.Refused as refusal:
                form.add_error(None, str(refusal))
            else:
                request.user = None  # type: ignore[assignment]  # there is nobody to say goodbye to
                logout(request)
                messages.success(request, "Your account is deleted.")
                return redirect("account_login")
    return render(request, "workspaces/account_delete.html", {"form": form}, status=422 if form.errors else 200)
