"""The run's page: who sees it, what it costs, how answers look."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db.models import F, Max
from django.test import Client
from django.urls import reverse

from analyses import actions, moments
from analyses.models import Call, Run
from analyses.outline import Outline
from analyses.runpage import RunState
from analyses.templatetags.run import clock
from analyses.timeline import Timeline
from tests.factories import Rows, make_run, make_user, make_workspace
from tests.htmlcheck import is_inert

pytestmark = pytest.mark.django_db


class Cast:
    """Alice owns, Bob is a viewer, Charlie is outside."""

    def __init__(self, shape: str = "done") -> None:
        self.alice, self.bob, self.charlie = make_user(), make_user(), make_user()
        self.workspace = make_workspace(self.alice, viewer=self.bob)
        make_workspace(self.charlie)
        self.run = make_run(self.workspace, shape)

    def client(self, user: Any = None) -> Client:
        client = Client()
        if user:
            client.force_login(user)
        return client

    def get(self, user: Any, path: str = "", **headers: str) -> Any:
        return self.client(user).get(self.run.get_absolute_url() + path, headers=headers)


PARTS = ["", "c/2/cells", "c/2/path", "c/1/4/children", "c/1/2/output", "answer"]


@pytest.mark.parametrize("path", PARTS)
def test_part_of_a_run_is_for_members_and_not_found_by_others(path: str) -> None:
    cast = Cast()
    assert cast.get(cast.alice, path).status_code == 200
    assert cast.get(cast.bob, path).status_code == 200
    assert cast.get(cast.charlie, path).status_code == 404
    assert cast.get(None, path).status_code in (302, 404)


@pytest.mark.parametrize("path", PARTS[1:])
def test_part_of_a_run_is_there_for_a_share_until_it_is_revoked(path: str) -> None:
    cast = Cast()
    share = cast.run.shares.create(created_by=cast.alice)
    assert cast.client().get(share.get_absolute_url() + path).status_code == 200
    cast.run.shares.update(revoked_at=cast.run.created_at)
    assert cast.client().get(share.get_absolute_url() + path).status_code == 404


@pytest.mark.parametrize("path", ["c/99/cells", "c/99/path", "c/1/99/children", "c/99/1/output"])
def test_part_that_is_not_there_is_not_found(path: str) -> None:
    cast = Cast()
    assert cast.get(cast.alice, path).status_code == 404


def test_stop_button_is_for_who_may_edit() -> None:
    cast = Cast("running")
    stop = reverse("run-stop", args=[cast.workspace.slug, cast.run.key])
    assert b"Stop" in cast.get(cast.alice).content
    assert b"btn-danger" not in cast.get(cast.bob).content
    assert cast.client(cast.charlie).post(stop).status_code == 404
    assert cast.client(cast.bob).post(stop).status_code == 403
    assert cast.client(cast.alice).get(stop).status_code == 405
    assert cast.client(cast.alice).post(stop).status_code == 302
    assert Run.objects.get(pk=cast.run.pk).stop_requested_at


@pytest.mark.parametrize("shape", ["running", "done", "crowd"])
def test_page_asks_the_database_a_fixed_number_of_times(shape: str, django_assert_max_num_queries: Any) -> None:
    cast = Cast(shape)
    client = cast.client(cast.alice)
    with django_assert_max_num_queries(15):
        assert client.get(cast.run.get_absolute_url()).status_code == 200


@pytest.mark.parametrize("shape", ["running", "done"])
def test_page_opens_a_socket_for_what_is_to_come(shape: str) -> None:
    cast = Cast(shape)
    assert b'ws-connect="/ws/w/' in cast.get(cast.alice).content


def test_page_shows_the_text_still_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cast = Cast("running")
    rows = Rows(cast.run)
    child = cast.run.call_set.get(number=5)
    rows.start(child)
    rows.turn(child)

    async def read(run_id: int) -> dict[tuple[int, int, str], str]:
        return {(5, 1, "reply"): "I count the\x1b[2J letters", (4, 1, "output"): "half of the output"}

    monkeypatch.setattr("analyses.live.read", read)
    html = cast.get(cast.alice).content.decode()
    assert "[2J letters" in html and "\x1b" not in html and "half of the output" in html


def test_failed_run_says_why_and_what_to_do() -> None:
    cast = Cast("failed")
    html = cast.get(cast.alice).content.decode()
    assert "The endpoint refused the key (401). Everything up to there is kept below" in html


def answered(answer: Any, **fields: Any) -> str:
    cast = Cast("")
    rows = Rows(cast.run)
    rows.begin()
    rows.end(answer=answer, **fields)
    return cast.get(cast.alice).content.decode()


def test_text_answer_is_sanitised_markdown() -> None:
    html = answered(
        "# Five\n\n**bold** <script>alert(1)</script> [x](javascript:alert(1)) ![i](http://evil/x.png)\n\n- one"
    )
    assert "<h3>Five</h3>" in html and "<strong>bold</strong>" in html and "<li>one</li>" in html
    assert is_inert(re.search(r'<section class="panel answer".*?</section>', html, re.S)[0])  # type: ignore[index]
    assert "<img" not in html


def test_list_of_records_is_a_table() -> None:
    html = answered([{"speaker": "Vane", "hour": "02:10"}, {"speaker": "<b>", "note": {"a": 1}}], name="accounts")
    assert "<table" in html and "&lt;b&gt;" in html and "returned from variable <b><code>accounts</code></b>" in html
    assert "answer?as=csv" in html


def test_nested_answer_is_a_folded_structure() -> None:
    html = answered({"who": {"Vane": ["02:10", "02:20"]}, "count": 5})
    assert "<details open><summary><b>who</b>" in html and "<b>count</b>" in html


@pytest.mark.parametrize("answer", [0, False, 3.5, "", [], {}, [1, [2]], "x" * 100_000, [{"n": n} for n in range(500)]])
def test_any_answer_gives_a_page(answer: Any) -> None:
    html = answered(answer)
    assert 'id="answer"' in html and len(html) < 250_000


def test_answer_written_by_the_model_and_cut_short_by_a_limit_says_so() -> None:
    html = answered("half", status="limit", reason="The run reached its limit of 500 calls.", partial=True)
    assert "written by the model" in html and "Answer, partial" in html and "Ask again with a higher limit" in html


def test_csv_of_an_answer_does_not_run_as_formulas() -> None:
    cast = Cast("")
    rows = Rows(cast.run)
    rows.end(answer=[{"who": "=cmd|' /C calc'!A0", "n": -3}])
    response = cast.get(cast.alice, "answer?as=csv")
    assert response.content.decode().splitlines()[1] == "'=cmd|' /C calc'!A0,-3"
    assert response["Content-Disposition"].startswith("attachment")
    assert "sandbox" in response["Content-Security-Policy"]


def test_whole_output_is_a_download_or_a_part_of_the_page() -> None:
    cast = Cast()
    assert cast.get(cast.alice, "c/1/2/output")["Content-Type"] == "text/plain; charset=utf-8"
    assert b"data-whole-output" in cast.get(cast.alice, "c/1/2/output", hx_request="true").content


def test_children_of_a_crowd_come_in_pages() -> None:
    cast = Cast("crowd")
    first = cast.get(cast.alice, "c/1/4/children").content.decode()
    assert first.count('class="call"') == 50 and "50 left" in first and "children?after=51" in first
    second = cast.get(cast.alice, "c/1/4/children?after=51").content.decode()
    assert second.count('class="call"') == 50 and "Show more" not in second


def test_address_alone_opens_what_a_script_would_fetch() -> None:
    """Plain links: a page without JavaScript reaches every call."""
    cast = Cast("crowd")
    rows = Rows(cast.run)
    grandchild = rows.call(cast.run.call_set.get(number=5), 1)
    html = cast.get(cast.alice).content.decode()
    assert 'href="?list=1.4.0#cell-1-4-more"' in html and 'id="call-60"' not in html
    html = cast.get(cast.alice, "?list=1.4.51").content.decode()
    assert 'id="call-52"' in html and 'id="call-101"' in html and 'id="call-51"' not in html
    assert 'href="?open=60#call-60"' in html and 'data-opened="c52 c53' in html
    html = cast.get(cast.alice, f"?open={grandchild.number}").content.decode()
    assert f'id="call-{grandchild.number}"' in html and 'data-opened="c5 b102 b5"' in html
    assert 'id="call-5" role="treeitem" aria-level="3" aria-setsize="-1" aria-posinset="4" aria-expanded="true"' in html
    html = cast.get(cast.alice, "?q=context").content.decode()
    assert 'href="?open=1#cell-1-1-L1"' in html
    for nonsense in ("?open=0", "?open=99999", "?open=x", "?list=1", "?list=9.9.9", "?list=1.99.0", "?list=a.b.c"):
        assert cast.get(cast.alice, nonsense).status_code == 200


def test_list_of_a_crowd_that_may_grow_asks_for_its_newcomers() -> None:
    cast = Cast("fifteen")
    assert "data-live" not in cast.get(cast.alice, "c/1/4/children").content.decode()
    Run.objects.filter(pk=cast.run.pk).update(status="running")
    cast.run.cell_set.filter(call_number=1, number=4).update(status="waiting")
    html = cast.get(cast.alice, "c/1/4/children").content.decode()
    assert "c16 l1-4" in html and "data-live" in html


def test_cost_is_what_is_known_of_it() -> None:
    cast = Cast("")
    rows = Rows(cast.run)
    rows.change_run(limits={"cost": 2.0}, status="running")
    assert "<b>no reply yet</b>" in cast.get(cast.alice).content.decode()
    rows.change_run(prompt_tokens=100, cost=0.0)
    assert "<b>$0</b>" in cast.get(cast.alice).content.decode()
    rows.change_run(cost=None)
    html = cast.get(cast.alice).content.decode()
    assert "<b>not known</b>" in html and "of $2" not in html


def test_path_of_a_call_leads_from_the_root_through_its_crowd() -> None:
    cast = Cast("crowd")
    steps = cast.get(cast.alice, "c/60/path").json()
    assert [step["call"] for step in steps] == [1, 60]
    assert steps[1] | {"crowd": True, "cell": 4, "from": 1, "after": 59} == steps[1]


@pytest.mark.parametrize(
    ("show", "first", "count"), [("failed", "call-32", 4), ("running", "none now", 0), ("slowest", "call-", 50)]
)
def test_crowd_can_be_seen_by_status_and_by_size(show: str, first: str, count: int) -> None:
    cast = Cast("crowd")
    html = cast.get(cast.alice, f"c/1/4/children?show={show}").content.decode()
    assert html.count('class="call"') == count and first in html


def test_search_finds_code_output_and_answers_and_links_to_them() -> None:
    cast = Cast()
    html = cast.get(cast.alice, "search?q=batch_llm").content.decode()
    assert 'href="#cell-1-4-L2"' in html and "<mark>batch_llm</mark>" in html
    assert 'href="#cell-1-2"' in cast.get(cast.alice, "search?q=a+letter").content.decode()
    assert 'href="#call-3"' in cast.get(cast.alice, "search?q=limit+of+20").content.decode()
    assert "Nothing in code" in cast.get(cast.alice, "search?q=%3Cb%3Enowhere").content.decode()
    assert b"<b>nowhere" not in cast.get(cast.alice, "search?q=%3Cb%3Enowhere").content


def test_inspector_shows_variables_and_the_messages_sent_at_a_turn() -> None:
    cast = Cast()
    html = cast.get(cast.alice, "c/1/2/inspect").content.decode()
    assert "hits" in html and "list · list[31]" in html
    assert html.count('class="message"') == 3  # the probe, the first reply, the first output
    assert cast.get(cast.alice, "c/1/inspect").status_code == 200
    assert cast.get(cast.alice, "c/1/99/inspect").status_code == 404
    assert cast.get(cast.charlie, "c/1/2/inspect").status_code == 404


def test_pause_and_go_on_are_for_who_may_edit() -> None:
    cast = Cast("running")
    pause, resume = (reverse(name, args=[cast.workspace.slug, cast.run.key]) for name in ("run-pause", "run-resume"))
    assert b"Go on" not in cast.get(cast.bob).content
    for url in (pause, resume):
        assert cast.client(cast.charlie).post(url).status_code == 404
        assert cast.client(cast.bob).post(url).status_code == 403
        assert cast.client(cast.alice).get(url).status_code == 405
    assert cast.client(cast.alice).post(pause).status_code == 302
    assert Run.objects.get(pk=cast.run.pk).pause_requested_at
    assert b"Pausing" in cast.get(cast.alice).content
    Run.objects.filter(pk=cast.run.pk).update(status="paused", lease_token="")
    assert b"It rests" in cast.get(cast.alice).content
    assert cast.client(cast.alice).post(resume).status_code == 302
    run = Run.objects.get(pk=cast.run.pk)
    assert (run.status, run.pause_requested_at) == ("queued", None)


def test_a_cell_whose_replay_differs_says_so() -> None:
    cast = Cast("running")
    said = b"It ran again when the run was taken up"
    assert said not in cast.get(cast.alice).content
    cast.run.cell_set.filter(status="done").update(replay_differs=True)
    assert said in cast.get(cast.alice).content


@pytest.mark.django_db
def test_many_children_that_began_before_their_root_are_drawn_all_the_same() -> None:
    """As a log from elsewhere may tell: its clocks are not ours."""
    run = make_run(shape="done")
    root = Call.objects.get(run=run, number=1)
    began = root.started_at or 0.0
    Call.objects.bulk_create(
        Call(
            run=run, number=100 + n, parent=root, parent_number=1, parent_cell=4, depth=1, kind="child", strategy="rlm",
            model="m", dialect="async", context_type="str", context_shape="str", status="done", queued_at=began - 9000,
            started_at=began - 9000 + n, finished_at=began - 8000, born=1, seq=2,
        )
        for n in range(400)
    )  # fmt: skip
    timeline = Timeline.of(run, Outline.of(run))
    assert timeline is not None and all(0 <= bar.x <= 100 for bar in timeline.bars)


def test_cells_of_children_have_bars_of_their_own_as_long_as_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(shape="done")
    outline = Outline.of(run)
    of_children = {f"cell-{n}-{m}" for n, m in run.cell_set.exclude(call_number=1).values_list("call_number", "number")}
    assert of_children

    def drawn() -> set[str]:
        timeline = Timeline.of(run, outline)
        assert timeline is not None and all(bar.x >= 0 and bar.x + bar.width <= 100.5 for bar in timeline.bars)
        return {bar.to for bar in timeline.bars}

    failed = {call.number for call in run.call_set.exclude(status="done")}  # a failed call is one bar in its own colour
    shown = {to for to in of_children if int(to.split("-")[1]) not in failed}
    assert shown and shown <= drawn()
    assert {f"call-{n}" for n in run.call_set.exclude(number=1).values_list("number", flat=True)} <= drawn()
    monkeypatch.setattr("analyses.timeline.CELLS_SINGLY", 0)
    assert not of_children & drawn()


def test_a_call_that_was_stopped_is_not_drawn_as_one_that_failed() -> None:
    run = make_run(shape="done")
    limit, done = (run.call_set.filter(status=status).exclude(number=1).first() for status in ("limit", "done"))
    assert limit and done
    run.call_set.filter(pk=done.pk).update(status="stopped")
    timeline = Timeline.of(run, Outline.of(run))
    assert timeline is not None
    bars = {bar.to: (bar.css, bar.said) for bar in timeline.bars if bar.said}
    assert bars == {
        f"call-{done.number}": ("v-stop", f"call {done.number}: stopped"),
        f"call-{limit.number}": ("v-fail", f"call {limit.number}: ended at a limit"),
    }
    assert f"<title>call {done.number}: stopped</title>" in timeline.leaf()


def asked_a_day_later() -> Run:
    """A run whose follow-up was asked a day after its first answer."""
    run = make_run(shape="further")
    after = run.follow_up_set.get(number=2).after_cell
    day = 86_400.0
    run.cell_set.filter(call_number=1, number__gt=after).update(
        started_at=F("started_at") + day, replied_at=F("replied_at") + day, ended_at=F("ended_at") + day
    )
    run.call_set.filter(number=1).update(finished_at=F("finished_at") + day)
    return run


def test_the_day_before_a_follow_up_is_no_part_of_timeline_and_replay() -> None:
    run = asked_a_day_later()
    after = run.follow_up_set.get(number=2).after_cell
    timeline = Timeline.of(run, Outline.of(run))
    assert timeline is not None and timeline.span < 600 and "without the time between the questions" in timeline.caption
    at = {bar.to: bar.x for bar in timeline.bars if bar.css == "v-model"}
    [asked, *_] = [bar for bar in timeline.bars if bar.css == "v-asked"]
    assert at[f"cell-1-{after}"] < asked.x <= at[f"cell-1-{after + 1}"] + 0.1
    found = moments.moments(run)
    assert found["span"] < 600_000
    starts = [found["cells"]["started"][n] for n, call in enumerate(found["cells"]["call"]) if call == 1]
    assert starts == sorted(starts)


def test_the_clock_of_a_run_that_rests_stands() -> None:
    run = make_run(shape="running")
    began = run.call_set.get(number=1).queued_at
    earlier = datetime.fromtimestamp(began - 2, UTC)
    Run.objects.filter(pk=run.pk).update(status="paused", seconds=30.0, started_at=earlier, resumed_at=earlier)
    run.refresh_from_db()
    outline = Outline.of(run)
    time, *_, flight, _ = RunState(run, outline).meters
    cells = run.cell_set.aggregate(a=Max("replied_at"), b=Max("ended_at"))
    last = max([*cells.values(), *(entry.started or 0.0 for entry in outline.calls.values())])
    assert time.ticks is None and time.used == clock(30.0 + last - began + 2)
    assert (flight.name, flight.used) == ("In flight", "0")


def test_a_paused_run_that_is_stopped_has_not_worked_meanwhile() -> None:
    run = make_run(shape="running")
    cells = run.cell_set.aggregate(a=Max("started_at"), b=Max("replied_at"), c=Max("ended_at"))
    day = 86_400
    Run.objects.filter(pk=run.pk).update(
        status="paused", started_at=datetime.fromtimestamp(max(cells.values()) - 5, UTC)
    )
    run.call_set.update(queued_at=F("queued_at") - day, started_at=F("started_at") - day)
    run.refresh_from_db()
    actions.stop_run(run)
    run.refresh_from_db()
    assert run.status == "stopped" and 4 < run.seconds < 6
