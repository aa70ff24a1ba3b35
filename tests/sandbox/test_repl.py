"""What a cell can count on: names that last, await at the top, tracebacks of its own lines, FINAL, SHOW_VARS, tools."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sandbox import HostError, HostRequest, Jail, SandboxError, Value
from tests.sandbox.conftest import RunCells, Start

pytestmark = [pytest.mark.firejail, pytest.mark.asyncio(loop_scope="module")]


async def test_names_last_from_cell_to_cell(run: RunCells) -> None:
    result = await run("import math\nx = 2\ndef f(y): return x * y", "x = 3", "print(f(math.floor(5.5)))")
    assert result.output == "15\n"


async def test_context_and_question_are_there(run: RunCells) -> None:
    result = await run("print(context, question)", context={"a": 1}, question="why?")
    assert result.output == "{'a': 1} why?\n"


async def test_top_level_await_works(run: RunCells) -> None:
    result = await run("async def f(x): return x + 1\nprint(await f(1), [await f(i) for i in range(3)])")
    assert result.output == "2 [1, 2, 3]\n"


async def test_last_expression_is_not_echoed(run: RunCells) -> None:
    assert (await run("1 + 1")).output == ""


async def test_traceback_shows_the_own_line_alone(run: RunCells) -> None:
    result = await run("import json\n\ndef load(s):\n    return json.loads(s)\n\nload('{')")
    assert 'File "<cell 1>", line 6, in <module>' in result.error
    assert 'File "<cell 1>", line 4, in load' in result.error
    assert "return json.loads(s)" in result.error
    assert "decoder.py" not in result.error
    assert "rlm_guest" not in result.error
    assert result.error.endswith(
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    )


async def test_traceback_names_the_cell_of_each_frame(run: RunCells) -> None:
    result = await run("def f():\n    1 / 0", "f()")
    assert '<cell 2>", line 1' in result.error
    assert '<cell 1>", line 2, in f' in result.error


async def test_cause_of_an_exception_is_shown(run: RunCells) -> None:
    result = await run("try:\n    {}['x']\nexcept KeyError as e:\n    raise ValueError('outer') from e")
    assert "KeyError: 'x'" in result.error
    assert "The above exception was the direct cause" in result.error


async def test_syntax_error_is_shown_with_its_place(run: RunCells) -> None:
    result = await run("x = 1\nif x\n    pass")
    assert result.error.startswith('  File "<cell 1>", line 2')
    assert "SyntaxError: expected ':'" in result.error


async def test_null_in_source_is_an_error(run: RunCells) -> None:
    assert "null bytes" in (await run("x = '\0'")).error


async def test_deep_source_is_an_error(run: RunCells) -> None:
    result = await run("x = " + "(" * 5000 + ")" * 5000)
    assert result.error and not result.killed


async def test_recursion_is_an_error(start: Start) -> None:
    repl = await start()
    assert "RecursionError" in (await repl.run("def f(): return f()\nf()", 1)).error
    assert (await repl.run("print(1)", 2)).output == "1\n"


# FINAL


async def test_final_takes_the_first_value_as_it_was(run: RunCells) -> None:
    result = await run("x = [1]\nFINAL(x)\nx.append(2)\nFINAL(3)\nprint('goes on')")
    assert result.final is not None
    assert result.final.python() == [1]
    assert result.final_name == "x"
    assert result.output == "goes on\n"
    assert any("more than once" in note for note in result.notes)


async def test_final_of_a_literal_has_no_name(run: RunCells) -> None:
    result = await run("FINAL('x' + 'y')")
    assert (result.finished, result.final_name) == (True, "")


async def test_final_in_a_function_names_its_variable(run: RunCells) -> None:
    result = await run("def end():\n    report = {'a': 1}\n    FINAL(report)\nend()")
    assert result.final_name == "report"


async def test_final_of_none_finishes(run: RunCells) -> None:
    result = await run("FINAL(None)")
    assert result.finished
    assert result.final is not None
    assert result.final.python() is None


async def test_final_that_cannot_cross_says_where(run: RunCells) -> None:
    result = await run("FINAL({'a': [0, 1, 2, (i for i in [])]})")
    assert not result.finished
    assert (
        'CrossingError: value["a"][3]: is a builtins.generator, which cannot cross; pass list(…) of it' in result.error
    )


async def test_final_counts_although_the_cell_fails_after_it(run: RunCells) -> None:
    result = await run("FINAL(1)\n1 / 0")
    assert result.finished
    assert "ZeroDivisionError" in result.error


# the names the REPL provides


async def test_overwritten_functions_are_restored(run: RunCells) -> None:
    result = await run("FINAL = 5\nllm_query = None\ndel SHOW_VARS\nbudget = 1000", "FINAL(user_budget)\nSHOW_VARS()")
    assert result.final is not None
    assert result.final.python() == 1000
    assert "user_budget: int" in result.output


async def test_restoring_is_told(run: RunCells) -> None:
    result = await run("history = [1]")
    assert result.notes == (
        "history is provided by the REPL: it was overwritten and has been restored; your value is now user_history.",
    )


async def test_show_vars_lists_and_prints_once(run: RunCells) -> None:
    result = await run("words = ['a'] * 3\nimport os\n_hidden = 1\nSHOW_VARS()", context="text")
    assert result.output == "context: str, 4 ch  'text'\nwords: list, 3 items  ['a', 'a', 'a']\n"
    result = await run("print(SHOW_VARS())", context="text")
    assert result.output == "context: str, 4 ch  'text'\n"


async def test_rebound_context_is_told(run: RunCells) -> None:
    result = await run("context = context[:2]\nSHOW_VARS()")
    assert "context has been rebound" in result.output


async def test_variables_are_listed_for_the_page(start: Start) -> None:
    repl = await start(context="text")
    await repl.run(
        "import numpy as np, pandas as pd\na = np.zeros((2, 3))\ndf = pd.DataFrame({'q': [1]})\ndef f(x, y=1): 'doc'\nn = 10**5000",
        1,
    )
    rows = {v.name: v for v in await repl.variables()}
    assert rows["context"].is_context
    assert (rows["a"].type, rows["a"].size) == ("ndarray", "2 × 3")
    assert rows["df"].preview == "columns: q"
    assert (rows["f"].size, rows["f"].preview) == ("(x, y=1)", "doc")
    assert "bits" in rows["n"].preview
    assert set(rows) == {"context", "a", "df", "f", "n"}


async def test_history_holds_the_outputs_in_full(run: RunCells) -> None:
    result = await run("print('x' * 500_000)", "print('b')", "print(len(history[0]), repr(history[1]), len(history))")
    assert result.output == "500001 'b\\n' 2\n"


async def test_budget_is_answered_by_the_host(run: RunCells) -> None:
    assert (await run("print(budget()['calls'])")).output == "3\n"


async def test_seed_makes_random_numbers_repeat(run: RunCells) -> None:
    cell = "import random, numpy as np\nprint(random.random(), np.random.rand(), list({'a', 'b', 'c'}), hash('x'))"
    first, again, other = [(await run(cell, seed=s)).output for s in ("1", "1", "2")]
    assert first == again != other
    assert first.split("[")[1] == other.split("[")[1]


# asking


async def test_llm_query_gives_the_object(run: RunCells) -> None:
    result = await run("r = await llm_query({'a': (1, 2)}, 'do', schema=dict)\nprint(r, type(r['a']).__name__)")
    assert result.output == "{'a': (1, 2)} tuple\n"


async def test_request_carries_what_was_asked(start: Start) -> None:
    seen: list[HostRequest] = []

    async def look(request: HostRequest) -> Value:
        seen.append(request)
        return Value.of(None)

    repl = await start(context="whole", on_request=look)
    result = await repl.run(
        "def tool(x):\n    return x + 1\n"
        "await llm_query(context, 'look', schema=list[int], tools=[tool], model='small')\nawait llm_query('who' + 'le')\nawait llm_query('part')",
        4,
    )
    assert not result.error
    first, second, third = seen
    assert (first.name, first.cell, first.order) == ("llm_query", 4, 0)
    assert first.options == {
        "instruction": "look",
        "schema": {"type": "array", "items": {"type": "integer"}},
        "tools": [{"name": "tool", "source": "def tool(x):\n    return x + 1\n"}],
        "model": "small",
    }
    assert first.same_as_context and second.same_as_context and not third.same_as_context
    assert first.context is not None and first.context.python() == "whole"
    assert [r.order for r in seen] == [0, 1, 2]


async def test_gather_runs_side_by_side(start: Start) -> None:
    async def slow(request: HostRequest) -> Value:
        await asyncio.sleep(0.2)
        assert request.context is not None
        return Value.of(request.context.python() * 2)

    repl = await start(on_request=slow)
    result = await repl.run("import asyncio\nprint(await asyncio.gather(*[llm_query(i) for i in range(20)]))", 1)
    assert result.output == str([i * 2 for i in range(20)]) + "\n"
    assert result.seconds < 1.5


async def test_batch_returns_exceptions_in_place(start: Start) -> None:
    async def picky(request: HostRequest) -> Value:
        assert request.context is not None
        if request.context.python() == 1:
            raise HostError("not this one")
        return request.context

    repl = await start(on_request=picky)
    for number, code in enumerate(
        (
            "print(await batch_llm_query(*[llm_query(i) for i in range(3)]))",
            "print(batch_llm_query(0, 1, 2))",
            "print(batch_llm_query([llm_query(i) for i in range(3)]))",
            "def f(): return batch_llm_query(*[llm_query(i) for i in range(3)])\nprint(f())",
        ),
        1,
    ):
        result = await repl.run(code, number)
        assert result.output == "[0, LLMQueryError('not this one'), 2]\n", code


@pytest.mark.parametrize(
    "code",
    [
        "print(llm_query('x'))",
        "r = llm_query('x'); print(r)",
        "print([llm_query(c) for c in ['x']][0])",
        "def f(): return llm_query('x')\nprint(f())",
        "print((lambda: llm_query('x'))())",
        "print(next(llm_query(c) for c in ['x']))",
        "for c in ['x']:\n    print(llm_query(c))",
        "class A:\n    def m(self): return llm_query('x')\nprint(A().m())",
        "print(llm_query('x'))  # no await here",
        "import asyncio\nprint(asyncio.gather(*[llm_query(c) for c in ['x']])[0])",
    ],
)
async def test_forgotten_await_is_added(run: RunCells, code: str) -> None:
    assert (await run(code)).output == "x\n"


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio\nasync def main():\n    return await llm_query('x')\nprint(asyncio.run(main()))",
        "import asyncio\nasync def main():\n    return await llm_query('x')\ndef f(): return asyncio.run(main())\nprint(f())",
        "import asyncio\nasync def main():\n    return (await asyncio.gather(llm_query('x'), llm_query('y')))[0]\nprint(await main(), end='')\nprint(asyncio.run(main())[1:])",
        "import asyncio\nt = asyncio.create_task(llm_query('x'))\nprint(await t)",
        "from concurrent.futures import ThreadPoolExecutor\nprint(*ThreadPoolExecutor(3).map(lambda c: llm_query(c), ['x']))",
    ],
)
async def test_ways_of_models_with_asyncio_work(run: RunCells, code: str) -> None:
    result = await run(code)
    assert (result.output, result.error) == ("x\n", "")


async def test_query_that_nobody_awaits_is_reported(run: RunCells) -> None:
    result = await run("async def f(): pass\nllm_query('x')\nprint('on')")
    assert result.output == "on\n"
    assert any("without await" in note for note in result.notes)


async def test_error_of_the_host_is_raised_in_the_cell(start: Start) -> None:
    async def refuse(request: HostRequest) -> Value:
        raise HostError("the budget of calls is spent")

    repl = await start(on_request=refuse)
    result = await repl.run("try:\n    await llm_query('x')\nexcept LLMQueryError as e:\n    print(e)", 1)
    assert result.output == "the budget of calls is spent\n"


async def test_leaf_has_no_children(run: RunCells) -> None:
    result = await run("await llm_query('x')", leaf=True)
    assert "LLMQueryError: this call is at the greatest depth" in result.error


async def test_value_that_cannot_cross_is_refused_at_the_call(run: RunCells) -> None:
    result = await run("await llm_query({'f': lambda: 1})")
    assert 'value["f"]: is a builtins.function' in result.error


async def test_schema_that_is_none_is_refused(run: RunCells) -> None:
    assert "schema must be a JSON Schema" in (await run("await llm_query('x', schema='int')")).error


async def test_tools_are_defined_in_the_child(start: Start, jail: Jail) -> None:
    handed: list[Any] = []

    async def take(request: HostRequest) -> Value:
        handed.extend(request.options["tools"])
        return Value.of(None)

    parent = await start(on_request=take)
    await parent.run("if True:\n    def shout(s, n=1):\n        '''Loud.'''\n        return s.upper() * n", 1)
    result = await parent.run("await llm_query('x', tools=[shout])", 2)
    assert not result.error
    child = await start(tools=handed)
    assert (await child.run("print(shout('a', 2))", 1)).output == "AA\n"
    assert "shout" in (await child.run("SHOW_VARS()", 2)).output
    result = await child.run("shout(1)", 3)
    assert '<tool shout>", line 3' in result.error
    grandchild = await start(tools=[handed[0]["source"]])
    assert (await grandchild.run("print(shout('b'))", 1)).output == "B\n"


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ("lambda x: x", "a lambda cannot be handed down"),
        ("len", "functions defined in this REPL"),
        ("'name'", "not their names"),
        ("inner()", "uses variables of an enclosing function"),
    ],
)
async def test_tool_that_cannot_be_handed_down_says_why(run: RunCells, tool: str, why: str) -> None:
    result = await run(
        f"def inner():\n    y = 1\n    def g(): return y\n    return g\nawait llm_query('x', tools=[{tool}])"
    )
    assert why in result.error


async def test_tool_that_does_not_compile_is_told(start: Start) -> None:
    with pytest.raises(SandboxError, match="SyntaxError"):
        await start(tools=["def f(:"])


async def test_two_cells_at_once_are_refused(start: Start) -> None:
    repl = await start()
    task = asyncio.create_task(repl.run("import time; time.sleep(0.3)", 1))
    await asyncio.sleep(0.05)
    with pytest.raises(SandboxError, match="one cell at a time"):
        await repl.run("1", 2)
    await task


async def test_closed_repl_refuses_cells(start: Start) -> None:
    repl = await start()
    await repl.close()
    with pytest.raises(SandboxError):
        await repl.run("1", 1)


# dialects


async def test_paper_dialect_blocks(start: Start) -> None:
    seen: list[tuple[str, Any]] = []

    async def answer(request: HostRequest) -> Value:
        assert request.context is not None
        seen.append((request.name, request.options.get("model")))
        if request.context.python() == "bad":
            raise HostError("no")
        return Value.of(f"<{request.context.python()}>")

    repl = await start(functions="paper", on_request=answer)
    result = await repl.run(
        "print(llm_query('a'), rlm_query('b', model='m'), llm_query_batched(['c', 'bad']), rlm_query_batched(['d']))", 1
    )
    assert result.output == "<a> <b> ['<c>', 'Error: no'] ['<d>']\n"
    assert [s for s in seen if s[1]] == [("llm_query", "m")]
    assert [name for name, _ in seen].count("llm_complete") == 3
    result = await repl.run(
        "from concurrent.futures import ThreadPoolExecutor\nprint(list(ThreadPoolExecutor(4).map(llm_query, 'xyz')))", 2
    )
    assert result.output == "['<x>', '<y>', '<z>']\n"


async def test_paper_dialect_ends_by_final_var(run: RunCells) -> None:
    result = await run("report = [1]\nFINAL_VAR('report')", functions="paper")
    assert result.final is not None
    assert (result.final.python(), result.final_name) == ([1], "report")
    assert "there is no variable 'x'" in (await run("FINAL_VAR('x')", functions="paper")).error


async def test_paper_dialect_ends_by_the_answer_dict(run: RunCells) -> None:
    cells = ["answer = {'content': '', 'ready': False}", "answer['content'] = 'done'", "answer['ready'] = True"]
    result = await run(*cells[:2], functions="paper")
    assert not result.finished
    result = await run(*cells, functions="paper")
    assert result.final is not None
    assert (result.final.python(), result.final_name) == ("done", "answer")


async def test_plain_set_has_no_queries(run: RunCells) -> None:
    result = await run(
        "print([n for n in ('llm_query', 'FINAL', 'SHOW_VARS', 'history', 'budget') if n in globals()])",
        functions="plain",
    )
    assert result.output == "['FINAL', 'SHOW_VARS', 'history']\n"


async def test_sub_agents_and_files_are_answered_by_the_host(start: Start) -> None:
    async def answer(request: HostRequest) -> Value:
        what = request.context.python() if request.context else None
        return Value.of(f"{request.name} {request.options.get('instruction') or request.options.get('name')} {what}")

    repl = await start(functions="files", on_request=answer)
    result = await repl.run(
        "print(await sub_agent('count', [1]))\nprint(write_file('a.txt', 'hi'))\nprint(read_file('a.txt'))\nprint(list_files())",
        1,
    )
    assert result.output == "sub_agent count [1]\nwrite_file a.txt hi\nread_file a.txt None\nlist_files None None\n"


async def test_unknown_functions_are_refused(jail: Jail) -> None:
    with pytest.raises(ValueError, match="there are"):
        await jail.start_repl(Value.of(1), functions="magic")


async def test_a_resting_repl_stands_still_and_keeps_its_names(start: Start) -> None:
    repl = await start("hello " * 20_000)
    await repl.run(
        "import threading, time\nlongest, on = 0.0, True\n"
        "def spin():\n    global longest\n    last = time.monotonic()\n"
        "    while on:\n        now = time.monotonic()\n        longest, last = max(longest, now - last), now\n"
        "threading.Thread(target=spin, daemon=True).start()\nbig = bytes(range(256)) * 40_000",
        1,
    )
    held = await repl.rest()
    assert held > 10_000_000, "what it holds counts, and its context"
    await asyncio.sleep(1.0)
    await repl.wake()
    result = await repl.run("time.sleep(0.2)\non = False\nprint(longest > 0.9, len(big))", 2)
    assert result.output == "True 10240000\n" and not result.error
    await repl.rest()
    await repl.close()
    with pytest.raises(SandboxError, match="cannot rest"):
        await repl.rest()
    with pytest.raises(SandboxError, match="has ended"):
        await repl.wake()


async def test_a_cell_that_finds_no_memory_is_told_how_much_there_is(run: RunCells) -> None:
    result = await run("kept = 1", "big = bytearray(10**10)")
    assert "MemoryError" in result.error and "The REPL may hold 1,024 MB beside its context." in result.error
