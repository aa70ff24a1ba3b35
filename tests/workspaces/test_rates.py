"""Whatever guesses or costs is counted: each rate is in the document, and the page behind it says so once it is used up.

A new rate gets a line in the document, and one in CUT_OFF that shows where it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from allauth.account import app_settings as of_accounts
from allauth.mfa import app_settings as of_factors
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from analyses.models import Run
from tests.workspaces.cast import PASSWORD, Cast, make_cast, make_corpus, make_plain_run
from workspaces import rates
from workspaces.rates import Rate

DOCUMENT = (Path(__file__).resolve().parent.parent.parent / "docs" / "workspaces.md").read_text()
ALL = {rate.name: rate for rate in vars(rates).values() if isinstance(rate, Rate)}


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()
    return make_cast()


def table(after: str) -> list[list[str]]:
    part = DOCUMENT.partition(after)[2].partition("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")
    ]


def test_the_document_has_every_rate_as_it_is() -> None:
    told = {row[0]: (int(row[1]), int(row[2])) for row in table("| what | at most | in seconds | counted by |")}
    assert told == {rate.name: (rate.most, rate.seconds) for rate in ALL.values()}
    accounts = {row[0]: row[1] for row in table("| of an account | at most |")}
    ours = of_accounts.RATE_LIMITS | of_factors.RATE_LIMITS
    unused = {"change_phone", "verify_phone", "request_login_code"}  # no such things here
    assert accounts == {name: limit for name, limit in ours.items() if name not in unused}


def ask(cast: Cast) -> Any:
    response = cast.client(cast.ed).post(cast.url(), {"question": "Who?"})
    assert not Run.objects.exists()
    return response


def search(cast: Cast) -> Any:
    run = make_plain_run(cast.workspace)
    corpus = make_corpus(cast.workspace)
    for path in (f"{run.get_absolute_url()}search?q=x", f"{corpus.get_absolute_url()}search?q=x"):
        response = cast.client(cast.ed).get(path)
        assert response.status_code == 429
    return Client().get(f"{run.shares.create().get_absolute_url()}search?q=x")


def upload(cast: Cast) -> Any:
    client = cast.client(cast.ed)
    assert client.post(cast.url("corpora/new"), {"name": "x"}, headers={"X-Upload": "begin"}).status_code == 429
    assert not cast.workspace.uploads.exists()
    return client.post(cast.url("runs/import"), {"logs": SimpleUploadedFile("x.jsonl", b"{}")})


def export(cast: Cast) -> Any:
    client = cast.client(cast.alice)
    assert client.get(f"{make_plain_run(cast.workspace).get_absolute_url()}export/jsonl").status_code == 429
    assert client.get(cast.url("usage/?as=csv")).status_code == 429
    return client.get(cast.url("audit/?as=csv"))


def test_endpoint(cast: Cast) -> Any:
    row = cast.workspace.model_endpoints.create(name="x", base_url="http://127.0.0.1:9", root_model="m")
    return cast.client(cast.adam).post(cast.url(f"endpoints/{row.pk}/test"), headers={"HX-Request": "true"})


test_endpoint.__test__ = False  # type: ignore[attr-defined]


def new_workspace(cast: Cast) -> Any:
    return cast.client(cast.ed).post("/workspaces/new", {"name": "Quay"})


def invite(cast: Cast) -> Any:
    return cast.client(cast.adam).post(cast.url("settings/invite"), {"role": "viewer"})


def invitation(cast: Cast) -> Any:
    link = cast.workspace.invitations.create(created_by=cast.alice)
    assert Client().get(link.get_absolute_url()).status_code == 200  # a true one is opened all the same
    return Client().get("/join/guess/")


def delete_account(cast: Cast) -> Any:
    response = cast.client(cast.ed).post("/accounts/delete/", {"proof": PASSWORD})
    cast.ed.refresh_from_db()
    return response


def share_guess(cast: Cast) -> Any:
    from django.contrib.auth.hashers import make_password

    share = make_plain_run(cast.workspace).shares.create(password=make_password("tin"))
    return Client().post(f"{share.get_absolute_url()}unlock", {"password": "tin"})


def provider(cast: Cast) -> Any:
    return Client().post("/accounts/oidc/sso/login/")


CUT_OFF: dict[str, tuple[Callable[[Cast], Any], str]] = {
    "ask": (ask, "You have asked very often"),
    "search": (search, "Too many tries"),
    "upload": (upload, "Too many tries"),
    "export": (export, "Too many tries"),
    "test-endpoint": (test_endpoint, "Tested too often just now"),
    "new-workspace": (new_workspace, "Many workspaces were made"),
    "invite": (invite, "Many invitations were made"),
    "invitation": (invitation, "Too many tries"),
    "delete-account": (delete_account, "That was tried often"),
    "share-guess": (share_guess, "Too many tries"),
    "share-guesses": (share_guess, "Too many tries"),
    "provider": (provider, "Too many tries"),
}


def test_every_rate_is_shown_to_cut_off() -> None:
    assert set(CUT_OFF) == set(ALL)


@pytest.mark.parametrize("name", sorted(CUT_OFF))
def test_a_rate_that_is_used_up_is_said(cast: Cast, name: str, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    if name == "provider":
        app = {"provider_id": "sso", "name": "ID", "client_id": "x", "secret": "x",
               "settings": {"server_url": "http://127.0.0.1:9"}}  # fmt: skip
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    real = Rate.spend
    monkeypatch.setattr(Rate, "spend", lambda self, who: self.name != name and real(self, who))
    does, says = CUT_OFF[name]
    response = does(cast)
    assert response.status_code in (200, 422, 429), response.status_code
    assert says in response.content.decode()


def test_a_rate_counts_and_starts_anew(db: None) -> None:
    cache.clear()
    rate = Rate("of-a-test", 2, 60)
    assert [rate.spend("ed"), rate.spend("ed"), rate.spend("ed"), rate.spend("vera")] == [True, True, False, True]
    cache.delete("rate:of-a-test:ed")
    assert rate.spend("ed")


# — of an account: each view is counted; the figures are django-allauth's —


@pytest.mark.parametrize(
    ("limit", "path", "given", "signed_in"),
    [
        ("login", "/accounts/login/", {"login": "x@example.com", "password": "x"}, False),
        ("signup", "/accounts/signup/", {"email": "x@example.com", "password1": "short"}, False),
        ("reset_password", "/accounts/password/reset/", {"email": "x@example.com"}, False),
        ("reset_password_from_key", "/accounts/password/reset/key/1-guess/", {}, False),
        ("reauthenticate", "/accounts/reauthenticate/", {"password": "guess"}, True),
        ("change_password", "/accounts/password/change/", {"oldpassword": "guess"}, True),
        ("manage_email", "/accounts/email/", {"action_add": "", "email": "no"}, True),
        ("webauthn_login", "/accounts/2fa/webauthn/login/", {"credential": "x"}, False),
    ],
)
def test_what_guesses_at_an_account_is_cut_off(
    cast: Cast, limit: str, path: str, given: dict[str, str], signed_in: bool
) -> None:
    most = int(re.match(r"\d+", (of_accounts.RATE_LIMITS | of_factors.RATE_LIMITS)[limit])[0])  # type: ignore[index]
    client = cast.client(cast.ed if signed_in else None)
    told = [client.post(path, given).status_code for _ in range(most + 1)]
    assert 429 not in told[:1]
    assert told[-1] == 429 or "Too many" in client.post(path, given).content.decode()
