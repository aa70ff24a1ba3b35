"""Form fields in our look: the widget with its class, and nothing else of Django's own rendering."""

from __future__ import annotations

from django import forms, template
from django.forms import BoundField
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def control(field: BoundField, placeholder: str = "") -> SafeString:
    """The field's widget with the class that app.css styles; a placeholder never stands in for the label."""
    widget = field.field.widget
    attrs: dict[str, str | bool] = {"placeholder": placeholder} if placeholder else {}
    if isinstance(widget, forms.Select):
        attrs["class"] = "select"
    elif not isinstance(widget, forms.CheckboxInput | forms.HiddenInput):
        attrs["class"] = "input"
    if not placeholder:
        widget.attrs.pop("placeholder", None)
    return field.as_widget(attrs=attrs)


@register.filter
def is_check(field: BoundField) -> bool:
    return isinstance(field.field.widget, forms.CheckboxInput)
