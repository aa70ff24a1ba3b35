"""Two runs side by side: what stands for what, which words differ, how much is read, and that nothing hostile comes through."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from analyses import diffs
from analyses.compare import PAGE, Comparison, Known, Stretch, align_calls
from analyses.models import Call, Cell, Run
from analyses.texts import clean
from tests.factories import make_run, make_user, make_workspace
from tests.htmlcheck import is_inert
from workspaces.models import Workspace

HOSTILE = "</code></pre><script>alert(1)</script>\"'<img src=x onerror=alert(2)>\u202e"


def main_of(html: str) -> str:
    """A page without its head, which holds our own scripts."""
    return html.partition("<main")[2].partition("</main>")[0]


def known(number: int, identity: str = "", instruction: str = "", context: str = "", title: str = "") -> Known:
    return Known(number, number, 1, 1, number, identity, title, instruction, context, "done", 1, "m", "", None)


def aligned(one: list[Known], other: list[Known]) -> list[tuple[int | None, int | None]]:
    return [(a.number if a else None, b.number if b else None) for a, b in align_calls(one, other)]


def test_calls_stand_for_each_other_by_identity_then_by_what_was_asked_then_by_order() -> None:
    one = [known(2, "a"), known(3, "b", "read"), known(4, "c", "count", "ctx"), known(5, "", "", "", "Title")]
    other = [known(2, "x", "count", "ctx"), known(3, "a"), known(4, "", "", "", "Title"), known(5, "y", "other")]
    assert aligned(one, other) == [(2, 3), (3, 5), (4, 2), (5, 4)]
    assert aligned(one[:1], []) == [(2, None)] and aligned([], other[:1]) == [(None, 2)]
    twice = [known(n, "", "same", "ctx") for n in (2, 3)]
    assert aligned(twice, twice) == [(2, 2), (3, 3)]


def test_words_and_lines_that_differ_are_marked_and_everything_is_escaped() -> None:
    sides = diffs.code_sides(f"a = 1\nb = '{HOSTILE}'\nc = 3", "a = 1\nb = 'other'\nc = 3\nd = 4", diffs.Effort())
    assert [line.sign for line in sides.left] == ["", "−", ""]
    assert [line.sign for line in sides.right] == ["", "+", "", "+"]
    both = "".join(line.html for line in [*sides.left, *sides.right])
    assert "<script" not in both and "<img" not in both and "&lt;script&gt;" in both and "\u202e" not in both
    one = diffs.text_sides("five guests saw it", "six guests saw it", diffs.Effort())
    assert one.left[0].html == "<del>five</del> guests saw it" and one.right[0].html == "<ins>six</ins> guests saw it"
    marked = diffs.words_marked(f"it says {HOSTILE} today", f"it says {HOSTILE} now", diffs.Effort())
    assert marked is not None and "<script" not in marked[0] + marked[1] and "<del>today</del>" in marked[0]
    assert diffs.text_sides("same", "same", diffs.Effort()).same


def test_the_work_of_one_page_is_bounded() -> None:
    effort = diffs.Effort()
    texts = ["\n".join(f"{(n * 7919 + k) % 89}" for n in range(590)) for k in range(40)]
    sides = [diffs.text_sides(one, other, effort) for one, other in zip(texts, texts[1:], strict=False)]
    assert sides[0].marked and not sides[-1].marked  # the page's share is used up: shown, not marked
    assert effort.left >= 0 and [str(line.html) for line in sides[-1].left] == texts[-2].split("\n")
    assert not diffs.text_sides("a\n" * 5000, "b\n" * 5000, diffs.Effort()).marked
    assert len(diffs.text_sides("x" * 1_000_000, "y", diffs.Effort()).left[0].html) == diffs.LINE_MOST + 1


def plain_run(workspace: Workspace, codes: list[str], *, children: int = 0, text: str = "") -> Run:
    """A run with these cells, and so many child calls of the second."""
    now = time.time()
    run = make_run(
        workspace, status="done", seq=9, calls=1 + children, answer_type="str", answer_display=text or "It is so."
    )
    common = {
        "run": run, "strategy": "rlm", "model": "m", "dialect": "async", "context_type": "str", "context_shape": "str",
        "status": "done", "queued_at": now, "started_at": now, "finished_at": now, "born": 1, "seq": 2, "turns": 1,
    }  # fmt: skip
    root = Call.objects.create(number=1, kind="root", **common)
    Cell.objects.bulk_create(
        Cell(
            run=run, call=root, call_number=1, number=n, kind="code", status="done", code=code, shown=f"{text}{code}",
            started_at=now, replied_at=now, ended_at=now, born=2, seq=2,
        )
        for n, code in enumerate(codes, 1)
    )  # fmt: skip
    Call.objects.bulk_create(
        Call(
            number=n, parent=root, parent_number=1, parent_cell=2, depth=1, kind="leaf", identity=f"i{n}",
            title=clean(f"piece {n} {text}"), answer_value=b"{}", answer_type="str", answer_shape=clean(text[:160]) or "str", **common,
        )
        for n in range(2, children + 2)
    )  # fmt: skip
    return run


@pytest.mark.django_db
def test_cells_are_aligned_by_their_code_and_equal_ones_folded() -> None:
    workspace = make_workspace()
    a = plain_run(workspace, ["x = 1", "y = 2", "print(x)", "z = 3", "FINAL(z)"])
    b = plain_run(workspace, ["x = 1", "y = 2", "new = 0", "print(x)", "z = 4", "FINAL(z)"])
    found = Comparison.of(a, b)
    assert found is not None
    shape = [
        piece.label if isinstance(piece, Stretch) else (piece.left and piece.left.number, piece.right and piece.right.number)
        for piece in found.shown
    ]  # fmt: skip
    assert shape == [
        "Cells 1 to 2 are the same.", (None, 3), "Cell 3 of A and 4 of B are the same.", (4, 5),
        "Cell 5 of A and 6 of B are the same.",
    ]  # fmt: skip
    assert not any(piece.replayed for piece in found.shown if isinstance(piece, Stretch))
    assert Comparison.of(a, b, (1, 7)) is None


class World:
    def __init__(self) -> None:
        self.alice, self.bob = make_user(), make_user()
        self.workspace = make_workspace(self.alice, viewer=self.bob)
        self.client = Client()
        self.client.force_login(self.bob)

    def get(self, a: Run, b: Run, query: str = "") -> Any:
        return self.client.get(reverse("compare", args=[self.workspace.slug, a.key, b.key]) + query)


@pytest.mark.django_db
def test_a_viewer_compares_any_two_runs_of_the_workspace_and_no_other() -> None:
    world = World()
    done, failed, queued = (make_run(world.workspace, shape) for shape in ("done", "failed", ""))
    Run.objects.filter(pk=failed.pk).update(strategy="react", imported_from="rlmkit", question="Another?")
    foreign = make_run(make_workspace(), "done")
    for a, b in ((done, failed), (failed, done), (done, done), (queued, done), (queued, queued)):
        response = world.get(a, b)
        assert response.status_code == 200
        assert is_inert(main_of(response.content.decode()))
    assert world.get(done, foreign).status_code == world.get(foreign, done).status_code == 404
    assert world.get(done, failed, "?calls=1-99").status_code == 404
    assert world.get(done, failed, "?page=99").status_code == 404
    assert world.get(done, done, "?calls=2-2").status_code == 200
    assert Client().get(reverse("compare", args=[world.workspace.slug, done.key, failed.key])).status_code == 302
    pick = reverse("compare-pick", args=[world.workspace.slug])
    chosen = world.client.get(pick, {"run": [failed.key, done.key]})
    assert chosen["Location"] == reverse("compare", args=[world.workspace.slug, done.key, failed.key])
    for keys in ([], [done.key], [done.key, foreign.key], [done.key, done.key]):
        assert world.client.get(pick, {"run": keys})["Location"] == reverse("run-list", args=[world.workspace.slug])


@pytest.mark.django_db
def test_hostile_code_outputs_titles_and_answers_are_shown_as_text() -> None:
    world = World()
    a = plain_run(world.workspace, [f"a = '{HOSTILE}'", "b"], children=3, text=HOSTILE)
    b = plain_run(world.workspace, [f"a = '{HOSTILE}x'", "c"], children=2, text=HOSTILE + "!")
    Run.objects.filter(pk=b.pk).update(
        fork={"run": 1, "call": 1, "cell": 1, "kind": HOSTILE, "changed": [HOSTILE]}, forked_from=a
    )
    html = world.get(a, b).content.decode()
    assert is_inert(main_of(html))
    for bad in ("<script>alert", "<img src=x", "onerror=alert(2)>", "\u202e"):
        assert bad not in html.replace("onerror=alert(2)&gt;", "")
    page = world.client.get(b.get_absolute_url()).content.decode()
    assert "<script>alert" not in page and "<img src=x" not in page


@pytest.mark.django_db
def test_large_runs_are_paged_and_read_with_few_queries() -> None:
    world = World()
    a = plain_run(world.workspace, [f"a{n} = {n}" for n in range(70)], children=3000)
    b = plain_run(world.workspace, [f"b{n} = {n}" for n in range(70)], children=3001)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = world.get(a, b)
    assert response.status_code == 200 and len(response.content) < 1_000_000
    assert len(queries) < 40
    html = response.content.decode()
    assert "3,001 child calls" in html and "Page 1 of 4" in html
    assert html.count('class="panel" aria-labelledby="a-1-') == PAGE
    assert world.get(a, b, "?page=4").status_code == 200


@pytest.mark.django_db
def test_the_list_offers_two_runs_to_compare_and_a_run_offers_others_of_its_question() -> None:
    world = World()
    a, b = make_run(world.workspace, "done"), make_run(world.workspace, "done")
    make_run(world.workspace, "done", question="Something else?")
    listed = world.client.get(reverse("run-list", args=[world.workspace.slug])).content.decode()
    assert listed.count('name="run"') == 3 and "Compare" in listed
    page = world.client.get(a.get_absolute_url()).content.decode()
    assert (
        reverse("compare", args=[world.workspace.slug, a.key, b.key]) in page and page.count("the same question") == 1
    )
