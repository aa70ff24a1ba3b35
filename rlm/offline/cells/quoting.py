"""Pick the sentences of some passages that bear on a question, word for word. A passage is a list of sentences."""

from __future__ import annotations

import re

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
    for back in range(1, min(4, i + 1)):
        if passage[i - back][3].endswith("?"):
            return i - back, i - back + 1, back - 1
    return 0, 0, 0


def scores_of(
    passage: list[tuple[int, str, str, str]],
    weights: dict[str, float],
    looks_for: str,
    only: list[str],
    prefer: list[str],
) -> list[float]:
    """What each sentence is worth: its words, some of what stands around it or was asked before it, and its looks."""
    stems = [set(words(said)) & weights.keys() for _, _, _, said in passage]
    here = sum(weights[w] for w in set().union(*stems))
    scores = []
    for i, (_, _, speaker, said) in enumerate(passage):
        own = sum(weights[w] for w in stems[i])
        score = own + 0.4 * (here - own)
        first, last, into = asked_before(passage, i)
        if last and not said.endswith("?"):
            asked = set().union(*stems[first:last]) - stems[i]
            score += 0.6 * 0.75**into * sum(weights[w] for w in asked)
        # What looks like an answer is none where it only repeats the question.
        if looks_for and any(set(words(m[0])) - weights.keys() for m in re.finditer(looks_for, said)):
            score += 0.25 * sum(weights.values())
        if said.endswith("?"):
            score *= 0.6
        elif len(said) < 25 or not stems[i]:
            score *= 0.75
        if speaker.startswith("(") or said.startswith("#"):  # the head of a document, a heading
            score *= 0.75
        if only and not stems[i] and not last:
            score *= 0.5
        if speaker in prefer:
            score *= 1.2
        scores.append(0.0 if only and speaker not in only else score)
    return scores


def around(passage: list[tuple[int, str, str, str]], scores: list[float], i: int, used: set[int]) -> tuple[int, int]:
    """A sentence with its neighbours from the same speaker, as (first, last + 1): long enough to be understood."""
    first = last = i
    size = len(passage[i][3])
    wanted = 440 if asked_before(passage, i)[1] or passage[i][3].endswith("?") else 340  # an answer takes longer
    while size < wanted:
        after = last + 1 < len(passage) and passage[last + 1][2] == passage[i][2] and last + 1 not in used
        before = first > 0 and passage[first - 1][2] == passage[i][2] and first - 1 not in used
        if (
            before
            and first > i - 2
            and scores[first - 1] > 0.6 * max(scores)
            and not (after and passage[last][3].endswith("?"))
        ):
            first -= 1
            size += len(passage[first][3])
        elif after and size + len(passage[last + 1][3]) < wanted + 160:
            last += 1
            size += len(passage[last][3])
        else:
            break
    if last == i and last + 1 < len(passage) and passage[last + 1][2] == passage[i][2] and last + 1 not in used:
        last += 1  # what is said next often says it outright
    while last + 1 < len(passage) and passage[last][3].endswith("?") and last + 1 not in used and last < i + 8:
        last += 1  # not to end before the answer
    return first, last + 1


def pick(
    passages: list[list[tuple[int, str, str, str]]],
    weights: dict[str, float],
    looks_for: str,
    only: list[str],
    prefer: list[str],
    title: str,
) -> list[dict[str, object]]:
    """Up to six quotes, best first. ``weights``: what each stem is worth. ``looks_for``: a pattern of what an answer
    would look like. ``only``: quote nobody but these speakers. ``prefer``: rather these."""
    quotes: list[tuple[float, dict[str, object]]] = []
    for passage in passages:
        scores = scores_of(passage, weights, looks_for, only, prefer)
        used: set[int] = set()
        for i in sorted(range(len(passage)), key=lambda i: -scores[i])[: max(3, len(passage) // 4)]:
            if i in used or scores[i] < 0.45 * max(scores) or scores[i] <= 0:
                continue
            first, last = around(passage, scores, i, used)
            used |= set(range(first, last))
            offset, time, speaker, _ = passage[first]
            quote = " ".join(said for _, _, _, said in passage[first:last])
            if len(quote) < 40 and not (looks_for and re.search(looks_for, quote)):
                continue  # "Right."
            start, end, into = asked_before(passage, first)
            asked = " ".join(said for _, _, _, said in passage[start:end]) if into < 2 else ""
            if not speaker and not set(words(asked)) & weights.keys():
                asked = ""  # where nobody is named, any question may just stand before
            has = sorted(set(words(f"{quote} {asked}")) & weights.keys())
            found = {"title": title, "time": time, "speaker": speaker, "offset": offset, "quote": quote, "asked": asked}
            found["key"] = passage[i][3]
            quotes.append((scores[i], {**found, "has": has, "score": round(scores[i] / sum(weights.values()), 3)}))
    return [quote for _, quote in sorted(quotes, key=lambda one: -one[0])[:6]]
