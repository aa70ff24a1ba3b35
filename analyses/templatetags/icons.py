"""Icons: one external sprite, one tag."""

from __future__ import annotations

from functools import lru_cache

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """The named symbol of static/icons.svg, drawn in the text's colour and hidden from screen readers."""
    return _drawn(name, sprite())


def sprite() -> str:
    """The address of the icons. Asked for some ten thousand times by the page of a large run."""
    return _sprite(settings.STATIC_URL, str(settings.STORAGES["staticfiles"]))


@lru_cache(maxsize=8)
def _sprite(base: str, storage: str) -> str:
    return static("icons.svg")


@lru_cache(maxsize=512)
def _drawn(name: str, address: str) -> SafeString:
    return format_html('<svg class="i" aria-hidden="true"><use href="{}#i-{}"/></svg>', address, name)
