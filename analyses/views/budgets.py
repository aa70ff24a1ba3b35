"""Budgets of a workspace: how they stand, for every member to see; owners and admins set them."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from analyses.budget_forms import BudgetsForm, MemberBudgetForm
from analyses.budgets import Month, standings
from workspaces.access import demand, membership
from workspaces.audit import Did, record
from workspaces.models import Budget, Member
from workspaces.roles import May, may


@login_required
@require_http_methods(["GET", "POST"])
def budgets(request: HttpRequest, workspace: str) -> HttpResponse:
    member = membership(request, workspace)
    form = None
    if request.method == "POST":
        demand(member, May.BUDGETS)
        form = BudgetsForm(request.POST, workspace=member.workspace)
        if form.is_valid():
            changed = form.save()
            record(request, Did.CHANGED_BUDGET, workspace=member.workspace, target="of the workspace", **changed)
            messages.success(request, "The budgets are kept. Runs under way keep the limits they have.")
            return redirect("budgets", workspace=workspace)
    return _page(request, member, form=form)


@login_required
@require_POST
def budget_member(request: HttpRequest, workspace: str) -> HttpResponse:
    """Give one member a budget of their own, or take it back (with both sums empty)."""
    member = membership(request, workspace)
    demand(member, May.BUDGETS)
    form = MemberBudgetForm(request.POST, workspace=member.workspace)
    if not form.is_valid():
        return _page(request, member, member_form=form)
    form.save()
    given = form.cleaned_data
    whose = given["member"].user
    record(
        request, Did.CHANGED_BUDGET, workspace=member.workspace, target=f"of {whose.email}",
        cost=given["cost"], tokens=given["tokens"],
    )  # fmt: skip
    own = given["cost"] is not None or given["tokens"] is not None
    messages.success(request, f"{whose} has a budget of their own." if own else f"{whose} has every member’s budget.")
    return redirect("budgets", workspace=workspace)


def _page(
    request: HttpRequest,
    member: Member,
    *,
    form: BudgetsForm | None = None,
    member_form: MemberBudgetForm | None = None,
) -> HttpResponse:
    own = member.workspace.budgets.filter(of=Budget.Of.MEMBER).exclude(user=None).select_related("user")
    ids = dict(member.workspace.members.values_list("user_id", "pk"))
    overrides = [(ids[row.user_id], row) for row in own.order_by("user__email") if row.user_id in ids]
    context = {
        "form": form or BudgetsForm(workspace=member.workspace),
        "member_form": member_form or MemberBudgetForm(workspace=member.workspace),
        "standings": standings(member.workspace, member.user),
        "overrides": overrides,
        "may_change": may(member, May.BUDGETS),
        "month": Month.of(),
        "ends": Month.of().end,
    }
    return render(request, "analyses/budgets.html", context, status=422 if form or member_form else 200)
