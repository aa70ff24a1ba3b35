"""Run the plan of a question about a table with pandas, and say what came out and from which rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .counting import table

SAID = {"mean": "average", "sum": "total", "nunique": "number of different", "count": "number of rows", "max": "highest", "min": "lowest",
        "median": "median", "list": "rows", "share": "share of all rows, in percent"}  # fmt: skip


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
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value == int(value) else value


def work_out(frame: pd.DataFrame, plan: dict[str, Any]) -> dict[str, Any]:
    """{"said": the plan in words, "figure", "name": whose it is, "head" and "rows": what is behind it, "matched": how many rows}."""
    rows = chosen_rows(frame, plan["where"])
    measure, of, by = plan["measure"], plan["of"] or str(frame.columns[0]), plan["by"]
    said = SAID[measure] + (f" {of}" if measure not in ("count", "list", "share") else "")
    said += "".join(f", where {c} {'is' if s in ('==', 'year') else s} {told(v)}" for c, s, v in plan["where"])
    result: dict[str, Any] = {"said": said, "figure": None, "name": "", "matched": len(rows)}
    shown = [c for c in frame.columns if frame[c].astype(str).str.len().mean() < 80][:7]
    if by and measure != "list":
        groups = rows.groupby(by, dropna=False)
        figures = groups[of].agg(measure) if measure not in ("count", "share") else groups.size()
        figures = figures / len(rows) * 100 if measure == "share" else figures
        figures = figures.sort_values(ascending=plan["order"] == "min", kind="stable").head(plan["rows"] or 200)
        listed = [(*map(str, key if isinstance(key, tuple) else (key,)), told(v)) for key, v in figures.items()]
        first = listed[0] if listed else ("", None)
        return {**result, "said": f"{said}, by {' and '.join(by)}", "name": ", ".join(first[:-1]), "figure": first[-1],
                "head": [*by, SAID[measure] + (f" {of}" if measure not in ("count", "share") else "")], "rows": listed}  # fmt: skip
    if measure in ("max", "min") and len(rows):
        sizes = rows[of].astype(str).str.len() if plan["length"] else rows[of]
        order = sizes.sort_values(ascending=measure == "min", kind="stable", na_position="last").index
        rows = rows.loc[order].head(plan["rows"] or 5)
        shown = [*shown, of] if of not in shown else shown
        result |= {
            "figure": told(rows.iloc[0][of]),
            "name": next((v for v in rows.iloc[0][shown] if isinstance(v, str)), ""),
        }
    elif measure in ("count", "list"):
        result["figure"] = len(rows)
    elif measure == "share":
        result["figure"] = round(100 * len(rows) / len(frame), 2) if len(frame) else None
    elif len(rows):
        result["figure"] = told(rows[of].agg(measure))
    most = 40 if measure == "list" else 12
    return {
        **result,
        "head": shown,
        "rows": [tuple(told(v) for v in row) for row in rows[shown].head(most).itertuples(index=False)],
    }


def told_table(result: dict[str, Any], title: str, size: int) -> str:
    """The answer: the figure first, then the rows behind it and how it was worked out."""
    figure, said = result["figure"], result["said"]
    shown = f"{figure:,}" if isinstance(figure, int) else f"{figure:,.2f}" if isinstance(figure, float) else str(figure)
    if result["matched"] == 0:
        lead = f"No row fits: {said}."
    elif ", by " in said:
        lead = f"**{result['name']}** comes first, with **{shown}** ({said})."
    else:
        lead = f"{said[:1].upper() + said[1:]}: **{shown}**" + (
            f", in the row of **{result['name']}**." if result["name"] else "."
        )
    note = f"*Worked out with pandas from {result['matched']:,} of {size:,} rows of {title}. From the offline extractive model, not a language model: check that this is what you asked.*"
    return "\n\n".join(
        part for part in (lead, table(result["head"], result["rows"]) if result["rows"] else "", note) if part
    )
