"""What corpora are made and changed by: a name, files, a pasted text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from django import forms
from django.core.exceptions import ValidationError

from analyses.ingest.limits import UploadLimits, megabytes
from analyses.ingest.meta import shortened
from analyses.models import Corpus

PASTED_MOST = 5_000_000  # characters; longer texts are files


class ManyFiles(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of files, none included: what is wrong with one is said in its own row, not here."""

    widget = ManyFiles

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        return list(data) if data else []


class UploadForm(forms.Form):
    name = forms.CharField(
        max_length=200, required=False, label="Name", help_text="Left empty, it is taken from the files."
    )
    files = FilesField(required=False, label="Files")  # type: ignore[assignment]  # the field; forms keep request.FILES as .files
    folder = FilesField(required=False, label="Folder")
    pasted = forms.CharField(required=False, widget=forms.Textarea, strip=False, label="Text")
    pasted_title = forms.CharField(required=False, max_length=200, label="Its title")

    def __init__(self, *args: Any, limits: UploadLimits | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limits = limits or UploadLimits.from_settings()

    def clean_pasted(self) -> str:
        text: str = self.cleaned_data["pasted"]
        if len(text) > PASTED_MOST:
            raise ValidationError(
                f"That is {len(text):,} characters; paste at most {PASTED_MOST:,} and upload longer texts as files."
            )
        return text if text.strip() else ""

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        if not self.errors and not (given.get("files") or given.get("folder") or given.get("pasted")):
            raise ValidationError("Choose files, or paste a text: nothing came with this form.")
        limits = self.limits
        files = [*given.get("files", []), *given.get("folder", [])]
        if len(files) > limits.files:
            raise ValidationError(
                f"These are {len(files):,} files; an upload takes {limits.files:,}. {limits.who('files')}"
            )
        if (size := sum(file.size or 0 for file in files)) > limits.bytes:
            raise ValidationError(
                f"These files are {megabytes(size)}; an upload takes {megabytes(limits.bytes)}. {limits.who('bytes')}"
            )
        return given

    def sent(self) -> Iterator[tuple[str, BinaryIO | Any]]:
        """Name and bytes of each file, the pasted text as one."""
        given = self.cleaned_data
        for file in [*given["files"], *given["folder"]]:
            yield file.name or "unnamed", file
        if given["pasted"]:
            title = shortened(given["pasted_title"], 200) or shortened(given["pasted"][:200], 60) or "Pasted text"
            name = "".join(c if c not in '/\\:*?"<>|' else " " for c in title).strip(" .") or "Pasted text"
            yield f"{name}.txt", io.BytesIO(given["pasted"].encode("utf-8", "replace"))


class CorpusForm(forms.ModelForm):
    class Meta:
        model = Corpus
        fields = ["name"]

    def clean_name(self) -> str:
        return shortened(self.cleaned_data["name"], 200)
