"""What a question asks of a table: which rows, in what groups, and which figure of each group."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from .ranking import words

MEASURES = {
    "share": r"\b(?:share|percentage|percent|proportion|fraction)\b",
    "mean": r"\b(?:average|mean)\b",
    "median": r"\bmedian\b",
    "sum": r"\b(?:total|sum|altogether|in all|combined|how much)\b",
    "nunique": r"\b(?:distinct|unique|different)\b",
    "max": r"\b(?:max(?:imum)?|highest|largest|greatest|biggest|longest|most expensive|top|latest|newest|oldest|best|tallest|heaviest)\b",
    "min": r"\b(?:min(?:imum)?|lowest|smallest|least|shortest|cheapest|earliest|worst|youngest|fewest|lightest)\b",
    "count": r"\b(?:how many|number of|count|how often|most frequent(?:ly)?|most common|frequency)\b",
}
LEAST = r"\b(?:lowest|least|fewest|smallest|min(?:imum)?|cheapest|shortest|earliest|youngest)\b"
MOST = r"\b(?:most|highest|largest|greatest|biggest|top \d+)\b"
COMPARED = {
    ">": r"(?:more than|over|above|greater than|exceed(?:s|ing)?|after|since|>)",
    "<": r"(?:less than|under|below|fewer than|before|<)",
    ">=": r"(?:at least|>=)",
    "<=": r"(?:at most|up to|<=)",
}


def frame_of(records: list[Any]) -> pd.DataFrame | None:
    """The records as a table with numbers and dates as such; of nested JSON, the longest list of records in it."""
    flat = [r for r in records if isinstance(r, dict)]
    if len(flat) < 2:
        lists = [
            v for r in flat for v in r.values() if isinstance(v, list) and v and all(isinstance(x, dict) for x in v)
        ]
        flat = max(lists, key=len) if lists else []
    if len(flat) < 2:
        return None
    frame = pd.json_normalize(flat)
    frame = frame[[c for c in frame.columns if not frame[c].map(lambda v: isinstance(v, list | dict)).any()]]
    frame.columns = [str(c).strip() for c in frame.columns]
    for column in frame.columns:
        text = frame[column].astype(str).str.strip()
        filled = text[~text.isin(["", "nan", "None", "NA", "N/A", "-"])]
        plain = filled.str.replace(r"^[$€£]|[,\s%](?=\d|$)|\s*(?:USD|EUR|GBP)$", "", regex=True)
        numbers = pd.to_numeric(plain, errors="coerce")
        if len(filled) and numbers.notna().mean() > 0.9:
            frame[column] = numbers.reindex(frame.index)
        elif len(filled) and filled.str.match(r"\d{4}-\d\d?-\d\d?|\d{1,2}[/.]\d{1,2}[/.]\d{4}").mean() > 0.9:
            dates = pd.to_datetime(
                filled,
                errors="coerce",
                format="mixed",
                dayfirst=bool(filled.str.match(r"(?:1[3-9]|2\d|3[01])[/.]").any()),
            )
            frame[column] = dates.reindex(frame.index)
        else:
            frame[column] = text.where(text.index.isin(filled.index), None)
    return frame


def column_in(text: str, columns: list[str]) -> list[str]:
    """The columns that a piece of a question names, those with most of their words there first."""
    asked = words(text)
    named = []
    for column in columns:
        stems = [
            w
            for w in words(re.sub(r"([a-z])([A-Z])", r"\1 \2", column).replace("_", " "))
            if w not in ("of", "the", "id")
        ]
        hits = [asked.index(w) for w in stems if w in asked]
        if hits and len(hits) >= 0.5 * len(stems):
            named.append((-len(hits) / len(stems), -len(hits), min(hits), column))
    return [column for *_, column in sorted(named)]


def named_values(rest: str, frame: pd.DataFrame) -> tuple[list[tuple[str, str, Any]], str]:
    """Filters for values of text columns that the question names, and the question without them."""
    where: list[tuple[str, str, Any]] = []
    for column in map(str, frame.columns):
        if pd.api.types.is_numeric_dtype(frame[column]) or pd.api.types.is_datetime64_any_dtype(frame[column]):
            continue
        for value in sorted({str(v) for v in frame[column].dropna()}, key=lambda v: (-len(v), v))[:5000]:
            named = rf"(?<!\w){re.escape(value)}(?:['’]s)?(?!\w)"
            if not 1 < len(value) < 60 or any(w == column for w, _, _ in where) or words(value) == words(column):
                continue
            if re.search(named, rest, re.I if len(value) > 3 else 0):
                where.append((column, "==", value))
                rest = re.sub(named, " ", rest, flags=re.I)
    return where, rest


def limits_of(rest: str, frame: pd.DataFrame) -> tuple[list[tuple[str, str, Any]], str]:
    """Filters such as "over 100", "after 2020" or "in 1995", and the question without them."""
    numeric = [str(c) for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c])]
    dates = [str(c) for c in frame.columns if pd.api.types.is_datetime64_any_dtype(frame[c])]
    where: list[tuple[str, str, Any]] = []
    for sign, told in COMPARED.items():
        for match in re.finditer(rf"{told} [$€£]?(\d[\d,]*(?:\.\d+)?)", rest, re.I):
            number = float(match[1].replace(",", ""))
            near = column_in(rest[: match.start()], numeric)[-1:] or column_in(rest[match.end() :], numeric)[:1]
            # Not named: the column in whose range the number lies.
            near = near or [c for c in reversed(numeric) if frame[c].min() <= number <= frame[c].max()][:1]
            if dates and 1500 < number < 2200 and (not near or re.search("after|since|before", match[0], re.I)):
                later = sign == ">" and "since" not in match[0].lower()
                where.append((dates[0], ">=" if sign == ">" else sign, pd.Timestamp(int(number) + later, 1, 1)))
            elif near:
                where.append((near[0], sign, number))
            rest = rest.replace(match[0], " ")
    years = [c for c in numeric if "year" in c.lower()]
    for match in re.finditer(r"\b(?:in|during|of|for|from) (?:\w+ )?((?:19|20)\d\d)\b", rest):
        if years or dates:
            where.append((years[0], "==", int(match[1])) if years else (dates[0], "year", int(match[1])))
            rest = rest.replace(match[1], " ")
    return where, rest


def plan_table(question: str, frame: pd.DataFrame) -> dict[str, Any]:
    """{"where": filters, "by": columns to group by, "measure", "of": its column, …}; "measure" is "" where nothing is asked."""
    columns = [str(c) for c in frame.columns]
    plain = [
        c
        for c in columns
        if not pd.api.types.is_numeric_dtype(frame[c]) and not pd.api.types.is_datetime64_any_dtype(frame[c])
    ]
    where, rest = named_values(f" {question.strip(' ?.!')} ", frame)
    limits, rest = limits_of(rest, frame)
    where += limits
    free = [c for c in columns if c not in [w for w, _, _ in where]]
    each = re.search(r"\b(?:by|per|for each|each|for every|every)\s+((?:\w+\W*){1,4})", rest, re.I)
    by = (
        [c for c in column_in(each[1], free) if c in plain or re.search("year|month|day|id|season", c, re.I)][:2]
        if each
        else []
    )
    asked = [c for c in column_in(rest, free) if c not in by]
    names = [c for c in asked if c in plain]
    of = next((c for c in asked if c not in plain), "")
    measure = next((name for name, pattern in MEASURES.items() if re.search(pattern, rest, re.I)), "")
    total = next((name for name in ("mean", "median", "sum") if re.search(MEASURES[name], rest, re.I)), "")
    length = bool(names) and bool(re.search(r"\b(?:longest|shortest)\b", rest, re.I))
    if length:
        of = names[0]
    elif re.search(f"{MOST}|{LEAST}", rest, re.I) and names and not by and frame[names[0]].nunique() < len(frame):
        by = names[:1]  # "which region has the highest total sales": a group, not a row
        measure = (total or "sum") if of else "count"
    elif measure == "count" and re.search(r"\bhow many different\b", rest, re.I):
        measure, of = "nunique", (names or [of])[0]
    elif measure == "nunique":
        of = (names or [of])[0]
    elif not measure and where and re.search(r"\b(?:which|what|who|list|show|find)\b", rest, re.I):
        measure = "list"
    if not of and measure in ("mean", "median", "sum", "max", "min"):
        sized = [c for c in columns if c not in plain and not re.search(r"id$|number|year|zip|turn|row", c, re.I)]
        of = sized[-1] if sized else ""
    top = re.search(r"\btop (\d+)", rest, re.I)
    counted = bool(names) or bool(
        re.search(r"\b(?:rows|records|entries|lines)\b|\bhow many \w+ (?:are|were) there\s*$", rest.strip(), re.I)
    )
    return {"where": where, "by": by, "measure": measure, "of": of, "rows": int(top[1]) if top else 0, "length": length,
            "order": "min" if re.search(LEAST, rest, re.I) else "max", "counted": counted}  # fmt: skip
