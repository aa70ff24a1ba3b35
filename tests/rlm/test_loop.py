"""The loop of strategy rlm, against the scripted endpoint and in real jails."""

from __future__ import annotations

import json
from typing import Any

from tests.rlm.conftest import Ask, cell


async def test_solve_returns_what_final_was_given(ask: Ask) -> None:
    told = await ask([cell("x = {'a': [1, 2.5, None], 'b': 'ü'}"), cell("FINAL(x)")])
    assert told.result.status == "done"
    assert told.answer == {"a": [1, 2.5, None], "b": "ü"}
    assert told.result.answer_name == "x"
    assert (told.result.calls, told.result.cells, told.result.depth) == (1, 2, 0)


async def test_output_is_shown_truncated_with_head_and_tail(ask: Ask) -> None:
    told = await ask(
        [cell("print('a' * 5000 + 'MIDDLE' + 'z' * 5000)"), cell("FINAL(1)")], limits={"shown_chars": 1000}
    )
    first = told.story.cells()[0]
    assert first.output_chars == 10_007
    assert first.shown_chars <= 1000
    assert "MIDDLE" not in first.shown and "aaa" in first.shown and "zzz" in first.shown
    assert "9,007" in first.shown
    assert "history[0]" in first.shown
    assert first.shown in told.server.log()[1]["messages"][-1]["content"]


async def test_an_error_comes_back_with_the_cells_own_line(ask: Ask) -> None:
    told = await ask([cell("x = 1\ny = x / 0"), cell("FINAL(x)")])
    assert "ZeroDivisionError" in told.story.cells()[0].shown
    assert "line 2" in told.story.cells()[0].shown
    assert told.answer == 1


async def test_several_blocks_run_as_one_cell_in_order(ask: Ask) -> None:
    told = await ask([cell("x = 2") + "\nand then\n" + cell("FINAL(x * 21)")])
    assert told.answer == 42
    assert told.result.cells == 1


async def test_a_reply_without_a_cell_gets_a_reminder(ask: Ask) -> None:
    told = await ask(["I shall think about it.", "", cell("FINAL('ok')")])
    assert told.answer == "ok"
    sent = told.server.log()
    assert "no code block" in sent[1]["messages"][-1]["content"]
    assert "empty" in sent[2]["messages"][-1]["content"]
    assert [r.kind for r in told.story.replies()] == ["reply", "reply", "code"]
    assert told.result.cells == 1


async def test_a_model_that_never_writes_a_cell_ends_with_its_prose_as_partial_answer(ask: Ask) -> None:
    told = await ask({"default": "The answer is Paris."})
    assert told.result.status == "failed"
    assert "no code block" in told.result.reason
    assert told.result.partial and told.answer == "The answer is Paris."
    assert len(told.server.log()) == 4


async def test_final_in_prose_counts_where_the_reply_has_no_cell(ask: Ask) -> None:
    told = await ask([cell("n = 6 * 7"), "I am done.\n\nFINAL(n)"])
    assert told.answer == 42 and told.result.answer_name == "n"
    told = await ask(["FINAL(Paris)"])
    assert told.answer == "Paris"
    told = await ask(["FINAL(It is Paris, of course)"])
    assert told.answer == "It is Paris, of course"


async def test_a_reply_cut_by_its_length_is_not_run(ask: Ask) -> None:
    cut = {"text": "```repl\nprint('never')\nx = [1, 2,", "finish_reason": "length"}
    told = await ask([cut, cell("FINAL('x' in globals())")])
    assert told.answer is False
    assert "cut off" in told.server.log()[1]["messages"][-1]["content"]


async def test_a_killed_repl_is_replaced_and_the_model_is_told(ask: Ask) -> None:
    told = await ask(
        [cell("x = 1\nimport os\nos._exit(3)"), cell("FINAL(['x' in globals(), len(context)])")], context="abc"
    )
    assert told.answer == [False, 3]
    assert told.story.cells()[0].killed == "exit"
    assert "ALL YOUR VARIABLES ARE LOST" in told.story.cells()[0].shown


