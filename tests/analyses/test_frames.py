"""Frames: what they append, what they replace, how they are cut up, and what only pages with an opened part get."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.utils import timezone

from analyses import frames
from analyses.frames import Painter
from analyses.models import Run
from analyses.outline import Outline
from analyses.runpage import run_page_context
from analyses.texts import NO_ANSWER, clean
from analyses.timeline import critical_path
from tests.factories import Rows, make_cell, make_run, steps
from tests.htmlcheck import is_inert

pytestmark = pytest.mark.django_db


def tops(frame: str) -> list[str]:
    """The ids of what a frame replaces, and the targets of what it appends to, in order."""
    found = re.findall(r'^<(?:ul hx-swap-oob="beforeend:#([\w-]+)"|[a-z]+ [^>]*?\bid="([\w-]+)")', frame, re.M)
    return [f"+{target}" if target else name for target, name in found]


def painted(run, start, **how):  # type: ignore[no-untyped-def]
    return "".join(Painter(run).frames(start, {}, **how))


def test_newborn_call_is_appended_to_the_cell_that_asked_for_it() -> None:
    run = make_run(shape="running")
    rows = Rows(run)
    root = run.call_set.get(number=1)
    before = run.seq
    rows.call(root, 4)
    found = tops(painted(run, before))
    assert "+cell-1-4-children" in found
    assert {"cell-1-4-head", "call-1-head"} <= set(found)  # their totals are new
    assert found[-1] == "run-seq"


def test_changed_cell_has_its_leaves_replaced_and_no_container() -> None:
    run = make_run(shape="running")
    cell = run.cell_set.get(call_number=4, number=1)
    before = run.seq
    Rows(run).ran(cell)
    found = tops(painted(run, before, timeline=False))
    assert {"cell-4-1-head", "cell-4-1-code", "cell-4-1-output", "call-4-head", "call-1-head"} <= set(found)
    assert not [name for name in found if name.startswith("+")]
    assert not {"cell-4-1", "call-4", "call-4-cells", "call-4-body", "tree"} & set(found)


def test_code_that_followers_hold_is_not_sent_again() -> None:
    run = make_run(shape="running")
    rows = Rows(run)
    cell = rows.turn(run.call_set.get(number=1))
    painter = Painter(run)
    at = painter.seq
    rows.reply(cell)
    painter.advance()
    assert "cell-1-5-code" in tops("".join(painter.frames(at, {}, following=True)))
    at = painter.seq
    rows.ran(cell)
    painter.advance()
    assert not {"cell-1-5-code", "cell-1-5-reply"} & set(tops("".join(painter.frames(at, {}, following=True))))
    assert "cell-1-5-output" in tops("".join(painter.frames(at, {}, following=True)))
    assert "cell-1-5-code" in tops("".join(painter.frames(at, {})))  # who comes back gets it all


def test_frame_says_where_it_begins_and_ends() -> None:
    run = make_run(shape="running")
    assert painted(run, 7).endswith(f'<span id="run-seq" hidden data-seq="{run.seq}" data-from="7"></span>')


def test_row_born_after_the_cursor_waits_for_the_next_frame() -> None:
    run = make_run(shape="running")
    painter = Painter(run)
    stood = painter.seq
    Rows(run).call(run.call_set.get(number=1), 4)  # written after the painter took its seq
    assert "call-6" not in "".join(painter.frames(0, {}))
    painter.advance()
    assert 'id="call-6"' in "".join(painter.frames(stood, {}))


def test_catch_up_is_cut_into_frames_that_each_begin_where_the_last_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAME_MOST", 9_000)
    run = make_run(shape="done")
    made = Painter(run).frames(0, {})
    assert len(made) > 3
    at = 0
    for frame in made:
        end, start = map(int, re.search(r'data-seq="(\d+)" data-from="(\d+)"', frame).groups())  # type: ignore[union-attr]
        assert start == at
        at = end
    assert at == run.seq


def test_thirteenth_child_turns_the_list_into_a_crowd() -> None:
    run = make_run()
    rows = Rows(run)
    rows.begin()
    root = rows.call()
    rows.start(root)
    make_cell(rows, root)
    for _ in range(12):
        rows.call(root, 1)
    before = run.seq
    assert "cell-1-1-crowd" not in painted(run, 0)
    rows.call(root, 1)
    html = painted(run, before)
    assert "cell-1-1-fan" in tops(html) and "+cell-1-1-children" not in tops(html)
    assert "0 of 13 done" in html


def test_cell_and_its_crowd_born_at_once_come_as_one_piece() -> None:
    run = make_run()
    rows = Rows(run)
    rows.begin()
    root = rows.call()
    rows.start(root)
    before = run.seq
    make_cell(rows, root)
    for _ in range(13):
        rows.call(root, 1)
    for how in ({}, {"crowds": {(1, 1)}}):
        found = tops(painted(run, before, **how))
        assert "+call-1-cells" in found and "cell-1-1-crowd" not in found  # a leaf before its cell has no place yet


def test_child_of_a_crowd_goes_only_to_pages_that_opened_it() -> None:
    run = make_run(shape="crowd")
    rows = Rows(run)
    child = run.call_set.get(number=9)
    before = run.seq
    rows.change(child, notes=["the endpoint was asked again after 2 s"])
    painter = Painter(run)
    assert "call-9-head" not in "".join(painter.frames(before, {}))
    assert "cell-1-4-crowd" in "".join(painter.frames(before, {}))
    assert tops("".join(painter.part("c9", before, {}))) == ["call-9-head"]
    assert tops("".join(painter.part("b9", before, {}))) == ["call-9-about", "call-9-end"]
    assert painter.part("b10", before, {}) == []


def test_newcomer_to_a_crowd_goes_to_pages_that_have_its_list_to_the_end() -> None:
    run = make_run(shape="fifteen")
    before = run.seq
    Rows(run).call(run.call_set.get(number=1), 4)
    painter = Painter(run)
    assert "call-17-head" not in "".join(painter.frames(before, {}))
    (piece,) = painter.part("l1-4", before, {})
    assert tops(piece) == ["+cell-1-4-children"]
    assert f'<li data-opened="c17" data-seq="{painter.seq}" hidden' in piece and 'id="call-17"' in piece
    assert (
        painter.part("l1-4", painter.seq, {}) == painter.part("l1-3", before, {}) == painter.part("l99-1", 0, {}) == []
    )


def test_slowest_and_costliest_siblings_are_marked_when_all_have_ended_and_no_more_when_one_comes() -> None:
    run = make_run()
    rows = Rows(run)
    rows.begin()
    root = rows.call()
    rows.start(root)
    rows.turn(root)
    made = [rows.call(root, 1) for _ in range(3)]
    for call, (seconds, cost) in zip(made, [(2, 0.5), (9, 0.1), (3, 0.2)], strict=True):
        before = run.seq
        rows.change(call, status="done", started_at=1000.0, finished_at=1000.0 + seconds, cost=cost, prompt_tokens=5)
    html = painted(run, before)
    assert {"call-2-head", "call-3-head", "call-4-head"} <= set(tops(html))  # two did not change themselves
    assert html.count("costliest of 3") == html.count("slowest of 3") == 2  # a title, and words for who does not see it
    before = run.seq
    rows.call(root, 1)
    html = painted(run, before)
    assert {"call-2-head", "call-3-head"} <= set(tops(html)) and "est of 3" not in html


def test_bars_of_the_timeline_lead_to_cells_and_calls() -> None:
    plot = painted(make_run(shape="done"), 0).partition('id="timeline-plot"')[2]
    assert 'href="#cell-1-4"' in plot and 'href="#call-3"' in plot


def test_cells_of_an_ended_call_say_which_took_most() -> None:
    run = make_run(shape="done")
    html = painted(run, 0)
    assert "slowest of 6" in html and "costliest of 6" in html
    running = make_run(shape="running")
    assert "of 6)" not in painted(running, 0)


def test_summary_of_a_crowd_can_be_held_back() -> None:
    run = make_run(shape="crowd")
    before = run.seq
    Rows(run).change(run.call_set.get(number=9), notes=["n"])
    painter = Painter(run)
    assert painter.crowds("", before) == {(1, 4)}
    assert "cell-1-4-crowd" not in "".join(painter.frames(before, {}, crowds=()))


def test_children_that_were_stopped_have_not_failed() -> None:
    run = make_run(shape="crowd")
    rows = Rows(run)
    before = run.seq
    rows.finish(run.call_set.get(number=9), "stopped", "Stopped by a member.")
    rows.change(run.call_set.get(number=10), status="stopped")
    html = painted(run, before)
    assert re.search(r"\d+ failed</span>, \d+ stopped", html) and "v-stop" in html
    crowd = Painter(run).outline.crowd(1, 4)
    assert (
        crowd.stopped == 2 and crowd.total == crowd.done + crowd.failed + crowd.stopped + crowd.running + crowd.queued
    )


def test_line_of_a_cell_is_the_whole_first_line_of_its_code() -> None:
    run = make_run(shape="running")
    rows = Rows(run)
    cell = rows.turn(run.call_set.get(number=1))
    before = run.seq
    code = "FINAL({'three': words, 'text': f'second: {words}. And more'})"
    rows.reply(cell, code=f"{code}\n{'x' * 200}", reply="")
    assert f"{code}</span>" in unescape(painted(run, before))


def test_live_text_goes_to_the_leaf_of_its_cell_while_it_is_written() -> None:
    run = make_run(shape="running")
    rows = Rows(run)
    child = run.call_set.get(number=5)
    rows.start(child)
    rows.turn(child)
    texts = {(5, 1, "reply"): "I look.\n\n```repl\nprint(context[:<b>", (1, 1, "reply"): "long done"}
    found = Painter(run).written({(5, 1), (1, 1)}, texts)
    assert list(found) == [""]
    assert tops("".join(found[""])) == ["cell-5-1-reply"]
    assert "print(context[:&lt;b&gt;" in found[""][0] and "```" not in found[""][0]


def test_what_a_cell_printed_is_escaped_in_every_leaf() -> None:
    evil = '</pre><script>alert(1)</script>" onload="x\x1b[31m\u202e'
    evil = clean(evil)  # as whoever writes rows does; the rest is for the page
    run = make_run()
    rows = Rows(run)
    rows.begin()
    root = rows.call(title=evil, context_shape=evil)
    rows.start(root)
    cell = rows.turn(root)
    rows.reply(cell, code=f"print('{evil}')", prose=evil, reasoning=evil)
    rows.ran(cell, shown=evil, error=evil)
    rows.finish(root, "failed", evil, answer={"<b>": evil}, name="<i>")
    rows.end("failed", evil, answer=evil)
    html = painted(run, 0)
    assert is_inert(html) and "\x1b" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_critical_path_is_the_chain_that_the_end_waited_for() -> None:
    run = make_run()
    rows = Rows(run)
    rows.begin()
    root = rows.call()
    rows.start(root)
    rows.turn(root)
    made = [rows.call(root, 1) for _ in range(4)]
    times = [(0, 5), (0, 3), (3, 9), (5, 8)]  # two lanes: 2 then 5, 3 then 4; 4 ends last, having waited for 3
    for call, (start, end) in zip(made, times, strict=True):
        rows.change(call, status="done", started_at=1000.0 + start, finished_at=1000.0 + end)
    run.refresh_from_db()
    assert critical_path(Outline.of(run)) == {3, 4}


def test_the_root_rests_between_two_questions_alike_in_page_and_frames() -> None:
    """Whatever of a follow-up is written by then: who loads the page sees of the root's time what who was there sees."""
    run = make_run()
    painter = Painter(run)
    head, seen = "", []

    def look() -> None:
        nonlocal head
        before = painter.seq
        painter.advance()
        # Its line stands until a frame brings another.
        for frame in painter.frames(before, {}, following=True):
            head = _root_head(frame) or head
        tree_root = run_page_context(Run.objects.get(pk=run.pk))["root"]
        assert (tree_root.leaf("head") if tree_root else "") == head
        if tree_root and tree_root.row.started_at:
            seen.append(rows.clock - tree_root.ticks_from if tree_root.seconds is None else tree_root.seconds)

    rows = Rows(run, on_write=look)
    for _ in steps(run, "further", rows):
        pass
    root = run.call_set.get(number=1)
    for after in (False, True):  # the second of its questions ends before it has a turn; so does the next
        rows.change_run(status="running", resumed_at=timezone.now())
        rows.change(root, status="running", finished_at=None, **NO_ANSWER)
        if after:
            rows.turn(root)
        rows.finish(root, "failed", "The endpoint refused the key (401).")
        rows.end("failed", "The endpoint refused the key (401).")
        rows.further("And now?")
    assert run.follow_ups == 4 and root.finished_at - root.started_at > 3 * 3600
    assert 20 < seen[-1] < 120 and max(seen) < 120


def _root_head(frame: str) -> str:
    found = re.search(r'<div class="call-head" id="call-1-head".*?\n</div>\n', frame, re.S)
    return found[0] if found else ""
