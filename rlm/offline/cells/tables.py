"""Answer a question about a table with pandas: filters, groups, and one figure of each group."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from .counting import table
from .ranking import words

MEASURES = {
    "mean": r"\b(?:average|mean)\b",
    "median": r"\bmedian\b",
    "sum": r"\b(?:total|sum|altogether|in all|combined|how much)\b",
    "nunique": r"\b(?:distinct|unique|different)\b",
    "max": r"\b(?:max(?:imum)?|highest|largest|greatest|biggest|longest|most expensive|top|latest|newest|oldest|best|tallest|heaviest)\b",
    "min": r"\b(?:min(?:imum)?|lowest|smallest|least|shortest|cheapest|earliest|worst|youngest|fewest|lightest)\b",
    "count": r"\b(?:how many|number of|count|how often|most frequent(?:ly)?|most common|frequency)\b",
}
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


def plan_table(question: str, frame: pd.DataFrame) -> dict[str, Any]:
    """What a question asks of a table: {"where": [...], "by": [...], "measure", "of", "rows"}; empty where it asks nothing of it."""
    columns = [str(c) for c in frame.columns]
    numeric = [c for c in columns if pd.api.types.is_numeric_dtype(frame[c])]
    dates = [c for c in columns if pd.api.types.is_datetime64_any_dtype(frame[c])]
    where: list[tuple[str, str, Any]] = []
    rest = f" {question.strip(' ?.!')} "
    for column in columns:  # values named in the question
        if column in numeric or column in dates:
            continue
        for value in sorted({str(v) for v in frame[column].dropna()}, key=len, reverse=True)[:5000]:
            named = rf"(?<!\w){re.escape(value)}(?:['’]s)?(?!\w)"
            if not 1 < len(value) < 60 or any(w == column for w, _, _ in where) or words(value) == words(column):
                continue
            if re.search(named, rest, re.I if len(value) > 3 else 0):
                where.append((column, "==", value))
                rest = re.sub(named, " ", rest, flags=re.I)
    for sign, told in COMPARED.items():
        for match in re.finditer(rf"{told} [$€£]?(\d[\d,]*(?:\.\d+)?)", rest, re.I):
            number = float(match[1].replace(",", ""))
            before = column_in(rest[: match.start()], numeric) or column_in(rest[match.end() :], numeric)
            if dates and 1500 < number < 2200 and (not before or re.search("after|since|before", match[0], re.I)):
                where.append(
                    (
                        dates[0],
                        sign,
                        pd.Timestamp(int(number) + (sign == ">" and "since" not in match[0].lower()), 1, 1),
                    )
                )
            elif before or numeric:
                where.append(((before or numeric[-1:])[-1] if len(before) < 2 else before[0], sign, number))
            rest = rest.replace(match[0], " ")
    for match in re.finditer(r"\b(?:in|during|of|for) (?:(\w+) )?((?:19|20)\d\d)\b", rest):
        years = [c for c in numeric if "year" in c.lower()]
        if dates or years:
            where.append(((years or dates)[0], "year" if not years else "==", int(match[2])))
            rest = rest.replace(match[2], " ")
    by: list[str] = []
    group = re.search(
        r"\b(?:by|per|for each|each|for every|every|grouped by|broken down by)\s+((?:\w+\W*){1,4})", rest, re.I
    )
    if group:
        by = [c for c in column_in(group[1], columns) if c not in [w for w, _, _ in where]][:2]
    which = re.search(r"\b(?:which|what|who)\b(?:\s+\w+){0,2}", rest, re.I)
    most = re.search(r"\b(?:most|highest|largest|greatest|biggest|lowest|least|fewest|smallest|top \d+)\b", rest, re.I)
    measure = next((name for name, pattern in MEASURES.items() if re.search(pattern, rest, re.I)), "")
    extreme = measure in ("max", "min") or bool(most)
    asked = [c for c in column_in(rest, columns) if c not in by]
    of = next((c for c in asked if c in numeric or c in dates), "") if measure != "nunique" else (asked or [""])[0]
    top = re.search(r"\btop (\d+)", rest, re.I)
    names = [c for c in asked if c not in numeric and c not in dates and c not in [w for w, _, _ in where]]
    if extreme and which and names and not by and frame[names[0]].nunique() < len(frame):
        by = names[:1]  # "which region has the highest total sales": a group, not a row
        totals = next((n for n in ("mean", "median", "sum") if re.search(MEASURES[n], rest, re.I)), "")
        measure = totals or ("sum" if of else "count")
        if not of:
            measure = "count"
    length = bool(names) and not by and bool(re.search(r"\b(?:longest|shortest)\b", rest, re.I))
    if length:
        of = names[0]
    if measure == "count" and re.search(r"\bhow many different\b", rest, re.I):
        measure = "nunique"
    if not of and measure in ("mean", "median", "sum", "max", "min"):
        sized = [c for c in numeric if not re.search(r"id$|number|year|zip|turn|row", c, re.I)] or numeric
        of = sized[-1] if sized else ""
    return {"where": where, "by": by, "measure": measure, "of": of, "rows": int(top[1]) if top else 0,
            "order": "min" if re.search(r"\b(?:lowest|least|fewest|smallest|min(?:imum)?|cheapest|shortest|earliest|youngest)\b", rest, re.I) else "max",
            "length": length, "rows_asked": bool(re.search(r"\b(?:rows|records|entries|lines)\b", rest, re.I))}  # fmt: skip


def chosen_rows(frame: pd.DataFrame, where: list[tuple[str, str, Any]]) -> pd.DataFrame:
    """The rows that pass all filters."""
    for column, sign, value in where:
        held = frame[column]
        if sign == "year":
            frame = frame[held.dt.year == value]
        elif sign == "==":
            frame = (
                frame[held.astype(str).str.lower() == str(value).lower()]
                if isinstance(value, str)
                else frame[held == value]
            )
        else:
            frame = frame[{">": held > value, "<": held < value, ">=": held >= value, "<=": held <= value}[sign]]
    return frame


def told(value: Any) -> Any:
    """A figure as people write it."""
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d")
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value == int(value):
        return int(value)
    return value


def work_out(frame: pd.DataFrame, plan: dict[str, Any]) -> dict[str, Any]:
    """Run a plan: {"figure", "rows" (records behind it), "head", "said" (the plan in words)}."""
    rows = chosen_rows(frame, plan["where"])
    measure, of, by = plan["measure"] or "count", plan["of"], plan["by"]
    names = {
        "mean": "average",
        "sum": "total",
        "nunique": "number of different",
        "count": "number of rows",
        "max": "highest",
        "min": "lowest",
        "median": "median",
    }
    of = of or ("" if measure == "count" else str(frame.columns[0]))
    said = names[measure] + (f" {of}" if measure != "count" else "")
    said += "".join(f", where {c} {'is' if s in ('==', 'year') else s} {told(v)}" for c, s, v in plan["where"])
    if by:
        groups = rows.groupby(by, dropna=False)
        figures = groups.size() if measure == "count" else groups[of].agg(measure)
        figures = figures.sort_values(ascending=plan["order"] == "min", kind="stable")
        if plan["rows"]:
            figures = figures.head(plan["rows"])
        listed = [
            (*[str(k) for k in (key if isinstance(key, tuple) else (key,))], told(v)) for key, v in figures.items()
        ]
        return {
            "figure": None,
            "first": listed[0] if listed else None,
            "rows": listed,
            "head": [*by, said.split(",")[0]],
            "said": f"{said}, by {' and '.join(by)}",
            "matched": len(rows),
        }
    shown = [c for c in frame.columns if frame[c].astype(str).str.len().mean() < 80][:7]
    if measure in ("max", "min") and len(rows):
        sizes = rows[of].astype(str).str.len() if plan["length"] else rows[of]
        order = sizes.sort_values(ascending=measure == "min", kind="stable", na_position="last").index
        best = rows.loc[order].head(plan["rows"] or 5)
        shown = [*shown, of] if of not in shown else shown
        return {
            "figure": told(best.iloc[0][of]),
            "first": None,
            "rows": [tuple(told(v) for v in r) for r in best[shown].itertuples(index=False)],
            "head": shown,
            "said": said,
            "matched": len(rows),
            "best": {c: told(best.iloc[0][c]) for c in shown},
        }
    figure = (
        len(rows)
        if measure == "count"
        else rows[of].nunique()
        if measure == "nunique"
        else rows[of].agg(measure)
        if len(rows)
        else None
    )
    return {
        "figure": told(figure),
        "first": None,
        "rows": [tuple(told(v) for v in r) for r in rows[shown].head(12).itertuples(index=False)],
        "head": shown,
        "said": said,
        "matched": len(rows),
    }


def told_table(result: dict[str, Any], title: str, size: int) -> str:
    """The answer from a table: the figure first, then the rows behind it and how it was worked out."""
    said = result["said"]
    if result["matched"] == 0:
        lead = f"No row fits: {said}."
    elif result["first"] is not None:
        *names, figure = result["first"]
        lead = f"**{', '.join(names)}** comes first, with **{shown_figure(figure)}** ({said})."
    elif result.get("best"):
        name = next((str(v) for v in result["best"].values() if isinstance(v, str)), "")
        lead = f"{said[:1].upper() + said[1:]}: **{shown_figure(result['figure'])}**" + (
            f", in the row of **{name}**." if name else "."
        )
    else:
        lead = f"{said[:1].upper() + said[1:]}: **{shown_figure(result['figure'])}**."
    note = f"*Worked out with pandas from {result['matched']:,} of {size:,} rows of {title}. From the offline extractive model, not a language model: check that this is what you asked.*"
    return "\n\n".join(
        part for part in (lead, table(result["head"], result["rows"]) if result["rows"] else "", note) if part
    )


def shown_figure(figure: Any) -> str:
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:,.2f}" if isinstance(figure, float) else str(figure)
