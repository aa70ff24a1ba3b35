"""The pages of forks: who sees them, what they say before anything is started, and what they start."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from analyses.models import Call, Cell, Run
from tests.factories import make_run, make_user, make_workspace
from tests.htmlcheck import is_inert
from workspaces import rates
from workspaces.models import AuditEntry

pytestmark = pytest.mark.django_db


class World:
    def __init__(self, settings: Any, shape: str = "done") -> None:
        cache.clear()
        settings.OPENAI_API_KEY, settings.OPENAI_MODEL = "sk-not-used", "atlas-large"
        self.alice, self.bob = make_user(), make_user()
        self.workspace = make_workspace(self.alice, viewer=self.bob)
        self.run = make_run(self.workspace, shape)
        self.client = Client()
        self.client.force_login(self.alice)

    def path(self, call: int, cell: int, name: str = "run-fork") -> str:
        return reverse(name, args=[self.workspace.slug, self.run.key, call, cell])

    def fork(self, call: int, cell: int, **data: Any) -> Any:
        return self.client.post(self.path(call, cell), data)

    @property
    def forks(self) -> Any:
        return Run.objects.filter(forked_from=self.run)


@pytest.fixture
def world(settings: Any) -> World:
    return World(settings)


def test_the_page_shows_the_code_and_says_what_is_kept_and_starts_nothing(world: World) -> None:
    cell = Cell.objects.filter(run=world.run, call_number=1).exclude(code="").order_by("number").last()
    assert cell is not None
    hostile = "print('</textarea><script>alert(1)</script>')"
    Cell.objects.filter(pk=cell.pk).update(code=hostile)
    page = world.client.get(world.path(1, cell.number)).content.decode()
    main = page.partition("<main")[2].partition("</main>")[0]
    assert is_inert(main) and "print(&#x27;&lt;/textarea&gt;" in main
    assert "run again without the model" in main and "another question" in main
    assert not world.forks.exists()


def test_a_mistake_names_its_line_and_nothing_typed_is_lost(world: World) -> None:
    response = world.fork(1, 1, way="edit", code="x = 1\r\nif x\r\n", limit_cost="much")
    assert response.status_code == 422
    html = response.content.decode()
    assert "line 2: expected &#x27;:&#x27;" in html and "if x" in html and "is not a number" in html
    assert world.fork(1, 1, way="sideways").status_code == 422
    assert not world.forks.exists()


def test_a_fork_is_queued_with_what_was_changed_and_the_audit_has_it(world: World) -> None:
    response = world.fork(1, 1, way="edit", code="print(1)\r\n", model="grander", limit_turns="30", again="on")
    [fork] = world.forks
    assert response["Location"] == fork.get_absolute_url()
    assert fork.fork["code"] == "print(1)" and fork.fork["changed"] == ["code", "model", "limits"]
    assert (fork.fork["again"], fork.root_model, fork.limits["turns"]) == (True, "grander", 30)
    assert (fork.created_by, fork.seed, fork.status) == (world.alice, world.run.seed, "queued")
    entry = AuditEntry.objects.get(action="forked a run")
    assert entry.workspace == world.workspace
    page = world.client.get(fork.get_absolute_url()).content.decode()
    assert f"run {world.run.number} at cell 1.1" in page
    assert reverse("compare", args=[world.workspace.slug, world.run.key, fork.key]) in page
    world.fork(1, 1, way="instruction", instruction="Another question?")
    assert world.forks.order_by("number").last().question == "Another question?"
    world.fork(1, 1, way="again")
    assert world.forks.count() == 3


def test_who_may_not_ask_may_not_fork_and_sees_no_controls(world: World) -> None:
    viewer, stranger = Client(), Client()
    viewer.force_login(world.bob)
    stranger.force_login(make_user())
    for name in ("run-fork", "run-retry"):
        path = world.path(1, 1, name)
        assert viewer.get(path).status_code == viewer.post(path, {"way": "again"}).status_code == 403
        assert stranger.get(path).status_code == stranger.post(path, {"way": "again"}).status_code == 404
    assert "node-actions" in world.client.get(world.run.get_absolute_url()).content.decode()
    assert "node-actions" not in viewer.get(world.run.get_absolute_url()).content.decode()
    share = world.run.shares.create()
    assert "node-actions" not in Client().get(share.get_absolute_url()).content.decode()
    assert not world.forks.exists()


def test_an_imported_run_is_not_forked_and_its_page_says_why(world: World) -> None:
    Run.objects.filter(pk=world.run.pk).update(imported_from="rlmkit")
    assert "node-actions" not in world.client.get(world.run.get_absolute_url()).content.decode()
    page = world.client.get(world.path(1, 1))
    assert page.status_code == 409 and "came in as a log" in page.content.decode()
    assert world.fork(1, 1, way="again").status_code == 409
    assert world.client.post(world.path(1, 1, "run-retry"), {"child": "2"}).status_code == 422
    assert not world.forks.exists()


def test_what_may_cost_much_is_asked_about_first_and_the_rate_holds(world: World) -> None:
    world.workspace.confirm_above = 1.0
    world.workspace.save()
    refused = world.fork(1, 1, way="again", limit_cost="3")
    assert refused.status_code == 422 and "This may cost up to $3.00" in refused.content.decode()
    assert world.fork(1, 1, way="again", limit_cost="3", confirmed="up to $3.00").status_code == 302
    while rates.ASK.spend(world.alice.pk):
        pass
    assert "very often" in world.fork(1, 1, way="again", limit_cost="0.5").content.decode()
    assert world.forks.count() == 1


def test_a_cell_that_has_not_ended_and_one_that_is_not_there(settings: Any) -> None:
    world = World(settings, "running")
    running = Cell.objects.filter(run=world.run, status__in=("writing", "running", "waiting")).first()
    assert running is not None
    page = world.client.get(world.path(running.call_number, running.number))
    assert page.status_code == 409 and "has not ended yet" in page.content.decode()
    assert world.client.get(world.path(1, 99)).status_code == world.client.get(world.path(99, 1)).status_code == 404


def test_failed_children_are_listed_before_they_are_asked_again(settings: Any) -> None:
    world = World(settings, "crowd")
    failed = Call.objects.filter(run=world.run, status="failed", parent__isnull=False).first()
    assert failed is not None and failed.parent_number and failed.parent_cell
    Call.objects.filter(pk=failed.pk).update(title="<b>its title</b>")
    path = world.path(failed.parent_number, failed.parent_cell, "run-retry")
    page = world.client.get(path, {"child": failed.number}).content.decode()
    assert "&lt;b&gt;its title" in page and "Ask 1 failed child call" in page
    response = world.client.post(path, {"child": failed.number})
    [fork] = world.forks
    assert response["Location"] == fork.get_absolute_url()
    assert (fork.fork["kind"], fork.fork["retried"]) == ("retry", [failed.number])
    done = Call.objects.filter(run=world.run, status="done", parent=failed.parent).first()
    assert done is not None
    assert world.client.post(path, {"child": done.number}).status_code == 422
    nothing = Cell.objects.filter(run=world.run, call_number=1, children_total=0).first()
    assert nothing is not None
    assert (
        "None of its child calls has failed"
        in world.client.get(world.path(1, nothing.number, "run-retry")).content.decode()
    )
