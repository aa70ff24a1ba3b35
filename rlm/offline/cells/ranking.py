"""Words, stems and BM25 over passages: windows of a few neighbouring sentences."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter, defaultdict
from typing import Any


def stem(word: str) -> str:
    """Cut the endings that English puts on a word, lightly: "promises", "promised" and "promising" become one."""
    word = re.sub(r"['’]s?$", "", word)
    if len(word) < 4 or not word.isascii():
        return word
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith(("xes", "ches", "shes", "sses")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    # How much has to be left before an ending counts as one: "creation" loses its "ion", "station" does not.
    left = {"ation": 4, "ing": 3, "ied": 2, "ed": 3, "ly": 4, "ment": 5, "ion": 5, "er": 5, "or": 5}
    for ending in left:
        rest = word.removesuffix(ending)
        enough = len(rest) >= left[ending] and len(re.findall("[aeiouy]+", rest)) > (ending in ("er", "or"))
        if rest != word and enough and not word.endswith("eed"):
            short = ending in ("ing", "ed") and re.fullmatch("[^aeiouy][aeiouy][^aeiouwxy]", rest)
            word = rest + ("y" if ending == "ied" else "e" if short else "")  # hoping, hope; but hopping, hop
            break
    word = re.sub(r"([bdfgmnprt])\1$", r"\1", word.replace("our", "or") if len(word) > 5 else word)
    word = re.sub("is(e?)$", r"iz\1", word) if len(word) > 5 else word  # organise, organize
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def words(text: str, known: dict[str, str] | None = None) -> list[str]:
    """The stems of a text, in order; where a script does not write spaces, pairs of characters. ``known`` remembers stems."""
    found = []
    known = {} if known is None else known
    for word in re.findall(r"(?:[a-z]\.){2,}|[^\W_]+(?:['’][^\W_]+)?", text.lower()):
        word = re.sub(r"^(?:[cdjlmnst]|qu)['’](?=..)|\.", "", word)  # l'article, U.S.
        if re.search("[\u3040-\u30ff\u3400-\u9fff]", word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            if word not in known:
                known[word] = stem(word)
            found.append(known[word])
    return found


def windows(lengths: list[int], chars: int = 600) -> list[tuple[int, int]]:
    """Passages as (first, last + 1) sentence numbers: about ``chars`` long, each beginning in the middle of the one before."""
    found, first = [], 0
    while first < len(lengths):
        last, size = first, 0
        while last < len(lengths) and (size == 0 or size + lengths[last] <= chars):
            size += lengths[last]
            last += 1
        found.append((first, last))
        if last == len(lengths):
            break
        first = max(first + 1, (first + last) // 2)
    return found


class Index:
    """BM25 over the passages of all documents, with a bonus for words that stand together and for many different ones."""

    def __init__(self, texts: list[list[list[str]]], passages: list[tuple[int, int, int]]) -> None:
        self.texts, self.passages = texts, passages  # stems by document and sentence; (document, first, last + 1)
        self.sizes = [sum(len(texts[d][i]) for i in range(a, b)) for d, a, b in passages]
        self.average = sum(self.sizes) / max(1, len(self.sizes))
        self.where: dict[str, dict[int, int]] = defaultdict(dict)  # stem -> passage -> how often
        for number, (d, a, b) in enumerate(passages):
            for word, times in Counter(w for i in range(a, b) for w in texts[d][i]).items():
                self.where[word][number] = times

    def idf(self, word: str) -> float:
        there = len(self.where.get(word, ()))
        return math.log(1 + (len(self.passages) - there + 0.5) / (there + 0.5)) if there else 0.0

    def alike(self, word: str) -> list[str]:
        """What stands in the text for a stem that does not: two words written apart, or a spelling close to it."""
        for cut in range(2, len(word) - 2):
            one, two = stem(word[:cut]), stem(word[cut:])
            for number in self.where.get(one, {}).keys() & self.where.get(two, {}).keys():
                d, a, b = self.passages[number]
                if any(
                    pair == (one, two)
                    for i in range(a, b)
                    for pair in zip(self.texts[d][i], self.texts[d][i][1:], strict=False)
                ):
                    return [one, two]
        if len(word) < 6:
            return []
        near = [other for other in self.where if abs(len(other) - len(word)) < 3 and set(other[:2]) & set(word[:2])]
        return difflib.get_close_matches(word, near, 1, 0.82)

    def search(
        self,
        terms: dict[str, float],
        pairs: list[tuple[str, str]],
        titles: list[list[str]],
        preferred: list[list[bool]],
    ) -> list[tuple[float, int]]:
        """Score passages for weighted stems, best first. ``pairs``: stems that stand side by side in the question.
        A passage is worth more where its document's title has words of the question, or somebody preferred speaks."""
        scores: dict[int, float] = defaultdict(float)
        hits: dict[int, float] = defaultdict(float)
        total = sum(self.idf(word) * weight for word, weight in terms.items() if weight >= 0.7) or 1.0
        for word, weight in terms.items():
            gain = self.idf(word) * weight
            for number, times in self.where.get(word, {}).items():
                long = 0.25 + 0.75 * self.sizes[number] / self.average
                scores[number] += gain * times * 2.2 / (times + 1.2 * long)
                hits[number] += gain
        for one, two in pairs:
            for number in self.where.get(one, {}).keys() & self.where.get(two, {}).keys():
                d, a, b = self.passages[number]
                if any(
                    pair == (one, two)
                    for i in range(a, b)
                    for pair in zip(self.texts[d][i], self.texts[d][i][1:], strict=False)
                ):
                    scores[number] += 0.5 * (self.idf(one) + self.idf(two))
        asked = {word: self.idf(word) * weight for word, weight in terms.items() if weight >= 0.7}
        named = [
            1 + 1.2 * (sum(v for w, v in asked.items() if w in title) / (sum(asked.values()) or 1)) ** 2
            for title in titles
        ]
        worth = []
        for number, score in scores.items():
            d, a, b = self.passages[number]
            score *= (0.4 + min(1.2, hits[number] / total)) * named[d] * (1.3 if any(preferred[d][a:b]) else 1.0)
            worth.append((score, number))
        return sorted(worth, key=lambda one: (-one[0], one[1]))


def tasks_of(
    ranked: list[tuple[float, int]], index: Index, talk: list[Any], docs: list[Any], weights: dict[str, float]
) -> list[dict[str, Any]]:
    """The best passages as work for children: a task is one document, or one part of it where there are few. Best first."""
    parts = max(1, 8 // len(docs))
    tasks: dict[tuple[int, int], list[int]] = {}
    for _, number in ranked[:150]:
        d, a, _ = index.passages[number]
        task = tasks.setdefault((d, a * parts // len(talk[d])), [])
        if len(task) < 5:
            task.append(number)
    made = []
    for (d, part), numbers in list(tasks.items())[:40]:
        named = set(words(docs[d]["title"]))  # what the whole document is about tells its sentences apart no more
        own = {word: weight * (0.4 if word in named else 1.0) for word, weight in weights.items()}
        spans: list[list[int]] = []
        for _, a, b in sorted(index.passages[n] for n in numbers):
            a, b = max(0, a - 1), min(len(talk[d]), b + 2)  # what was asked before, and how it went on
            if spans and a <= spans[-1][1]:
                spans[-1][1] = max(b, spans[-1][1])  # neighbours overlap
            else:
                spans.append([a, b])
        name = docs[d]["title"] + (f", part {part + 1} of {parts}" if parts > 1 else "")
        made.append(
            {"name": name, "title": docs[d]["title"], "passages": [talk[d][a:b] for a, b in spans], "weights": own}
        )
    return made
