"""Invitations, roles, removal, leaving: what each person may do to whom, and that somebody always owns a workspace."""

from __future__ import annotations

import html
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from tests.workspaces.cast import PASSWORD, Cast, make_cast, make_user
from workspaces import actions
from workspaces.models import Invitation, Member, User

Role = Member.Role


@pytest.fixture
def cast(db: None) -> Cast:
    cache.clear()
    return make_cast()


def member(cast: Cast, user: User) -> Member:
    return Member.objects.get(workspace=cast.workspace, user=user)


def change(cast: Cast, actor: User, target: User, role: str) -> Any:
    path = cast.url(f"settings/members/{member(cast, target).pk}/role")
    return cast.client(actor).post(path, {"role": role}, follow=True)


def remove(cast: Cast, actor: User, target: User) -> Any:
    return cast.client(actor).post(cast.url(f"settings/members/{member(cast, target).pk}/remove"), follow=True)


def invitation(cast: Cast, **fields: Any) -> Invitation:
    return Invitation.objects.create(workspace=cast.workspace, created_by=cast.alice, **fields)


def text(response: Any) -> str:
    return html.unescape(response.content.decode())


# — roles —


@pytest.mark.parametrize("actor", ["alice", "adam"])
@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
def test_owners_and_admins_change_roles_below_owner(cast: Cast, actor: str, role: str) -> None:
    page = change(cast, getattr(cast, actor), cast.ed, role)
    assert member(cast, cast.ed).role == role
    assert f"Ed is {role} now." in text(page)


@pytest.mark.parametrize(
    ("actor", "target", "role"),
    [("adam", "ed", "owner"), ("adam", "adam", "owner"), ("adam", "alice", "viewer"), ("ed", "vera", "editor"),
     ("ed", "ed", "admin"), ("vera", "vera", "owner"), ("alice", "ed", "king")],
)  # fmt: skip
def test_nobody_gives_what_they_may_not(cast: Cast, actor: str, target: str, role: str) -> None:
    before = member(cast, getattr(cast, target)).role
    change(cast, getattr(cast, actor), getattr(cast, target), role)
    assert member(cast, getattr(cast, target)).role == before


def test_ownership_is_handed_over_and_the_last_owner_stays(cast: Cast) -> None:
    assert "at least one owner" in text(change(cast, cast.alice, cast.alice, "editor"))
    assert "at least one owner" in text(remove(cast, cast.alice, cast.alice))
    assert member(cast, cast.alice).role == Role.OWNER
    change(cast, cast.alice, cast.ed, "owner")
    change(cast, cast.alice, cast.alice, "viewer")
    assert (member(cast, cast.alice).role, member(cast, cast.ed).role) == (Role.VIEWER, Role.OWNER)


def test_a_role_that_was_lost_meanwhile_counts_no_more(cast: Cast) -> None:
    """Two admins act at once: the one who was demoted first is refused."""
    adam, ed = member(cast, cast.adam), member(cast, cast.ed)
    Member.objects.filter(pk=adam.pk).update(role=Role.VIEWER)
    with pytest.raises(actions.Refused, match="Only owners and admins"):
        actions.change_role(adam, ed, Role.ADMIN)
    ed.delete()
    with pytest.raises(actions.Refused, match="not a member any more"):
        actions.change_role(member(cast, cast.alice), Member(pk=10**6, workspace=cast.workspace), Role.ADMIN)


# — removal and leaving —


def test_removing_and_leaving(cast: Cast) -> None:
    assert "Vera is not a member any more." in text(remove(cast, cast.adam, cast.vera))
    assert cast.client(cast.vera).get(cast.url()).status_code == 404
    page = remove(cast, cast.ed, cast.ed)
    assert "You have left Harbour Desk." in text(page)
    assert not Member.objects.filter(workspace=cast.workspace, user=cast.ed).exists()


@pytest.mark.parametrize(("actor", "target"), [("adam", "alice"), ("ed", "vera"), ("vera", "ed")])
def test_nobody_removes_whom_they_may_not(cast: Cast, actor: str, target: str) -> None:
    remove(cast, getattr(cast, actor), getattr(cast, target))
    assert Member.objects.filter(workspace=cast.workspace, user=getattr(cast, target)).exists()


def test_a_member_of_another_workspace_is_not_reached_by_number(cast: Cast) -> None:
    theirs = Member.objects.get(workspace=cast.elsewhere, user=cast.oscar)
    for verb in ("role", "remove"):
        response = cast.client(cast.alice).post(cast.url(f"settings/members/{theirs.pk}/{verb}"), {"role": "viewer"})
        assert response.status_code == 404
    theirs.refresh_from_db()
    assert theirs.role == Role.OWNER


# — invitations —


