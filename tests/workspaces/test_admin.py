"""The operator's pages: every one of them opens, and none shows a key, a token or a secret."""

from __future__ import annotations

import html

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.core.cache import cache
from django.db.models import Model
from django.test import Client
from django.urls import NoReverseMatch, reverse

from tests.workspaces.cast import Cast, make_cast, make_plain_run
from workspaces.audit import Did, record
from workspaces.models import AuditEntry, Budget, DeletedUsage, Invitation, ModelEndpoint, User

KEY = "sk-live-0123456789abcdef"
TOTP = "totp-secret-of-ed"


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()
    return make_cast()


def fill(cast: Cast) -> set[str]:
    """A row of everything that holds a secret; the secrets, as stored and in the clear."""
    endpoint = ModelEndpoint(
        workspace=cast.workspace, name="Desk", base_url="https://models.example", root_model="m", created_by=cast.adam
    )
    endpoint.set_key(KEY)
    endpoint.save()
    invitation = Invitation.objects.create(workspace=cast.workspace, created_by=cast.alice)
    share = make_plain_run(cast.workspace).shares.create(password="hash-of-a-shares-password")
    Budget.objects.create(workspace=cast.workspace, of="workspace", cost=5)
    DeletedUsage.objects.create(
        workspace=cast.workspace, user=cast.ed, day="2024-05-01", endpoint="Desk", root_model="m", child_model="m",
        runs=1, unknown=0, cost=1.5, prompt_tokens=10, completion_tokens=5,
    )  # fmt: skip
    Authenticator.objects.create(user=cast.ed, type="totp", data={"secret": TOTP})
    SocialAccount.objects.create(user=cast.ed, provider="sso", uid="7", extra_data={"note": TOTP})
    record(None, Did.ADDED_ENDPOINT, workspace=cast.workspace, user=cast.adam, target="Desk")
    session = UserSession.objects.create(user=cast.ed, ip="192.0.2.1", user_agent="x", session_key="session-key-of-ed")
    return {KEY, endpoint.sealed_key, invitation.token, share.token, TOTP, session.session_key, share.password}


def operator(cast: Cast) -> Client:
    return cast.client(User.objects.create_superuser("op@example.com", "a long tin lighthouse"))


def pages(model: type[Model]) -> list[str]:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    found = [reverse(f"{name}_changelist"), reverse(f"{name}_add")]
    for row in model._default_manager.all():
        for page in ("change", "history", "delete"):
            try:
                found.append(reverse(f"{name}_{page}", args=[row.pk]))
            except NoReverseMatch:
                pass
    return found


def test_no_page_of_the_operator_shows_a_secret(cast: Cast) -> None:
    secrets = fill(cast)
    client, seen = operator(cast), 0
    for model in admin.site._registry:
        for page in pages(model):
            response = client.get(page, {"q": "x"} if page.count("/") == 4 else {})  # lists are searched, too
            assert response.status_code in (200, 403), f"{page}: {response.status_code}"
            seen += response.status_code == 200
            shown = html.unescape(response.content.decode())
            assert not [secret for secret in secrets if secret in shown], page
    assert seen > 40


@pytest.mark.parametrize("model", [Budget, DeletedUsage, Invitation, ModelEndpoint, AuditEntry, Authenticator])
def test_what_the_app_writes_is_not_changed_there(cast: Cast, model: type[Model]) -> None:
    fill(cast)
    client = operator(cast)
    row = model._default_manager.get()
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    assert client.get(reverse(f"{name}_changelist")).status_code == 200
    assert client.post(reverse(f"{name}_add"), {}).status_code == 403
    assert client.post(reverse(f"{name}_change", args=[row.pk]), {"name": "x"}).status_code == 403
    if model in (AuditEntry, DeletedUsage):
        assert client.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def test_secrets_of_providers_have_no_page_at_all() -> None:
    assert not {SocialApp, SocialToken} & set(admin.site._registry)


def test_who_is_no_operator_sees_none_of_it(cast: Cast) -> None:
    for model in admin.site._registry:
        for who in (cast.alice, None):
            assert cast.client(who).get(pages(model)[0]).status_code in (302, 403)
