"""Six strategies on the article's two problems: by reference in rlm, through the messages in the other five."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlm.prompts import STRATEGIES
from sandbox import Value
from tests.rlm.conftest import Ask, Told, cell
from tests.scripted.article import FLAT, NESTED, NESTED_SLIP, NESTED_TRUTH, SLIP, TRUTH

OTHERS = [s for s in STRATEGIES if s != "rlm"]


def passed_through(told: Told, text: str) -> bool:
    """Whether a text was in any message of the root call, sent or received."""
    root = told.story.calls()[0].number
    sent = [m for r in told.server.log() for m in r["messages"]]
    replies = "".join(r.reply for r in told.story.replies(root))
    return text in replies or any(text in str(m["content"]) for m in sent if m["role"] != "system")


@pytest.mark.parametrize(("question", "truth", "calls", "depth"), [(FLAT, TRUTH, 2, 1), (NESTED, NESTED_TRUTH, 7, 2)])
async def test_rlm_returns_the_repls_own_object_and_the_parents_messages_never_hold_it(
    ask: Ask, question: str, truth: Any, calls: int, depth: int
) -> None:
    told = await ask("article", question)
    assert told.result.status == "done"
    assert (told.result.calls, told.result.depth, told.result.answer_name) == (calls, depth, "table")
    assert told.answer == truth
    assert told.result.answer is not None
    assert told.result.answer.dump() == Value.of(truth).dump()
    ours = [r["messages"] for r in told.server.log() if question[:30] in str(r["messages"][1]["content"])]
    assert len(ours) == 2
    for word in ("strawberry", "rambutan", "vegetable-49r"):
        assert all(word not in str(m["content"]) for messages in ours for m in messages)
        assert all(word not in r.reply for r in told.story.replies(1))


@pytest.mark.parametrize("strategy", OTHERS)
@pytest.mark.parametrize(("question", "slip"), [(FLAT, SLIP), (NESTED, NESTED_SLIP)], ids=["flat", "nested"])
async def test_the_others_type_their_answer_out_and_it_passes_through_the_messages(
    ask: Ask, strategy: str, question: str, slip: Any
) -> None:
    told = await ask("article", question, strategy=strategy)
    assert told.result.status == "done", told.result
    assert told.answer == slip  # what was typed, with the slip: not what code had counted
    assert told.story.replies(1)[-1].reply == json.dumps(slip)
    assert told.story.replies(1)[-1].kind == "reply"
    assert {c.strategy for c in told.story.calls()} == {strategy}


async def test_codeact_loads_outputs_whole(ask: Ask) -> None:
    told = await ask("article", FLAT, strategy="codeact")
    assert told.result.cells == 1 and told.result.calls == 1
    output = told.story.cells()[0]
    assert output.shown_chars == output.output_chars
    assert "'strawberry': 3" in told.server.log()[-1]["messages"][-1]["content"]


async def test_codeact_subagents_loads_each_result_whole(ask: Ask) -> None:
    told = await ask("article", FLAT, strategy="codeact_subagents")
    assert told.result.calls == 2 and told.story.calls()[1].kind == "child"
    assert '"rambutan"' in told.story.cells()[0].shown
    assert "Sub-agent (call 2) answered" in told.story.cells()[0].shown


async def test_codeact_files_keeps_notes_shared_with_sub_agents(ask: Ask) -> None:
    script = {
        "rules": [
            {
                "match": "# Task\nread the note",
                "turn": 0,
                "reply": "```python\nprint(read_file('a'), list_files())\n```",
            },
            {"match": "# Task\nread the note", "turn": 1, "reply": "the note was read"},
            {"turn": 0, "reply": "```python\nwrite_file('a', 'kept')\nr = await sub_agent('read the note')\n```"},
            {"turn": 1, "reply": "all done"},
        ]
    }
    told = await ask(script, strategy="codeact_files")
    assert told.answer == "all done"
    assert "kept ['a']" in told.story.cells(2)[0].output


async def test_react_uses_the_apis_own_tool_calls(ask: Ask) -> None:
    told = await ask(
        "article", FLAT, strategy="react", context=[{"title": "A", "text": "red roses", "name": "a", "meta": {}}]
    )
    log = told.server.log()
    assert {t["function"]["name"] for t in log[0]["tools"]} == {
        "list_documents",
        "search",
        "read",
        "count",
        "calculate",
    }
    assert [m["role"] for m in log[1]["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert log[1]["messages"][3]["content"] == "50"
    assert "0: A (9 characters)" in log[1]["messages"][4]["content"]
    assert "2 in all" in log[2]["messages"][-1]["content"]
    cells = told.story.replies(1)
    assert [c.kind for c in cells] == ["tool", "tool", "reply"]
    assert cells[0].code == "calculate(expression='25 * 2')\nlist_documents()"


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("search", {"query": "roses"}, "document 1"),
        ("search", {"query": r"r\w+s", "mode": "regex"}, "roses"),
        ("search", {"query": "(", "mode": "regex"}, "error"),
        ("read", {"document": 1, "start": 4, "length": 5}, "roses"),
        ("read", {"document": 9}, "IndexError"),
        ("calculate", {"expression": "().__class__"}, "only numbers"),
        ("calculate", {"expression": "2 ** 10 + sum([1, 2])"}, "1027"),
        ("steal", {"what": "keys"}, "no tool"),
    ],
)
async def test_react_tools_answer(ask: Ask, name: str, arguments: Any, says: str) -> None:
    script = {"replies": [{"tool_calls": [{"name": name, "arguments": arguments}]}, "done"]}
    documents = [{"title": t, "text": x, "name": t, "meta": {}} for t, x in (("A", "blue skies"), ("B", "red roses"))]
    told = await ask(script, strategy="react", context=documents)
    assert told.answer == "done"
    assert says in told.server.log()[1]["messages"][-1]["content"]


@pytest.mark.parametrize("strategy", OTHERS)
async def test_a_corpus_longer_than_the_window_is_cut_or_refused_plainly(ask: Ask, strategy: str) -> None:
    endpoint = {"window": 4_000}
    told = await ask({"default": "fine"}, strategy=strategy, context="word " * 10_000, endpoint=endpoint)
    assert told.result.status == "done"
    assert any("does not fit the model's window" in note for note in told.story.notes())
    first = told.server.log()[0]["messages"][1]["content"]
    assert "were cut" in first and len(first) < 12_000
    told = await ask(
        {"default": "fine"}, strategy=strategy, context="word " * 10_000, endpoint=endpoint, when_too_long="refuse"
    )
    assert told.result.status == "failed" and "50,000 characters" in told.result.reason


async def test_the_paper_dialect_works_as_the_authors_harness(ask: Ask) -> None:
    script = {
        "rules": [
            {"match": r"^say (\w+)$", "reply": "said"},
            {"match": r"<data>\s*dig into this", "reply": cell("found = len(context)\nFINAL_VAR('found')")},
            {
                "turn": 0,
                "reply": cell(
                    "a = llm_query('say one')\nb = llm_query_batched(['say two', 'say three'])\nprint(type(a), b)"
                ),
            },
            {
                "turn": 1,
                "reply": cell(
                    "c = rlm_query('dig into this: ' + 'x' * 85)\nd = rlm_query_batched(['dig into this'])\nprint(c, d)"
                ),
            },
            {"turn": 2, "reply": cell("answer = {'content': [a, b, c, d], 'ready': True}")},
        ]
    }
    told = await ask(script, dialect="paper")
    assert told.answer == ["said", ["said", "said"], 100, [13]]
    assert [c.strategy for c in told.story.calls()] == ["rlm", "direct", "direct", "direct", "rlm", "rlm"]
    plain = next(r for r in told.server.log() if r["messages"][0]["content"] == "say one")
    assert len(plain["messages"]) == 1
    assert "rlm_query_batched" in told.server.log()[0]["messages"][0]["content"]


async def test_the_offline_model_serves_rlm_only(ask: Ask) -> None:
    told = await ask({"default": "x"}, strategy="direct", endpoint={"offline": True})
    assert told.result.status == "failed" and "serves the strategy rlm only" in told.result.reason
