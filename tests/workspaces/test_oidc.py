"""Signing in by an OpenID Connect provider: the whole way there and back, over HTTP, and what must not go."""

from __future__ import annotations

import http.client
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialToken
from django.core.cache import cache
from django.test import Client

from tests.workspaces.cast import make_user
from tests.workspaces.oidc import SECRET, Provider, provider
from workspaces import adapter
from workspaces.models import AuditEntry, Invitation, Member, User, Workspace

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/oidc/sso/login/"
PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def there(settings: Any) -> Iterator[Provider]:
    cache.clear()
    with provider() as made:
        settings.OIDC_ISSUER, settings.OIDC_NAME = made.issuer, "Harbour ID"
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [made.app]}}
        yield made


def text(response: Any) -> str:
    page: str = response.content.decode()
    return page


def go_there(client: Client, query: str = "") -> str:
    """Press the button; the address at the site to which the provider sends back."""
    pressed = client.post(LOGIN + query)
    assert pressed.status_code == 302, text(pressed)
    address = urlsplit(pressed.headers["Location"])
    connection = http.client.HTTPConnection(address.netloc, timeout=5)
    try:
        connection.request("GET", f"{address.path}?{address.query}")
        back = urlsplit(connection.getresponse().headers["Location"])
    finally:
        connection.close()
    assert back.netloc == "testserver"
    return f"{back.path}?{back.query}"


def test_a_newcomer_comes_in_with_a_workspace_and_a_confirmed_address(there: Provider, client: Client) -> None:
    for page in ("/accounts/login/", "/accounts/signup/"):
        assert "with Harbour ID" in text(client.get(page))
    landed = client.get(go_there(client), follow=True)
    assert there.refused == []
    member = Member.objects.get()
    assert (member.user.email, member.user.name, member.role) == ("nell@example.com", "Nell Finch", Member.Role.OWNER)
    assert member.workspace.name == "Nell Finch’s workspace"
    assert landed.redirect_chain[-1] == (f"/w/{member.workspace.slug}/", 302)
    assert not member.user.has_usable_password()
    assert EmailAddress.objects.get(user=member.user).verified
    assert not SocialToken.objects.exists()  # what the provider gave is used once and not kept
    assert {"signed up", "signed in"} <= set(AuditEntry.objects.values_list("action", flat=True))


def test_who_comes_again_is_the_same_person(there: Provider, client: Client) -> None:
    client.get(go_there(client))
    there.person["email"] = "nell.finch@example.com"  # people marry; their subject stays
    again = Client()
    again.get(go_there(again))
    assert User.objects.count() == Workspace.objects.count() == 1
    assert "Sign out" in text(again.get("/", follow=True))


def test_signing_in_leads_back_but_never_to_another_site(there: Provider, client: Client) -> None:
    assert client.get(go_there(client, "?next=/workspaces/new")).headers["Location"] == "/workspaces/new"
    other = Client()
    assert "evil" not in other.get(go_there(other, "?next=https://evil.example/")).headers["Location"]


def test_an_account_is_not_taken_over_by_its_address(there: Provider, client: Client) -> None:
    nell = make_user("Nell")
    landed = client.get(go_there(client), follow=True)
    assert "One thing is missing" in text(landed)
    refused = client.post("/accounts/connections/signup/", {"email": "nell@example.com"})
    assert "already exists" in text(refused) or "already registered" in text(refused)
    assert User.objects.count() == 1
    assert not SocialAccount.objects.exists()
    assert client.get("/").headers["Location"].startswith("/accounts/login/")
    assert not nell.memberships.exists()


def test_who_is_signed_in_connects_and_disconnects(there: Provider, client: Client) -> None:
    nell = make_user("Nell")
    Workspace.start("Desk", nell)
    client.force_login(nell, backend="django.contrib.auth.backends.ModelBackend")
    page = text(client.get("/accounts/connections/"))
    assert "Connect an account of Harbour ID" in page
    client.get(go_there(client, "?process=connect"))
    account = SocialAccount.objects.get()
    assert account.user == nell
    other = Client()
    other.get(go_there(other))
    assert "Sign out" in text(other.get("/", follow=True))
    client.post("/accounts/connections/", {"account": account.pk})
    assert not SocialAccount.objects.exists()
    written = AuditEntry.objects.filter(actor=nell, target="Harbour ID").order_by("pk")
    assert [entry.action for entry in written] == [
        "connected an account elsewhere",
        "disconnected an account elsewhere",
    ]


