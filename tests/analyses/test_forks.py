"""Forks at the level of rows: what is copied, what is reused, what is paid for, and what a death in between loses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analyses import deletion, forks
from analyses.actions import RunRefused
from analyses.follow_ups import ask_follow_up
from analyses.forks import Change
from analyses.models import Call, Cell, Run
from analyses.trajectory import archive, jsonl, markdown, notebook
from analyses.trajectory.importing import import_file
from analyses.worker import Worker
from tests.analyses.test_resume import abandon, ask, cut, endpoint_of, execute, tree, workers
from tests.factories import make_run
from tests.rlm.conftest import cell
from tests.rlm.test_replay import FAMILY
from tests.scripted.fixture import Scripted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.firejail]
assert workers  # the fixture of the runs that are taken up

PIECES: dict[str, Any] = {
    "rules": [
        {"match": "# Instruction\npiece b", "reply": {"status": 400, "error": {"error": {"message": "not this one"}}}},
        {"match": "# Instruction\npiece", "turn": 0, "reply": cell("FINAL(context * 2)")},
        {"turn": 0, "reply": "First I look.\n\n" + cell("n = len(context)\nprint(n)")},
        {"turn": 1, "reply": cell("r = await batch_llm_query(*[llm_query(c, 'piece ' + c) for c in 'abc'])\nprint(r)")},
        {"turn": 2, "reply": cell("FINAL([n, [str(x) for x in r]])")},
    ]
}
MENDED = {"rules": [{"match": "# Instruction\npiece b", "turn": 0, "reply": cell("FINAL('B')")}, *PIECES["rules"][1:]]}


def finished(workers: Callable[[], Worker], server: Scripted, run: Run | None = None) -> Run:
    return execute(workers(), run or ask(server), server)


def fork(run: Run, server: Scripted, change: Change) -> Run:
    return forks.fork_run(run, None, change, endpoint=endpoint_of(server), wake=False)


def answer(run: Run) -> Any:
    return run.answer_display


def again_of(run: Run, call: Call) -> Call:
    return Call.objects.get(run=run, identity=call.identity)


def rows_of(run: Run) -> list[Any]:
    return [*Call.objects.filter(run=run), *Cell.objects.filter(run=run)]


def check_rows(run: Run) -> None:
    """What holds of every run's rows: seq and born once each, parents first, sums that are those of the rows."""
    rows = rows_of(run)
    assert len({row.seq for row in rows}) == len(rows) == len({row.born for row in rows})
    for call in Call.objects.filter(run=run).select_related("parent"):
        assert call.parent is None or (call.parent.number, call.parent.run_id) == (call.parent_number, run.pk)
        assert call.parent is None or (call.parent.number < call.number and call.parent.born < call.born)
    cells = list(Cell.objects.filter(run=run).select_related("call"))
    assert all(c.call.run_id == run.pk and c.call.number == c.call_number and c.call.born < c.born for c in cells)
    own = [c for c in cells if not c.reused]
    assert run.prompt_tokens == sum(c.prompt_tokens for c in own)
    assert run.reused["prompt_tokens"] == sum(c.prompt_tokens for c in cells if c.reused)
    assert run.calls == Call.objects.filter(run=run).count()
    assert run.cells == sum(c.kind in ("code", "tool") for c in cells)
    assert run.reused["calls"] == Call.objects.filter(run=run, reused_at__isnull=False).count()
    for call in Call.objects.filter(run=run):
        assert call.prompt_tokens == sum(c.prompt_tokens for c in cells if c.call_number == call.number)
    for one in cells:
        children = Call.objects.filter(run=run, parent_number=one.call_number, parent_cell=one.number)
        assert one.children_total == children.count()
        assert one.children_done == children.filter(status="done").count()