def test_an_invitation_makes_one_person_a_member_once(cast: Cast) -> None:
    client = cast.client(cast.adam)
    page = client.post(cast.url("settings/invite"), {"role": "viewer"}, follow=True)
    link = Invitation.objects.get()
    assert f"http://testserver{link.get_absolute_url()}" in text(page)
    nell = cast.client(make_user("Nell"))
    assert "Adam invites you to this workspace as <b>viewer</b>" in text(nell.get(link.get_absolute_url()))
    key = nell.session.session_key
    page = nell.post(link.get_absolute_url(), follow=True)
    assert "You are in Harbour Desk, as viewer." in text(page)
    assert nell.session.session_key != key
    second = cast.client(make_user("Second")).post(link.get_absolute_url())
    assert second.status_code == 404
    assert "This invitation is over" in text(second)
    assert "Harbour Desk" not in text(second)
    assert "Open invitation" not in text(client.get(cast.url("settings/")))


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"revoked_at": timezone.now()},
        {"accepted_at": timezone.now()},
    ],
)
def test_an_invitation_that_is_over_opens_nothing(cast: Cast, fields: dict[str, Any]) -> None:
    link = invitation(cast, **fields).get_absolute_url()
    for who in (None, cast.oscar):
        for response in (cast.client(who).get(link), cast.client(who).post(link)):
            assert response.status_code == 404
            assert "Harbour Desk" not in text(response)
    assert not Member.objects.filter(workspace=cast.workspace, user=cast.oscar).exists()


def test_an_invitation_is_revoked(cast: Cast) -> None:
    link = invitation(cast)
    path = cast.url(f"settings/invitations/{link.pk}/revoke")
    assert cast.client(cast.ed).post(path).status_code == 403
    assert cast.client(cast.oscar).post(path).status_code == 404
    assert "is revoked" in text(cast.client(cast.adam).post(path, follow=True))
    assert not Invitation.objects.open().exists()


def test_an_invitation_bound_to_an_address_is_for_who_has_confirmed_it(cast: Cast, mailoutbox: list[Any]) -> None:
    cast.client(cast.alice).post(cast.url("settings/invite"), {"role": "editor", "email": "Nell@Example.com"})
    link = Invitation.objects.get()
    [mail] = mailoutbox
    assert mail.to == ["nell@example.com"]
    assert f"http://testserver{link.get_absolute_url()}" in mail.body
    refused = cast.client(cast.oscar).post(link.get_absolute_url())
    assert refused.status_code == 403
    assert "This invitation is for nell@example.com." in text(refused)
    nell = make_user("Nell")
    assert cast.client(nell).post(link.get_absolute_url()).status_code == 403  # same address, never confirmed
    EmailAddress.objects.create(user=nell, email="nell@example.com", verified=True, primary=True)
    cast.client(nell).post(link.get_absolute_url())
    assert member(cast, nell).role == Role.EDITOR


@pytest.mark.parametrize(
    ("who", "given", "said"),
    [
        ("adam", {"role": "owner"}, "You cannot invite somebody as “owner”."),
        ("alice", {"role": "king"}, "You cannot invite somebody as “king”."),
        ("alice", {"role": "editor", "email": "no address"}, "Enter a valid email address."),
        ("alice", {"role": "editor", "email": "ed@example.com"}, "ed@example.com is a member already."),
    ],
)
def test_an_invitation_that_cannot_be_is_refused_with_a_sentence(
    cast: Cast, who: str, given: dict[str, str], said: str
) -> None:
    response = cast.client(getattr(cast, who)).post(cast.url("settings/invite"), given)
    assert response.status_code == 422
    assert said in text(response)
    assert not Invitation.objects.exists()


@pytest.mark.parametrize(("who", "status"), [("ed", 403), ("vera", 403), ("oscar", 404)])
def test_who_may_not_invite(cast: Cast, who: str, status: int) -> None:
    response = cast.client(getattr(cast, who)).post(cast.url("settings/invite"), {"role": "viewer"})
    assert response.status_code == status
    link = invitation(cast)
    if who != "oscar":
        assert link.token not in text(cast.client(getattr(cast, who)).get(cast.url("settings/")))


def test_a_member_who_opens_an_invitation_keeps_their_role_and_the_link(cast: Cast) -> None:
    link = invitation(cast, role=Role.OWNER)
    cast.client(cast.vera).post(link.get_absolute_url())
    assert member(cast, cast.vera).role == Role.VIEWER
    assert Invitation.objects.open().exists()


def sign_up_by(link: Invitation, email: str) -> tuple[Client, Any]:
    client = Client()
    page = text(client.get(link.get_absolute_url()))
    path = f"/accounts/signup/?next={link.get_absolute_url()}"
    assert path in page
    return client, client.post(path, {"email": email, "password1": PASSWORD})


