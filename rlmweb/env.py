"""Read the environment. A bad value ends the start with a sentence that names it and says what would be right."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

YES = {"1", "true", "yes", "on"}
NO = {"0", "false", "no", "off", ""}


def text(name: str, default: str = "", *, like: str = "", hint: str = "") -> str:
    """The variable, or what the file named by NAME_FILE holds (for secrets that are mounted); empty means the default.

    ``like`` is a pattern that all of it must match, ``hint`` says so in words. The value is never repeated: it may be secret.
    """
    if path := os.environ.get(f"{name}_FILE"):
        try:
            value = Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE names {path!r}, which cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ImproperlyConfigured(f"{name}_FILE names {path!r}, which holds no text") from None
    else:
        value = os.environ.get(name, "")
    value = value or default
    if "\0" in value or "\n" in value:
        raise ImproperlyConfigured(f"{name} must be one line")
    if like and value and not re.fullmatch(like, value):
        raise ImproperlyConfigured(f"{name} must be {hint}")
    return value


def flag(name: str, default: bool = False) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in YES:
        return True
    if value.lower() in NO:
        return False
    raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}")


def number(name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
    value = os.environ.get(name, "")
    if not value:
        return default
    try:
        whole = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}") from None
    if whole < least or (most is not None and whole > most):
        span = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ImproperlyConfigured(f"{name} must be {span}, not {whole}")
    return whole


def words(name: str, default: str = "", *, like: str = "", hint: str = "") -> list[str]:
    """Several, parted by commas; each must match ``like``. Set to nothing they are none, not the default."""
    found = [word.strip() for word in text(name, "" if name in os.environ else default).split(",") if word.strip()]
    if like and not all(re.fullmatch(like, word) for word in found):
        raise ImproperlyConfigured(f"{name} must be {hint}")
    return found


def choice(name: str, default: str, *allowed: str) -> str:
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def url(name: str, default: str = "", *, schemes: tuple[str, ...]) -> str:
    """An address with a host, or for a socket or a file with a path. What is told of a bad one holds no password."""
    value = text(name, default)
    if not value:
        return value
    if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        begins = re.match(r"[^:/@]{0,40}", value)
        raise ImproperlyConfigured(
            f"{name} must start with {' or '.join(f'{s}://' for s in schemes)}, not {begins[0] if begins else ''!r}"
        )
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be an address that can be read: {error}") from None
    if parts.scheme in ("sqlite", "unix"):
        if not parts.path.strip("/"):
            raise ImproperlyConfigured(f"{name} must name a file, as in {parts.scheme}:///var/lib/rlmweb/file")
    elif not parts.hostname or any(char.isspace() for char in value):
        raise ImproperlyConfigured(f"{name} must be an address with a host, as in {parts.scheme}://host.example")
    return value
