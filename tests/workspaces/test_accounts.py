"""Signing up, in and out: what a person meets, in our look, and what limits guessing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core.cache import cache
from django.test import Client

from tests.workspaces.cast import PASSWORD, make_user
from workspaces.models import Member, User, Workspace

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_counts() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def text(response: Any) -> str:
    page: str = response.content.decode()
    return page


def link(mail: str) -> str:
    found = re.search(r"http://testserver(/accounts/\S+)", mail)
    assert found, mail
    return found[1]


def sign_up(client: Client, email: str = "nell@example.com", password: str = PASSWORD) -> Any:
    return client.post("/accounts/signup/", {"email": email, "password1": password})


def test_sign_up_makes_a_workspace_and_leads_to_its_ask_page(client: Client) -> None:
    response = sign_up(client)
    assert response.status_code == 302
    member = Member.objects.get(user__email="nell@example.com")
    assert (member.role, member.workspace.name) == (Member.Role.OWNER, "nell’s workspace")
    landed = client.get("/", follow=True)
    assert landed.redirect_chain == [(f"/w/{member.workspace.slug}/", 302)]
    assert landed.status_code == 200


def test_sign_up_sends_a_link_that_confirms_the_address(client: Client, mailoutbox: list[Any]) -> None:
    sign_up(client)
    [mail] = mailoutbox
    path = link(mail.body)
    assert "nell@example.com" in text(client.get(path))
    client.post(path)
    assert EmailAddress.objects.get(email="nell@example.com").verified


def test_sign_up_with_a_taken_address_makes_no_second_account(client: Client) -> None:
    make_user("Nell")
    response = sign_up(client)
    assert User.objects.count() == 1
    assert not Workspace.objects.exists()
    assert "already registered" in text(response)


@pytest.mark.parametrize(
    ("email", "password", "said"),
    [
        ("nell@example.com", "password", "too common"),
        ("nell@example.com", "short", "at least 8 characters"),
        ("no address", PASSWORD, "valid email address"),
        ("", PASSWORD, "required"),
    ],
)
def test_sign_up_says_what_is_wrong_and_keeps_the_address(client: Client, email: str, password: str, said: str) -> None:
    page = text(sign_up(client, email, password))
    assert said in page
    assert 'class="field-error"' in page
    assert f'value="{email}"' in page or not email
    assert not User.objects.exists()


def test_where_addresses_must_be_confirmed_sign_up_waits_for_it(
    client: Client, mailoutbox: list[Any], settings: Any
) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    assert "Look into your mail" in text(
        client.post("/accounts/signup/", {"email": "nell@example.com", "password1": PASSWORD}, follow=True)
    )
    assert client.get("/").headers["Location"].startswith("/accounts/login/")
    refused = client.post("/accounts/login/", {"login": "nell@example.com", "password": PASSWORD}, follow=True)
    assert "Look into your mail" in text(refused)
    path = link(mailoutbox[0].body)
    client.get(path)
    client.post(path)
    client.post("/accounts/login/", {"login": "nell@example.com", "password": PASSWORD})
    assert "nell’s workspace" in text(client.get("/", follow=True))


def test_where_addresses_must_be_confirmed_a_taken_one_is_not_told(
    client: Client, mailoutbox: list[Any], settings: Any
) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    make_user("Nell")
    page = text(client.post("/accounts/signup/", {"email": "nell@example.com", "password1": PASSWORD}, follow=True))
    assert "Look into your mail" in page
    assert "already" not in page
    assert User.objects.count() == 1


def test_sign_up_when_the_mail_server_is_away_still_makes_the_account(client: Client, settings: Any) -> None:
    settings.EMAIL_BACKEND = "tests.workspaces.broken_mail.Backend"
    assert sign_up(client).status_code == 302
    assert "could not be sent" in text(client.get("/", follow=True))


def test_sign_up_can_be_closed(client: Client, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    assert "Sign-up is closed" in text(client.get("/accounts/signup/"))
    sign_up(client)
    assert not User.objects.exists()
    assert "No account yet" not in text(client.get("/accounts/login/"))


def test_sign_in_and_out(client: Client) -> None:
    user = make_user("Nell")
    Workspace.start("Desk", user)
    client.get("/accounts/login/")
    before = client.cookies["csrftoken"].value
    response = client.post("/accounts/login/", {"login": "Nell@Example.com", "password": PASSWORD})
    assert response.status_code == 302, text(response)
    assert client.cookies["csrftoken"].value != before  # rotated with the session
    assert "Sign out" in text(client.get("/", follow=True))
    assert client.get("/accounts/logout/").status_code == 200  # asks first
    client.post("/accounts/logout/")
    assert client.get("/").headers["Location"].startswith("/accounts/login/")


def test_sign_in_leads_back_but_never_to_another_site(client: Client) -> None:
    Workspace.start("Desk", make_user("Nell"))
    given = {"login": "nell@example.com", "password": PASSWORD}
    assert client.post("/accounts/login/?next=/workspaces/new", given).headers["Location"] == "/workspaces/new"
    client.post("/accounts/logout/")
    for evil in ("https://evil.example/", "//evil.example/", "/\\evil.example"):
        location = client.post("/accounts/login/", given | {"next": evil}).headers["Location"]
        assert "evil" not in location
        client.post("/accounts/logout/")


def test_guessing_a_password_is_cut_off(client: Client) -> None:
    make_user("Nell")
    pages = [
        text(client.post("/accounts/login/", {"login": "nell@example.com", "password": f"no {n}"})) for n in range(6)
    ]
    assert "not correct" in pages[0]
    assert "Too many failed login attempts" in pages[-1]
    right = client.post("/accounts/login/", {"login": "nell@example.com", "password": PASSWORD})
    assert right.status_code == 200  # even the right one, for five minutes


def test_asking_too_often_shows_our_page(client: Client) -> None:
    for n in range(20):
        client.post("/accounts/password/reset/", {"email": f"x{n}@example.com"})
    response = client.post("/accounts/password/reset/", {"email": "x@example.com"})
    assert response.status_code == 429
    assert "Too many tries" in text(response)


def test_a_forgotten_password_is_reset_by_mail(client: Client, mailoutbox: list[Any]) -> None:
    make_user("Nell")
    response = client.post("/accounts/password/reset/", {"email": "nell@example.com"}, follow=True)
    assert "Look into your mail" in text(response)
    path = link(mailoutbox[0].body)
    page = client.get(path, follow=True)
    assert "Choose a new password" in text(page)
    form = page.redirect_chain[-1][0]
    new = "another long lighthouse"
    fields = dict.fromkeys(re.findall(r'name="(password\d)"', text(page)), new)
    assert "new password is set" in text(client.post(form, fields, follow=True))
    assert client.post("/accounts/login/", {"login": "nell@example.com", "password": new}).status_code == 302
    assert "no longer works" in text(Client().get(path, follow=True))


def test_a_reset_for_an_unknown_address_tells_nothing(client: Client, mailoutbox: list[Any]) -> None:
    known, unknown = [
        text(client.post("/accounts/password/reset/", {"email": email}, follow=True))
        for email in ((make_user("Nell")).email, "nobody@example.com")
    ]
    strip = re.compile(r'nonce="[^"]*"|csrf[^>]*>|x-csrftoken[^}]*}')
    assert strip.sub("", known) == strip.sub("", unknown)


def test_pages_of_an_account_are_in_our_look(client: Client) -> None:
    client.force_login(make_user("Nell"), backend="django.contrib.auth.backends.ModelBackend")
    for path in ("password/change/", "email/", "logout/", "confirm-email/", "password/reset/", "inactive/"):
        page = text(client.get(f"/accounts/{path}"))
        assert 'class="panel account"' in page, path
        assert not re.search(r"<script(?![^>]*(src=|nonce=))|style=|onclick=", page), path  # the CSP forbids them
        for control in re.findall(r"<input(?![^>]*hidden)[^>]*>", page):
            name = re.search(r'id="([^"]+)"', control)
            assert name and (f'for="{name[1]}"' in page or "radio" in control), control


def test_the_local_owner_is_signed_in_by_itself(settings: Any) -> None:
    from django.core.exceptions import PermissionDenied
    from django.test import RequestFactory

    from workspaces.middleware import LocalOwnerMiddleware

    settings.LOCAL = True
    client = Client()
    page = client.get("/", follow=True)
    assert page.status_code == 200
    assert "runs on one machine for one person" in text(page)
    assert client.get("/", REMOTE_ADDR="10.0.0.9").status_code == 403
    with pytest.raises(PermissionDenied):
        LocalOwnerMiddleware(lambda request: None)(RequestFactory().get("/", REMOTE_ADDR="192.168.1.4"))  # type: ignore[arg-type,return-value]
    owner = User.objects.get()
    assert owner.memberships.get().role == Member.Role.OWNER
    Client().get("/", follow=True)
    assert Workspace.objects.count() == 1  # the second visitor is the same owner


def test_outside_local_mode_nobody_is_signed_in(client: Client) -> None:
    assert client.get("/").status_code == 302
    assert not User.objects.exists()


def test_the_operators_pages_use_the_same_sign_in_with_its_limits(client: Client) -> None:
    assert client.get("/admin/login/").headers["Location"].startswith("/accounts/login/")
