"""The offline client: what it replies to messages, how it streams, and that it always comes to an end."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from rlm.limits import Limits
from rlm.offline import ENDPOINT, OfflineClient
from rlm.offline.steps import HAND_ON, QUOTE
from rlm.parsing import parse
from rlm.probe import probe
from rlm.prompts import system_prompt
from rlm.wording import last_word, output_message
from sandbox import Value

QUESTION = "When did the light go dark?"
LOOK = "documents: 3, 900 characters\ntables: 0\ncolumns: none\nOne: 'x'"
READ = "sentences: 30\nspeakers: Ann Lee | Bo Ray"
RANKED = "12 passages, 5 worth reading for: x\ntasks: 3\n  One\nnot there at all: none\nspelled otherwise: none"


def opening(
    question: str = QUESTION, *, leaf: bool = False, instruction: str = "", alone: bool = False
) -> list[dict[str, Any]]:
    context = Value.of(question) if alone else Value.of([{"title": "One", "text": "x", "name": "a", "meta": {}}])
    parts = [probe(context, "" if alone or instruction else question, Limits())]
    if alone:
        parts.append("`context` is the question itself: there is no other data.")
    if instruction:
        parts.append(f"# Instruction\n{instruction}")
    parts.append("Write your first cell.")
    return [{"role": "system", "content": system_prompt(leaf=leaf)}, {"role": "user", "content": "\n\n".join(parts)}]


def told(number: int, output: str = "", error: str = "") -> str:
    return output_message(number, output, len(output), error, limit=4000)[0]


async def reply_to(messages: list[dict[str, Any]]) -> str:
    reply = await OfflineClient(seconds=0).complete(messages, model="offline", max_tokens=8192)
    return reply.text


async def converse(messages: list[dict[str, Any]], outputs: list[str]) -> list[str]:
    replies = []
    for output in [*outputs, ""]:
        replies.append(await reply_to(messages))
        messages += [{"role": "assistant", "content": replies[-1]}, {"role": "user", "content": output}]
    return replies


async def test_first_reply_says_what_it_is_and_holds_one_cell_that_compiles() -> None:
    text = await reply_to(opening())
    assert "not a language model" in text
    assert "docs = documents(context)" in parse(text).code
    compile(parse(text).code, "cell", "exec")


async def test_reply_streams_in_pieces_and_counts_tokens_for_no_money() -> None:
    pieces: list[str] = []
    started = time.monotonic()
    reply = await OfflineClient().complete(
        opening(), model="m", max_tokens=8192, on_delta=lambda text, reasoning: pieces.append(text)
    )
    assert "".join(pieces) == reply.text
    assert len(pieces) > 5
    assert time.monotonic() - started < 30
    assert reply.usage.prompt_tokens > 100 and reply.usage.completion_tokens > 100
    assert reply.usage.cost == 0
    assert reply.finish_reason == "stop"
    assert ENDPOINT.offline


async def test_search_goes_from_reading_to_the_answer() -> None:
    outputs = [
        told(1, LOOK),
        told(2, READ),
        told(3, RANKED),
        told(4, "children: 3, failed: 0, quotes: 4"),
        told(5, "x 4 quotes, 2 kept\nThe"),
    ]
    replies = await converse(opening(), outputs)
    codes = [parse(reply).code for reply in replies]
    assert "runs_of_text(" in codes[1] and "runs_of_records" not in codes[1]
    assert "tasks_of(aim" in codes[2]
    assert "await batch_llm_query(" in codes[3]
    assert "answer_text(" in codes[4]
    assert codes[5] == "FINAL(answer)"


async def test_many_documents_go_down_two_levels() -> None:
    look = LOOK.replace("documents: 3", "documents: 30")
    outputs = [told(1, look), told(2, READ), told(3, RANKED)]
    code = parse((await converse(opening(), outputs))[3]).code
    assert HAND_ON in code
    child = parse(await reply_to(opening(instruction=f"{HAND_ON}\nQuestion: {QUESTION}"))).code
    assert QUOTE in child and "batch_llm_query" in child
    leaf = parse(await reply_to(opening(instruction=f"{QUOTE}\nQuestion: {QUESTION}", leaf=True))).code
    assert "batch_llm_query" not in leaf and "quotes = pick(context)" in leaf


async def test_leaf_root_starts_no_children() -> None:
    outputs = [told(1, LOOK), told(2, READ), told(3, RANKED)]
    code = parse((await converse(opening(leaf=True), outputs))[3]).code
    assert "pick(" in code and "llm_query" not in code


async def test_failed_children_are_read_by_the_root() -> None:
    outputs = [
        told(1, LOOK),
        told(2, READ),
        told(3, RANKED),
        told(4, "children: 3, failed: 2, quotes: 1"),
    ]
    code = parse((await converse(opening(), outputs))[4]).code
    assert 'if task["title"] not in done' in code


async def test_missing_words_are_said() -> None:
    outputs = [
        told(1, LOOK),
        told(2, READ),
        told(3, RANKED.replace("at all: none", "at all: Mongolia")),
        told(4, "children: 3, failed: 0, quotes: 1"),
    ]
    code = parse((await converse(opening("What is the capital of Mongolia?"), outputs))[4]).code
    assert "Nothing here says “Mongolia”" in code


async def test_one_failure_gets_a_plainer_way_and_two_an_honest_end() -> None:
    broken = "Traceback (most recent call last):\n  File \"<cell 1>\", line 3\nKeyError: 'text'"
    replies = await converse(opening(), [told(1, error=broken), told(2, error=broken)])
    assert "a plain search" in parse(replies[1]).code
    last = parse(replies[2]).code
    assert last.startswith("FINAL(") and "KeyError" in last and "could not answer" in last


@pytest.mark.parametrize(
    "output", [told(1, error="Traceback\nMemoryError: no"), told(1, "nonsense"), "", "Cell 1 ran and printed nothing."]
)
@pytest.mark.parametrize("kind", ["root", "leaf", "quote", "hand on", "alone", "foreign"])
async def test_whatever_comes_back_it_ends_within_a_few_turns(output: str, kind: str) -> None:
    instruction = {
        "quote": f"{QUOTE}\nQuestion: {QUESTION}",
        "hand on": f"{HAND_ON}\nQuestion: {QUESTION}",
        "foreign": "List the names.",
    }
    messages = opening(leaf=kind == "leaf", instruction=instruction.get(kind, ""), alone=kind == "alone")
    replies = await converse(messages, [output] * 8)
    assert any("FINAL(" in parse(reply).code for reply in replies)


async def test_last_turn_gives_what_there_is() -> None:
    replies = await converse(opening(), [told(1, LOOK), last_word("The run has used its tokens.")])
    assert "FINAL(" in parse(replies[-1]).code


async def test_other_strategies_are_declined_in_plain_words() -> None:
    messages = [
        {"role": "system", "content": system_prompt("direct")},
        {"role": "user", "content": "Who is it?\n\nA long text."},
    ]
    text = await reply_to(messages)
    assert "not a language model" in text and "rlm" in text and "```" not in text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many r's are in strawberry?", 3),
        ("how many r in the word 'strawberry'", 3),
        (
            "Count the letter r in each of these fruits: apple, pear, raspberry.",
            {"apple": 0, "pear": 1, "raspberry": 3},
        ),
        ("What is 12 * (3 + 4)?", 84),
        ('How many words are in the sentence "the lamp is red"?', 4),
    ],
)
async def test_what_can_be_computed_without_a_corpus_is(question: str, answer: Any) -> None:
    code = parse(await reply_to(opening(question, alone=True))).code
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["answer"] == answer


async def test_lists_under_headings_go_to_a_child_each() -> None:
    asked = "Count the letter r in each word.\nFruits: apple, pear\nAnimals: tiger, rat\nCountries: Peru, France"
    code = parse(await reply_to(opening(asked, alone=True))).code
    assert "batch_llm_query" in code and "'Animals': ['tiger', 'rat']" in code
    child = opening(instruction="Count the letter “r” in each word of context. Return {word: number}.", leaf=True)
    names: dict[str, Any] = {"context": ["tiger", "rat"]}
    exec(parse(await reply_to(child)).code, names)
    assert names["answer"] == {"tiger": 1, "rat": 1}


@pytest.mark.parametrize(
    "question", ["Who wrote Hamlet?", "List 50 fruits and the number of r in each", "", "Write a poem"]
)
async def test_what_cannot_be_known_without_a_corpus_is_said(question: str) -> None:
    code = parse(await reply_to(opening(question, alone=True))).code
    assert "not a language model" in code
    assert re.search(r"^FINAL\(answer\)", code, re.M)


async def test_a_cell_brings_only_what_it_uses_and_what_is_not_there_yet() -> None:
    outputs = [told(1, LOOK), told(2, READ), told(3, RANKED), told(4, "children: 3, failed: 0, quotes: 4")]
    codes = [parse(reply).code for reply in await converse(opening(), outputs)]
    assert all(len(code.splitlines()) < 240 for code in codes), [len(code.splitlines()) for code in codes]
    defined = [name for code in codes for name in re.findall(r"^(?:def|class) (\w+)", code, re.M)]
    assert len(defined) == len(set(defined))


async def test_after_a_lost_repl_everything_is_defined_again() -> None:
    lost = "Your REPL was ended while cell 3 ran: it used more memory than it may. ALL YOUR VARIABLES ARE LOST."
    codes = [parse(reply).code for reply in await converse(opening(), [told(1, LOOK), told(2, READ), lost])]
    assert "A plain" in codes[3] or "import re" in codes[3]
