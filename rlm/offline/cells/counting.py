"""Count a word or phrase exactly: by document, by speaker, and where."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any


def pattern_of(phrase: str) -> re.Pattern[str]:
    """The phrase as whole words, whatever its case, spaces and kind of apostrophe; its plural and possessive count too."""
    parts = [re.escape(part).replace("'", "['’]").replace("’", "['’]") for part in phrase.split()]
    ending = "(?:['’]?s)?" if phrase[-1:].isalpha() and not phrase.endswith("s") else "(?:['’]s?)?"
    body = r"[\s-]+".join(parts) + (ending if phrase[-1:].isalnum() else "")
    return re.compile(rf"(?<!\w){body}(?!\w)", re.I)


def mentions(talk: list[list[Any]], docs: list[dict[str, Any]], phrase: str) -> list[dict[str, Any]]:
    """Every mention: which document, who, when, the sentence."""
    wanted = pattern_of(phrase)
    found = []
    for doc, told in zip(docs, talk, strict=True):
        for i, (offset, time, speaker, said) in enumerate(told):
            # A phrase may run on over the cut between two sentences, where a transcript has no full stops.
            rest = (
                told[i + 1][3][: len(phrase)]
                if i + 1 < len(told) and told[i + 1][2] == speaker and " " in phrase
                else ""
            )
            for match in wanted.finditer(f"{said} {rest}"):
                if match.start() < len(said):
                    found.append(
                        {
                            "title": doc["title"],
                            "time": time,
                            "speaker": speaker,
                            "offset": offset,
                            "quote": said,
                            "form": match[0].lower(),
                            "asked": "",
                            "score": 1.0,
                        }
                    )
    return found


def table(head: list[str], rows: list[tuple[Any, ...]], most: int = 40) -> str:
    """A Markdown table, numbers to the right."""
    years = [
        all(isinstance(row[i], int) and 1000 < row[i] < 3000 for row in rows) and "year" in head[i].lower()
        for i in range(len(head))
    ]

    def cell(value: Any, year: bool) -> str:
        if isinstance(value, int | float) and not year:
            return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
        return str(value).replace("|", "\\|").replace("\n", " ")[:120]

    shown = [[cell(value, years[i]) for i, value in enumerate(row)] for row in rows[:most]]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    lines = [head, ["---:" if r else "---" for r in right], *shown]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return text + (f"\n\n… and {len(rows) - most:,} more rows." if len(rows) > most else "")


def told_counts(
    found: list[dict[str, Any]], phrase: str, only: list[str], talk: list[list[Any]], docs: list[dict[str, Any]]
) -> str:
    """A count as an answer: the number first, then by document and by speaker, then where it stands."""
    found = [one for one in found if not only or one["speaker"] in only]
    exact = [
        one for one in found if re.sub(r"['’]s?$", "", one["form"]) == re.sub(r"\s+", " ", phrase.lower())
    ] or found
    who = f" by {' and '.join(only)}" if only else ""
    times = f"**{len(exact):,} time{'' if len(exact) == 1 else 's'}**"
    titles = dict.fromkeys(one["title"] for one in exact)
    spread = f", in {len(titles):,} of {len(docs):,} documents" if len(docs) > 1 else ""
    lead = f"“{phrase}” is said{who} {times}{spread}."
    if len(found) > len(exact):
        others = sorted({one["form"] for one in found if one not in exact})
        lead += f" With {', '.join(f'“{o}”' for o in others[:3])} it is {len(found):,}."
    parts = [lead]
    speakers = Counter(one["speaker"] for one in exact if one["speaker"])
    if len(speakers) > 1 or (speakers and not only):
        parts.append(table(["Speaker", "Times"], speakers.most_common()))
    if len(docs) > 1 and titles:
        counts = Counter(one["title"] for one in exact)
        parts.append(table(["Document", "Times"], [(title, counts[title]) for title in titles]))
        seasons = Counter(m[1] for one in exact if (m := re.match(r"(?i)s(\d+)e\d+", one["title"])))
        if len(seasons) > 1:
            each = {
                s: Counter(one["speaker"] for one in exact if re.match(rf"(?i)s{s}e", one["title"])) for s in seasons
            }
            names = [name for name, _ in speakers.most_common(6)]
            parts.append(
                table(
                    ["Season", *names, "All"],
                    [(f"Season {s}", *[each[s][n] for n in names], seasons[s]) for s in sorted(seasons)],
                )
            )
    for one in exact[:3]:
        at = (
            one["title"] if len(docs) > 1 else "",
            one["speaker"],
            one["time"] and f"at {one['time']}",
            f"character {one['offset']:,}",
        )
        parts.append(f"> {one['quote'][:300]}\n>\n> — {' · '.join(filter(None, at))}")
    return "\n\n".join(parts)


def told_documents(
    found: list[dict[str, Any]], what: str, docs: list[dict[str, Any]], whom: dict[str, list[str]]
) -> str:
    """Which documents hold something: the number, then each with how often and the first place, word for word."""
    by_title: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        by_title.setdefault(one["title"], []).append(one)
    head = f"**{len(by_title):,} of {len(docs):,} documents** {'mentions' if len(by_title) == 1 else 'mention'} {what}:"
    if len(by_title) > 3:
        most = sorted(by_title, key=lambda title: -len(by_title[title]))[:3]
        head += f" most often {', '.join(f'**{title}** ({len(by_title[title]):,})' for title in most)}."
    lines = []
    for doc in docs:
        if held := by_title.get(doc["title"]):
            spoken = [one for one in held if len(one["quote"]) > 30 and not re.match(r"[a-z_]+: |- |#", one["quote"])]
            first = (spoken or held)[0]
            said = first["quote"] if len(first["quote"]) < 220 else first["quote"][:219] + "…"
            at = ", ".join(
                filter(
                    None, (first["speaker"], first["time"] and f"at {first['time']}", f"character {first['offset']:,}")
                )
            )
            lines.append(
                f"- **{doc['title']}** ({len(held):,} time{'' if len(held) == 1 else 's'}): “{said}” ({at})"
                + (f" With {', '.join(whom[doc['title']][:8])}." if whom.get(doc["title"]) else "")
            )
    return "\n".join([head, "", *lines[:80], *([f"- … and {len(lines) - 80:,} more"] if len(lines) > 80 else [])])


def told_any(found: list[dict[str, Any]], phrase: str, docs: list[dict[str, Any]]) -> str:
    """Yes, with how often, where, and the first places that say something."""
    titles = list(dict.fromkeys(one["title"] for one in found))
    spread = f", in {len(titles):,} of {len(docs):,} documents" if len(docs) > 1 else ""
    speakers = Counter(one["speaker"] for one in found if one["speaker"])
    by = f" By {', '.join(f'{name} ({times})' for name, times in speakers.most_common(5))}." if speakers else ""
    parts = [f"**Yes**: “{phrase}” comes up **{len(found):,} time{'' if len(found) == 1 else 's'}**{spread}.{by}"]
    telling = [one for one in found if len(one["quote"]) > 60 and not one["quote"].endswith("?")] or found
    first = [next((one for one in telling if one["title"] == title), None) for title in titles]
    shown = list(filter(None, first))[:4] if len(titles) > 1 else telling[:3]
    for one in shown:
        at = (
            one["title"] if len(docs) > 1 else "",
            one["speaker"],
            one["time"] and f"at {one['time']}",
            f"character {one['offset']:,}",
        )
        parts.append(f"> {one['quote'][:400]}\n>\n> — {' · '.join(filter(None, at))}")
    return "\n\n".join(parts)
