"""How texts and values of a run are kept in rows: made harmless, bounded, the rest in blobs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from analyses import blobs
from analyses.models import Answered
from rlm.events import Message
from sandbox.values import Value

log = logging.getLogger(__name__)

ROW_MOST = 16_000  # characters of one text kept in a row; a longer one goes to a blob
ANSWER_MOST = 200_000  # bytes of an answer kept in a row
ANSWER_SHOWN = 50_000  # characters of a larger one that a page shows

# NUL is refused by PostgreSQL, lone surrogates by UTF-8; the rest moves cursors or turns text around. Control
# characters become their pictures, so that a reader sees what was there.
_HARMFUL: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A, 0x0D)}
_HARMFUL |= dict.fromkeys(
    [*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)],
    "\N{REPLACEMENT CHARACTER}",
)


class Unkept(RuntimeError):
    """Something long could not be kept; the message is for a person. What was written before stands."""


def clean(text: str) -> str:
    """Text from outside, with what no row or page should hold replaced, one character for one."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_HARMFUL)


def clean_json(value: Any) -> Any:
    """The same for every text inside a JSON-like value, keys included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value


def stored_output(output: str) -> tuple[str, str]:
    """What goes into the row and the sha256 of the blob with the whole of it: one of the two is empty."""
    output = clean(output)
    if len(output) <= ROW_MOST:
        return output, ""
    return "", _put(output.encode())


def _put(data: bytes) -> str:
    """A blob. Raises Unkept: rather a run that rests until it goes on than one that has lost something."""
    try:
        return blobs.put(data)
    except Exception as error:  # an object store has errors of its own
        log.error("%d bytes could not be kept: %r", len(data), error)
        full = blobs.no_room(error)
        why = "there is no room left" if full else "the store cannot be written to"
        raise Unkept(
            f"It was paused because {why} where long texts are kept. Everything so far is there; "
            f"when {'there is room' if full else 'that works'} again, let it go on."
        ) from error


def _blob_of(text: str) -> str:
    """A long message's blob. System prompts are the same in a thousand calls: hashed and stored once."""
    sha, size = _name_of(text)
    return sha if _kept(sha, size) else _put(text.encode())


def _kept(sha: str, size: int) -> bool:
    try:
        return blobs.renew(sha, size)
    except Exception:
        return False  # whoever puts it says why


@lru_cache(maxsize=256)
def _name_of(text: str) -> tuple[str, int]:
    data = text.encode()
    return hashlib.sha256(data).hexdigest(), len(data)


def stored_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as a cell's row keeps them: ``{"role", "content"}``, long content as ``{"role", "blob", "chars", "head"}``."""
    kept: list[dict[str, Any]] = []
    for message in messages:
        content = clean(message.content)
        entry: dict[str, Any] = {"role": message.role, **message.extra}
        if len(content) > ROW_MOST // 4:
            entry |= {"blob": _blob_of(content), "chars": len(content), "head": content[:400]}
        else:
            entry["content"] = content
        kept.append(entry)
    return kept


ANSWER_COLUMNS = [field.name for field in Answered._meta.fields]
NO_ANSWER = {field.name: field.get_default() for field in Answered._meta.fields}


def bounded_answer(value: Value | None, name: str) -> dict[str, Any]:
    """The answer's columns of a Run or Call row: the whole value, and what of it a page shows (all, or cut)."""
    if value is None:
        return {}
    cut = value.nbytes > ANSWER_MOST
    dump = value.dump()
    in_row = len(dump) <= ROW_MOST
    return {
        "answer_value": dump if in_row else b"",
        "answer_blob": "" if in_row else _put(dump),
        "answer_display": clean_json(value.plain(max_chars=ANSWER_SHOWN if cut else 4 * ANSWER_MOST)),
        "answer_cut": cut,
        "answer_name": clean(name)[:120],
        "answer_type": clean(value.type_name)[:80],
        "answer_shape": clean(value.shape)[:160],
    }


def answer_of(row: Answered) -> Value | None:
    """The whole answer of a run or call as it was returned; None where there is none."""
    if row.answer_value:
        return Value.load(bytes(row.answer_value))
    return Value.load(blobs.read(row.answer_blob)) if row.answer_blob else None