async def test_children_return_objects_by_reference(ask: Ask) -> None:
    secret = "the child's own words " * 50
    script = {
        "rules": [
            {
                "match": "make the list",
                "turn": 0,
                "reply": cell(f"FINAL([{{'n': n, 'text': {secret!r}}} for n in range(5)])"),
            },
            {
                "turn": 0,
                "reply": cell(
                    "got = await llm_query('some data', 'make the list')\nprint(type(got).__name__, len(got))"
                ),
            },
            {"turn": 1, "reply": cell("FINAL(got)")},
        ]
    }
    told = await ask(script)
    assert told.answer == [{"n": n, "text": secret} for n in range(5)]
    root = [r for r in told.server.log() if "make the list" not in str(r["messages"][1])]
    assert root and all("the child's own words" not in str(r["messages"]) for r in root)
    child = told.story.calls()[1]
    assert (child.parent, child.cell, child.depth, child.kind, child.instruction) == (1, 1, 1, "child", "make the list")
    assert told.story.ends()[2].answer.digest == told.result.answer.digest


async def test_leaves_cannot_start_calls(ask: Ask) -> None:
    script = {
        "rules": [
            {
                "match": "one level down",
                "turn": 0,
                "reply": cell("try:\n    await llm_query('x', 'deeper')\nexcept Exception as e:\n    FINAL(str(e))"),
            },
            {"turn": 0, "reply": cell("FINAL(await llm_query('x', 'one level down'))")},
        ]
    }
    told = await ask(script, limits={"depth": 1})
    assert "greatest depth" in told.answer
    assert [c.kind for c in told.story.calls()] == ["root", "leaf"]
    assert "you cannot start child calls" in told.server.log()[1]["messages"][0]["content"]


async def test_one_failed_child_does_not_lose_its_siblings(ask: Ask) -> None:
    script = {
        "rules": [
            {"match": "fail please", "reply": "no cell at all"},
            {"match": "work please", "reply": cell("FINAL(context)")},
            {
                "turn": 0,
                "reply": cell(
                    "r = await batch_llm_query(llm_query('a', 'work please'), llm_query('b', 'fail please'), llm_query('c', 'work please'))\n"
                    "FINAL([x if isinstance(x, str) else type(x).__name__ + ': ' + str(x) for x in r])"
                ),
            },
        ]
    }
    told = await ask(script)
    assert told.answer[0] == "a" and told.answer[2] == "c"
    assert "LLMQueryError" in told.answer[1] and "no code block" in told.answer[1]
    assert {n: e.status for n, e in told.story.ends().items()} == {1: "done", 2: "done", 3: "failed", 4: "done"}


async def test_a_schema_is_checked_and_the_child_mends(ask: Ask) -> None:
    script = {
        "rules": [
            {"match": "not accepted", "reply": cell("FINAL({'n': 3})")},
            {"match": "count it", "reply": cell("FINAL({'n': 'three'})")},
            {
                "turn": 0,
                "reply": cell(
                    "FINAL(await llm_query('abc', 'count it', schema={'type': 'object', 'properties': {'n': {'type': 'integer'}}}))"
                ),
            },
        ]
    }
    told = await ask(script)
    assert told.answer == {"n": 3}
    assert "$.n" in told.story.cells(2)[0].shown and "is not of type 'integer'" in told.story.cells(2)[0].shown


async def test_a_final_that_breaks_the_schema_again_and_again_ends_the_call(ask: Ask) -> None:
    told = await ask({"default": cell("FINAL('three')")}, schema={"type": "integer"})
    assert told.result.status == "failed"
    assert "broke the schema" in told.result.reason


async def test_a_schema_that_is_none_is_an_error_in_the_cell(ask: Ask) -> None:
    code = "try:\n    await llm_query('x', 'y', schema={'type': 'nonsense'})\nexcept Exception as e:\n    FINAL(str(e))"
    told = await ask([cell(code)])
    assert "not a JSON Schema" in told.answer
    assert told.result.calls == 1


