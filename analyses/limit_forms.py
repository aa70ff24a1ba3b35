"""The form of a workspace's own limits of uploads: each empty where the operator's holds."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.db import transaction

from analyses.ingest.limits import NAMES, UploadLimits, megabytes
from analyses.models import UploadLimit
from workspaces.models import Workspace

LABELS = {
    "files": ("Files of an upload", "those in archives counted"),
    "bytes": ("Size of an upload", "unpacked; such as 500 MB or 2 GB"),
    "characters": ("Characters of an upload", "as text"),
    "ratio": ("Archives unpack to", "times their own size"),
    "depth": ("Archives in archives", "levels that are opened"),
    "seconds": ("Seconds a file", "for reading one PDF, Word document, book, mail or page"),
}
SIZE = re.compile(r"([\d.,\s]+?)\s*(bytes|kB|MB|GB|TB)?\Z", re.IGNORECASE)
UNITS = {"": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def number_of(text: str, *, size: bool) -> int:
    """A whole number as people write it, a size with its unit. Raises ValueError."""
    match = SIZE.match(text.strip())
    if not match or (match[2] and not size):
        raise ValueError
    number = float(re.sub(r"[,\s]", "", match[1])) * UNITS[(match[2] or "").lower()]
    if not 1 <= number < 1 << 60:
        raise ValueError
    return round(number)


def shown(name: str, value: float) -> str:
    return megabytes(value) if name == "bytes" else f"{value:,.0f}"


class LimitsForm(forms.Form):
    def __init__(self, data: Any = None, *, workspace: Workspace) -> None:
        self.workspace = workspace
        self.ceiling = UploadLimits.ceiling(workspace)
        rows = workspace.upload_limits.filter(by=UploadLimit.By.WORKSPACE)
        own = dict(rows.values_list("name", "value"))
        super().__init__(data, initial={name: f"{value:,}" for name, value in own.items()})
        for name in NAMES:
            label, hint = LABELS[name]
            self.fields[name] = forms.CharField(
                label=label,
                required=False,
                max_length=30,
                help_text=f"{hint}; at most {shown(name, getattr(self.ceiling, name))}",
                widget=forms.TextInput(attrs={"autocomplete": "off"}),
            )

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        for name in NAMES:
            text, most = given.get(name, ""), getattr(self.ceiling, name)
            if not text:
                given[name] = None
                continue
            try:
                given[name] = number_of(text, size=name == "bytes")
            except ValueError:
                self.add_error(name, f"“{text}” is no {'size, such as 500 MB' if name == 'bytes' else 'whole number'}.")
                continue
            if given[name] > most:
                self.add_error(
                    name,
                    f"At most {shown(name, most)}: that is what this server allows. Whoever runs it can raise it for this workspace.",
                )
        return given

    def save(self) -> dict[str, Any]:
        """Write what was given; return what has changed, for the audit."""
        with transaction.atomic():
            for name in NAMES:
                keep(self.workspace, name, UploadLimit.By.WORKSPACE, self.cleaned_data[name])
        return {name: self.cleaned_data[name] for name in self.changed_data}


def keep(workspace: Workspace, name: str, by: str, value: int | None) -> None:
    """One limit as given; None takes it back."""
    if value is None:
        workspace.upload_limits.filter(name=name, by=by).delete()
    else:
        workspace.upload_limits.update_or_create(name=name, by=by, defaults={"value": value})
