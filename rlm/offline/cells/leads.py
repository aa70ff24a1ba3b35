"""The first sentence of an answer: what was found, no more sure of itself than it may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .facts import DATE, figures, tally, value, who_did
from .merging import Quote, block


def note_on(how: str, documents: int) -> str:
    many = f"{documents:,} documents" if documents > 1 else "one document"
    return f"From the offline extractive model, not a language model. {how} in {many}; quotes are word for word, nothing is inferred."


def misses(aim: dict[str, Any], best: list[Quote], weights: dict[str, float]) -> str:
    """What to say first where the best quotes lack what was asked for."""
    if not best:
        return ""
    has = set(best[0]["has"])
    if aim["only"] and not any(set(quote["has"]) & weights.keys() for quote in best):
        return f"{' and '.join(aim['only'])} says none of the words asked for ({', '.join(aim['shown'])}); this is what is said close to them. "
    topic = weights.keys() & set(aim["topic"])
    held = sum(weights[w] for w in weights.keys() & has)
    if len(weights) > 1 and held < 0.45 * sum(weights.values()) and not (topic and topic <= has):
        return "No passage has most of the question's words; these come nearest and may not answer it. "
    return ""


def lead_number(aim: dict[str, Any], best: list[Quote], place: str) -> str:
    """The figures of the thing asked about, added up where the question wants that."""
    found = figures(best, aim["noun"]) if aim["noun"] else []
    listed = list(dict.fromkeys((words, quote["title"]) for _, words, quote in found))
    told = "; ".join(f"**{words}** ({title})" for words, title in listed[:8])
    worth = [value(number) for number, _, _ in found]
    whole = re.search(r"\bin (?:all|total)\b|\btotal\b|\baltogether\b", aim["question"], re.I)
    if whole and len(listed) > 1 and len(listed) == len(found) and all(v is not None for v in worth):
        added = " + ".join(f"{v:g}" for v in worth if v is not None)
        told += f". Added up, if these are separate: {added} = **{sum(v for v in worth if v is not None):g}**"
    return f"What the passages say in figures: {told}." if told else ""


def lead_when(aim: dict[str, Any], best: list[Quote], place: str) -> str:
    """The dates in the best quotes."""
    dates = tally(DATE, best[:1], aim["question"])
    return f"Dated there: {', '.join(f'**{d}**' for d in dates[:2])}. The best passage is {place}:" if dates else ""


def lead_who(aim: dict[str, Any], best: list[Quote], place: str) -> str:
    """Who said it where that is asked, else the name that the wording gives."""
    said = r"\bwho\b.{0,20}\b(?:says?|said|explain|mention|talk|describe|discuss|think|argue|claim|tell|told|recommend|suggest|introduc|ask)"
    if re.search(said, aim["question"], re.I) and best[0]["speaker"]:
        return f"Said by **{best[0]['speaker']}**. The best passage is {place}:"
    known = re.search(
        r"\b[Ww]ho(?: exactly)? (?:is|are|was|were) [A-Z]", aim["question"]
    )  # "Who is Ann Lee?" has the name
    name = "" if known else who_did(aim, best)
    return f"Probably **{name}**, by the wording. The best passage is {place}:" if name else ""


def lead_of(best: Quote) -> str:
    """Where the best quote stands."""
    title = best["title"] if best["title"] != "the document" else ""
    parts = [title and f"in **{title}**", best["speaker"], best["time"] and f"at {best['time']}"]
    return ", ".join(part for part in parts if part) or f"at character {best['offset']:,}"


def answer_text(
    caution: str, parts: list[tuple[dict[str, Any], list[Quote], str]], note: str, leads: dict[str, Callable[..., str]]
) -> str:
    """The answer: for each part of the question a lead, the best quote and the others; then how they were found."""
    told: list[str] = [caution.strip()] if caution and len(parts) > 1 else []
    seen: set[tuple[str, int]] = set()
    for aim, best, miss in parts:
        if len(parts) > 1:
            asked = aim["question"].rstrip(" ?.,")
            told.append(f"### {asked[:1].upper()}{asked[1:]}?")
            if best and (best[0]["title"], best[0]["offset"]) in seen:
                told.append(
                    "The passage above fits best here too."
                    if not best[1:]
                    else "The passage above fits here too, and this one:"
                )
                told += map(block, best[1:2])
                continue
            best = best[:2]
        if not best:
            told.append("I found nothing on this part.")
            continue
        seen |= {(quote["title"], quote["offset"]) for quote in best}
        place = lead_of(best[0])
        lead = leads[aim["asks"]](aim, best, place) if aim["asks"] in leads and not miss else ""
        told += [
            (caution if len(parts) == 1 else "") + miss + (lead or f"The best passage is {place}:"),
            block(best[0]),
        ]
        if best[1:]:
            told += ["Also on this:", *map(block, best[1:])]
    return "\n\n".join([*told, f"*{note}*"])


def found_nothing(tried: list[str], documents: int, why: str = "") -> str:
    """Say that there is nothing, and what was tried."""
    many = f"all {documents:,} documents" if documents > 1 else "the document"
    return f"I found nothing on this. {why.split('. ')[0] + '. ' if why else ''}Words tried in {many}: {', '.join(tried) or 'none: the question has no word to look for'}.\n\n*{note_on('Words were matched', documents)}*"


def both_sides(quotes: list[Quote], people: list[str], note: str) -> str:
    """What each side says, side by side."""
    sides: dict[str, list[Quote]] = {name: [] for name in people}
    for quote in quotes:
        side = quote["speaker"] or quote["title"]
        if (not people or side in sides) and len(sides.setdefault(side, [])) < 2:
            sides[side].append(quote)
    held = sorted((s for s in sides if sides[s]), key=lambda s: -sides[s][0]["score"])[:4]
    silent = [f"**{name}**" for name in people if not sides.get(name)]
    lead = (
        f"What {' and '.join(f'**{s}**' for s in held)} say about it, side by side. Whether they contradict each other is yours to judge."
        if held
        else ""
    )
    lead += f" Nothing that fits was found from {', '.join(silent)}." if silent else ""
    dates = {s: tally(DATE, sides[s]) for s in held}
    differ = "; ".join(f"{s}: {', '.join(d)}" for s, d in dates.items() if d)
    parts = [lead + (f" Dates named: {differ}." if len([d for d in dates.values() if d]) > 1 else "")]
    for side in held:
        parts += [f"### {side}", *[block(quote) for quote in sides[side]]]
    return "\n\n".join([*parts, f"*{note}*"])
