"""Short facts in quotes: the figures, dates and names that a question may be after."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from .ranking import words

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER = rf"(?:\d[\d,]*(?:\.\d+)?|\b(?:(?:{TENS.replace(' ', '|')})(?:[- ](?:{ONES.replace(' ', '|')}))?|{ONES.replace(' ', '|')}|hundreds?|thousands?)\b)"
MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
DATE = rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {MONTH}(?:,? \d{{4}})?|{MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?|{MONTH},? \d{{4}}|\d{{4}}-\d\d-\d\d|(?:1[5-9]|20)\d\d)\b"
NO_NAME = (
    "A An And Are As At Because But By Can Did Do For From Have He Her Hi Hello His How I If In Is It Its Just Let Like Listen Maybe Mr "
    "My New No Not Now Of Oh Okay On One Or Our She So Some That The Then There These They This Those To Was We Welcome Well "
    "What When Where Which While Who Why With Yeah Yes You Your"
)
PART = rf"(?!(?:{NO_NAME.replace(' ', '|')}|I['’]\w+)\b)[A-Z][\w’'-]*[a-z]"
NAME = rf"\b{PART}(?: (?:[A-Z]\.|de|von|van|la|of|the))?(?: {PART})+"


def value(number: str) -> float | None:
    """What a written number is worth: "31", "1,200", "forty-one"."""
    if number[:1].isdigit():
        return float(number.replace(",", "").rstrip("."))
    total = 0
    for word in re.split("[- ]", number.lower()):
        if word in ONES.split():
            total += ONES.split().index(word)
        elif word in TENS.split():
            total += 10 * (TENS.split().index(word) + 2)
        else:
            return None
    return float(total)


def figures(quotes: list[dict[str, Any]], noun: list[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Numbers with the thing counted beside them, as (number, the words, quote): "31 sacks", "forty-one spare wicks"."""
    found = []
    for quote in quotes:
        for match in re.finditer(rf"({NUMBER})(?=((?:[ -][\w’'-]+){{1,3}}))", quote["quote"], re.I):
            told = match[2].replace("-", " ").split()
            for size, word in enumerate(told, 1):
                if words(word) and words(word)[0] in noun:
                    found.append((match[1], f"{match[1]} {' '.join(told[:size])}", quote))
                    break
    return found


def tally(pattern: str, quotes: list[dict[str, Any]], known: str = "") -> list[str]:
    """What matches a pattern in the quotes, by what those are worth, without what the question itself said."""
    worth: dict[str, float] = {}
    for quote in quotes:
        for found in dict.fromkeys(m[0].strip() for m in re.finditer(pattern, quote["quote"])):
            if set(words(found)) - set(words(known)):
                worth[found] = worth.get(found, 0.0) + quote["score"] ** 2
    return sorted(worth, key=lambda found: -worth[found])[:5]


def who_did(aim: dict[str, Any], quotes: list[dict[str, Any]]) -> str:
    """The name that a "who" question may be after: beside the verb, with an office, or brought in by the sentence."""
    office = r"(?:co-?)?(?:founders?|creators?|authors?|maintainers?|CEO|CTO|inventors?|directors?|presidents?|editors?|guests?)\b"
    person = rf"({NAME}|{PART})"
    shapes = [
        rf"{person}(?:,? (?:he|she|who))? (?:\w+ly |first |had |has )?(?:{aim['did']})\b" if aim["did"] else "",
        rf"\b(?:{aim['did']}) by {person}" if aim["did"] else "",
        rf"({NAME}),? (?:who )?(?:is |was )?(?:the |an? |our |its )?(?:[\w-]+ ){{0,2}}{office}",
        rf"\b{office}(?: (?:of|at) \w+)?,? (?:is |was )?({NAME})",
        rf"\b(?:[Ww]e have|[Ww]ith me is|guest is|joined by|my name is|[Ww]elcome,?) {person}\b",
    ]
    known = set(words(aim["question"]))
    near = [
        (quote, said)
        for quote in quotes[:3]
        for said in re.split(r"(?<=[.?!]) +", quote["quote"])
        if not aim["topic"] or set(words(said)) & set(aim["topic"])
    ]
    for quote, said in near:
        if aim["did"] and quote["speaker"] and re.search(rf"\bI (?:\w+ly )?(?:{aim['did']})\b", said):
            return str(quote["speaker"])
    for shape in filter(None, shapes):
        for _, said in near:
            for match in re.finditer(shape, said):
                if not set(words(match[1])) & known:
                    return str(match[1])
    return ""


def introduced(talk: list[list[Any]], docs: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """Names of people, companies or places by the turns of phrase that bring such names in: "folks at X", "I'm Y", "based in Z"."""
    name = rf"({PART}(?: (?:of |the |& )?{PART}){{0,3}})"
    shapes = {
        "companies": rf"\b(?:(?:folks|team|people|guys) (?:over )?(?:at|from)|(?:founders?|CEO|CTO|president|head) (?:\w+ )?(?:of|at|here at)|(?:company|startup|firm|business)(?: (?:is|was))?(?: (?:called|named))?,?|founded) {name}",
        "people": rf"\b(?:(?:I'm|I am|[Mm]y name is|[Tt]his is|[Ww]e have|with|[Ww]elcome,?|joined by|guest is|named|called|by) {name}|{name},? (?:who (?:is|was|wrote|made)|the \w+ (?:of|at)|(?:co-?)?(?:founder|CEO|CTO|author|creator)))",
        "places": rf"\b(?:live[sd]? in|based in|from|moved to|going to|went to|grew up in|born in|city of|town of|held in|here in|over in|in) {name}",
    }
    found: dict[str, dict[str, Any]] = {}
    for doc, told in zip(docs, talk, strict=True):
        for _, _, _, said in told:
            for match in re.finditer(shapes[sort], said):
                one = next(filter(None, match.groups()))
                record = found.setdefault(
                    one, {"name": one, "times": 0, "titles": 0, "last": "", "first": said[max(0, match.start() - 50) :]}
                )
                record["times"] += 1
                record["titles"] += record["last"] != doc["title"]
                record["last"] = doc["title"]
    return sorted(found.values(), key=lambda one: -one["times"])


def named(talk: list[list[Any]], docs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names in all documents by how often they come up: several capitals in a row, or one that is never written small."""
    small = Counter(w for told in talk for _, _, _, said in told for w in re.findall(r"\b[a-z][a-z’'-]+", said))
    found: dict[str, dict[str, Any]] = {}
    for doc, told in zip(docs, talk, strict=True):
        for _, _, _, said in told:
            for match in re.finditer(rf"{NAME}|(?<=[a-z,] ){PART}", said):
                name = match[0]
                if " " not in name and small[name.lower()]:
                    continue
                one = found.setdefault(name, {"name": name, "times": 0, "titles": 0, "last": "", "first": said})
                one["times"] += 1
                one["titles"] += one["last"] != doc["title"]
                one["last"] = doc["title"]
    return sorted((one for one in found.values() if one["times"] > 1), key=lambda one: -one["times"])
