"""What a text is about, by extraction: its own description, the words it uses most, and its most central sentences."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from .ranking import words

COMMON = set(words("""a about after all also am an and any are as at back be because been being but by can come could day did do does doing
done don't down even every first for from get getting give go goes going gonna good got great guess had happen has have having he hello her here
him his how i if i'd i'll i'm in into is isn't it it's its just keep kind know last let let's like little long look lot lots made make many may
maybe me mean might more most much my need never new next no not now of off oh okay ok on one only or other our out over own people pretty put
quite re really right said same saw say says see she should show so some somebody something sort still stuff such sure take talk tell than thank
thanks that that's the their them then there there's these they they're thing things think this those though through time to today too try two
uh um up us use used using very want wanted was way we we're well went were we've what what's when where which while who why will with won't
work would yeah year years yes yet you you're your yours able actually always another around ask away basically before better big bit both call
called cause cool definitely different doesn't each either else end enough ever everything exactly example fact far feel few find fine full fun
guys half hand hard hear help high home hope idea important interesting i've job kinda least left less life listening live lost love man matter
minute moment month nice nothing number old once order part person place point point probably problem question quick read real reason remember run
set side since someone sometimes soon start started stop super suppose talking that'll thought three today together told took totally trying turn
understand until wait whatever whole without wonderful word world wow write wrong
episode episodes podcast podcasts week honestly check mentioned again herself himself itself myself yourself themselves began found can't won't
you've didn't couldn't wasn't"""))  # fmt: skip


def topics(talk: list[list[Any]], most: int = 12) -> list[str]:
    """The words and pairs of words that a text uses far more than talk usually does, as written."""
    once: Counter[str] = Counter()
    known: dict[str, str] = {}
    forms: dict[str, Counter[str]] = {}
    for told in talk:
        for said in dict.fromkeys(said for _, _, _, said in told):  # a line that comes again and again counts once
            tokens = re.findall(r"[^\W\d_][\w'’]+", said)
            for token in tokens:
                if token not in known:
                    known[token] = (words(token) or [""])[0]
            stems = [known[token] for token in tokens]
            for i in range(len(tokens)):
                for size in (1, 2):
                    part = stems[i : i + size]
                    if len(part) == size and not any(one in COMMON or len(one) < 3 for one in part):
                        key = " ".join(part)
                        once[key] += 1
                        forms.setdefault(key, Counter())[" ".join(tokens[i : i + size])] += 1
    score = {key: times * (1.7 if " " in key else 1.0) for key, times in once.items() if times > 2}
    best: list[str] = []
    for key in sorted(score, key=lambda key: -score[key]):
        if not any(key in other or other in key.split() for other in best):
            best.append(key)
    return [f"{forms[key].most_common(1)[0][0]} ({once[key]})" for key in best[:most]]


def central(
    told: list[Any], title: str, dull: str, most: int = 6, only: list[str] | None = None
) -> list[dict[str, Any]]:
    """The sentences closest to what the whole text talks about, at most one from each part of it, in order."""
    known: dict[str, str] = {}
    stems = [[w for w in words(said, known) if w not in COMMON] for _, _, _, said in told]
    weight = {w: math.log(1 + times) for w, times in Counter(w for s in stems for w in set(s)).items() if times > 1}
    best: dict[int, tuple[float, int]] = {}
    for i, (_, _, speaker, said) in enumerate(told):
        if not 60 <= len(said) <= 450 or said.endswith("?") or (only and speaker not in only) or speaker[:1] == "(":
            continue
        score = sum(weight.get(w, 0) for w in set(stems[i])) / (6 + len(stems[i]))
        if re.search(
            r"\b(?:welcome to|this is episode|in this episode|today (?:we|I)|we talk|our guest|is about|joined by|talk(?:ed|ing)? (?:with|about))\b",
            said,
            re.I,
        ) and i < 0.15 * len(told):
            score += 1.5
        elif re.search(dull, said, re.I):
            continue
        part = i * most // max(1, len(told))
        best[part] = max(best.get(part, (0.0, -1)), (score, i))
    picked = sorted(i for score, i in best.values() if score > 0)
    return [
        {
            "title": title,
            "time": told[i][1],
            "speaker": told[i][2],
            "offset": told[i][0],
            "quote": told[i][3],
            "asked": "",
            "score": 1.0,
            "has": [],
        }
        for i in picked
    ]


def description(doc: dict[str, Any]) -> str:
    """What the document says about itself in its front matter or in what is known of it."""
    known = str((doc.get("meta") or {}).get("description") or "")
    head = re.search(r"^description:\s*(.+?)(?=\n\w+:|\n---)", doc["text"][:4000], re.M | re.S)
    return " ".join(
        (known or (head[1] if head else "")).strip("\"' ").replace("\\r\\n", " ").replace("\\n", " ").split()
    )[:600]