async def test_tools_are_handed_down_by_source_and_nothing_else_is(ask: Ask) -> None:
    script = {
        "rules": [
            {"match": "use the tool", "reply": cell("FINAL([double(21), 'unit' in globals(), 'triple' in globals()])")},
            {
                "turn": 0,
                "reply": cell(
                    "unit = 3\ndef triple(x):\n    return 3 * x\ndef double(x):\n    '''Twice x.'''\n    return 2 * x\n"
                    "FINAL(await llm_query('data', 'use the tool', tools=[double]))"
                ),
            },
        ]
    }
    told = await ask(script)
    assert told.answer == [42, False, False]
    first = [r for r in told.server.log() if "use the tool" in str(r["messages"][-1])][0]
    assert "double(x)" in first["messages"][1]["content"] and "Twice x." in first["messages"][1]["content"]


async def test_the_whole_context_unchanged_is_not_handed_down_at_first(ask: Ask) -> None:
    code = "try:\n    r = await llm_query(context, 'read it')\nexcept Exception as e:\n    r = str(e)\nprint(r)"
    script = {
        "rules": [
            {"match": "# Instruction\nread it", "reply": cell("FINAL(len(context))")},
            {"turn": 0, "reply": cell(code)},
            {"turn": 1, "reply": cell("FINAL([r, await llm_query(context, 'read it')])")},
        ]
    }
    told = await ask(script, context="x" * 50_000)
    assert "Cut it first" in told.answer[0]
    assert told.answer[1] == 50_000
    assert told.result.calls == 2


async def test_models_differ_by_depth_and_request(ask: Ask) -> None:
    script = {
        "rules": [
            {"match": "# Instruction\ngo", "reply": cell("FINAL(1)")},
            {
                "turn": 0,
                "reply": cell("await llm_query('a', 'go'); await llm_query('a', 'go', model='third'); FINAL(0)"),
            },
        ]
    }
    told = await ask(script, root_model="big", child_model="small")
    assert [r["model"] for r in told.server.log()] == ["big", "small", "third"]
    assert [c.model for c in told.story.calls()] == ["big", "small", "third"]


async def test_identities_depend_on_the_request_alone(ask: Ask) -> None:
    def script(extra: str) -> dict[str, Any]:
        return {
            "rules": [
                {"match": "# Instruction\ngo", "reply": cell("FINAL(1)")},
                {
                    "turn": 0,
                    "reply": cell(
                        f"r = await batch_llm_query(llm_query('a', 'go'), llm_query('a', 'go'), llm_query('b', 'go'))\nFINAL({extra})"
                    ),
                },
            ]
        }

    first, second = await ask(script("1")), await ask(script("2"))
    ids = [[c.identity for c in told.story.calls()] for told in (first, second)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4
    asked = first.story.cells()[0].exchange
    assert sorted(e[0] for e in asked) == ["ask"] * 3 + ["give"] * 3
    assert [e[2] for e in asked if e[0] == "ask"] == ids[0][1:]


async def test_budget_history_and_show_vars_answer_in_the_cell(ask: Ask) -> None:
    told = await ask([cell("x = [1]\nprint('hello')\nSHOW_VARS()"), cell("FINAL([history, budget()])")])
    history, budget = told.answer
    assert "hello" in history[0] and "x: list" in history[0]
    assert budget["turns"] == 18 and budget["calls"] == 499 and budget["run_seconds"] > 0
    assert budget["cost"] == 2.0
    tells = [e for e in told.story.cells()[1].exchange if e[0] == "tell"]
    assert json.loads(tells[0][2]) == budget  # what a replay needs to be told


async def test_a_recorder_that_may_no_longer_write_ends_the_run_without_a_word(ask: Ask) -> None:
    import pytest

    from tests.rlm.conftest import Story

    story = Story(refuse_commit=2)
    with pytest.raises(PermissionError):
        await ask([cell("x = 1"), cell("FINAL(x)")], story=story)
    assert not story.cells() and not story.ends()
