"""The form of a workspace's model endpoint. The key goes in and never comes out again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from django import forms
from django.conf import settings

from analyses.endpoints import DEFAULT, OFFLINE
from rlm.guard import AddressRefused, judged_url
from workspaces.models import ModelEndpoint, Workspace

RESERVED = {DEFAULT, OFFLINE}


def origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]
    key = forms.CharField(
        label="API key",
        required=False,
        max_length=2_000,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    drop_key = forms.BooleanField(label="Forget the key", required=False)

    class Meta:
        model = ModelEndpoint
        fields = ("name", "base_url", "root_model", "child_model", "dialect", "window", "input_price", "output_price")
        labels = {
            "base_url": "Base URL",
            "child_model": "Model of child calls",
            "window": "Window, tokens",
            "input_price": "Price of input, $",
            "output_price": "Price of output, $",
        }
        help_texts = {
            "base_url": "of an OpenAI-compatible API, such as https://api.openai.com/v1",
            "child_model": "empty: the root model",
            "dialect": "async for most; paper for models trained on the article’s names",
            "window": "of the smaller of the two models",
            "input_price": "a million tokens; empty: from the price list",
            "output_price": "a million tokens; empty: from the price list",
        }

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.workspace = workspace
        has_key = bool(self.instance.sealed_key)
        self.fields["key"].help_text = (
            "A key is kept, encrypted; it is never shown. Empty: it stays."
            if has_key
            else "Kept encrypted, never shown again."
        )
        if not has_key:
            del self.fields["drop_key"]
        for name in ("input_price", "output_price"):
            self.fields[name].widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})

    def clean_name(self) -> str:
        name = " ".join(str(self.cleaned_data["name"]).split())
        if name.lower() in RESERVED:
            raise forms.ValidationError(f"“{name}” is the name of an endpoint of this instance. Choose another.")
        if self.workspace.model_endpoints.filter(name__iexact=name).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(f"There is an endpoint “{name}” in this workspace already.")
        return name

    def clean_base_url(self) -> str:
        url = str(self.cleaned_data["base_url"]).strip().rstrip("/")
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise forms.ValidationError("That is no address.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise forms.ValidationError("Give an address that starts with https:// or http://.")
        if parts.username or parts.password:
            raise forms.ValidationError("A name or password does not belong into the address: give the key below.")
        if parts.query or parts.fragment:
            raise forms.ValidationError("Give the address without what follows a ? or #.")
        try:
            async_to_sync(judged_url)(url, settings.ENDPOINT_HOSTS)  # and again at each request: names move
        except AddressRefused as refusal:
            raise forms.ValidationError(str(refusal)) from None
        return url

    def clean_window(self) -> int:
        window = int(self.cleaned_data["window"])
        if not 2_000 <= window <= 100_000_000:
            raise forms.ValidationError("Give a number of tokens from 2,000 to 100,000,000.")
        return window

    def _price(self, name: str) -> float | None:
        price = self.cleaned_data[name]
        if price is not None and not 0 <= price <= 100_000:
            raise forms.ValidationError("Give a price from 0 to 100,000 dollars.")
        return price  # type: ignore[no-any-return]

    def clean_input_price(self) -> float | None:
        return self._price("input_price")

    def clean_output_price(self) -> float | None:
        return self._price("output_price")

    def clean_key(self) -> str:
        key = str(self.cleaned_data["key"]).strip()
        if any(not 32 < ord(char) < 127 for char in key):
            raise forms.ValidationError("A key is made of letters, digits and signs, without blanks or line breaks.")
        return key

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        before = self.initial.get("base_url")
        kept = bool(self.instance.sealed_key) and not data.get("key") and not data.get("drop_key")
        if before and kept and "base_url" in data and origin(before) != origin(data["base_url"]):
            # Or else whoever may change the address could have the key sent to a place of their own.
            self.add_error("key", f"The address changes: give the key again. The one kept is for {origin(before)[1]}.")
        return data

    def save(self, commit: bool = True) -> ModelEndpoint:
        endpoint: ModelEndpoint = super().save(commit=False)
        if self.cleaned_data["key"]:
            endpoint.set_key(self.cleaned_data["key"])
        elif self.cleaned_data.get("drop_key"):
            endpoint.set_key("")
        endpoint.workspace = self.workspace
        if commit:
            endpoint.save()
        return endpoint
