"""Forms of the workspace pages."""

from __future__ import annotations

from django import forms

from workspaces.models import Workspace


class WorkspaceForm(forms.ModelForm[Workspace]):
    class Meta:
        model = Workspace
        fields = ["name"]
        error_messages = {"name": {"required": "Give the workspace a name."}}

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        return name
