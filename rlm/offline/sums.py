"""Steps where there is no corpus: what can be computed from the question alone, and a plain word where nothing can."""

from __future__ import annotations

import re

from rlm.offline.linking import cell
from rlm.offline.situation import Situation

CANNOT = (
    "This is the offline extractive model, not a language model, and there is no corpus to look in. It knows nothing by itself. "
    "It can count letters and words in a list that stands in the question, and do arithmetic. "
    "Choose a corpus to ask about, or a model endpoint for questions like this one."
)
_LETTER = re.compile(
    r"(?:how many|count|number of|how often)\b[^:?\n]{0,40}?(?:\bletters?\s+)?[\"'“‘]?\b([a-z])\b[\"'”’]?(?:[’']?s\b)?(.*)", re.I | re.S
)  # fmt: skip


def sums_step(s: Situation) -> tuple[str, str]:
    """Prose and cell of the next reply."""
    if s.error:
        return "That failed, so I say so.", f"FINAL({'I could not work this out: ' + s.error[:200] + '. ' + CANNOT!r})"
    if s.did("answer ="):
        return "That is it.", "FINAL(answer)"
    question = s.question
    if s.instruction.startswith("Count the letter"):
        letter = s.instruction.split("“", 1)[1][:1]
        run = f'answer = {{word: word.lower().count("{letter}") for word in context}}\nprint(answer)'
        return "Counting letters is work for code.", run
    if (match := _LETTER.search(question)) and (groups := _lists(match[2])):
        return _letters(match[1].lower(), groups, s.parallel)
    counted = re.search(
        r"how many (words|letters|characters|vowels)\b.*?\b(?:in|of|does)\s+(.+)", question, re.I | re.S
    )
    if counted:
        return _sizes(counted[1].lower(), counted[2])
    expressions = [
        e.strip()
        for e in re.findall(r"[-(]*\d[\d\s.,+*/^()×÷−-]*[\d)]", question)
        if re.search(r"\d\s*[-+*/^×÷−]\s*\(*-?\d", e)
    ]
    if expressions:
        run = f"answer = {{e: arithmetic(e) for e in {expressions!r}}}\nanswer = answer if len(answer) > 1 else list(answer.values())[0]\nprint(answer)"
        return "Arithmetic is work for code.", cell(run)
    return "There is no corpus, and nothing here to compute.", f"answer = {CANNOT!r}\nFINAL(answer)"


def _letters(letter: str, groups: dict[str, list[str]], parallel: bool) -> tuple[str, str]:
    if len(groups) == 1:
        words = next(iter(groups.values()))
        if len(words) == 1:
            run = f'word = {words[0]!r}\nanswer = word.lower().count("{letter}")\nprint(word, answer)'
        else:
            run = f'things = {words!r}\nanswer = {{thing: thing.lower().count("{letter}") for thing in things}}\nprint(answer)'
        return "Counting letters is work for code.", run
    if not parallel:
        run = f'things = {groups!r}\nanswer = {{kind: {{thing: thing.lower().count("{letter}") for thing in names}} for kind, names in things.items()}}'
        return "Counting letters is work for code.", run + "\nprint(answer)"
    run = (
        f"things = {groups!r}\n"
        f'ask = "Count the letter “{letter}” in each word of context. Return {{word: number}}."\n'
        "counts = await batch_llm_query(*[llm_query(names, ask) for names in things.values()])\n"
        f'answer = {{kind: found if isinstance(found, dict) else {{n: n.lower().count("{letter}") for n in things[kind]}} for kind, found in zip(things, counts)}}\n'
        "print(answer)"
    )
    return "One child for each list, all at once; their results come back as objects.", run


def _lists(text: str) -> dict[str, list[str]]:
    """The words asked about, by the heading of their list; "" where there is one list."""
    rows = re.findall(r"(?:^|[\n;.]|\band\b)\s*[-*]?\s*([A-Za-z ]{2,30}?)\s*(?::|\()\s*([^\n;:()]+)", text)
    groups = {
        name.strip(): items
        for name, listed in rows
        if (items := _items(listed)) and not re.search(r"each of|following|words", name)
    }
    if len(groups) > 1:
        return groups
    if ":" in text:
        items = _items(text.split(":", 1)[1])
        return {"": items} if items else {}
    match = re.search(
        r"\b(?:in|of)\b\s+(?:each (?:of|word)\s+)?(?:the\s+)?(?:words?\s+|names?\s+|string\s+)?(.+)", text, re.I | re.S
    )
    quoted = re.findall(r"[\"“']([^\"”']{1,60})[\"”']", text)
    items = quoted or (_items(match[1]) if match else [])
    # "in each of 50 fruits" names no words: nothing here can make them up.
    return (
        {"": items}
        if items
        and not re.search(r"\d|\beach\b|\bfollowing\b", " ".join(items))
        and len(" ".join(items).split()) <= 3 * len(items)
        else {}
    )


def _items(text: str) -> list[str]:
    parts = re.split(r",\s*(?:and\s+)?|\s+and\s+|\n+", text.strip(" .?!\n[]"))
    return [part.strip(" \"'“”‘’.?!-*[]") for part in parts if part.strip(" \"'“”‘’.?!-*[]")][:2000]


def _sizes(what: str, text: str) -> tuple[str, str]:
    quoted = re.search(r"[\"“'](.+)[\"”']", text, re.S)
    body = (
        quoted[1]
        if quoted
        else re.sub(
            r"^(?:the\s+)?(?:word|sentence|phrase|text|string|following)s?\s*:?\s*", "", text, flags=re.I
        ).strip(" ?.\n")
    )
    work = {
        "words": "len(text.split())",
        "letters": "sum(c.isalpha() for c in text)",
        "characters": "len(text)",
        "vowels": 'sum(c in "aeiou" for c in text.lower())',
    }[what]
    return "Counting is work for code.", f"text = {body!r}\nanswer = {work}\nprint(answer)"
