"""Model endpoints of a workspace: the list, the form, the test of the connection. No key ever leaves by here."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from analyses.connection import Tried, try_models
from analyses.endpoint_forms import EndpointForm
from analyses.endpoints import of_instance, of_row
from workspaces import rates
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.models import Member, ModelEndpoint
from workspaces.roles import May, may
from workspaces.secrets import Unreadable


@login_required
@require_GET
def endpoint_list(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    rows = list(member.workspace.model_endpoints.select_related("created_by"))
    for row in rows:
        row.readable = _readable(row)  # type: ignore[attr-defined]
    context = {
        "rows": rows,
        "instance": of_instance(member.workspace),
        "may_change": may(member, May.ENDPOINTS),
        "member": member,
    }
    return render(request, "analyses/endpoint_list.html", context)


def _readable(row: ModelEndpoint) -> bool:
    try:
        return row.key is not None
    except Unreadable:
        return False


@login_required
@require_http_methods(["GET", "POST"])
def endpoint_new(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    demand(member, May.ENDPOINTS)
    return _form(request, member, ModelEndpoint(workspace=member.workspace, created_by=member.user))


@login_required
@require_http_methods(["GET", "POST"])
def endpoint_edit(request: HttpRequest, workspace: str, endpoint_id: int) -> HttpResponse:
    member, row = _both(request, workspace, endpoint_id)
    return _form(request, member, row)


def _both(request: HttpRequest, workspace: str, endpoint_id: int) -> tuple[Member, ModelEndpoint]:
    member = membership(request, workspace)
    row = get_object_or_404(ModelEndpoint, workspace=member.workspace_id, pk=endpoint_id)
    demand(member, May.ENDPOINTS)
    return member, row


def _form(request: HttpRequest, member: Member, row: ModelEndpoint) -> HttpResponse:
    form = EndpointForm(request.POST or None, instance=row, workspace=member.workspace)
    if request.method == "POST" and form.is_valid():
        did = Did.CHANGED_ENDPOINT if row.pk else Did.ADDED_ENDPOINT
        saved = form.save()
        record(
            request,
            did,
            workspace=member.workspace,
            target=saved.name,
            base_url=saved.base_url,
            key="a new one" if form.cleaned_data["key"] else "as before",
        )
        messages.success(request, f"The endpoint {saved.name} is kept. Test its connection before you ask.")
        return redirect("endpoint-list", workspace=member.workspace.slug)
    context: dict[str, Any] = {"form": form, "row": row if row.pk else None}
    return render(request, "analyses/endpoint_form.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def endpoint_remove(request: HttpRequest, workspace: str, endpoint_id: int) -> HttpResponse:
    member, row = _both(request, workspace, endpoint_id)
    row.delete()
    record(request, Did.REMOVED_ENDPOINT, workspace=member.workspace, target=row.name)
    messages.success(request, f"The endpoint {row.name} and its key are gone. Runs that still wait for it will fail.")
    return redirect("endpoint-list", workspace=member.workspace.slug)


@login_required
@require_POST
def endpoint_test(request: HttpRequest, workspace: str, endpoint_id: int) -> HttpResponse:
    member, row = _both(request, workspace, endpoint_id)
    tried = _tried(member, row)
    if request.headers.get("HX-Request"):
        return render(request, "analyses/_endpoint_tried.html", {"row": row, "tried": tried})
    for each in tried:
        (messages.success if each.ok else messages.error)(request, f"{each.model}: {each.says}")
    return redirect("endpoint-list", workspace=workspace)


def _tried(member: Member, row: ModelEndpoint) -> list[Tried]:
    if not rates.TEST_ENDPOINT.spend(member.workspace_id):
        return [Tried(row.root_model, False, "Tested too often just now. Wait a minute.")]
    try:
        return async_to_sync(try_models)(of_row(row))
    except Unreadable as unreadable:
        return [Tried(row.root_model, False, str(unreadable))]
