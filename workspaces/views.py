"""Where a person lands, and the pages of a workspace itself."""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Case, Count, Q, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from workspaces import rates
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.forms import InviteForm, WorkspaceForm, grantable
from workspaces.models import Invitation, Member, Workspace
from workspaces.roles import MATRIX, May, may

Role = Member.Role
MEMBERS_PAGE = 50
INVITATIONS_MOST = 100  # shown; each lasts a week


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """To the person's first workspace; one is made where there is none (they left the last one)."""
    if token := request.session.get("invitation"):  # signed up or in on the way to an invitation
        if Invitation.objects.open().filter(token=token).exists():
            return redirect("invitation", token=token)
        del request.session["invitation"]
    workspace = Workspace.objects.visible_to(request.user).order_by("members__joined_at").first()
    if workspace is None:
        workspace = Workspace.start(f"{request.user}’s workspace", request.user)  # type: ignore[arg-type]
    return redirect(workspace)


@login_required
@require_http_methods(["GET", "POST"])
def workspace_new(request: HttpRequest) -> HttpResponse:
    form = WorkspaceForm(request.POST or None)
    if request.method == "POST" and not rates.NEW_WORKSPACE.spend(request.user.pk):
        form.add_error(None, "Many workspaces were made within this hour. Wait a little, then make more.")
    elif request.method == "POST" and form.is_valid():
        made = Workspace.start(form.cleaned_data["name"], request.user)  # type: ignore[arg-type]
        record(request, Did.MADE_WORKSPACE, workspace=made, target=made.name)
        return redirect(made)
    return render(request, "workspaces/workspace_new.html", {"form": form}, status=422 if form.errors else 200)


@login_required
@require_http_methods(["GET", "POST"])
def workspace_settings(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    form = WorkspaceForm(request.POST or None, initial={"name": member.workspace.name})
    if request.method == "POST":
        demand(member, May.RENAME)
        if form.is_valid():
            was = member.workspace.name
            member.workspace.name = form.cleaned_data["name"]
            member.workspace.save(update_fields=["name"])
            record(request, Did.RENAMED, workspace=member.workspace, target=member.workspace.name, was=was)
            messages.success(request, f"The workspace is now called {member.workspace.name}.")
            return redirect("workspace-settings", workspace=workspace)
    return settings_page(request, member, form=form)


def settings_page(
    request: HttpRequest, member: Member, *, form: WorkspaceForm | None = None, invite_form: InviteForm | None = None
) -> HttpResponse:
    """The page, with the form that was refused, if one was."""
    asked = request.GET.get("q", "").strip()[:200]
    me_first = Case(When(pk=member.pk, then=0), default=1)  # to see one's role, and to leave
    found = member.workspace.members.select_related("user").order_by(me_first, "joined_at", "pk")
    if asked:
        found = found.filter(Q(user__email__icontains=asked) | Q(user__name__icontains=asked))
    page = Paginator(found, MEMBERS_PAGE).get_page(request.GET.get("page"))
    count, owners = member.workspace.members.aggregate(
        all=Count("pk"), owners=Count("pk", filter=Q(role=Role.OWNER))
    ).values()
    for each in page.object_list:
        last_owner = each.role == Role.OWNER and owners == 1
        mine = each.pk == member.pk
        may_touch = may(member, May.INVITE) and (each.role != Role.OWNER or may(member, May.OWN))
        each.roles = grantable(member) if may_touch and not last_owner else []  # type: ignore[attr-defined]
        each.removable = (may_touch or mine) and not last_owner  # type: ignore[attr-defined]
    invitations: list[Invitation] = []
    if may(member, May.INVITE):
        invitations = list(
            member.workspace.invitations.open().select_related("created_by").order_by("-created_at")[:INVITATIONS_MOST]
        )  # type: ignore[attr-defined]
        for invitation in invitations:
            invitation.url = request.build_absolute_uri(invitation.get_absolute_url())  # type: ignore[attr-defined]
    context = {
        "form": form or WorkspaceForm(initial={"name": member.workspace.name}),
        "invite_form": invite_form or InviteForm(actor=member),
        "member": member,
        "page": page,
        "count": count,
        "asked": asked,
        "searched": f"&{urlencode({'q': asked})}" if asked else "",
        "invitations": invitations,
        "may_rename": may(member, May.RENAME),
        "may_invite": may(member, May.INVITE),
        "may_audit": may(member, May.AUDIT),
        "may_delete": may(member, May.DELETE),
        "grace_days": settings.DELETION_DAYS,
        "matrix": [(what.value, [(role.label, what in MATRIX[role]) for role in reversed(Role)]) for what in May],
        "roles": [role.label for role in reversed(Role)],
    }
    refused = (form is not None and form.errors) or (invite_form is not None and invite_form.errors)
    return render(request, "workspaces/workspace_settings.html", context, status=422 if refused else 200)
