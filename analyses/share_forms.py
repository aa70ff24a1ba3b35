"""What a share is made and changed by, and the password that a stranger gives."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.core.validators import MinLengthValidator
from django.utils import timezone

from analyses.models import Share

PASSWORD_LEAST, PASSWORD_MOST = 8, 128
DAYS = {"1": "in a day", "7": "in a week", "30": "in a month", "365": "in a year"}
YEARS_MOST = 10


class ShareForm(forms.Form):
    """Of a share to be made, or of one that is there: then what is left as it is stays as it is."""

    expires = forms.ChoiceField(label="The link ends", required=False)
    expires_on = forms.DateField(
        label="On this day",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="at its end, UTC",
        error_messages={"invalid": "Write the day as 2026-12-31."},
    )
    outputs = forms.ChoiceField(
        label="Outputs of cells",
        required=False,
        choices=[("whole", "whole, with the variables"), ("seen", "only what the model saw of them")],
    )
    with_sources = forms.BooleanField(label="With the source texts", required=False)
    password = forms.CharField(
        label="Password",
        required=False,
        strip=False,
        max_length=PASSWORD_MOST,
        validators=[MinLengthValidator(PASSWORD_LEAST, f"A password has at least {PASSWORD_LEAST} characters.")],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="may stay empty: then the link is enough",
    )
    no_password = forms.BooleanField(label="Take the password away", required=False)

    def __init__(self, data: Any = None, *, share: Share | None = None) -> None:
        self.share = share
        initial: dict[str, Any] = {"expires": "never", "outputs": "whole"}
        ends: list[tuple[str, str]] = [("never", "never"), *DAYS.items(), ("date", "on a day …")]
        if share is not None:
            initial = {
                "expires": "keep",
                "outputs": "whole" if share.with_outputs else "seen",
                "with_sources": share.with_sources,
            }
            kept = f"{timezone.localtime(share.expires_at):%-d %B %Y, %H:%M} UTC" if share.expires_at else "never"
            ends = [("keep", f"{kept} (as it is)"), *(end for end in ends if end[0] != "never" or share.expires_at)]
        super().__init__(data, initial=initial, prefix=f"share{share.pk}" if share else None)
        field: Any = self.fields["expires"]
        field.choices = ends
        if share is None or not share.password:
            del self.fields["no_password"]
        if share is not None and share.password:
            self.fields["password"].help_text = "may stay empty: then it stays as it is"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("expires") == "date" and "expires_on" in cleaned:
            day, today = cleaned["expires_on"], timezone.now().date()
            if day is None:
                self.add_error("expires_on", "Choose the day.")
            elif not today <= day <= today + datetime.timedelta(days=366 * YEARS_MOST):
                self.add_error("expires_on", f"Choose a day from today on, within {YEARS_MOST} years.")
        if cleaned.get("password") and cleaned.get("no_password"):
            raise ValidationError("Give a new password, or take it away: not both.")
        return cleaned

    def terms(self) -> dict[str, Any]:
        """The columns of a Share that this says."""
        told = self.cleaned_data
        terms: dict[str, Any] = {
            "with_sources": told["with_sources"],
            "with_outputs": told["outputs"] != "seen",
        }
        if told["expires"] not in ("", "keep"):
            terms["expires_at"] = self._end()
        if told["password"] or told.get("no_password"):
            terms["password"] = make_password(told["password"]) if told["password"] else ""
        return terms

    def _end(self) -> datetime.datetime | None:
        chosen = self.cleaned_data["expires"]
        if chosen == "date":
            return datetime.datetime.combine(
                self.cleaned_data["expires_on"], datetime.time(23, 59, 59), tzinfo=datetime.UTC
            )
        return timezone.now() + datetime.timedelta(days=int(chosen)) if chosen in DAYS else None


class UnlockForm(forms.Form):
    password = forms.CharField(
        label="Password",
        strip=False,
        max_length=PASSWORD_MOST,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "autofocus": True}),
        error_messages={"required": "Give the password.", "max_length": "That is not the password."},
    )
