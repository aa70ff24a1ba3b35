"""Figures, code and texts of a run's page."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from analyses import markup

register = template.Library()

register.simple_tag(markup.code_html, name="code_lines")
register.filter("markdown", markup.markdown_html)
register.filter("paragraphs", markup.paragraphs)

_WORDS = {
    "queued": "queued",
    "running": "running",
    "writing": "writing",
    "waiting": "waiting for children",
    "paused": "paused",
    "done": "done",
    "failed": "failed",
    "error": "raised an error",
    "stopped": "stopped",
    "limit": "ended at a limit",
}
_TONES = {"writing": "running", "error": "failed"}
_ICONS = {"writing": "running", "error": "failed", "paused": "pause", "stopped": "stopped"}


@register.filter
def status_tone(status: str) -> str:
    """The status whose colour this one has."""
    return _TONES.get(status, status)


@register.filter
def status_icon(status: str) -> str:
    return _ICONS.get(status, status)


@register.filter
def status_word(status: str) -> str:
    return _WORDS.get(status, status)


@register.filter
def amount(value: int | float | None) -> str:
    """987, 21.4 k, 1.31 M."""
    if value is None:
        return "–"
    if value < 1000:
        return f"{value:.0f}"
    if value < 999_500:
        return f"{value / 1000:.1f} k" if value < 99_950 else f"{value / 1000:.0f} k"
    return f"{value / 1e6:.2f} M" if value < 99.5e6 else f"{value / 1e6:.0f} M"


@register.filter
def money(value: float | None) -> str:
    if value is None:
        return "–"
    if value == int(value) and value < 1000:
        return f"${value:.0f}"
    return f"${value:.4f}" if value < 0.01 else f"${value:.3f}" if value < 10 else f"${value:,.2f}"


@register.filter
def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} s" if value < 100 else clock(value)


@register.filter
def clock(value: float | None) -> str:
    """0:47, 12:05, 1:02:05."""
    whole = int(value or 0)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


@register.filter
def percent(part: float, whole: float) -> str:
    """A width for an SVG: ``part`` of ``whole``, at most all of it."""
    return f"{min(100.0, 100 * part / whole):.1f}%" if whole else "0%"


@register.filter
def plural(count: int, word: str) -> str:
    """3|plural:"child,children"; with one word, an s is added."""
    one, _, many = word.partition(",")
    return f"{count:,} {one if count == 1 else many or one + 's'}"


@register.simple_tag
def words(text: str) -> str:
    count = len(text.split())
    return f"{count:,} word{'' if count == 1 else 's'}"


@register.simple_tag
def figure(node: Any, name: str, form: str) -> SafeString:
    """One of a node's figures with all below it, its own under that, and a tint with a word where it is the most."""
    shown = {"amount": amount, "money": money, "seconds": seconds}[form]
    whole, own = node.figures[name]
    most = node.most
    inner = format_html('<span class="sum">{}</span>' if node.has_children else "{}", shown(whole))
    if node.has_children:
        inner += _own(shown(own), node.alone, most.get(f"own_{name}", ""))
    if name == "tokens":
        inner += mark_safe('<span class="unit"> tokens</span>')  # noqa: S308
    if said := most.get(name):
        return format_html('<span class="is-most" title="{}">{}<span class="sr"> ({})</span></span>', said, inner, said)
    return format_html("<span>{}</span>", inner)


def _own(text: str, alone: str, most: str) -> SafeString:
    return format_html(
        '<span class="own{}" title="{}"><span class="sr"> with children, own </span>{}{}</span>',
        " is-most" if most else "",
        f"{alone}, {most}" if most else alone,
        text,
        format_html('<span class="sr"> ({})</span>', most) if most else "",
    )


@register.simple_tag
def delta(one: float | None, other: float | None, share: bool = False) -> str:
    """How much more or less the other is: +3, −14 %."""
    if one is None or other is None:
        return "–"
    if one == other:
        return "same"
    sign = "+" if other > one else "−"
    if share and one:
        return f"{sign}{abs(other - one) / one:.0%}".replace("%", " %")
    return f"{sign}{abs(other - one):,.0f}"


@register.inclusion_tag("analyses/_status.html")
def status(name: str) -> dict[str, Any]:
    return {"tone": status_tone(name), "icon_name": status_icon(name), "word": status_word(name)}


@register.simple_tag
def leaf(node: Any, name: str) -> SafeString:
    """A leaf of a node, by the partial that frames send too."""
    return node.leaf(name)  # type: ignore[no-any-return]
