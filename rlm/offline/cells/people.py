"""Who speaks, where and how much."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

from .counting import table


def voices(
    talk: list[list[Any]], docs: list[dict[str, Any]], recorded: list[Counter[str]] | None = None
) -> list[dict[str, Any]]:
    """One record a speaker: documents they speak in, turns, words. Those who speak in most documents first."""
    found: dict[str, dict[str, Any]] = {}
    for n, (doc, told) in enumerate(zip(docs, talk, strict=True)):
        for speaker, turn in groupby(told, key=lambda sentence: sentence[2]):
            size = sum(len(said.split()) for _, _, _, said in turn)
            for name in speaker.split(", ") if speaker and not speaker.startswith("(") else []:
                one = found.setdefault(name, {"speaker": name, "titles": [], "turns": 0, "words": 0})
                one["turns"] += 1
                one["words"] += size
                if doc["title"] not in one["titles"]:
                    one["titles"].append(doc["title"])
        # Records say exactly who had a turn, also where one speaker has two in a row.
        for name, turns in (recorded[n] if recorded else Counter()).items():
            if name in found:
                found[name]["turns"] = turns + (found[name]["turns"] if len(docs) > 1 else 0)
    return sorted(found.values(), key=lambda one: (-len(one["titles"]), -one["words"]))


def hosts_of(people: list[dict[str, Any]], documents: int) -> list[str]:
    """Those who speak in most of the documents: in a podcast, the hosts."""
    regular = [one["speaker"] for one in people if documents > 2 and len(one["titles"]) > 0.4 * documents]
    return regular if len(regular) < len(people) else []


def named_in(docs: list[dict[str, Any]]) -> Counter[str]:
    """People named in what is known about each document (guest, speakers, author …)."""
    names: Counter[str] = Counter()
    for doc in docs:
        for key, value in (doc.get("meta") or {}).items():
            if str(key).lower().rstrip("s") in ("guest", "speaker", "host", "author", "participant"):
                names.update(
                    {str(one).strip() for one in (value if isinstance(value, list) else str(value).split(","))}
                )
    return names


def told_people(people: list[dict[str, Any]], asked: list[str], question: str, docs: list[dict[str, Any]]) -> str:
    """An answer about speakers: the figure or the name asked for first, then the table."""
    low = question.lower()
    hosts = hosts_of(people, len(docs))
    if asked:
        people = [one for one in people if one["speaker"] in asked]
    elif "guest" in low or "interviewee" in low:
        people = [one for one in people if one["speaker"] not in hosts]
    elif "host" in low or "presenter" in low:
        people = [one for one in people if one["speaker"] in hosts] or people
    many = len(docs) > 1
    listed = named_in(docs)
    if "guest" in low and not asked and many and len(listed) > 2 and not listed.keys() & set(hosts):
        # What is known of each document names its guests, under names fuller than those in front of what they say.
        for one in people:
            listed.pop(one["speaker"], None)
        named = [
            {"speaker": n, "titles": [d["title"] for d in docs if n in str(d.get("meta"))], "turns": 0, "words": 0}
            for n in listed
        ]
        people = people + [one for one in named if one["titles"]]
    key = "turns" if "turn" in low or "times" in low or "often" in low else "words"
    if (
        many
        and any(word in low for word in ("episode", "appear", "document", "file", "show", "guest"))
        and "word" not in low
    ):
        key = "titles"
    size = {one["speaker"]: len(one["titles"]) if key == "titles" else one[key] for one in people}
    people = sorted(people, key=lambda one: (-size[one["speaker"]], -one["words"]))
    unit = {"titles": "documents", "words": "words", "turns": "turns"}[key]
    least = "least" in low or "fewest" in low
    parts = []
    for one in people if asked else []:
        where = f", in {len(one['titles'])} of {len(docs)} documents" if many else ""
        parts.append(f"**{one['speaker']}** speaks **{one['turns']:,} times** (turns), {one['words']:,} words{where}.")
        if many:
            parts.append("\n".join(f"- {title}" for title in one["titles"][:60]))
    if not asked and ("most" in low or "least" in low or "often" in low or "fewest" in low) and people:
        best = people[-1] if least else people[0]
        ties = [one["speaker"] for one in people if size[one["speaker"]] == size[best["speaker"]]]
        parts.append(
            f"{' and '.join(f'**{name}**' for name in ties[:6])}: **{size[best['speaker']]:,} {unit}**, the {'fewest' if least else 'most'} of {len(people)} {'guests' if 'guest' in low else 'speakers'}."
        )
        if key == "titles" and len(ties) == 1:
            parts.append("\n".join(f"- {title}" for title in best["titles"]))
    elif not asked:
        kind = "guests" if "guest" in low else "hosts" if "host" in low and hosts else "speakers"
        parts.append(
            f"**{len(people)} {kind}** are named in the text: {', '.join(one['speaker'] for one in people[:40])}{' …' if len(people) > 40 else ''}."
        )
        if kind == "speakers" and hosts:
            parts.append(f"In most of the documents: {', '.join(hosts)}; they are probably the hosts.")
    rows = [(one["speaker"], len(one["titles"]), one["turns"], one["words"]) for one in people[:40]]
    return "\n\n".join([*parts, table(["Speaker", "Documents", "Turns", "Words"], rows)])
