"""Pages of a workspace: who may change what, and how one gets from one to the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client
from redis.exceptions import ConnectionError as RedisAway

from tests.workspaces.cast import Cast, make_cast
from workspaces.cache import Cache
from workspaces.models import Member, Workspace
from workspaces.roles import MATRIX, May, may


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


# The matrix again, written out: the test and the table must be changed by two hands.
ALLOWED = {
    May.SEE: {"owner", "admin", "editor", "viewer"},
    May.ASK: {"owner", "admin", "editor"},
    May.SHARE: {"owner", "admin", "editor"},
    May.INVITE: {"owner", "admin"},
    May.RENAME: {"owner", "admin"},
    May.ENDPOINTS: {"owner", "admin"},
    May.RETENTION: {"owner", "admin"},
    May.BUDGETS: {"owner", "admin"},
    May.LIMITS: {"owner", "admin"},
    May.SHARES: {"owner", "admin"},
    May.AUDIT: {"owner", "admin"},
    May.OWN: {"owner"},
    May.DELETE: {"owner"},
}


@pytest.mark.parametrize("role", list(Member.Role))
@pytest.mark.parametrize("what", list(May))
def test_each_cell_of_the_matrix(role: str, what: May) -> None:
    assert may(Member(role=role), what) == (role in ALLOWED[what])


def test_every_role_stands_in_the_matrix() -> None:
    assert set(MATRIX) == set(Member.Role)


@pytest.mark.parametrize(("who", "status"), [("alice", 302), ("adam", 302), ("ed", 403), ("vera", 403), ("oscar", 404)])
def test_renaming_is_for_owners_and_admins(cast: Cast, who: str, status: int) -> None:
    response = cast.client(getattr(cast, who)).post(cast.url("settings/"), {"name": "Quay Desk"})
    assert response.status_code == status
    cast.workspace.refresh_from_db()
    assert (cast.workspace.name == "Quay Desk") == (status == 302)


def test_a_refusal_says_which_role_one_has(cast: Cast) -> None:
    page = cast.client(cast.vera).post(cast.url("settings/"), {"name": "Quay Desk"}).content.decode()
    assert "Your role here is viewer" in page


def test_an_empty_name_is_refused_with_a_sentence(cast: Cast) -> None:
    response = cast.client(cast.alice).post(cast.url("settings/"), {"name": "  "})
    assert response.status_code == 422
    assert "Give the workspace a name." in response.content.decode()
    assert "Harbour Desk" in response.content.decode()  # the switcher keeps the true name


def test_members_are_listed_with_their_roles(cast: Cast) -> None:
    page = cast.client(cast.vera).get(cast.url("settings/")).content.decode()
    for name in ("Alice", "Adam", "Ed", "Vera"):
        assert name in page
    assert "Oscar" not in page
    assert 'name="name"' not in page  # a viewer has no form


def test_the_switcher_shows_ones_own_workspaces_alone(cast: Cast) -> None:
    Workspace.start("Second Desk", cast.ed)
    page = cast.client(cast.ed).get(cast.url("settings/")).content.decode()
    assert "Second Desk" in page
    assert "Elsewhere" not in page


def test_a_new_workspace_belongs_to_who_made_it(cast: Cast) -> None:
    response = cast.client(cast.vera).post("/workspaces/new", {"name": "Mine <b>"})
    made = Workspace.objects.get(name="Mine <b>")
    assert response.headers["Location"] == f"/w/{made.slug}/"
    assert made.members.get().role == Member.Role.OWNER
    assert "Mine &lt;b&gt;" in cast.client(cast.vera).get(f"/w/{made.slug}/settings/").content.decode()


def test_who_has_no_workspace_gets_one(cast: Cast) -> None:
    cast.workspace.members.filter(user=cast.vera).delete()
    response = cast.client(cast.vera).get("/", follow=True)
    assert response.status_code == 200
    assert "Vera’s workspace" in response.content.decode()


def test_an_error_page_tells_a_stranger_nothing(cast: Cast) -> None:
    page = cast.client(cast.oscar).get(cast.url("settings/"))
    assert page.status_code == 404
    assert "Harbour Desk" not in page.content.decode()
    missing = cast.client(cast.oscar).get("/w/no-such/settings/")
    assert missing.content.count(b"<") == page.content.count(b"<")


def test_csrf_is_asked_for(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.alice, backend="django.contrib.auth.backends.ModelBackend")
    response = client.post(cast.url("settings/"), {"name": "Quay Desk"})
    assert response.status_code == 403
    assert "This page was too old" in response.content.decode()


def test_a_part_asked_for_after_signing_out_is_no_sign_in_page_inside_the_page(cast: Cast) -> None:
    part = {"HX-Request": "true", "HX-Target": "runs", "HX-Current-URL": f"http://testserver{cast.url()}"}
    assert Client().get(cast.url(), headers=part).status_code == 401
    written = Client().post(cast.url("settings/"), {"name": "x"}, headers=part)
    assert written.status_code == 204
    assert written.headers["HX-Redirect"].startswith("/accounts/login/?next=%2Fw%2F")


def test_the_cache_goes_on_in_memory_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache("redis://127.0.0.1:1/0", {"OPTIONS": {"socket_connect_timeout": 0.2}})
    assert cache.add("a", 1)
    assert not cache.add("a", 2)
    cache.set("b", [1.5], 60)
    assert cache.get("b") == [1.5]
    assert cache.delete("b")
    assert cache.get("b", "gone") == "gone"
    monkeypatch.setattr(
        "django.core.cache.backends.redis.RedisCache.get", lambda *_, **__: (_ for _ in ()).throw(RedisAway())
    )
    assert cache.get("a") == 1


def test_the_documents_show_the_matrix_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "workspaces.md").read_text()
    table = page.partition("\n| may |")[2].partition("\n\n")[0]
    head, _, *rows = [line.strip("|").split("|") for line in f"| may |{table}".splitlines()]
    roles = [cell.strip() for cell in head[1:]]
    shown = {row[0].strip(): {role for role, cell in zip(roles, row[1:], strict=True) if cell.strip()} for row in rows}
    assert shown == {what.value: {str(role) for role in MATRIX if what in MATRIX[role]} for what in May}