def test_a_fork_runs_the_edited_cell_and_pays_for_what_follows_alone(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    server = scripted(PIECES)
    source = finished(workers, server)
    assert (source.status, source.failed_calls) == ("done", 1)
    before, rows = tree(source), {(type(r), r.pk): r.seq for r in rows_of(source)}
    server = scripted(PIECES)
    code = Cell.objects.get(run=source, call_number=1, number=2).code.replace("'abc'", "'acd'")
    run = fork(source, server, Change(1, 2, code=code))
    assert (run.status, run.calls, run.forked_from, run.seed) == ("queued", 0, source, source.seed)
    assert run.fork == {
        "run": source.number, "kind": "edit", "call": 1, "cell": 2, "code": code, "changed": ["code"],
    }  # fmt: skip
    run = finished(workers, server, run)
    assert run.answer_display == [14, ["aa", "cc", "dd"]], run.reason
    assert server.stats()["requests"] == 1 + 1  # the child d, and the root's turn after the edited cell
    check_rows(run)
    edited = Cell.objects.get(run=run, call_number=1, number=2)
    assert (edited.edited, edited.reused, edited.code, edited.status) == (True, True, code, "done")
    assert "'abc'" in edited.reply and (edited.children_total, edited.children_done) == (3, 3)
    reused = Call.objects.filter(run=run, reused_at__isnull=False)
    assert {call.instruction for call in reused} == {"piece a", "piece c"} and run.failed_calls == 0
    assert Cell.objects.filter(call__in=reused, reused=False).count() == 0
    assert "'acd'" in str(Cell.objects.get(run=run, call_number=1, number=3).messages)
    assert not Cell.objects.filter(run=run, replay_differs=True).exists()
    # The other run is as it was.
    assert tree(source) == before and {(type(r), r.pk): r.seq for r in rows_of(source)} == rows


def test_a_failed_child_is_retried_without_its_siblings(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    server = scripted(PIECES)
    source = finished(workers, server)
    [failed] = forks.failed_children(source, 1, 2)
    server = scripted(MENDED)
    run = forks.retry_children(
        source, None, call=1, cell=2, children=[failed], endpoint=endpoint_of(server), wake=False
    )
    run = finished(workers, server, run)
    assert run.answer_display == [14, ["aa", "B", "cc"]]
    assert server.stats()["requests"] == 1 + 1
    assert (run.failed_calls, run.fork["kind"], run.fork["retried"]) == (0, "retry", [failed])
    check_rows(run)
    with pytest.raises(RunRefused, match="has failed"):
        forks.retry_children(source, None, call=1, cell=2, children=[1], endpoint=endpoint_of(server))
    done = Call.objects.get(run=source, instruction="piece a").number
    with pytest.raises(RunRefused, match=f"call {done} has not"):
        forks.retry_children(source, None, call=1, cell=2, children=[failed, done], endpoint=endpoint_of(server))


def test_a_cell_is_written_again_where_a_limit_or_a_model_is_another(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    server = scripted(FAMILY)
    source = finished(workers, server)
    server = scripted(FAMILY)
    run = finished(workers, server, fork(source, server, Change(1, 3, model="grander", limits={"turns": 9})))
    assert run.answer_display == source.answer_display and server.stats()["requests"] == 2
    assert {request["model"] for request in server.log()} == {"grander"}
    assert (run.root_model, run.limits["turns"], run.fork["changed"]) == ("grander", 9, ["model", "limits"])
    check_rows(run)
    # Another model of child calls: what they said is not reused.
    server = scripted(FAMILY)
    change = Change(1, 2, code=Cell.objects.get(run=source, call_number=1, number=2).code, child_model="other")
    run = finished(workers, server, fork(source, server, change))
    assert run.status == "done" and run.reused["calls"] == 0
    assert server.stats()["requests"] == 11
    check_rows(run)


def test_a_child_deep_in_the_tree_is_forked_and_those_above_it_go_on(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    server = scripted(FAMILY)
    source = finished(workers, server)
    child = Call.objects.get(run=source, instruction="child of two")
    server = scripted(FAMILY)
    run = finished(workers, server, fork(source, server, Change(child.number, 1, code="half = 1\nprint('mine')")))
    assert answer(run)["a"][0] == [1, 1]
    # Turn 2 of the child, the grandchild with another context; turns 3 and 4 of the root, whose last child is other too.
    assert server.stats()["requests"] == 2 + 2 + 2
    check_rows(run)
    assert Call.objects.get(run=run, identity=child.identity).reused_at is None
    # Another instruction: that call begins anew, what its parent asked for is still who it is.
    script = {"rules": [{"match": "# Instruction\nbe brief", "reply": cell("FINAL([0, 0])")}, *FAMILY["rules"]]}
    server = scripted(script)
    run = finished(workers, server, fork(source, server, Change(child.number, 2, instruction=" be brief ")))
    assert answer(run)["a"][0] == [0, 0]
    again = Call.objects.get(run=run, identity=child.identity)
    assert (again.instruction, again.turns, run.fork["cell"]) == ("be brief", 1, 1)
    check_rows(run)
    # It stays what the person gave it, in a fork of the fork too.
    server = scripted(script)
    run = finished(workers, server, fork(run, server, Change(child.number, 1, model="other")))
    assert answer(run)["a"][0] == [0, 0] and "be brief" in str(
        Cell.objects.get(run=run, call=again_of(run, child)).messages
    )


def test_another_question_keeps_nothing_of_the_root_and_reuses_equal_children(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    server = scripted(PIECES)
    source = finished(workers, server)
    server = scripted(PIECES)
    run = finished(workers, server, fork(source, server, Change(1, 3, instruction="Another?")))
    assert (run.question, run.answer_display) == ("Another?", [8, answer(source)[1]])  # it is the context too
    assert server.stats()["requests"] == 3
    assert "Another?" in str(Cell.objects.get(run=run, call_number=1, number=1).messages)
    check_rows(run)
    server = scripted(MENDED)
    run = finished(workers, server, fork(source, server, Change(1, 3, instruction="Another?", again=True)))
    assert run.answer_display == [8, ["aa", "B", "cc"]] and server.stats()["requests"] == 4


def test_a_fork_of_a_fork(workers: Callable[[], Worker], scripted: Callable[..., Scripted]) -> None:
    server = scripted(PIECES)
    source = finished(workers, server)
    code = Cell.objects.get(run=source, call_number=1, number=2).code
    first = finished(workers, server, fork(source, server, Change(1, 2, code=code.replace("'abc'", "'acd'"))))
    server = scripted(PIECES)
    second = finished(workers, server, fork(first, server, Change(1, 2, code=code.replace("'abc'", "'acde'"))))
    assert second.answer_display == [14, ["aa", "cc", "dd", "ee"]]
    assert server.stats()["requests"] == 2 and second.reused["calls"] == 3
    check_rows(second)
    third = finished(workers, server, fork(second, server, Change(1, 3)))  # the edited cell is kept: it is edited still
    kept = Cell.objects.get(run=third, call_number=1, number=2)
    assert kept.edited and not kept.replay_differs and third.answer_display == second.answer_display
    check_rows(third)


def test_a_fork_cut_after_any_event_is_taken_up_and_ends_as_it_would_have(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, first, second = scripted(FAMILY), workers(), workers()
    source = execute(first, ask(server), server)
    code = Cell.objects.get(run=source, call_number=1, number=2).code + "\nprint('and more')"
    change = Change(1, 2, code=code)
    server = scripted(FAMILY)
    whole = execute(first, fork(source, server, change), server)
    expected, requests = tree(whole), server.stats()["requests"]
    assert whole.status == "done" and whole.reused["calls"] >= 4
    for most in range(0, 14):
        server = scripted(FAMILY)
        with monkeypatch.context() as patched:
            cut(patched, most)
            run = execute(first, fork(source, server, change), server)
        assert run.status == "running"
        answered = Cell.objects.filter(run=run, replied_at__isnull=False, reused=False).count()
        asked = server.stats()["requests"]
        abandon(run)
        run = execute(second, run, server, orphaned=True)
        assert tree(run) == expected, f"cut after {most}"
        assert server.stats()["requests"] - asked == requests - answered, f"cut after {most}"
        check_rows(run)


@pytest.fixture
def done(workers: Callable[[], Worker], scripted: Callable[..., Scripted]) -> Iterator[tuple[Run, Scripted]]:
    server = scripted(PIECES)
    yield finished(workers, server), server


def test_a_fork_goes_out_and_comes_in_as_it_is(done: tuple[Run, Scripted], workers: Callable[[], Worker]) -> None:
    source, server = done
    code = Cell.objects.get(run=source, call_number=1, number=2).code
    run = finished(workers, server, fork(source, server, Change(1, 2, code=code.replace("'abc'", "'acd'"))))
    first = b"".join(jsonl.export(run))
    [outcome] = import_file(io.BytesIO(first), "fork.jsonl", run.workspace, None)
    assert outcome.run is not None, outcome.reason
    assert b"".join(jsonl.export(outcome.run)) == first
    assert (outcome.run.fork, outcome.run.reused, outcome.run.forked_from) == (run.fork, run.reused, None)
    check_rows(outcome.run)
    assert "changed by a person" in b"".join(markdown.export(run)).decode()
    assert "reused from the run" in b"".join(notebook.export(run)).decode()
    lines = first.splitlines(keepends=True)
    for bad in ({"run": "x"}, {"other": 1}, ["run"], {"changed": "code"}):
        broken = json.dumps(json.loads(lines[0]) | {"fork": bad}).encode() + b"\n" + b"".join(lines[1:])
        [outcome] = import_file(io.BytesIO(broken), "bad.jsonl", run.workspace, None)
        assert outcome.run is None and "fork" in outcome.reason
    old = [json.loads(line) for line in lines]
    for line in old:
        for name in ("fork", "reused", "reused_at", "edited"):
            line.pop(name, None)
    [outcome] = import_file(
        io.BytesIO(b"".join(json.dumps(line).encode() + b"\n" for line in old)), "old.jsonl", run.workspace, None
    )
    assert outcome.run is not None and outcome.run.fork == {}


def test_what_cannot_be_forked_says_why(done: tuple[Run, Scripted]) -> None:
    source, server = done
    code = Cell.objects.get(run=source, call_number=1, number=2).code
    for change, why in (
        (Change(1, 9), "no cell 1.9"),
        (Change(1, 2, code="for x in range(3)\n  pass"), "line 1: expected ':'"),
        (Change(1, 2, code="x = 1\ny = (\n"), "line 2: '\\(' was never closed"),
        (Change(1, 2, code=" \n"), "is empty"),
        (Change(1, 2, code="x" * 100_001), "100,001 characters"),
        (Change(1, 2, code=code), "Nothing is changed"),
        (Change(1, 2, code="print(2)", instruction="other"), "not both"),
        (Change(1, 2, instruction=""), "Write a question"),
        (Change(1, 2, instruction="x" * 20_001), "20,001 characters"),
        (Change(1, 3, limits={"turns": 2}), "at least as many turns"),
        (Change(2, 1, limits={"depth": 0}), "at least that depth"),
        (Change(1, 3, limits={"turns": "many"}), "must be a number"),
    ):
        with pytest.raises(RunRefused, match=why):
            fork(source, server, change)
    Run.objects.filter(pk=source.pk).update(imported_from="rlmkit")
    source.refresh_from_db()
    with pytest.raises(RunRefused, match="log of another place"):
        fork(source, server, Change(1, 2, code="print(2)"))
    with pytest.raises(RunRefused, match="log of another place"):
        forks.retry_children(source, None, call=1, cell=2, children=[3], endpoint=endpoint_of(server))
    assert not Run.objects.exclude(pk=source.pk).exists()


def test_a_run_whose_fork_is_under_way_is_not_deleted(
    done: tuple[Run, Scripted], workers: Callable[[], Worker]
) -> None:
    source, server = done
    run = fork(source, server, Change(1, 3))
    with pytest.raises(deletion.UnderWay, match=f"run {run.number}"):
        deletion.delete_run(source)
    run = finished(workers, server, run)
    deletion.delete_run(source)
    run.refresh_from_db()
    assert run.forked_from is None and run.fork["run"] == source.number
    check_rows(run)
    Run.objects.filter(pk=run.pk).update(status="queued", calls=0, lease_token="")
    Call.objects.filter(run=run).delete()
    run = finished(workers, server, run)
    assert run.status == "failed" and "has been deleted" in run.reason


@pytest.mark.parametrize("how", [deletion.delete_run, archive.archive], ids=["deleted", "archived"])
def test_a_fork_of_a_run_that_goes_meanwhile_is_refused(
    how: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> None:
    source = make_run(shape="done", endpoint="offline")
    monkeypatch.setattr(forks, "_check_room", lambda run, *_: how(Run.objects.get(pk=run.pk)))
    with pytest.raises(RunRefused, match=f"Run {source.number} has been deleted or archived"):
        forks.fork_run(source, None, Change(1, 1), wake=False)
    assert not Run.objects.exclude(pk=source.pk).exists()


def test_what_a_fork_would_do_is_told_before(done: tuple[Run, Scripted]) -> None:
    source, _ = done
    found = forks.foreseen(source, 1, 3)
    assert (found.cells, found.kept, found.reusable, found.anew) == (3, 3, 0, 0)
    found = forks.foreseen(source, 1, 2)
    assert (found.cells, found.kept, found.reusable, found.anew) == (2, 0, 3, 0)
    found = forks.foreseen(source, 1, 2, "again", again=True)
    assert (found.cells, found.kept, found.reusable, found.anew) == (1, 0, 2, 1)
    found = forks.foreseen(source, 1, 3, "instruction")
    assert (found.cells, found.kept, found.reusable, found.anew) == (0, 0, 3, 0)


def test_files_that_reused_sub_agents_wrote_are_there(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    script = {
        "rules": [
            {"match": "# Task\nnote it", "turn": 0, "reply": cell("write_file('n.txt', 'kept')")},
            {"match": "# Task\nnote it", "turn": 1, "reply": "noted"},
            {"turn": 0, "reply": cell("print(await sub_agent('note it', 'abc'))")},
            {"turn": 1, "reply": cell("print(read_file('n.txt'))")},
            {"turn": 2, "reply": "kept, it says"},
        ]
    }
    server = scripted(script)
    run = ask(server)
    Run.objects.filter(pk=run.pk).update(strategy="codeact_files")
    run.refresh_from_db()
    source = finished(workers, server, run)
    assert source.status == "done", source.reason
    code = Cell.objects.get(run=source, call_number=1, number=1).code
    server = scripted(script)
    run = finished(workers, server, fork(source, server, Change(1, 1, code=f"{code}\nprint('more')")))
    assert run.reused["calls"] == 1 and server.stats()["requests"] == 2
    assert "kept" in Cell.objects.get(run=run, call_number=1, number=2).output


def test_follow_ups_before_the_cut_go_along_and_a_fork_is_asked_further(
    workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    further = [{"turn": 3, "reply": cell("FINAL(['further', n])")}, {"turn": 4, "reply": cell("FINAL(['more', n, m])")}]
    script = {"rules": [*PIECES["rules"], *further]}
    server = scripted(script)
    source = finished(workers, server)
    first = source.answer_display
    ask_follow_up(source, None, "And further?", endpoint=endpoint_of(server), wake=False)
    source = finished(workers, server, source)
    assert source.answer_display == ["further", 14]
    archive.archive(source)  # its calls and cells come back with other numbers of birth
    source.refresh_from_db()
    archive.restore(source)
    source.refresh_from_db()
    server = scripted(script)
    run = finished(workers, server, fork(source, server, Change(1, 4, code="m = 7\nFINAL(['mine', n])")))
    assert (run.answer_display, run.follow_ups, server.stats()["requests"]) == (["mine", 14], 1, 0), run.reason
    assert run.earlier_answers.get().answer_display == first
    [asked] = run.follow_up_set.all()
    before, following = (run.cell_set.get(call_number=1, number=number).born for number in (3, 4))
    assert asked.question == "And further?" and before < run.earlier_answers.get().born < asked.born < following
    ask_follow_up(run, None, "And more?", endpoint=endpoint_of(server), wake=False)
    run = finished(workers, server, run)
    assert (run.answer_display, server.stats()["requests"]) == (["more", 14, 7], 1), run.reason
    # Before the follow-up was asked: the fork knows nothing of it.
    run = finished(workers, server, fork(source, server, Change(1, 3)))
    assert (run.answer_display, run.follow_ups) == (first, 0), run.reason


def test_a_fork_whose_source_is_archived_is_asked_further(
    done: tuple[Run, Scripted], workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    source, server = done
    run = finished(workers, server, fork(source, server, Change(1, 3)))
    archive.archive(source)
    server = scripted({"rules": [*PIECES["rules"], {"turn": 3, "reply": cell("FINAL(['further', n])")}]})
    ask_follow_up(run, None, "And further?", endpoint=endpoint_of(server), wake=False)
    run = finished(workers, server, run)
    assert (run.status, run.answer_display) == ("done", ["further", 14]), run.reason


def test_what_a_fork_took_over_gives_its_follow_ups_no_more_calls(
    done: tuple[Run, Scripted], workers: Callable[[], Worker], scripted: Callable[..., Scripted]
) -> None:
    source, server = done
    run = finished(workers, server, fork(source, server, Change(1, 3, limits={"calls": 2})))
    assert (run.status, run.reused["calls"]) == ("done", 3), run.reason
    code = "r = await batch_llm_query(*[llm_query(c, 'piece ' + c) for c in 'xyz'])\nFINAL(len(r))"
    server = scripted({"rules": [*PIECES["rules"], {"turn": 3, "reply": cell(code)}]})
    ask_follow_up(run, None, "And further?", endpoint=endpoint_of(server), wake=False)
    run = finished(workers, server, run)
    assert (run.status, run.reason) == ("limit", "The run's limit of 2 calls is reached.")
