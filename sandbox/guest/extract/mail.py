"""A mail → text: its headers, its body (plain where there is one, else its HTML as a page is read), its attachments by name."""

from __future__ import annotations

import contextlib
import email
import email.policy
import mmap
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any

from . import webpage
from .wire import Out, Refusal, tidy

SHOWN = ("From", "To", "Cc", "Date", "Subject")
HEADER_MOST = 2000
PARTS_MOST = 1000


def read(data: mmap.mmap, out: Out) -> None:
    message = email.message_from_bytes(data[:], policy=email.policy.default)
    headers = {name: value for name in SHOWN if (value := _header(message, name))}
    if not headers:
        raise Refusal("no_mail")
    body = _body(message)
    attached = _attachments(message)
    if not body.strip() and "Subject" not in headers:
        raise Refusal("blank")
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if attached:
        lines.append("Attachments: " + "; ".join(attached))
    out.text("\n".join(lines) + "\n\n" + body.strip("\n") + "\n")
    out.end(
        title=headers.get("Subject", ""),
        author=headers.get("From", ""),
        to=headers.get("To", ""),
        date=_date(headers.get("Date", "")),
        attachments=len(attached),
    )


def _header(message: EmailMessage, name: str) -> str:
    value = ""
    with contextlib.suppress(Exception):  # the parser stumbles over some malformed ones
        value = str(message.get(name, ""))
    return " ".join(tidy(value).split())[:HEADER_MOST]


def _date(words: str) -> str:
    try:
        return parsedate_to_datetime(words).date().isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def _body(message: EmailMessage) -> str:
    found = None
    with contextlib.suppress(Exception):
        found = message.get_body(preferencelist=("plain", "html"))
    if found is None:
        found = next((part for part in _parts(message) if part.get_content_maintype() == "text"), None)
    if found is None:
        return ""
    words = _words(found)
    if found.get_content_subtype() == "html":
        words = webpage.text_of(words)[0]
    elif not words.strip():
        other = next((part for part in _parts(message) if part.get_content_type() == "text/html"), None)
        words = webpage.text_of(_words(other))[0] if other is not None else words
    return tidy(words)


def _words(part: Any) -> str:
    raw = part.get_payload(decode=True) or b""
    charset = part.get_content_charset() or "utf-8"
    try:
        return str(raw.decode(charset, "replace"))
    except (LookupError, ValueError):
        return str(raw.decode("utf-8", "replace"))


def _parts(message: EmailMessage) -> list[Any]:
    parts = []
    for part in message.walk():
        parts.append(part)
        if len(parts) > PARTS_MOST:
            raise Refusal("bomb")
    return parts


def _attachments(message: EmailMessage) -> list[str]:
    names = []
    for part in _parts(message):
        with contextlib.suppress(Exception):
            if part.is_attachment() or part.get_filename():
                names.append(" ".join(tidy(part.get_filename() or part.get_content_type()).split())[:200])
    return names[:100]
