"""Forms of the workspace pages."""

from __future__ import annotations

from typing import Any

from django import forms

from workspaces.models import Member
from workspaces.roles import May, may

Role = Member.Role
MEANING = {
    Role.VIEWER: "viewer: sees everything, changes nothing",
    Role.EDITOR: "editor: asks, uploads, shares",
    Role.ADMIN: "admin: invites and removes members too",
    Role.OWNER: "owner: may do all of it",
}


def grantable(actor: Member) -> list[tuple[str, str]]:
    """The roles that this member may give to others, least first."""
    if not may(actor, May.INVITE):
        return []
    roles = [Role.VIEWER, Role.EDITOR, Role.ADMIN]
    return [(role.value, MEANING[role]) for role in [*roles, *([Role.OWNER] if may(actor, May.OWN) else [])]]


class WorkspaceForm(forms.Form):
    name = forms.CharField(max_length=80, error_messages={"required": "Give the workspace a name."})

    def clean_name(self) -> str:
        return " ".join(str(self.cleaned_data["name"]).split())


class InviteForm(forms.Form):
    role = forms.ChoiceField(error_messages={"invalid_choice": "You cannot invite somebody as “%(value)s”."})
    email = forms.EmailField(
        label="E-mail",
        required=False,
        help_text="may stay empty; where given, only who has confirmed this address can use the link",
    )

    def __init__(self, *args: Any, actor: Member, **kwargs: Any) -> None:
        super().__init__(*args, **{"initial": {"role": Role.EDITOR.value}} | kwargs)
        role: Any = self.fields["role"]
        role.choices = grantable(actor)


class AccountDeleteForm(forms.Form):
    """Asks for what only the person can give: the password, or where there is none the address in full."""

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        if user.has_usable_password():
            self.fields["proof"] = forms.CharField(
                label="Your password",
                strip=False,
                widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
                error_messages={"required": "Give your password."},
            )
        else:
            self.fields["proof"] = forms.EmailField(
                label="Your e-mail address", error_messages={"required": "Write your e-mail address."}
            )

    def clean_proof(self) -> str:
        proof = str(self.cleaned_data["proof"])
        if self.user.has_usable_password():
            if not self.user.check_password(proof):
                raise forms.ValidationError("That is not your password.")
        elif proof.lower() != self.user.email:
            raise forms.ValidationError("That is not your address.")
        return proof
