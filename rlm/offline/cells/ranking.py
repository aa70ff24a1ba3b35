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
    for word in re.findall(r"(?:[a-z]\.){2,}|[^\W_]+(?:'[^\W_]+)?", text.lower().replace("’", "'")):
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
    """BM25 over the passages of all documents, with a bonus for words that stand together and for many of them."""

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
            if self.beside(one, two):
                return [one, two]
        if len(word) < 6:
            return []
        near = [other for other in self.where if abs(len(other) - len(word)) < 3 and set(other[:2]) & set(word[:2])]
        return difflib.get_close_matches(word, near, 1, 0.82)

    def beside(self, one: str, two: str) -> list[int]:
        """The passages in which two stems stand side by side."""
        found = []
        for number in self.where.get(one, {}).keys() & self.where.get(two, {}).keys():
            d, a, b = self.passages[number]
            pairs = (pair for i in range(a, b) for pair in zip(self.texts[d][i], self.texts[d][i][1:], strict=False))
            if (one, two) in pairs:
                found.append(number)
        return found

    def whole_about(self, d: int, aim: dict[str, Any], title: set[str]) -> float:
        """How much a whole document is about the topic: its title says so, or a good part of its passages."""
        own = [number for number, (document, _, _) in enumerate(self.passages) if document == d]
        known = [w for w in aim["topic"] if w in self.where]
        said = [w in title or sum(n in self.where[w] for n in own) > 0.2 * len(own) for w in known]
        return sum(said) / max(1, len(said))

    def search(self, aim: dict[str, Any], titles: list[set[str]]) -> list[tuple[float, int]]:
        """Score passages for an aim, best first: its weighted terms, and most of all its topic, in the passage or in the
        document's title."""
        worth = {w: weight * max(self.idf(w), 1.5) for w, weight in aim["terms"].items() if w in self.where}
        asked = sum(v for w, v in worth.items() if aim["terms"][w] >= 0.7) or sum(worth.values()) or 1.0
        topic = {w: max(worth[w], 3.0 * aim["terms"][w]) for w in aim["topic"] if w in worth}
        worth |= topic
        whole = sum(topic.values())
        titled = [
            self.whole_about(d, aim, title) if topic else sum(v for w, v in worth.items() if w in title) / asked
            for d, title in enumerate(titles)
        ]
        scores: dict[int, float] = defaultdict(float)
        hits: dict[int, float] = defaultdict(float)
        near: dict[int, float] = defaultdict(float)
        for word, gain in worth.items():
            for number, times in self.where[word].items():
                long = 0.25 + 0.75 * self.sizes[number] / self.average
                scores[number] += gain * times * 2.2 / (times + 1.2 * long)
                hits[number] += gain
                near[number] += topic.get(word, 0.0)
        for one, two in aim["pairs"]:
            for number in self.beside(one, two):
                scores[number] += 0.5 * (worth.get(one, 0.0) + worth.get(two, 0.0))
        ranked = []
        for number, score in scores.items():
            title = titled[self.passages[number][0]]
            about = max((near[number] / whole) ** 0.5, 0.7 * title) if whole else 1.0
            score *= (0.4 + min(1.2, hits[number] / asked)) * (0.2 + 0.8 * about) * (1 + 0.8 * title**2)
            ranked.append((score, number))
        return sorted(ranked, key=lambda one: (-one[0], one[1]))


def learn(
    aim: dict[str, Any], index: Index, known: dict[str, str], missing: list[str], spelled: dict[str, str]
) -> None:
    """Note which words of the question are nowhere, and take for them what is there under another spelling."""
    for one, two in aim["pairs"]:
        if index.idf(one + two):
            aim["terms"][one + two] = 1.0  # written as one word
    written = {stem: word for word, stem in reversed(known.items())}
    for word in aim["shown"]:
        stems = words(word, known)
        if word in missing or any(map(index.idf, [*stems, *aim["like"].get(word, [])])):
            continue
        if found := index.alike("".join(stems)):
            spelled[word] = " ".join(written.get(stem, stem) for stem in found)
            aim["terms"] |= dict.fromkeys(found, 1.0)
            aim["topic"] += found if set(stems) & set(aim["topic"]) else []
            for pattern in ("looks_for", "asked_like"):
                aim[pattern] = aim[pattern].replace(re.escape(word.lower()), spelled[word])
        elif max((aim["terms"].get(stem, 0.0) for stem in stems), default=0.0) >= 0.65:
            missing.append(word)


def rank(aim: dict[str, Any], index: Index, talk: list[Any], titles: list[set[str]]) -> list[tuple[float, int]]:
    """The passages that are worth reading for an aim: where somebody is asked for, those in which they have a say."""
    ranked: list[tuple[float, int]] = []
    for score, number in index.search(aim, titles):
        d, a, b = index.passages[number]
        speakers = {talk[d][i][2] for i in range(a, b)}
        if not aim["only"] or speakers & set(aim["only"]):
            named = any(set(words(name)) & set(index.texts[d][i]) for name in aim["prefer"] for i in range(a, b))
            fits = not aim["prefer"] or named or speakers & set(aim["prefer"])
            said = " ".join(talk[d][i][3] for i in range(a, b)) if len(ranked) < 300 else ""
            asked = bool(aim["asked_like"] and re.search(aim["asked_like"], said, re.I))
            looks = bool(aim["looks_for"] and re.search(aim["looks_for"], said))
            ranked.append((score * (1.0 if fits else 0.4) * (1 + 0.5 * asked + 0.4 * looks), number))
    ranked.sort(key=lambda one: (-one[0], one[1]))
    return [one for one in ranked if one[0] > 0.2 * ranked[0][0]]


def tasks_of(
    aim: dict[str, Any], ranked: list[tuple[float, int]], index: Index, talk: list[Any], docs: list[Any]
) -> list[dict[str, Any]]:
    """The best passages as work for children: a task is one document, or one part of it where there are few. Best first."""
    parts = max(1, 6 // len(docs))
    weights = {w: weight * max(index.idf(w), 1.5) for w, weight in aim["terms"].items() if w in index.where}
    tasks: dict[tuple[int, int], list[int]] = {}
    best: dict[tuple[int, int], float] = {}
    for score, number in ranked[:120]:
        d, a, _ = index.passages[number]
        best.setdefault((d, a * parts // len(talk[d])), score / ranked[0][0])
        task = tasks.setdefault((d, a * parts // len(talk[d])), [])
        if len(task) < 7:
            task.append(number)
    made = []
    for (d, part), numbers in list(tasks.items())[:36]:
        titled = set(words(docs[d]["title"], dict(aim["forms"])))
        spans: list[list[int]] = []
        for _, a, b in sorted(index.passages[n] for n in numbers):
            a, b = max(0, a - 2), min(len(talk[d]), b + 3)  # what was asked before, and how it went on
            if spans and a <= spans[-1][1]:
                spans[-1][1] = max(b, spans[-1][1])  # neighbours overlap
            else:
                spans.append([a, b])
        name = docs[d]["title"] + (f", part {part + 1} of {parts}" if parts > 1 else "")
        # What the whole document is about tells its sentences apart no more.
        own = {w: v * (0.7 if w in titled else 1.0) for w, v in weights.items()}
        passages = [talk[d][a:b] for a, b in spans]
        made.append({"name": name, "title": docs[d]["title"], "passages": passages, "weights": own, "aim": aim})
        made[-1]["rank"] = best[d, part]  # its best passage, of the best of all
        made[-1]["titled"] = index.whole_about(d, aim, titled)
    return made
