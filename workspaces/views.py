"""Where a person lands, and the pages of a workspace itself."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from workspaces.access import demand, membership
from workspaces.forms import WorkspaceForm
from workspaces.models import Workspace
from workspaces.roles import May, may


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """To the person's first workspace; one is made where there is none (they left the last one)."""
    workspace = Workspace.objects.visible_to(request.user).order_by("members__joined_at").first()
    if workspace is None:
        workspace = Workspace.start(f"{request.user}’s workspace", request.user)  # type: ignore[arg-type]
    return redirect(workspace)


@login_required
@require_http_methods(["GET", "POST"])
def workspace_new(request: HttpRequest) -> HttpResponse:
    form = WorkspaceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(Workspace.start(form.cleaned_data["name"], request.user))  # type: ignore[arg-type]
    return render(request, "workspaces/workspace_new.html", {"form": form}, status=422 if form.errors else 200)


@login_required
@require_http_methods(["GET", "POST"])
def workspace_settings(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    form = WorkspaceForm(request.POST or None, initial={"name": member.workspace.name})
    if request.method == "POST":
        demand(member, May.RENAME)
        if form.is_valid():
            member.workspace.name = form.cleaned_data["name"]
            member.workspace.save(update_fields=["name"])
            messages.success(request, f"The workspace is now called {member.workspace.name}.")
            return redirect("workspace-settings", workspace=workspace)
    members = member.workspace.members.select_related("user").order_by("joined_at", "pk")
    return render(
        request,
        "workspaces/workspace_settings.html",
        {"form": form, "member": member, "members": members, "may_rename": may(member, May.RENAME)},
        status=422 if form.errors else 200,
    )
