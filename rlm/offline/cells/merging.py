"""Merge what the children found: drop what says the same, keep the few that together say most, write them out."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from .ranking import words

Quote = dict[str, Any]


def distinct(quotes: list[Quote]) -> list[Quote]:
    """Best first, and where two say nearly the same, only the better one, which then says where else it stands."""
    kept: list[tuple[set[str], Quote]] = []
    for quote in sorted(quotes, key=lambda q: -q["score"]):
        stems = set(words(quote["quote"]))
        twin = next((other for has, other in kept if len(has & stems) >= 0.6 * min(len(has), len(stems))), None)
        if twin is None:
            kept.append((stems, {**quote, "also": []}))
        elif twin["title"] != quote["title"] and quote["title"] not in twin["also"]:
            twin["also"].append(quote["title"])
    return [quote for _, quote in kept]


def choose(quotes: list[Quote], weights: dict[str, float], most: int = 5) -> list[Quote]:
    """The few best: what a quote adds counts less where words were covered before, and nothing weak is added."""
    left = list(quotes)
    chosen: list[Quote] = []
    worth = dict(weights)
    total = sum(weights.values()) or 1.0
    places: Counter[str] = Counter()
    while left and len(chosen) < most:

        def gain(quote: Quote) -> float:
            new = sum(worth.get(w, 0.0) for w in quote["has"]) / total
            return float((0.5 * quote["score"] + 0.5 * new) * 0.9 ** places[quote["title"]])

        best = max(left, key=gain)
        new = sum(weights.get(w, 0.0) for w in best["has"] if worth.get(w, 0.0) == weights.get(w)) / total
        if chosen and best["score"] < (0.5 if new > 0.15 else 0.7) * chosen[0]["score"]:
            break
        chosen.append(best)
        left.remove(best)
        places[best["title"]] += 1
        for word in best["has"]:
            worth[word] = worth.get(word, 0.0) * 0.3
    return chosen


def place(quote: Quote) -> str:
    """Where a quote stands: title, speaker, time, offset."""
    at = f"character {quote['offset']:,}"
    title = quote["title"] if quote["title"] != "the document" else ""
    return " · ".join(filter(None, (title, quote["speaker"], quote["time"] and f"at {quote['time']}", at)))


def block(quote: Quote) -> str:
    """A quote in Markdown, with where it stands under it."""
    before = quote.get("asked") or ""
    before = before if len(before) < 240 else "… " + before[-220:].split(" ", 1)[1]
    asked = f"> *{before}*\n>\n" if before else ""
    also = quote.get("also") or []
    more = f" · also in {also[0]}" + (f" and {len(also) - 1} more" if len(also) > 1 else "") if also else ""
    clean = re.sub(r"\s+", " ", quote["quote"]).replace("*", "\\*")
    key = re.sub(r"\s+", " ", quote.get("key", "")).replace("*", "\\*")
    cut = "… " if clean[:1].islower() else "", " …" if clean[-1:].isalnum() or clean[-1:] == "," else ""
    if 20 < len(key) < 260 and len(clean) > len(key) + 80:
        clean = clean.replace(key, f"**{key}**", 1)
    return f"{asked}> {cut[0]}{clean}{cut[1]}\n>\n> — {place(quote)}{more}"
