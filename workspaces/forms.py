"""Forms of the workspace pages."""

from __future__ import annotations

from django import forms


class WorkspaceForm(forms.Form):
    name = forms.CharField(max_length=80, error_messages={"required": "Give the workspace a name."})
