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
NAME = r"\b[A-Z][a-z’'-]+(?: (?:[A-Z]\.|de|von|van|la))?(?: [A-Z][A-Za-z’'-]+)+"


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
        for match in re.finditer(rf"({NUMBER})((?:[ -][\w’'-]+){{1,3}})", quote["quote"], re.I):
            told = match[2].replace("-", " ").split()
            for size, word in enumerate(told, 1):
                if words(word) and words(word)[0] in noun:
                    found.append((match[1], f"{match[1]} {' '.join(told[:size])}", quote))
                    break
    return found


def tally(pattern: str, quotes: list[dict[str, Any]], known: str = "") -> list[tuple[str, int]]:
    """What matches a pattern in the quotes, the most frequent first, without what the question itself said."""
    counts: Counter[str] = Counter()
    for quote in quotes:
        for found in dict.fromkeys(re.findall(pattern, quote["quote"])):
            if found.lower() not in known.lower():
                counts[found.strip()] += 1
    return counts.most_common(5)
