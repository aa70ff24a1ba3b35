"""Second factors and sessions: set up, asked for, kept encrypted, and signed out everywhere else."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.test import Client

from tests.workspaces.cast import PASSWORD, make_user
from workspaces.models import AuditEntry, User, Workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def nell() -> User:
    cache.clear()
    user = make_user("Nell")
    Workspace.start("Desk", user)
    return user


def text(response: Any) -> str:
    page: str = response.content.decode()
    return page


def sign_in(client: Client) -> Any:
    return client.post("/accounts/login/", {"login": "nell@example.com", "password": PASSWORD})


def code_of(secret: str, ahead: int = 0) -> str:
    return str(totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30 + ahead)))


def set_up(client: Client) -> str:
    """An authenticator app, and its secret."""
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = text(client.get("/accounts/2fa/totp/activate/"))
    secret = re.search(r'id="authenticator_secret"[^>]*value="(\w+)"', page)
    assert secret, page
    assert 'class="qr"' in page
    response = client.post("/accounts/2fa/totp/activate/", {"code": code_of(secret[1])})
    assert response.status_code == 302, text(response)
    return secret[1]


def test_an_authenticator_app_is_asked_for_after_the_password(nell: User) -> None:
    client = Client()
    sign_in(client)
    secret = set_up(client)
    other = Client()
    response = sign_in(other)
    assert response.headers["Location"].startswith("/accounts/2fa/authenticate/")
    assert other.get("/").status_code == 302  # not in yet
    assert 'class="panel account"' in text(other.get("/accounts/2fa/authenticate/"))
    assert "Incorrect code" in text(other.post("/accounts/2fa/authenticate/", {"code": "000000"}))
    # The next code: the one of this half-minute was used to set it up, and counts once.
    assert other.post("/accounts/2fa/authenticate/", {"code": code_of(secret, 1)}).status_code == 302
    codes = Authenticator.objects.get(user=nell, type=Authenticator.Type.RECOVERY_CODES).wrap()
    third = Client()
    sign_in(third)
    assert third.post("/accounts/2fa/authenticate/", {"code": codes.get_unused_codes()[0]}).status_code == 302
    assert "Sign out" in text(third.get("/", follow=True))


@pytest.mark.django_db(transaction=True)  # what happened is told once it stands
def test_second_factors_are_written_down(nell: User) -> None:
    client = Client()
    sign_in(client)
    set_up(client)
    client.post("/accounts/2fa/recovery-codes/generate/")
    other = Client()
    sign_in(other)
    other.post("/accounts/2fa/authenticate/", {"code": "000000"})
    client.post("/accounts/2fa/totp/deactivate/")
    entries = AuditEntry.objects.filter(actor=nell).exclude(action="signed in").order_by("pk")
    assert list(entries.values_list("action", "target")) == [
        ("added a second factor", "TOTP Authenticator"),
        ("added a second factor", "Recovery codes"),
        ("made new recovery codes", ""),
        ("failed at the second factor", ""),
        ("removed a second factor", "TOTP Authenticator"),
        ("removed a second factor", "Recovery codes"),
    ]


def test_guessing_a_code_is_cut_off(nell: User) -> None:
    client = Client()
    sign_in(client)
    secret = set_up(client)
    other = Client()
    sign_in(other)
    pages = [text(other.post("/accounts/2fa/authenticate/", {"code": f"00000{n}"})) for n in range(6)]
    assert "Incorrect code" in pages[0]
    assert "Too many" in pages[-1]
    assert (
        other.post("/accounts/2fa/authenticate/", {"code": code_of(secret, 1)}).status_code == 200
    )  # the right one too


def test_the_secret_lies_encrypted(nell: User) -> None:
    client = Client()
    sign_in(client)
    secret = set_up(client)
    stored = str(list(Authenticator.objects.values("data")))
    assert secret not in stored
    assert secret not in str(list(AuditEntry.objects.values()))


def test_setting_up_asks_for_the_password_again(nell: User) -> None:
    client = Client()
    sign_in(client)
    response = client.get("/accounts/2fa/totp/activate/", follow=True)
    assert "Is it you?" in text(response)


def test_pages_of_second_factors_are_in_our_look(nell: User) -> None:
    client = Client()
    sign_in(client)
    set_up(client)
    for path in ("2fa/", "2fa/recovery-codes/", "2fa/recovery-codes/generate/", "2fa/totp/deactivate/", "2fa/webauthn/",
                 "2fa/webauthn/add/", "2fa/reauthenticate/", "sessions/"):  # fmt: skip
        response = client.get(f"/accounts/{path}")
        page = text(response)
        assert response.status_code == 200, path
        assert 'class="panel account"' in page, path
        scripts = re.findall(r"<script(?![^>]*(?:src=|nonce=|application/json))[^>]*>", page)
        assert scripts == [], path  # the CSP forbids them
        assert "style=" not in page, path


def test_signing_out_everywhere_else(nell: User) -> None:
    here, there = Client(), Client(HTTP_USER_AGENT="An old telephone")
    sign_in(here)
    sign_in(there)
    page = text(here.get("/accounts/sessions/"))
    assert "An old telephone" in page
    here.post("/accounts/sessions/")
    assert there.get("/").headers["Location"].startswith("/accounts/login/")
    assert here.get("/").headers["Location"].startswith("/w/")
    assert "Nowhere else." in text(here.get("/accounts/sessions/"))
