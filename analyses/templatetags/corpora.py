"""Figures and marks of corpora and documents."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from analyses.ingest.limits import megabytes
from analyses.models import Document
from analyses.templatetags.run import amount

register = template.Library()
register.filter("size", megabytes)


@register.filter
def tokens(characters: int | None) -> int:
    """About so many tokens: the measure of the probe too."""
    return (characters or 0) // 4


@register.filter
def figure(value: int) -> SafeString:
    """A large figure with a small unit: 4.12 M."""
    number, _, unit = amount(value).partition(" ")
    return format_html("{} <small>{}</small>", number, unit) if unit else format_html("{}", number)


@register.filter
def figure_bytes(value: int) -> SafeString:
    size, unit = float(value), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    shown = f"{size:.1f}" if size < 10 and unit != "bytes" else f"{size:.0f}"
    return format_html("{} <small>{}</small>", shown, unit)


@register.filter
def minutes(value: float) -> str:
    """A recording's length: 52 min, 1 h 18 min."""
    hours, rest = divmod(round(value), 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


@register.filter
def marks_of(document: Document) -> str:
    """Who speaks or wrote and how long, as far as a document says: "2 speakers; 52 min"."""
    parts = []
    author = document.meta.get("author") or document.meta.get("from")
    if isinstance(author, str) and author:
        parts.append(author)
    if speakers := document.meta.get("speakers"):
        parts.append(", ".join(speakers) if len(speakers) <= 2 else f"{len(speakers)} speakers")
    if length := document.meta.get("minutes"):
        parts.append(minutes(length))
    pages = document.meta.get("pages")
    if isinstance(pages, int) and pages:
        parts.append(f"{pages:,} page{'' if pages == 1 else 's'}")
    return "; ".join(parts)
