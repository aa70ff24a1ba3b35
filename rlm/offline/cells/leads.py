"""The first sentence of an answer: what was found, no more sure of itself than it may be."""

from __future__ import annotations

import re

from .facts import DATE, NAME, figures, tally, value
from .merging import Quote, answer_text, block, place


def note_on(how: str, documents: int) -> str:
    many = f"{documents:,} documents" if documents > 1 else "one document"
    return f"From the offline extractive model, not a language model. {how} in {many}; quotes are word for word, nothing is inferred."


def lead_of(best: list[Quote], asks: str, noun: list[str], question: str) -> str:
    """What the best quotes hold that the question may be after: figures, dates, names; else where the best one stands."""
    first = best[0]
    title = first["title"] if first["title"] != "the document" else ""
    parts = [title and f"in **{title}**", first["speaker"], first["time"] and f"at {first['time']}"]
    where = ", ".join(part for part in parts if part) or f"at character {first['offset']:,}"
    if asks == "number" and noun and (found := figures(best, noun)):
        listed = list(dict.fromkeys((words, quote["title"]) for _, words, quote in found))
        told = "; ".join(f"**{words}** ({title})" for words, title in listed[:8])
        worth = [value(number) for number, _, quote in found]
        if (
            re.search(r"\bin (?:all|total)\b|\btotal\b|\baltogether\b", question, re.I)
            and len(listed) > 1
            and len(set(listed)) == len(found)
            and all(v is not None for v in worth)
        ):
            figures_told = " + ".join(f"{v:g}" for v in worth if v is not None)
            told += (
                f". Added up, if these are separate: {figures_told} = **{sum(v for v in worth if v is not None):g}**"
            )
        return f"What the passages say in figures: {told}."
    if asks == "when" and (dates := tally(DATE, best, question)):
        return (
            f"Dates in the passages that fit best: {', '.join(f'**{d}**' for d in dates[:3])}. The best one is {where}:"
        )
    said = r"\bwho\b.{0,20}\b(?:says?|said|explain|mention|talk|describe|discuss|think|argue|claim|tell|told|recommend|suggest|introduc|ask)"
    if asks == "who" and re.search(said, question, re.I) and first["speaker"]:
        return f"Said by **{first['speaker']}**. The passage that fits best is {where}:"
    if asks == "who" and (names := tally(NAME, best, question)):
        return (
            f"Named in the passages that fit best: {', '.join(f'**{n}**' for n in names[:4])}. The best one is {where}:"
        )
    return f"The passage that fits best is {where}:"


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


__all__ = ["answer_text", "both_sides", "found_nothing", "lead_of", "note_on", "place"]
