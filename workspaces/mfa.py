"""What django-allauth's second factors ask of us: that their secrets lie encrypted."""

from __future__ import annotations

from allauth.mfa.adapter import DefaultMFAAdapter

from workspaces.secrets import seal, unseal


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    def encrypt(self, text: str) -> str:
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text)
