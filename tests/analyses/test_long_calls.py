"""A call with hundreds of cells: its first and its newest stand on the page, those in between are fetched."""

from __future__ import annotations

import re

import pytest
from django.db.models import F
from django.test import Client
from playwright.sync_api import expect

from analyses.frames import Painter
from analyses.models import Call, Cell, FollowUp, Run
from analyses.outline import BLOCK, Outline
from analyses.timeline import BINS, ROOT_SINGLY, Timeline
from tests.browser import SITE, SOCKET, chromium, headers_of, serve
from tests.factories import Rows, make_call, make_cell, make_run, make_user, make_workspace

pytestmark = pytest.mark.django_db


def long_run(cells: int, status: str = "done") -> Run:
    """A run whose root has so many cells, all like its first but for their number; call 2 belongs to cell 60, if there is one."""
    owner = make_user()
    run = make_run(make_workspace(owner), created_by=owner)
    rows = Rows(run)
    rows.begin()
    root = make_call(rows)
    rows.start(root)
    first = make_cell(rows, root)
    copies = []
    for number in range(2, cells + 1):
        copy = Cell.objects.get(pk=first.pk)
        copy.pk, copy._state.adding = None, True
        copy.number, copy.born = number, run.seq + number
        copy.seq = copy.born
        for name in ("started_at", "replied_at", "ended_at"):
            setattr(copy, name, getattr(copy, name) + 2 * number)
        copies.append(copy)
    Cell.objects.bulk_create(copies)
    Call.objects.filter(pk=root.pk).update(turns=cells, status=status)
    Run.objects.filter(pk=run.pk).update(seq=F("seq") + cells + 1, cells=cells, status=status)
    run.refresh_from_db()
    if cells >= 60:
        make_call(Rows(run), root, 60)
    run.refresh_from_db()
    return run


def page_of(run: Run, path: str = "") -> str:
    client = Client()
    client.force_login(run.created_by)
    response = client.get(run.get_absolute_url() + path)
    assert response.status_code == 200
    return response.content.decode()


def shown(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'<li class="cell" id="cell-1-(\d+)"', html)]


@pytest.mark.parametrize(
    ("turns", "wanted", "gaps"),
    [
        (0, [], []), (1, [], []), (3 * BLOCK, [], []), (3 * BLOCK + 1, [], [(51, 100)]), (1000, [], [(51, 900)]),
        (1000, [51], [(101, 900)]), (1000, [500], [(51, 450), (501, 900)]), (1000, [10, 990, 4000], [(51, 900)]),
        (10**9, [5 * 10**8], [(51, 5 * 10**8 - 50), (5 * 10**8 + 1, 10**9 - 100)]),
    ],
)  # fmt: skip
def test_gaps_are_what_a_page_leaves_out(turns: int, wanted: list[int], gaps: list[tuple[int, int]]) -> None:
    run = long_run(1)
    Call.objects.update(turns=turns)
    assert Outline.of(run).gaps(1, wanted) == gaps


def test_a_page_holds_the_first_and_the_newest_cells() -> None:
    html = page_of(run := long_run(1000))
    assert shown(html) == [*range(1, 51), *range(901, 1001)]
    assert "Show cells 51 to 100" in html and 'href="?at=1.51#call-1-gap-51"' in html
    assert 'id="call-2"' not in html  # its cell is in the gap
    assert shown(page_of(long_run(150))) == list(range(1, 151))
    # … and without a script an address brings any of them.
    html = page_of(run, "?at=1.700")
    assert shown(html) == [*range(1, 51), *range(651, 701), *range(901, 1001)]
    assert html.index('id="call-1-gap-51"') < html.index('id="cell-1-651"') < html.index('id="call-1-gap-701"')
    html = page_of(run, "?open=2")
    assert 51 in shown(html) and 'id="call-2"' in html
    for nonsense in ("?at=1", "?at=9.9", "?at=1.99999", "?at=x.y"):
        assert page_of(run, nonsense)


def test_a_gap_is_filled_block_by_block() -> None:
    run = long_run(1000)
    html = page_of(run, "c/1/cells?first=51&last=900")
    assert shown(html) == list(range(51, 101)) and 'id="call-2"' in html
    assert [*re.findall(r'id="call-1-gap-(\d+)"', html)] == ["101"] and 'data-last="900"' in html
    html = page_of(run, "c/1/cells?first=51&last=900&at=430")
    assert shown(html) == list(range(401, 451))
    assert re.findall(r'data-first="(\d+)" data-last="(\d+)"', html) == [("51", "400"), ("451", "900")]
    assert shown(page_of(run, "c/1/cells?first=851&last=900")) == list(range(851, 901))
    # The child call in it is fetched in its turn.
    assert 'id="call-2-cells"' not in html and 'id="call-2-cells"' in page_of(run, "c/2/cells")
    for nonsense in ("first=9&last=3", "first=x&last=900", "first=51&last=900&at=5000", "last=99999999999"):
        page_of(run, f"c/1/cells?{nonsense}")