def test_signing_up_on_the_way_to_an_invitation(cast: Cast) -> None:
    link = invitation(cast)
    client, response = sign_up_by(link, "nell@example.com")
    assert response.headers["Location"] == link.get_absolute_url()
    nell = User.objects.get(email="nell@example.com")
    assert not nell.memberships.exists()  # no workspace of one's own on the way into another
    assert client.get("/").headers["Location"] == link.get_absolute_url()
    client.post(link.get_absolute_url())
    assert member(cast, nell).role == Role.EDITOR
    assert client.get(link.get_absolute_url()).headers["Location"] == cast.url()  # not told that it is over


def test_where_sign_up_is_closed_a_link_lets_one_person_in(cast: Cast, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    link = invitation(cast)
    client, response = sign_up_by(link, "nell@example.com")
    nell = User.objects.get(email="nell@example.com")
    assert member(cast, nell).role == Role.EDITOR  # at once: else one link would make accounts without end
    landed = client.get(response.headers["Location"], follow=True)
    assert landed.redirect_chain[-1][0] == cast.url()
    assert [member.workspace for member in nell.memberships.all()] == [cast.workspace]
    second = Client()
    assert second.get(link.get_absolute_url()).status_code == 404
    assert second.post("/accounts/signup/", {"email": "x@example.com", "password1": PASSWORD}).status_code == 200
    assert not User.objects.filter(email="x@example.com").exists()


def test_where_sign_up_is_closed_of_two_with_one_link_the_second_gets_no_account(cast: Cast, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    link = invitation(cast)
    late = Client()
    late.get(link.get_absolute_url())
    sign_up_by(link, "nell@example.com")
    late.post("/accounts/signup/", {"email": "late@example.com", "password1": PASSWORD})
    assert not User.objects.filter(email="late@example.com").exists()


def test_where_sign_up_is_closed_an_invitation_to_an_address_is_for_that_address(cast: Cast, settings: Any) -> None:
    settings.SIGNUP_OPEN = False
    link = invitation(cast, email="nell@example.com")
    _, refused = sign_up_by(link, "mallory@example.com")
    assert "The invitation is for nell@example.com: sign up with that address." in text(refused)
    assert not User.objects.filter(email="mallory@example.com").exists()
    _, response = sign_up_by(link, "Nell@Example.com")
    assert response.headers["Location"] == link.get_absolute_url()
    nell = User.objects.get(email="nell@example.com")
    assert not nell.memberships.exists()  # not before the address is confirmed
    assert Invitation.objects.open().exists()


def test_an_invitation_does_not_leak_its_address(cast: Cast) -> None:
    response = Client().get(invitation(cast).get_absolute_url())
    # To no other site; and not "no-referrer", with which browsers send forms with the origin null, which CSRF refuses.
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert "noindex" in text(response)


def test_mail_that_cannot_be_sent_is_told(cast: Cast, settings: Any) -> None:
    settings.EMAIL_BACKEND = "tests.workspaces.broken_mail.Backend"
    page = cast.client(cast.alice).post(
        cast.url("settings/invite"), {"role": "editor", "email": "nell@example.com"}, follow=True
    )
    assert "could not be sent" in text(page)
    assert Invitation.objects.open().count() == 1


def test_the_settings_page_takes_the_same_queries_however_many_members(
    cast: Cast, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        cast.workspace.members.create(user=make_user(f"Person{number}"))
        invitation(cast)
    client = cast.client(cast.alice)
    with django_assert_max_num_queries(8):  # session, person, member, counts, count, members, invitations, switcher
        client.get(cast.url("settings/"))


def test_many_members_come_in_pages_and_are_searched(cast: Cast) -> None:
    for number in range(120):
        cast.workspace.members.create(user=make_user(f"Person{number:03}"), role=Role.VIEWER)
    client = cast.client(cast.vera)
    first = text(client.get(cast.url("settings/")))
    assert first.count('<tr id="member-') == 50
    assert "1 to 50 of 124" in first
    assert first.index("vera@example.com") < first.index("alice@example.com")  # oneself first: to leave
    last = text(client.get(cast.url("settings/?page=3")))
    assert last.count('<tr id="member-') == 24
    assert "person119@example.com" in last
    found = text(client.get(cast.url("settings/?q=SON07")))
    assert found.count('<tr id="member-') == 10
    assert "person077@example.com" in found
    assert "Nobody here is called like “<nobody>”." in text(client.get(cast.url("settings/?q=<nobody>&page=x")))
    owner = text(cast.client(cast.alice).get(cast.url("settings/?q=alice")))
    assert f"remove-{member(cast, cast.alice).pk}" not in owner  # the last owner, though the page shows nobody else
