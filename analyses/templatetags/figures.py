"""Times as lists of runs show them."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from analyses.models import Run
from analyses.templatetags.run import clock

register = template.Library()


@register.filter
def took(run: Run) -> str:
    """How long a run took, or has been under way."""
    if run.started_at is None:
        return ""
    if run.finished_at is None:
        return clock((timezone.now() - run.started_at).total_seconds())
    return clock(run.seconds)


@register.filter
def dollars(value: float | None) -> str:
    """A budget, as people write sums: $41.20."""
    return "" if value is None else f"${value:,.2f}"


@register.filter
def ago(when: datetime) -> SafeString:
    now = timezone.now()
    local, today = timezone.localtime(when), timezone.localtime(now).date()
    minutes = int((now - when).total_seconds() // 60)
    days = (today - local.date()).days
    if minutes < 1:
        words = "now"
    elif minutes < 60:
        words = f"{minutes} min ago"
    elif minutes < 12 * 60 or days == 0:
        words = f"{minutes // 60} h ago"
    elif days == 1:
        words = "yesterday"
    else:
        words = date_format(local, "j F" if local.year == today.year else "j M Y")
    exact = date_format(local, "j F Y, H:i")
    return format_html('<time datetime="{}" title="{}">{}</time>', when.isoformat(), f"{exact} {local.tzname()}", words)