def test_closed_sign_up_is_closed_here_too_but_for_the_invited(there: Provider, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    client = Client()
    assert "Sign-up is closed" in text(client.get(go_there(client), follow=True))
    assert not User.objects.exists()
    workspace = Workspace.start("Desk", make_user("Alice"))
    invitation = Invitation.objects.create(workspace=workspace)
    client.get(invitation.get_absolute_url())
    client.get(go_there(client, f"?next={invitation.get_absolute_url()}"))
    assert User.objects.filter(email="nell@example.com").exists()
    assert Workspace.objects.count() == 1  # who is invited has one to go to


def test_a_forged_way_back_signs_nobody_in(there: Provider, client: Client) -> None:
    back = go_there(client)
    stranger = Client()  # the state belongs to another browser
    assert "That did not work" in text(stranger.get(back))
    bad = client.get(back.replace("code=", "code=x"))
    assert "That did not work" in text(bad)
    assert not User.objects.exists()


def test_a_provider_that_is_down_is_a_page_that_says_so(
    there: Provider, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    there.down = True
    with caplog.at_level(logging.ERROR):
        response = client.post(LOGIN)
    assert response.status_code == 502
    assert "Harbour ID did not say who you are" in text(response)
    assert "503" in caplog.text
    assert SECRET not in caplog.text


DISCOVERY = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("body", "pause", "says"),
    [
        (b"<html>Sign in to the wifi</html>", 0, "does not answer with a JSON object"),
        (b"[1, 2]", 0, "does not answer with a JSON object"),
        (b"", 0, "does not answer with a JSON object"),
        (b"\xff\xfe\x00", 0, "does not answer with a JSON object"),
        (b"[" * 100_000, 0, "does not answer with a JSON object"),
        (b'{"issuer": "https://id.example"}', 0, "names no authorization_endpoint"),
        (b'{"issuer": "https://id.example", "authorization_endpoint": "javascript:1"}', 0, "names no authorization"),
        (b" " * 1_100_000, 0, "answers with more than 1024 KB"),
        (b" " * 200, 0.05, "takes longer than"),
        (b" " * 200, 2, "timed out"),
    ],
)
def test_a_provider_that_describes_itself_badly_is_a_page_that_says_so(
    there: Provider, client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    body: bytes, pause: float, says: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(adapter, "PROVIDER_SECONDS", 0.5 if pause else 10.0)
    there.instead[DISCOVERY] = (body, pause)
    response = client.post(LOGIN)
    assert response.status_code == 502
    assert "Harbour ID did not say who you are" in text(response)
    assert says in caplog.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/token", b"oops"),
        ("/token", b"{}"),
        ("/token", b'{"access_token": 7}'),
        ("/token", b'{"access_token": "x", "id_token": "y"}'),
        ("/token", b'{"access_token": "x", "id_token": 5}'),
        ("/userinfo", b"oops"),
        ("/userinfo", b'{"email": "nell@example.com"}'),
        ("/userinfo", b'{"sub": "7", "email": ["a"], "name": {"a": 1}}'),
    ],
)
def test_a_provider_that_answers_badly_signs_nobody_in_and_breaks_nothing(
    there: Provider, client: Client, path: str, body: bytes
) -> None:
    back = go_there(client)
    there.instead[path] = (body, 0)
    response = client.get(back)
    assert response.status_code in (200, 401, 502)
    assert "That did not work" in text(response)
    assert not User.objects.exists()


@pytest.mark.parametrize(("word", "verified"), [("true", True), ("false", False), ("yes", False), (1, False)])
def test_an_address_is_confirmed_only_where_the_provider_says_so(
    there: Provider, client: Client, word: Any, verified: bool
) -> None:
    there.person["email_verified"] = word
    client.get(go_there(client))
    assert EmailAddress.objects.get(email="nell@example.com").verified == verified


def test_without_a_provider_there_is_no_button_and_nothing_behind_it(client: Client) -> None:
    assert LOGIN not in text(client.get("/accounts/login/"))
    assert client.post(LOGIN).status_code == 404


def settings_with(**variables: str) -> subprocess.CompletedProcess[str]:
    words = "from rlmweb import settings; print(settings.CONTENT_SECURITY_POLICY['DIRECTIVES']['form-action'])"
    kept = {"PATH": os.environ["PATH"], "RLMWEB_DATA": os.environ["RLMWEB_DATA"]}
    return subprocess.run(
        [sys.executable, "-c", words], cwd=PROJECT, env=kept | variables, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"RLMWEB_OIDC_ISSUER": "https://id.example"}, "go together"),
        ({"RLMWEB_OIDC_ISSUER": "http://id.example"}, "must start with https://"),
        ({"RLMWEB_OIDC_ISSUER": "id.example"}, "must start with https:// or http://"),
        ({"RLMWEB_OIDC_CLIENT_ID": "me"}, "go together"),
    ],
)
def test_bad_settings_end_the_start_with_a_sentence(variables: dict[str, str], says: str) -> None:
    rest = {"RLMWEB_OIDC_CLIENT_ID": "me", "RLMWEB_OIDC_SECRET": "x"} if "go" not in says else {}
    ended = settings_with(**rest, **variables)
    assert ended.returncode != 0
    assert says in ended.stderr.splitlines()[-1]


def test_forms_may_lead_to_the_provider_only_where_one_is_named() -> None:
    assert settings_with().stdout.strip() == "[\"'self'\"]"
    named = {
        "RLMWEB_OIDC_ISSUER": "https://id.example/realms/main",
        "RLMWEB_OIDC_CLIENT_ID": "me",
        "RLMWEB_OIDC_SECRET": "x",
    }
    assert settings_with(**named).stdout.strip() == "[\"'self'\", 'https://id.example']"
