"""Forms of a workspace's budgets: sums of money and tokens, each empty where there is none."""

from __future__ import annotations

from typing import Any

from django import forms

from analyses.run_forms import LimitField, Shown, written
from workspaces.models import Budget, Member, Workspace

MOST = 1_000_000  # dollars
MOST_TOKENS = 1_000_000_000_000


def money_field(label: str = "Money, $", hint: str = "") -> LimitField:
    return LimitField(Shown("cost", label, hint, MOST))


def tokens_field() -> LimitField:
    return LimitField(Shown("prompt_tokens", "Tokens", "prompts and replies together", MOST_TOKENS))


class BudgetsForm(forms.Form):
    """The workspace's own budget, every member's, every run's, and from where on a question is asked about first."""

    def __init__(self, data: Any = None, *, workspace: Workspace) -> None:
        self.workspace = workspace
        rows = {row.of: row for row in workspace.budgets.filter(user=None)}
        initial: dict[str, Any] = {"confirm_above": written(workspace.confirm_above, "cost")}
        for of in Budget.Of.values:
            initial[f"{of}_cost"] = written(rows[of].cost, "cost") if of in rows else ""
            initial[f"{of}_tokens"] = written(rows[of].tokens, "tokens") if of in rows else ""
        super().__init__(data, initial=initial)
        for of in Budget.Of.values:
            self.fields[f"{of}_cost"] = money_field()
            self.fields[f"{of}_tokens"] = tokens_field()
        self.fields["confirm_above"] = money_field("Ask first above, $", "what a question may cost; empty: never")

    @property
    def rows(self) -> list[tuple[str, str, forms.BoundField, forms.BoundField]]:
        words = {
            "workspace": ("The workspace", "all its runs of a month"),
            "member": ("Each member", "that person’s runs of a month, unless they have a budget of their own below"),
            "run": ("Each run", "a run that asks for more gets this"),
        }
        return [(*words[of], self[f"{of}_cost"], self[f"{of}_tokens"]) for of in Budget.Of.values]

    def save(self) -> dict[str, Any]:
        """Write what was given; return what has changed, for the audit."""
        given = self.cleaned_data
        for of in Budget.Of.values:
            keep(self.workspace, of, None, given[f"{of}_cost"], given[f"{of}_tokens"])
        self.workspace.confirm_above = given["confirm_above"]
        self.workspace.save(update_fields=["confirm_above"])
        return {name: given[name] for name in self.changed_data}


class MemberBudgetForm(forms.Form):
    """One member's own budget, in place of every member's."""

    member = forms.ModelChoiceField(
        Member.objects.none(), empty_label="choose", error_messages={"required": "Choose a member."}
    )

    def __init__(self, data: Any = None, *, workspace: Workspace) -> None:
        super().__init__(data)
        self.workspace = workspace
        member: Any = self.fields["member"]
        member.queryset = workspace.members.select_related("user").order_by("user__name", "user__email")
        member.label_from_instance = lambda each: f"{each.user} ({each.user.email})"
        self.fields["cost"] = money_field(hint="of a month; empty: no budget of money")
        self.fields["tokens"] = tokens_field()

    def save(self) -> None:
        given = self.cleaned_data
        keep(self.workspace, Budget.Of.MEMBER, given["member"].user, given["cost"], given["tokens"])


def keep(workspace: Workspace, of: str, user: Any, cost: float | None, tokens: int | None) -> None:
    """One budget as given; with neither sum there is none."""
    if cost is None and tokens is None:
        workspace.budgets.filter(of=of, user=user).delete()
        return
    workspace.budgets.update_or_create(of=of, user=user, defaults={"cost": cost, "tokens": tokens})
