"""Pick the sentences of some passages that bear on a question, word for word. A passage is a list of sentences."""

from __future__ import annotations

import re
from typing import Any

from .ranking import words


def asked_before(passage: list[tuple[int, str, str, str]], i: int) -> tuple[int, int, int]:
    """The question that sentence ``i`` may answer, as (first, last + 1), and how far into the answer ``i`` is."""
    speaker, turn = passage[i][2], i
    while speaker and turn and passage[turn - 1][2] == speaker:
        turn -= 1
    if speaker and turn and passage[turn - 1][2]:  # somebody else spoke before
        first = turn - 1
        while first and turn - first < 3 and passage[first - 1][2] == passage[turn - 1][2]:
            first -= 1
        if any(said.endswith("?") for _, _, _, said in passage[first:turn]):
            return first, turn, i - turn
    for back in range(1, min(5, i + 1)):
        if passage[i - back][3].endswith("?"):
            return i - back, i - back + 1, back - 1
    return 0, 0, 0


def scores_of(passage: list[tuple[int, str, str, str]], task: dict[str, Any]) -> list[float]:
    """What each sentence is worth: its words, some of what stands around it or was asked before it, and its looks."""
    aim, weights = task["aim"], task["weights"]
    topic, whole = set(aim["topic"]) & weights.keys(), sum(v for w, v in weights.items() if aim["terms"][w] >= 0.7)
    known = dict(aim["forms"])
    stems = [set(words(said, known)) & weights.keys() for _, _, _, said in passage]
    scores = []
    for i, (_, _, speaker, said) in enumerate(passage):
        around = set().union(*stems[max(0, i - 2) : i + 2])
        score = sum(weights[w] for w in stems[i]) + 0.4 * sum(weights[w] for w in around - stems[i])
        first, last, into = asked_before(passage, i)
        asked = set().union(*stems[first:last])
        fits = False
        if last and not said.endswith("?"):
            put = " ".join(passage[n][3] for n in range(first, last))
            like = bool(aim["asked_like"]) and bool(re.search(aim["asked_like"], put, re.I))
            main = topic or {w for w in weights if aim["terms"][w] >= 0.7}
            fits = like and bool((asked | around) & main)
            share = sum(weights[w] for w in asked & main) / (sum(weights[w] for w in main) or 1.0)
            score += 0.75**into * (
                0.6 * sum(weights[w] for w in asked - around) + fits * (0.2 + 0.4 * share**2) * whole
            )
        # What looks like an answer is none where it only repeats the question.
        shows = re.finditer(aim["looks_for"], said) if aim["looks_for"] else ()
        if any(set(words(m[0], known)) - weights.keys() for m in shows):
            score += aim["gain"] * whole
        if topic:  # in it, close to it, in what was asked, or in the title: else it is about something else
            size = sum(weights[w] for w in topic)
            here, near = ((sum(weights[w] for w in topic & has) / size) ** 0.5 for has in (stems[i], around | asked))
            score *= 0.2 + 0.8 * max(here, 0.85 * near, 0.7 * task["titled"], 0.3 * (speaker in aim["prefer"]))
        if aim["dull"] and re.search(aim["dull"], said, re.I):
            score *= 0.35
        if said.endswith("?"):
            score *= 0.5
        elif len(said) < 30 or (not stems[i] and not fits):
            score *= 0.75
        if speaker.startswith("(") or said.startswith("#"):  # the head of a document, a heading
            score *= 0.9 if aim["asks"] == "when" else 0.25
        if aim["prefer"] and speaker not in aim["prefer"]:
            named = {w for name in aim["prefer"] for w in words(name)}
            close = " ".join(one[3] for one in passage[max(0, i - 2) : i + 1])
            own = aim["asks"] in ("why", "how", "origin", "view")  # what people know best of themselves
            score *= (0.65 if own else 0.9) if named & set(words(close)) else 0.5
        scores.append(0.0 if aim["only"] and speaker not in aim["only"] else score)
    return scores


def around(passage: list[tuple[int, str, str, str]], i: int, used: set[int], dull: str) -> tuple[int, int]:
    """A sentence with its neighbours from the same speaker, as (first, last + 1): long enough to be understood."""
    first = last = i
    leans = r"(?i:(?:and|but|so|or|because|well|yeah|then),? )*(?i:it|it's|that|that's|this|these|those|they|they're|he|she|he's|she's|which)\b|[a-z]"
    filler = r"(?i:yeah|yes|right|okay|ok|exactly|absolutely|sure|cool|very cool|awesome|thank|oh|um|mm|interesting|great|good)\b"
    size = len(passage[i][3])

    def free(n: int) -> bool:
        if not 0 <= n < len(passage) or n in used or passage[n][2] != passage[i][2] or passage[n][2][:1] == "(":
            return False
        return not (dull and re.search(dull, passage[n][3], re.I))

    def empty(n: int) -> bool:
        said = passage[n][3]
        return n != i and (len(said) < 16 or (len(said) < 32 and bool(re.match(filler, said))))

    # A sentence that leans on the one before cannot stand first.
    while first > i - 2 and re.match(leans, passage[first][3]) and free(first - 1) and size < 380:
        if len(passage[first - 1][3]) + size > 560:
            break
        first -= 1
        size += len(passage[first][3])
    wanted = 420 if passage[first][3].endswith("?") or asked_before(passage, i)[1] else 300  # an answer takes longer
    while free(last + 1) and size < wanted and size + len(passage[last + 1][3]) < wanted + 140:
        last += 1
        size += len(passage[last][3])
    while free(last + 1) and passage[last][3].endswith("?") and last < i + 6:
        last += 1  # not to end before the answer
    while first < i and empty(first):
        first += 1  # "Right. Yeah."
    while last > i and (empty(last) or passage[last][3].endswith("?")):
        last -= 1
    return first, last + 1


def pick(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Up to six quotes of a task, best first. Its aim says what is looked for; its weights, what each stem is worth."""
    aim, weights = task["aim"], task["weights"]
    whole = sum(v for w, v in weights.items() if aim["terms"][w] >= 0.7) or 1.0
    quotes: list[dict[str, Any]] = []
    for passage in task["passages"]:
        scores = scores_of(passage, task)
        used: set[int] = set()
        for i in sorted(range(len(passage)), key=lambda i: -scores[i])[: max(3, len(passage) // 4)]:
            if i in used or scores[i] < 0.45 * max(scores) or scores[i] <= 0:
                continue
            first, last = around(passage, i, used, aim["dull"])
            used |= set(range(first, last))
            offset, time, speaker, _ = passage[first]
            quote = " ".join(said for _, _, _, said in passage[first:last])
            if len(quote) < 40 and not (aim["looks_for"] and re.search(aim["looks_for"], quote)):
                continue  # "Right."
            start, end, into = asked_before(passage, first)
            asked = " ".join(said for _, _, _, said in passage[start:end]) if into < 2 else ""
            if not speaker and not set(words(asked, dict(aim["forms"]))) & weights.keys():
                asked = ""  # where nobody is named, any question may just stand before
            has = sorted(set(words(f"{quote} {asked}", dict(aim["forms"]))) & weights.keys())
            found = {"title": task["title"], "time": time, "speaker": speaker, "offset": offset, "quote": quote}
            found |= {"asked": asked, "key": passage[i][3], "has": has, "for": aim["question"]}
            quotes.append({**found, "score": round(scores[i] / whole * (0.5 + 0.5 * task["rank"]), 3)})
    return sorted(quotes, key=lambda quote: -quote["score"])[:6]
