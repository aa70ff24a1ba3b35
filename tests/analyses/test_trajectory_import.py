"""Logs of other harnesses as runs: the real ones, and every way in which one can be odd, broken or hostile."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse

from analyses import blobs
from analyses.models import Call, Cell, Run
from analyses.texts import answer_of
from analyses.trajectory import jsonl
from analyses.trajectory.importing import Outcome, import_file
from analyses.trajectory.limits import ImportLimits
from tests.factories import make_workspace
from workspaces.models import Workspace

pytestmark = pytest.mark.django_db
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "cached_tokens": 50,
    "reasoning_tokens": 4,
    "cost": 0.25,
}


@pytest.fixture
def workspace(db: None) -> Workspace:
    return make_workspace()


def lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


def taken(workspace: Workspace, data: bytes, name: str = "log.jsonl", **limits: int) -> list[Outcome]:
    return import_file(io.BytesIO(data), name, workspace, None, ImportLimits(**limits))


def one(workspace: Workspace, data: bytes, **limits: int) -> Run:
    [outcome] = taken(workspace, data, **limits)
    assert outcome.run is not None, outcome.reason
    run = Run.objects.get(pk=outcome.run.pk)
    assert_consistent(run)
    return run


def assert_consistent(run: Run) -> None:
    """What the live page, replay and lists rely on."""
    calls = list(run.call_set.order_by("born"))
    cells = list(run.cell_set.order_by("born"))
    born: dict[Any, int] = {("call", call.number): call.born for call in calls} | {
        (cell.call_number, cell.number): cell.born for cell in cells
    }
    assert sorted(born.values()) == list(range(1, len(born) + 1))
    assert run.seq == len(born)
    assert run.ended and run.imported_from and run.imported_at
    assert calls[0].number == 1 and calls[0].parent is None
    for row in [*calls, *cells]:
        assert row.seq == row.born
    for call in calls:
        assert call.ended and call.finished_at is not None and call.finished_at >= call.queued_at
        if call.parent_number is not None:
            assert call.parent is not None and call.parent.number == call.parent_number < call.number
            assert call.depth == call.parent.depth + 1
            assert born[call.parent_number, call.parent_cell] < call.born
    for cell in cells:
        assert born["call", cell.call_number] < cell.born
        assert cell.status in ("done", "error", "stopped")
        assert cell.replied_at is None or cell.started_at <= cell.replied_at <= (cell.ended_at or cell.replied_at)
        below = [call for call in calls if (call.parent_number, call.parent_cell) == (cell.call_number, cell.number)]
        assert cell.children_total == len(below) == cell.children_done + cell.children_failed
        assert [call.order for call in below] == list(range(len(below)))
    assert run.calls == len(calls)
    assert run.cells == sum(cell.kind in ("code", "tool") for cell in cells)
    assert run.prompt_tokens == sum(call.prompt_tokens for call in calls)


def refused(workspace: Workspace, data: bytes, **limits: int) -> str:
    [outcome] = taken(workspace, data, **limits)
    assert outcome.run is None
    assert not Run.objects.exists() and not Call.objects.exists() and not Cell.objects.exists()
    return outcome.reason


# — fast-rlm —


def step(
    agent: str, number: int, *, parent: str = "", kind: str = "execution_result", at: int = 0, **fields: Any
) -> dict[str, Any]:
    line = {
        "level": 30,
        "time": f"2026-02-15T22:12:{at:02}.000Z",
        "run_id": agent,
        "depth": 0,
        "step": number,
        "event_type": kind,
    }
    if parent:
        line["parent_run_id"] = parent
    if kind == "execution_result":
        line |= {"output": "[FULL OUTPUT SHOWN]... ok\n", "hasError": False}
    return line | {"code": f"print({number})", "reasoning": "I look.", "usage": USAGE} | fields


def final(agent: str, result: Any, at: int = 59, **fields: Any) -> dict[str, Any]:
    return {
        "time": f"2026-02-15T22:12:{at:02}.000Z",
        "run_id": agent,
        "depth": 0,
        "event_type": "final_result",
        "result": result,
    } | fields


PROBE_USAGE = dict.fromkeys(USAGE, 0)


def probe(agent: str, **fields: Any) -> dict[str, Any]:
    return step(
        agent,
        0,
        output="Context type:  <class 'str'>\nContext length: 12\nContext:  what is six?",
        usage=PROBE_USAGE,
        **fields,
    )


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "calls", "cells", "depth", "tokens", "cost", "answer"),
    [
        ("longbench_hotpot_idx100_2026-02-15T22-12-31-422Z", 1, 5, 0, 29752, 0.0181418, "Polk County"),
        (
            "oolong_synth_idx100_2026-02-15T21-05-04-144Z",
            1,
            4,
            0,
            20575,
            0.014232,
            "Answer: spam is less common than ham",
        ),
        ("r_count_2026-02-22T14-56-34-865Z", 2, 4, 1, 12407, 0.00513542, None),
    ],
)
def test_real_fast_rlm_logs_become_runs(
    workspace: Workspace,
    real_data: Path,
    name: str,
    calls: int,
    cells: int,
    depth: int,
    tokens: int,
    cost: float,
    answer: str | None,
) -> None:
    run = one(workspace, (real_data / "trajectories" / "fast-rlm" / f"{name}.jsonl").read_bytes())
    assert (run.calls, run.cells, run.depth, run.status) == (calls, cells, depth, "done")
    assert run.prompt_tokens + run.completion_tokens == tokens
    assert run.cost == pytest.approx(cost)
    assert answer is None or run.answer_display == answer


@pytest.mark.real_data
def test_real_fast_rlm_child_hangs_at_the_step_that_started_it(workspace: Workspace, real_data: Path) -> None:
    path = real_data / "trajectories" / "fast-rlm" / "r_count_2026-02-22T14-56-34-865Z.jsonl"
    run = one(workspace, path.read_bytes())
    child = run.call_set.get(number=2)
    assert (child.parent_number, child.parent_cell, child.context_chars) == (1, 1, 138)
    assert run.question.startswith("Generate names of 50 fruits")
    assert isinstance(run.answer_display, dict) and run.answer_display["Strawberry"] == 3
    assert run.answer_name == "fruit_r_count"  # FINAL was given a variable
    steps = list(run.cell_set.filter(call_number=1).order_by("number").values_list("number", "kind"))
    assert steps == [(0, "probe"), (1, "code"), (2, "code"), (3, "code")]
    assert child.started_at is not None and child.started_at == pytest.approx(1771772218.974)


def test_fast_rlm_parent_is_known_though_final_result_does_not_name_it(workspace: Workspace) -> None:
    run = one(
        workspace,
        lines(probe("a"), final("b", 6, at=3), probe("b", parent="a", at=1), step("a", 1, at=5), final("a", 6)),
    )
    assert run.calls == 2
    assert run.call_set.get(number=2).answer_display == 6


def test_fast_rlm_agents_that_ran_at_once_are_told_apart(workspace: Workspace) -> None:
    log = [probe("a")]
    log += [probe(f"c{n}", parent="a", at=1) for n in range(3)]
    log += [step(f"c{n}", 1, kind="code_generated", parent="a", at=2 + n) for n in (2, 0, 1)]
    log += [final(f"c{n}", n, at=6, parent_run_id="a") for n in (1, 2, 0)]
    run = one(
        workspace,
        lines(*log, step("a", 1, at=7), step("a", 2, kind="code_generated", code="FINAL(x)", at=8), final("a", [1, 2])),
    )
    assert run.calls == 4
    assert run.cell_set.get(call_number=1, number=1).children_done == 3
    assert run.cell_set.get(call_number=1, number=2).final
    assert {call.answer_display for call in run.call_set.filter(depth=1)} == {0, 1, 2}


def test_fast_rlm_run_without_an_answer_is_cut_off(workspace: Workspace) -> None:
    run = one(workspace, lines(probe("a"), step("a", 1, at=4)))
    assert run.status == "stopped"
    assert "Cut off" in run.reason
    assert run.answer_type == ""


def test_fast_rlm_children_of_a_step_that_was_never_written_are_kept(workspace: Workspace) -> None:
    run = one(workspace, lines(probe("a"), step("a", 1), probe("b", parent="a", at=9), step("b", 1, parent="a", at=10)))
    child = run.call_set.get(number=2)
    assert (child.parent_cell, run.cell_set.get(call_number=1, number=2).kind) == (2, "reply")
    assert run.cells == 2


def test_fast_rlm_newer_logs_tell_times_apart_and_may_lack_cost_and_reasoning(workspace: Workspace) -> None:
    times = {
        "llm_call_start": "2026-02-15T22:12:01.000Z", "llm_call_end": "2026-02-15T22:12:04.500Z",
        "execution_start": "2026-02-15T22:12:04.500Z", "execution_end": "2026-02-15T22:12:06.000Z",
    }  # fmt: skip
    usage = {name: value for name, value in USAGE.items() if name != "cost"}
    start = {"run_id": "a", "depth": 0, "event_type": "agent_start", "time": "2026-02-15T22:12:00.000Z"}
    told = step("a", 1, at=6, timestamps=times, usage=usage, reasoning=None)
    run = one(
        workspace, lines(start, probe("a"), told, {"run_id": "a", "event_type": "surprise", "x": [1]}, final("a", "ok"))
    )
    cell = run.cell_set.get(number=1)
    assert (cell.replied_at or 0) - cell.started_at == pytest.approx(3.5)
    assert cell.seconds == pytest.approx(1.5)
    assert cell.cost is None and run.cost is None
    assert cell.reasoning == ""


def test_fast_rlm_step_without_code_is_a_reply_and_errors_are_counted(workspace: Workspace) -> None:
    failed = step(
        "a",
        1,
        hasError=True,
        output="[FULL OUTPUT SHOWN]... one\n\nError: Traceback (most recent call last):\n  …\nKeyError: 'x' ",
    )
    [outcome] = taken(workspace, lines(probe("a"), failed, step("a", 2, kind="code_generated", code=""), final("a", 1)))
    assert outcome.run is not None
    assert outcome.errors == 1
    cells = {cell.number: cell for cell in outcome.run.cell_set.all()}
    assert cells[2].kind == "reply"
    assert cells[1].status == "error" and "KeyError" in cells[1].error
    assert cells[1].output.startswith("one")
    assert cells[1].shown.startswith("[FULL OUTPUT SHOWN]...")


def test_fast_rlm_two_roots_are_two_runs(workspace: Workspace) -> None:
    outcomes = taken(workspace, lines(probe("a"), probe("b"), final("b", 2), final("a", 1)))
    assert [outcome.run and outcome.run.answer_display for outcome in outcomes] == [1, 2]


def test_fast_rlm_circle_of_parents_is_refused(workspace: Workspace) -> None:
    circle = lines(probe("r"), final("r", 1), probe("a", parent="b"), probe("b", parent="a"))
    assert "circle" in refused(workspace, circle)
    assert "circle" in refused(workspace, lines(probe("a", parent="a")))


def test_fast_rlm_agents_whose_parent_is_lost_get_an_empty_one(workspace: Workspace) -> None:
    run = one(workspace, lines(probe("b", parent="gone"), final("b", 2), probe("c", parent="gone"), final("c", 3)))
    assert run.calls == 3
    assert run.status == "stopped"
    assert run.call_set.get(number=1).turns == 1


# — rlm —


def iteration(
    number: int, *, at: int = 0, prompt: Any = None, code: list[str] | None = None, **fields: Any
) -> dict[str, Any]:
    blocks = [block(text) for text in code or []]
    line = {
        "type": "iteration", "iteration": number, "timestamp": f"2026-01-13T13:25:{at:02}.000000", "prompt": prompt or [{"role": "user", "content": "go"}],
        "response": f"reply {number}", "code_blocks": blocks, "final_answer": None, "iteration_time": 2.0,
    }  # fmt: skip
    return line | fields


def block(code: str, **result: Any) -> dict[str, Any]:
    told = {"stdout": "out\n", "stderr": "", "locals": {"x": 5}, "execution_time": 0.5, "rlm_calls": []}
    return {"code": code, "result": told | result}


def sub_call(prompt: Any = "part", response: Any = "six", **fields: Any) -> dict[str, Any]:
    usage = {
        "model_usage_summaries": {
            "mini": {"total_calls": 1, "total_input_tokens": 30, "total_output_tokens": 3, "total_cost": 0.5}
        }
    }
    return {
        "root_model": "mini",
        "prompt": prompt,
        "response": response,
        "usage_summary": usage,
        "execution_time": 0.1,
    } | fields


METADATA = {
    "type": "metadata", "timestamp": "2026-01-13T13:25:00", "root_model": "gpt-4o", "max_depth": 1, "max_iterations": 30,
    "backend": "openai", "backend_kwargs": {}, "environment_type": "local", "environment_kwargs": {}, "other_backends": None,
}  # fmt: skip
CONTEXT = {
    "type": "run_context",
    "timestamp": "2026-01-13T13:25:01",
    "prompt": "a long text",
    "root_prompt": "What is six?",
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["trace-log-example-first-run", "trace-log-example-first-run-no-run_context"])
def test_real_rlm_logs_become_runs(workspace: Workspace, real_data: Path, name: str) -> None:
    run = one(workspace, (real_data / "trajectories" / "rlm-official" / f"{name}.jsonl").read_bytes())
    assert (run.calls, run.cells, run.depth, run.status, run.answer_display) == (1, 3, 0, "done", "random_number")
    assert run.root_model == "gpt-4o" and run.dialect == "paper" and run.cost is None
    assert run.question == "Generate a random number between 1 and 100."
    assert run.limits == {"turns": 30, "depth": 1}
    first, second, *_ = run.cell_set.order_by("number")
    assert [message["role"] for message in first.messages] == ["system", "assistant", "user"]
    # The log repeats the conversation; only what is new is kept, and that the first turn's last message was taken out.
    assert second.messages[0]["after"] == 2
    assert second.messages[-1]["role"] == "user"
    assert first.shown.startswith("Generate a random number between 1 and 100.")
    assert {
        "name": "random_number",
        "type": "int",
        "size": "",
        "preview": "22",
        "is_context": False,
    } in second.variables


def test_rlm_runs_of_one_file_are_told_apart(workspace: Workspace) -> None:
    log = lines(
        METADATA,
        CONTEXT,
        iteration(1, code=["a"]),
        iteration(2, final_answer="one"),
        CONTEXT,
        iteration(3, final_answer="two"),
    )
    assert [outcome.run and outcome.run.answer_display for outcome in taken(workspace, log)] == ["one", "two"]
    bare = lines(METADATA, iteration(1, final_answer="one"), iteration(2, code=["b"]), iteration(3, final_answer="two"))
    assert [outcome.run and outcome.run.answer_display for outcome in taken(workspace, bare)] == ["one", "two"]


def test_rlm_without_metadata_is_read(workspace: Workspace) -> None:
    run = one(workspace, lines(iteration(1, code=["x = 5"], at=5), iteration(2, final_answer="5", at=9)))
    assert (run.root_model, run.cells, run.status) == ("unknown", 1, "done")


@pytest.mark.parametrize(
    ("told", "answer", "name"),
    [
        ("six", "six", ""),
        (["FINAL", "six"], "six", ""),
        (["FINAL_VAR", "x"], 5, "x"),
        (["str", "six"], "six", ""),
        (["FINAL_VAR", "y"], "y", ""),
    ],
)
def test_rlm_final_answer_is_text_or_type_and_value(workspace: Workspace, told: Any, answer: Any, name: str) -> None:
    run = one(workspace, lines(METADATA, iteration(1, code=["x = 5"], final_answer=told)))
    assert (run.answer_display, run.answer_name) == (answer, name)


def test_rlm_final_answer_within_a_block_counts(workspace: Workspace) -> None:
    run = one(workspace, lines(METADATA, iteration(1, code_blocks=[block("FINAL_VAR('x')", final_answer="5")])))
    assert (run.status, run.answer_display) == ("done", "5")


def test_rlm_sub_calls_are_leaves_and_trajectories_are_calls_with_cells(workspace: Workspace) -> None:
    inner = {
        "run_metadata": METADATA,
        "iterations": [
            iteration(1, code_blocks=[block("z", rlm_calls=[sub_call()])]),
            iteration(2, final_answer="deep"),
        ],
    }
    blocks = [
        block("a", rlm_calls=[sub_call(), sub_call(response="", error="rate limit")]),
        block("b", rlm_calls=[sub_call([{"role": "user", "content": "q"}], "deep", metadata=inner)]),
    ]
    run = one(
        workspace,
        lines(METADATA, CONTEXT, iteration(1, code_blocks=blocks, at=9), iteration(2, final_answer="end", at=11)),
    )
    tree = list(
        run.call_set.order_by("number").values_list("number", "parent_number", "parent_cell", "kind", "status", "depth")
    )
    assert tree == [
        (1, None, None, "root", "done", 0), (2, 1, 1, "leaf", "done", 1), (3, 1, 1, "leaf", "failed", 1),
        (4, 1, 1, "child", "done", 1), (5, 4, 1, "leaf", "done", 2),
    ]  # fmt: skip
    assert run.call_set.get(number=3).reason == "rate limit"
    assert run.call_set.get(number=4).answer_display == "deep"
    assert (run.prompt_tokens, run.completion_tokens, run.failed_calls) == (
        30 * 3,
        3 * 3,
        1,
    )  # the child's sum holds its leaf's
    assert run.cost == pytest.approx(1.5)
    assert run.cell_set.get(call_number=1, number=1).code == "a\n\nb"


@pytest.mark.parametrize(
    ("stderr", "status"),
    [
        ("", "done"),
        ("<stdin>:1: UserWarning: old\n  warn()", "done"),
        ("\nNameError: name 'y' is not defined", "error"),
        ("Traceback (most recent call last):\n…", "error"),
    ],
)
def test_rlm_stderr_is_an_error_only_where_it_names_one(workspace: Workspace, stderr: str, status: str) -> None:
    run = one(
        workspace,
        lines(METADATA, iteration(1, code_blocks=[block("y", stderr=stderr)]), iteration(2, final_answer="1")),
    )
    cell = run.cell_set.get(number=1)
    assert cell.status == status
    assert stderr.strip() in cell.output


def test_rlm_question_is_found_in_the_prompt(workspace: Workspace) -> None:
    asked = 'Think, to answer the original prompt: "Which of these "birds" sing?".\n\nContinue using the REPL'
    run = one(workspace, lines(METADATA, iteration(1, prompt=[{"role": "user", "content": asked}], final_answer="all")))
    assert run.question == 'Which of these "birds" sing?'


# — the others —


@pytest.mark.real_data
def test_real_logs_of_the_other_harnesses_become_runs(workspace: Workspace, real_data: Path) -> None:
    logs = real_data / "trajectories"
    entity = one(workspace, (logs / "la3d-rlm" / "entity_lookup.jsonl").read_bytes())
    assert (entity.cells, entity.prompt_tokens + entity.completion_tokens, entity.status) == (5, 12743, "done")
    assert entity.question == "What is Activity?"
    task = one(workspace, (logs / "node-rlm" / "arc-135a2760.json").read_bytes())
    assert (task.cells, task.status, task.imported_from) == (8, "done", "node-rlm")
    session = b"".join(path.read_bytes() for path in sorted((logs / "rlmkit-session").rglob("session.jsonl")))
    run = one(workspace, session)
    assert (run.calls, run.cells, run.depth, run.status) == (4, 12, 1, "done")
    assert run.question.startswith("Create a runnable browser-based boids simulation")
    assert set(run.call_set.values_list("parent_cell", flat=True)) == {None, 2}


@pytest.mark.real_data
def test_session_folder_is_imported_by_the_command(
    workspace: Workspace, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command(
        "import_trajectory",
        "--json",
        str(real_data / "trajectories" / "rlmkit-session"),
        f"--workspace={workspace.slug}",
    )
    assert json.loads(capsys.readouterr().out)["calls"] == 4


def test_rlmkit_agents_that_wait_for_each_other_are_refused(workspace: Workspace) -> None:
    def waits(agent: str, other: str) -> dict[str, Any]:
        return {
            "type": "supervising_output",
            "id": "n",
            "agent_id": agent,
            "seq": 1,
            "waiting_on": [other],
            "output": "",
        }

    assert "circle" in refused(workspace, lines(waits("a", "b"), waits("b", "a")))


# — bad input —


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"  \n\n", "empty"),
        (b"\x7fELF\x02\x01\x01\0\0\0" * 40, "binary"),
        (b"\x1f\x8b\x08\0abc", "gzip"),
        (b"PK\x03\x04rest", "zip"),
        ("{}\n".encode("utf-16"), "UTF-16"),
        (b"hello\nworld\n", "not a log"),
        (b"[1,2,3]\n", "not a log"),
        (b'{"a": 1}\n', "not a log"),
        (b'{"type": "metadata"\n' * 50, "not a log"),
        (b"\xff\xff\xff\n" * 50, "not a log"),
        (b"[" * 100_000, "not a log"),
        (b'{"a":' * 100_000, "not a log"),
        (b"<html><script>alert(1)</script></html>\n", "not a log"),
        (b'{"type": "metadata"}\n', ""),
        (b'{"format": "rlmweb", "type": "run", "version": 99}\n', "version 99"),
        (b'{"format": "rlmweb", "type": "run", "version": 1}\n', "lacks the field"),
        (b'{"format": "rlmweb", "type": "call"}\n', "first line"),
    ],
)
def test_files_that_are_no_logs_are_refused_with_a_reason(workspace: Workspace, data: bytes, said: str) -> None:
    assert said in refused(workspace, data)


def test_half_a_last_line_is_left_out_and_told(workspace: Workspace) -> None:
    log = lines(probe("a"), step("a", 1), final("a", "whole"), probe("b", parent="a"))
    [outcome] = taken(workspace, log[:-40])
    assert outcome.run is not None and outcome.run.calls == 1
    assert "Cut off" in outcome.note and "Cut off" in outcome.run.reason
    assert outcome.run.status == "done"


def test_every_cut_of_a_log_is_refused_or_marked(workspace: Workspace) -> None:
    log = lines(METADATA, CONTEXT, iteration(1, code=["a"]), iteration(2, final_answer="end"))
    for at in range(0, len(log) - 1, 97):
        for outcome in taken(workspace, log[:at]):
            assert (
                outcome.reason if outcome.run is None else outcome.run.status == "stopped" or "Cut off" in outcome.note
            )


def test_broken_lines_between_whole_ones_are_counted(workspace: Workspace) -> None:
    log = lines(probe("a")) + b"{broken\n\xff\xfe\n" + lines(step("a", 1), final("a", 1))
    [outcome] = taken(workspace, log)
    assert outcome.run is not None and outcome.run.cells == 1
    assert "2 lines could not be read" in outcome.note


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"file_bytes": 100}, "at most 100"),
        ({"line_bytes": 200}, "longer than 200"),
        ({"lines": 2}, "more than 2 lines"),
        ({"calls": 2}, "more than 2"),
        ({"cells": 2}, "more than 2 cells"),
        ({"depth": 1}, "deeper than 1"),
    ],
)
def test_logs_past_a_limit_are_refused_and_leave_nothing(
    workspace: Workspace, limits: dict[str, int], said: str
) -> None:
    log = [probe("a"), probe("b", parent="a"), probe("c", parent="b"), step("b", 1, parent="a"), step("a", 1)]
    assert said in refused(workspace, lines(*log), **limits)


def test_runs_past_the_limit_of_a_file_are_refused_and_those_before_stay(workspace: Workspace) -> None:
    log = lines(METADATA, *[iteration(n, final_answer=str(n)) for n in range(1, 6)])
    outcomes = taken(workspace, log, runs=2)
    assert [bool(outcome.run) for outcome in outcomes] == [True, True, False]
    assert "more than 2 runs" in outcomes[-1].reason


def test_lines_of_ten_megabytes_are_cut_for_rows_and_kept_for_the_output(workspace: Workspace) -> None:
    long = "x" * 10_000_000
    run = one(
        workspace,
        lines(
            probe("a"),
            step("a", 1, reasoning=long),
            step("a", 2, output=f"[FULL OUTPUT SHOWN]... {long}"),
            final("a", long),
        ),
    )
    one_, two = run.cell_set.filter(number__gt=0).order_by("number")
    assert len(one_.reasoning) < 1_001_000 and "characters more were in the log" in one_.reasoning
    assert two.output == "" and len(blobs.read(two.output_blob)) < 1_001_000
    assert len(two.shown) < 40_000 and "characters cut" in two.shown
    assert run.answer_cut
    value = answer_of(run)
    assert value is not None and value.chars == len(long)


def test_an_output_of_a_hundred_thousand_lines_is_kept(workspace: Workspace) -> None:
    output = "".join(f"{n}\n" for n in range(100_000))
    run = one(workspace, lines(probe("a"), step("a", 1, output=output), final("a", 1)))
    assert blobs.read(run.cell_set.get(number=1).output_blob).decode() == output


NASTY = "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202eevil\u202c \x00 👩‍👩‍👧 e\u0301 \ud800"


def test_hostile_texts_are_made_harmless_everywhere(workspace: Workspace) -> None:
    run = one(workspace, lines(
        probe("a", code=NASTY), step("a", 1, code=NASTY, reasoning=NASTY, output=NASTY, hasError=True),
        probe(NASTY, parent="a"), step("a", 2), final("a", {NASTY: [NASTY]}),
    ))  # fmt: skip
    texts = json.dumps(
        [list(run.cell_set.values("code", "reasoning", "output", "shown", "error")), run.answer_display, run.reason]
    )
    for harm in ("\\u001b", "\\u202e", "\\u0000", "\\ud800"):
        assert harm not in texts
    assert "👩‍👩‍👧" in json.loads(texts)[0][1]["code"]


ODD = [
    None,
    True,
    -1,
    3.7,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    {},
    [[]],
    {"a": {"b": [None]}},
    10**30,
    "9999-99-99",
    "2026-01-01",
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_fields_of_other_types_never_break_an_import(workspace: Workspace, odd: Any) -> None:
    for name in (
        "time",
        "depth",
        "step",
        "event_type",
        "code",
        "output",
        "hasError",
        "reasoning",
        "usage",
        "timestamps",
        "parent_run_id",
    ):
        taken(
            workspace,
            lines(
                probe("a"),
                step("a", 1, **{name: odd}) if name not in ("parent_run_id",) else step("a", 1) | {name: odd},
                final("a", odd),
            ),
        )
    for name in ("timestamp", "prompt", "response", "code_blocks", "final_answer", "iteration_time", "iteration"):
        taken(
            workspace, lines(METADATA, CONTEXT, iteration(1, code=["a"]) | {name: odd}, iteration(2, final_answer=odd))
        )
    for name in ("stdout", "stderr", "locals", "execution_time", "rlm_calls", "final_answer"):
        taken(
            workspace,
            lines(METADATA, iteration(1, code_blocks=[block("a", **{name: odd})]), iteration(2, final_answer="x")),
        )
    for name in sub_call():
        broken = sub_call() | {name: odd, "metadata": odd}
        taken(
            workspace,
            lines(
                METADATA,
                iteration(1, code_blocks=[block("a", rlm_calls=[broken, odd])]),
                iteration(2, final_answer="x"),
            ),
        )
    for name in ("root_model", "max_depth", "max_iterations"):
        taken(
            workspace,
            lines(
                METADATA | {name: odd}, CONTEXT | {"prompt": odd, "root_prompt": odd}, iteration(1, final_answer="x")
            ),
        )
    for kind in ("run_start", "iteration", "run_complete", "tool_call"):
        data = {"task": odd, "iteration": odd, "code": odd, "output": odd, "lm_usage": odd, "answer": odd, "tool": odd}
        taken(workspace, lines({"timestamp": odd, "event_type": kind, "data": data}))
    for kind in ("user_query", "llm_output", "exec_output", "error_output", "supervising_output", "done_output"):
        fields = dict.fromkeys(
            ("seq", "content", "reply", "code", "output", "waiting_on", "result", "model", "input_tokens"), odd
        )
        taken(
            workspace,
            lines(
                {"type": "llm_output", "id": "n", "agent_id": "a", "seq": 0},
                {"type": kind, "id": "n", "agent_id": "a", **fields},
            ),
        )
    taken(
        workspace,
        json.dumps(
            {
                "taskId": odd,
                "answer": odd,
                "wallTimeMs": odd,
                "trace": [odd, {"code": odd, "output": odd, "error": odd}],
            }
        ).encode(),
    )
    for run in Run.objects.all():
        assert_consistent(run)


def mutated(chance: random.Random, value: Any) -> Any:
    """A JSON value with a few of its parts changed, lost or renamed."""
    if chance.random() < 0.03:
        return chance.choice([*ODD[:5], *ODD[7:], NASTY, [value], {"k": value}])
    if isinstance(value, dict):
        return {
            (key if chance.random() > 0.01 else key[::-1]): mutated(chance, item)
            for key, item in value.items()
            if chance.random() > 0.01
        }
    if isinstance(value, list):
        return [mutated(chance, item) for item in value if chance.random() > 0.01]
    return value


@pytest.mark.real_data
@pytest.mark.parametrize("seed", range(6))
def test_damaged_real_logs_are_refused_or_become_sound_runs(workspace: Workspace, real_data: Path, seed: int) -> None:
    """A hundred times as many were tried once; these stay to notice a slip."""
    chance = random.Random(seed)
    logs = sorted((real_data / "trajectories").rglob("*.jsonl"))
    for _ in range(8):
        data = chance.choice(logs).read_bytes()
        kind = chance.randrange(4)
        if kind == 0:
            broken = bytearray(data)
            for _ in range(chance.randint(1, 30)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            data = bytes(broken)
        elif kind == 1:
            data = data[: chance.randrange(len(data))]
        elif kind == 2:
            data = b"".join(sorted(data.splitlines(keepends=True), key=lambda _: chance.random()))
        else:
            data = lines(*[mutated(chance, json.loads(line)) for line in data.splitlines()])
        for outcome in taken(workspace, data):
            assert outcome.run is not None or outcome.reason
            if outcome.run is not None:
                run = Run.objects.get(pk=outcome.run.pk)
                assert_consistent(run)
                exported = b"".join(jsonl.export(run))
                [again] = taken(workspace, exported)
                assert again.run is not None, again.reason
                assert b"".join(jsonl.export(again.run)) == exported


@pytest.fixture(autouse=True)
def nothing_unforeseen(caplog: pytest.LogCaptureFixture) -> Any:
    """What a log holds may be refused, never trip the reader."""
    yield
    assert "could not be imported" not in caplog.text


# — the command —


def test_command_prints_one_object_a_run_and_one_for_a_refused_file(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.jsonl").write_bytes(
        lines(METADATA, iteration(1, final_answer="one"), iteration(2, final_answer="two"))
    )
    (tmp_path / "bad.jsonl").write_text("not a log\n")
    with pytest.raises(SystemExit) as ended:
        call_command(
            "import_trajectory",
            "--json",
            f"--workspace={workspace.slug}",
            *(str(tmp_path / name) for name in ("two.jsonl", "bad.jsonl", "none.jsonl")),
        )
    assert ended.value.code == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["answer"] for each in told] == ["one", "two", None, None]
    wanted = {"format", "run", "url", "calls", "cells", "errors", "depth", "total_tokens", "cost", "answer", "status"}
    assert all(wanted <= set(each) for each in told)
    assert ["reason" in each for each in told] == [False, False, True, True]
    key = told[0]["run"]
    assert told[0]["url"].endswith(reverse("run-detail", args=[workspace.slug, key]))
    assert Run.objects.get(key=key).imported_file == "two.jsonl"


def test_imported_runs_are_never_taken_by_a_worker(workspace: Workspace) -> None:
    run = one(workspace, lines(probe("a"), step("a", 1)))
    assert run.status not in ("queued", "running", "waiting", "paused")
    assert run.lease_token == ""
