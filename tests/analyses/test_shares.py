"""Shares: who may make and revoke them, and what a stranger with a link sees."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from analyses.models import Run, Share, Status
from tests.workspaces.cast import Cast, make_cast, make_corpus, make_plain_run

HTMX = {"HX-Request": "true", "HX-Target": "share-links"}


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def run(cast: Cast) -> Run:
    corpus = make_corpus(cast.workspace, "Harbour accounts")
    return make_plain_run(
        cast.workspace, "Who saw the light?", corpus_version=corpus.latest, created_by=cast.ed, status=Status.DONE
    )


def make(cast: Cast, run: Run, who: Any, **headers: Any) -> Any:
    return cast.client(who).post(f"{run.get_absolute_url()}share", headers=headers.get("headers", {}))


def test_a_link_is_made_and_opens_the_run_to_a_stranger(cast: Cast, run: Run) -> None:
    page = html.unescape(make(cast, run, cast.ed, headers=HTMX).content.decode())
    share = Share.objects.get()
    assert share.created_by == cast.ed
    assert f'value="http://testserver/s/{share.token}/"' in page
    response = cast.client(None).get(share.get_absolute_url())
    shown = response.content.decode()
    assert response.status_code == 200
    assert "Who saw the light?" in shown
    assert "noindex" in response.headers["X-Robots-Tag"]
    assert '<meta name="robots" content="noindex' in shown
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "no-store" in response.headers["Cache-Control"]


def test_a_link_made_without_javascript_is_said_on_the_runs_page(cast: Cast, run: Run) -> None:
    client = cast.client(cast.ed)
    page = client.post(f"{run.get_absolute_url()}share", follow=True)
    assert page.redirect_chain == [(run.get_absolute_url(), 302)]
    assert f"http://testserver/s/{Share.objects.get().token}/" in page.content.decode()


def test_a_shared_page_holds_nothing_of_a_members(cast: Cast, run: Run) -> None:
    share = Share.objects.create(run=run)
    for who in (None, cast.oscar, cast.alice):
        page = cast.client(who).get(share.get_absolute_url()).content.decode()
        assert "/w/" not in page.replace("/ws/", "")  # no way further into the workspace
        assert 'method="post"' not in page
        assert "hx-post" not in page
        assert "ed@example.com" not in page
        assert cast.workspace.name not in page
        assert run.key not in page


def test_a_link_grants_one_run_and_not_its_workspace(cast: Cast, run: Run) -> None:
    share = Share.objects.create(run=run)
    client = cast.client(cast.oscar)
    client.get(share.get_absolute_url())
    assert client.get(run.get_absolute_url()).status_code == 404
    other = make_plain_run(cast.workspace, "Another?")
    assert client.get(f"/s/{other.key}/").status_code == 404


@pytest.mark.parametrize("path", ["", "answer", "c/1/1/children", "c/1/1/output"])
def test_a_revoked_or_unknown_token_opens_nothing(cast: Cast, run: Run, path: str) -> None:
    share = Share.objects.create(run=run)
    cast.client(cast.ed).post(f"{run.get_absolute_url()}share/{share.pk}/revoke")
    share.refresh_from_db()
    assert share.revoked_at
    for token in (share.token, "no-such-token", run.key):
        assert cast.client(None).get(f"/s/{token}/{path}").status_code == 404


def test_one_of_two_links_can_be_revoked(cast: Cast, run: Run) -> None:
    kept, gone = Share.objects.create(run=run), Share.objects.create(run=run)
    page = (
        cast.client(cast.alice).post(f"{run.get_absolute_url()}share/{gone.pk}/revoke", headers=HTMX).content.decode()
    )
    assert kept.token in page
    assert gone.token not in page
    assert "The link is revoked" in page
    assert cast.client(None).get(kept.get_absolute_url()).status_code == 200


@pytest.mark.parametrize(("who", "status"), [("alice", 302), ("adam", 302), ("ed", 302), ("vera", 403), ("oscar", 404)])
def test_who_may_share(cast: Cast, run: Run, who: str, status: int) -> None:
    assert make(cast, run, getattr(cast, who)).status_code == status
    assert Share.objects.count() == (status == 302)
    share = Share.objects.create(run=run)
    response = cast.client(getattr(cast, who)).post(f"{run.get_absolute_url()}share/{share.pk}/revoke")
    assert response.status_code == status
    share.refresh_from_db()
    assert bool(share.revoked_at) == (status == 302)


def test_a_share_of_another_run_is_not_revoked_by_number(cast: Cast, run: Run) -> None:
    theirs = Share.objects.create(run=make_plain_run(cast.elsewhere))
    assert cast.client(cast.ed).post(f"{run.get_absolute_url()}share/{theirs.pk}/revoke").status_code == 404
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


def test_sharing_is_by_post_only(cast: Cast, run: Run) -> None:
    assert cast.client(cast.ed).get(f"{run.get_absolute_url()}share").status_code == 405
    assert not Share.objects.exists()


def test_tokens_cannot_be_guessed_from_one_another(cast: Cast, run: Run) -> None:
    tokens = {Share.objects.create(run=run).token for _ in range(20)}
    assert len(tokens) == 20
    assert all(re.fullmatch(r"[\w-]{20,}", token) for token in tokens)
