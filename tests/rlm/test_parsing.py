"""Replies to code: what real models write, by case and from recorded runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.parsing import final_expression, parse

F = "```"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (f"I look.\n{F}repl\nprint(1)\n{F}\nThen more.", "print(1)"),
        (f"{F}python\nx = 1\n{F}", "x = 1"),
        (f"{F}Repl\nx = 1\n{F}", "x = 1"),
        (f"{F}{{repl}}\nx = 1\n{F}", "x = 1"),
        ("~~~repl\nx = 1\n~~~", "x = 1"),
        (f"{F}{F[0]}repl\nprint('{F}')\n{F}{F[0]}", f"print('{F}')"),
        (f"{F}repl\nx = 1\nprint(x)", "x = 1\nprint(x)"),
        (f"{F}repl\na = 1\n{F}\nand\n{F}repl\nb = 2\n{F}", "a = 1\nb = 2"),
        (f"{F}python\nshown = 1\n{F}\n{F}repl\nrun = 2\n{F}", "run = 2"),
        (f"{F}repl\ns = '''\n{F}python\nq\n{F}\n'''\nprint(s)\n{F}\nbye", f"s = '''\n{F}python\nq\n{F}\n'''\nprint(s)"),
        (f'{F}repl\ndone("a")\nFINAL("b"){F}', 'done("a")\nFINAL("b")'),
        (f"1. First:\n   {F}repl\n   x = 1\n   if x:\n       print(x)\n   {F}", "x = 1\nif x:\n    print(x)"),
        (f"<think>draft:\n{F}repl\nbad()\n{F}\n</think>\n{F}repl\ngood()\n{F}", "good()"),
        (f"draft {F}repl\nbad()\n{F}\n</think>\n{F}repl\ngood()\n{F}", "good()"),
        (f"{F}repl\nprint('</think>')\n{F}", "print('</think>')"),
        ("x = len(context)\nprint(x)", "x = len(context)\nprint(x)"),
        (f"{F}\nx = await llm_query('a')\n{F}", "x = await llm_query('a')"),
        (f"{F}\njust words\n{F}", ""),
        (f"{F}json\n{{\"a\": 1}}\n{F}", ""),
        (f"{F}javascript\nconsole.log(1)\n{F}", ""),
        (f"{F}repl\n{F}", ""),
        ("", ""),
        ("The answer is (probably) 42.", ""),
        (f"{F}repl\r\nx = 1\r\n{F}\r\n", "x = 1"),
    ],
)  # fmt: skip
def test_parse_finds_the_cell(reply: str, code: str) -> None:
    assert parse(reply).code.replace("\r", "") == code


@pytest.mark.parametrize(
    ("reply", "final", "text"),
    [
        ("FINAL(answer)", "FINAL(answer)", "answer"),
        ("Done.\n\n**FINAL(answer)**", "FINAL(answer)", "answer"),
        ("FINAL_VAR('table')", "FINAL(table)", "table"),
        ("FINAL_VAR(table)", "FINAL(table)", "table"),
        ("FINAL(The answer is 42)", "FINAL('The answer is 42')", "The answer is 42"),
        ("FINAL(It's here (really).)", 'FINAL("It\'s here (really).")', "It's here (really)."),
        ("FINAL({'a': [1, 2]})", "FINAL({'a': [1, 2]})", "{'a': [1, 2]}"),
        ("FINAL(rows[0])", "FINAL(rows[0])", "rows[0]"),
        ("I will call FINAL(x) when I am done.", "", ""),
        ("FINAL(x) comes later", "", ""),
        ("FINAL()", "", ""),
    ],
)
def test_parse_takes_final_in_prose_at_the_start_of_a_line(reply: str, final: str, text: str) -> None:
    parsed = parse(reply)
    assert (parsed.code, parsed.final, parsed.final_text) == ("", final, text)


def test_parse_says_when_a_fence_was_never_closed() -> None:
    assert parse(f"{F}repl\nx = 1").unclosed
    assert not parse(f"{F}repl\nx = 1\n{F}").unclosed


def test_parse_keeps_thinking_apart() -> None:
    parsed = parse("<think>hm</think>The answer is 4.")
    assert (parsed.thinking, parsed.prose) == ("hm", "The answer is 4.")


@given(st.text(alphabet=st.sampled_from(list("`~repl \n(){}'\"FINAL<think>/x=1.")), max_size=300))
def test_parse_never_raises(reply: str) -> None:
    parse(reply)


# Recorded runs of other engines: real models' replies.


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


@pytest.mark.real_data
def test_parse_agrees_with_the_authors_harness_on_its_recorded_run(real_data: Path) -> None:
    rows = lines(real_data / "trajectories/rlm-official/trace-log-example-first-run.jsonl")
    turns = [r for r in rows if r["type"] == "iteration"]
    assert len(turns) == 4
    for turn in turns:
        parsed = parse(str(turn["response"]))
        blocks = [b["code"].strip() for b in turn["code_blocks"]]  # type: ignore[attr-defined]
        assert parsed.code.strip() == "\n".join(blocks)
    assert parse(str(turns[-1]["response"])).final == f"FINAL({turns[-1]['final_answer']})"


@pytest.mark.real_data
def test_parse_finds_every_cell_of_a_recorded_gpt_5_session(real_data: Path) -> None:
    seen = 0
    for path in sorted((real_data / "trajectories/rlmkit-session").glob("*/session.jsonl")):
        for row in lines(path):
            if row["type"] != "llm_output":
                continue
            seen += 1
            parsed = parse(str(row["reply"]))
            assert parsed.code.strip() == str(row["code"]).strip()
            assert not parsed.unclosed
    assert seen == 12


@pytest.mark.real_data
def test_parse_gives_recorded_code_back_from_a_fence(real_data: Path) -> None:
    seen = 0
    for path in sorted((real_data / "trajectories/fast-rlm").glob("*.jsonl")):
        for row in lines(path):
            code = str(row.get("code") or "").strip("\n")
            if not code:
                continue
            seen += 1
            parsed = parse(f"{row.get('reasoning') or ''}\n{F}repl\n{code}\n{F}\n")
            assert parsed.code.split() == code.split()
    assert seen == 17


@pytest.mark.real_data
def test_parse_leaves_javascript_alone(real_data: Path) -> None:
    run = json.loads((real_data / "trajectories/node-rlm/arc-135a2760.json").read_text("utf-8"))
    for step in run["trace"]:
        if f"{F}javascript" in step["reasoning"] and f"{F}\n" in step["reasoning"]:
            assert "const task" not in parse(step["reasoning"]).code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("FINAL(max(found))", "max(found)"),
        (
            "x = 1\nFINAL(await batch_llm_query(*[llm_query(p) for p in pieces]))",
            "await batch_llm_query(*[llm_query(p) for p in pieces])",
        ),
        ("FINAL(f'{n} of them')", "f'{n} of them'"),
        ("FINAL('yes')", ""),
        ("FINAL([1, {'a': -2}])", ""),
        ("print(1)", ""),
        ("FINAL(", ""),
        ("FINAL('no')\nFINAL(a + b)", "a + b"),
    ],
)
def test_final_expression_is_what_was_worked_out(code: str, expected: str) -> None:
    assert final_expression(code) == expected