def test_a_follow_up_stands_where_its_cells_are() -> None:
    run = long_run(1000)
    FollowUp.objects.create(run=run, number=2, question="And then?", after_cell=420, born=2, limits={})
    Run.objects.filter(pk=run.pk).update(follow_ups=1)
    assert 'id="follow-up-2"' not in page_of(run)
    html = page_of(run, "c/1/cells?first=51&last=900&at=430")
    assert html.index('id="cell-1-420"') < html.index('id="follow-up-2"') < html.index('id="cell-1-421"')


def test_frames_bring_new_cells_whatever_the_page_left_out() -> None:
    run = long_run(1000, status="running")
    painter = Painter(run)
    start = run.seq
    make_cell(Rows(run), Call.objects.get(run=run, number=1))
    painter.advance()
    html = "".join(painter.frames(start, {}))
    assert shown(html) == [1001]


def standing_out(html: str) -> list[tuple[str, str]]:
    return re.findall(r'<a href="\?at=[\d.]+#cell-([\d-]+)" data-in-place>cell [\d.]+</a> \(([\w ,]+)\)', html)


def test_a_long_call_says_which_of_its_cells_took_most_wherever_they_are() -> None:
    run = long_run(1000, status="running")
    Cell.objects.filter(run=run, number=700).update(ended_at=F("ended_at") + 30, waited=30)
    Cell.objects.filter(run=run, number=20).update(cost=5, completion_tokens=9000)
    Cell.objects.filter(run=run, number=300).update(ended_at=F("ended_at") + 10)
    assert standing_out(page_of(run)) == []  # that could change still
    painter = Painter(run)
    start = run.seq
    rows = Rows(run)
    rows.finish(Call.objects.get(run=run, number=1))
    painter.advance()
    took_most = [("1-20", "costliest"), ("1-300", "slowest by itself"), ("1-700", "slowest")]
    assert standing_out("".join(painter.frames(start, {}))) == took_most  # who has the page open is told
    run.refresh_from_db()
    assert standing_out(html := page_of(run)) == took_most
    assert 'href="?at=1.700#cell-1-700"' in html and "cell-1-700" in page_of(run, "?at=1.700")
    assert standing_out(page_of(long_run(150))) == []  # there the cells bear marks


def test_the_timeline_of_a_long_call_is_drawn_from_so_many_moments() -> None:
    run = long_run(ROOT_SINGLY + 1)
    Cell.objects.filter(run=run, number=200).update(status="error", error="ValueError: no")
    timeline = Timeline.of(run, Outline.of(run))
    assert timeline is not None
    root = [bar for bar in timeline.bars if bar.to.startswith("cell-1-")]
    assert BINS // 4 < len(root) <= BINS
    assert [bar.to for bar in root if bar.css == "v-fail"] == ["cell-1-200"]
    assert {bar.css for bar in root} == {"v-fail", "v-model", "v-exec"}
    numbers = [int(bar.to.rpartition("-")[2]) for bar in root]
    assert numbers == sorted(numbers) and numbers[-1] > ROOT_SINGLY - 5


@pytest.mark.browser
def test_a_link_to_a_cell_that_was_left_out_fetches_its_block() -> None:
    run = long_run(1000)
    Cell.objects.filter(run=run, number=700).update(ended_at=F("ended_at") + 30)
    client = Client()
    client.force_login(run.created_by)
    path = run.get_absolute_url()
    known = {}
    for part in ("", "c/1/path", "c/1/cells?first=51&last=900", "c/1/cells?first=51&last=900&at=700"):
        response = client.get(path + part)
        known[path + part] = (response.content.decode(), headers_of(response))
    with chromium() as browser:
        page = browser.new_page()
        page.add_init_script(SOCKET)
        complaints = serve(page, lambda asked: known.get(asked, ("", {})))
        page.goto(SITE + path)
        page.evaluate("window.stays = true")
        page.locator("#call-1-about").get_by_role("link", name="cell 1.700").click()
        expect(page.locator("#cell-1-700")).to_be_focused()
        assert page.evaluate("window.stays && !location.search")  # it was fetched in place
        page.reload()
        expect(page.locator("#cell-1-700")).to_be_focused()
        assert page.locator("#tree .cell").count() == 200
        expect(page.locator("#call-1-cells > .more")).to_have_count(2)
        # … and by hand, the next block.
        page.goto(f"{SITE}{path}")
        page.reload()
        page.locator("#call-1-gap-51 a").click()
        expect(page.locator("#cell-1-51")).to_be_visible()
        assert page.locator("#cell-1-50 + #cell-1-51").count() == 1
        assert page.locator("#cell-1-100 + #call-1-gap-101 + #cell-1-901").count() == 1
        assert not complaints
