"""Pick the sentences of some passages that bear on a question, word for word."""

from __future__ import annotations

import re

from .ranking import words


def pick(
    passages: list[list[tuple[int, str, str, str]]],
    weights: dict[str, float],
    looks_for: str,
    only: list[str],
    title: str,
    most: int = 6,
) -> list[dict[str, object]]:
    """Quotes from passages (lists of sentences), best first. ``weights``: what each stem is worth. ``looks_for``: a
    pattern of what an answer would look like. ``only``: quote nobody but these speakers."""
    total = sum(weights.values()) or 1.0
    quotes: list[tuple[float, dict[str, object]]] = []
    for passage in passages:
        stems = [set(words(said)) & weights.keys() for _, _, _, said in passage]
        here = sum(weights[w] for w in set().union(*stems))
        scores = []
        for i, (_, _, speaker, said) in enumerate(passage):
            score = sum(weights[w] for w in stems[i])
            for back, share in ((1, 0.7), (2, 0.4)):  # right after a question that has the words
                if i >= back and passage[i - back][3].endswith("?") and not said.endswith("?"):
                    score += share * sum(weights[w] for w in stems[i - back] - stems[i])
                    break
            score += 0.3 * (here - sum(weights[w] for w in stems[i]))
            # What looks like an answer is none where it only repeats the question.
            if looks_for and any(set(words(m[0])) - weights.keys() for m in re.finditer(looks_for, said)):
                score += 0.25 * total
            score *= 0.6 if said.endswith("?") else 0.75 if len(said) < 25 or len(stems[i]) == 0 else 1.0
            scores.append(0.0 if only and speaker not in only else score)
        used: set[int] = set()
        for i in sorted(range(len(passage)), key=lambda i: -scores[i])[:3]:
            if i in used or scores[i] < 0.55 * max(scores) or scores[i] <= 0:
                continue
            first = last = i
            size = len(passage[i][3])
            while size < 260:  # a neighbour that says more about it, or else what comes next
                after = last + 1 < len(passage) and passage[last + 1][2] == passage[i][2] and last + 1 not in used
                before = first > 0 and passage[first - 1][2] == passage[i][2] and first - 1 not in used
                if before and stems[first - 1] and not (after and scores[last + 1] >= scores[first - 1]):
                    first -= 1
                    size += len(passage[first][3])
                elif after and size + len(passage[last + 1][3]) < 420:
                    last += 1
                    size += len(passage[last][3])
                else:
                    break
            used |= set(range(first, last + 1))
            offset, time, speaker, _ = passage[first]
            asked = (
                passage[first - 1][3]
                if first and passage[first - 1][3].endswith("?") and passage[first - 1][2] != speaker
                else ""
            )
            quote = " ".join(said for _, _, _, said in passage[first : last + 1])
            has = sorted(set().union(*stems[first : last + 1], set(words(asked)) & weights.keys()))
            found = {"title": title, "time": time, "speaker": speaker, "offset": offset, "quote": quote, "asked": asked}
            quotes.append((-scores[i], {**found, "has": has, "score": round(scores[i] / total, 3)}))
    return [quote for _, quote in sorted(quotes, key=lambda one: one[0])[:most]]
