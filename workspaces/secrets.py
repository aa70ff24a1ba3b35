"""Secrets at rest: encrypted with the newest of the instance's secrets, readable with any of them.

Rotation: put a new secret first in RLMWEB_SECRETS, restart, run `manage.py rotate_secrets`, then drop the old one.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class Unreadable(Exception):
    """A secret was encrypted with one that this instance does not have any more."""


def _box() -> MultiFernet:
    keys = [base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()) for secret in settings.SECRETS]
    return MultiFernet([Fernet(key) for key in keys])


def seal(text: str) -> str:
    return _box().encrypt(text.encode()).decode() if text else ""


def unseal(sealed: str) -> str:
    try:
        return _box().decrypt(sealed.encode()).decode() if sealed else ""
    except InvalidToken:
        raise Unreadable("This key cannot be read any more: it must be given again.") from None


def rotate(sealed: str) -> str:
    """The same, encrypted anew with the newest secret."""
    try:
        return _box().rotate(sealed.encode()).decode() if sealed else ""
    except InvalidToken:
        raise Unreadable("This key cannot be read any more: it must be given again.") from None
