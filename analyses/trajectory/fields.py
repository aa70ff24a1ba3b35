"""The lines of our own format: which columns each carries, how a column goes out, and what it may hold coming in."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
import re
from typing import Any

from django.db import models

from analyses.models import Call, Cell, EarlierAnswer, FollowUp, Run
from analyses.texts import clean
from analyses.trajectory.draft import harmless
from analyses.trajectory.limits import LIMITS, LogRefused
from analyses.trajectory.reading import EARLIEST, LATEST

FORMAT = "rlmweb"
VERSION = 1
TEXT_MOST = 8_000_000  # characters of one text of a row

ANSWER = (
    "answer_value",
    "answer_blob",
    "answer_display",
    "answer_cut",
    "answer_name",
    "answer_type",
    "answer_shape",
    "partial",
)
USED = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cost")

RUN = (
    "question", "strategy", "dialect", "endpoint", "root_model", "child_model", "limits", "seed", "status", "reason",
    "created_at", "started_at", "finished_at", "calls", "cells", "depth", "failed_calls", "prompt_tokens",
    "completion_tokens", "cached_tokens", "cost", "seconds", *ANSWER, "sandbox", "fork", "reused",
)  # fmt: skip
CALL = (
    "number", "parent_number", "parent_cell", "order", "depth", "kind", "identity", "strategy", "model", "dialect", "title",
    "instruction", "schema", "context_type", "context_shape", "context_chars", "context_digest", "status", "reason", "notes",
    "queued_at", "started_at", "finished_at", "turns", *USED, "model_seconds", "exec_seconds", *ANSWER, "reused_at",
)  # fmt: skip
CELL = (
    "call_number", "number", "kind", "status", "messages", "reply", "reasoning", "finish_reason", "code", "shown", "output", "output_blob",
    "output_chars", "shown_chars", "error", "killed", "final", *USED, "started_at", "first_token_at", "replied_at", "ended_at",
    "seconds", "waited", "variables", "replay_differs", "exchange", "reused", "edited",
)  # fmt: skip
ADDED = {"fork", "reused", "reused_at", "edited"}  # since the first files of this version, which lack them
FOLLOW_UP = (
    "number", "question", "asked_at", "after_cell", "limits", "calls", "cells", "prompt_tokens", "completion_tokens",
    "cached_tokens", "cost", "seconds",
)  # fmt: skip
EARLIER_ANSWER = ("number", "status", "reason", "finished_at", *ANSWER)
CORPUS = ("name", "version", "documents", "characters", "bytes", "sha256")
OF_A_PART = ("of",)  # and this, where the run read some of the documents
DOCUMENT = ("position", "title", "name", "format", "characters", "bytes", "sha256")

# What no line carries, and why not.
LEFT_OUT: dict[type[models.Model], dict[str, str]] = {
    Run: {
        "id": "of this database", "workspace": "of this instance", "number": "of this workspace", "key": "of this instance",
        "created_by": "a person of this instance", "corpus_version": "the lines corpus and document",
        "documents": "the lines document", "document_chars": "the line corpus",
        "stop_requested_at": "of the worker", "pause_requested_at": "of the worker", "lease_token": "of the worker", "lease_expires_at": "of the worker",
        "attempts": "of the worker", "resumed_at": "of the worker", "warm_worker": "of the worker", "warm_until": "of the worker",
        "follow_ups": "counted from the lines",
        "seq": "follows from the order of the lines", "imported_from": "the field origin",
        "imported_file": "of this instance", "imported_at": "of this instance",
        "forked_from": "of this database; the field fork names it",
        "kept": "of this workspace", "archive": "this file", "archive_bytes": "this file", "archived_at": "of this instance",
        "archive_asked_at": "of this instance", "archive_tried_at": "of this instance", "archive_refused": "of this instance",
        "restore_asked_at": "of this instance", "restored_at": "of this instance",
    },
    Call: {
        "id": "of this database", "run": "the file", "parent": "parent_number", "born": "the order of the lines",
        "seq": "the order of the lines",
    },
    FollowUp: {
        "id": "of this database", "run": "the file", "asked_by": "a person of this instance", "born": "the order of the lines",
    },
    EarlierAnswer: {"id": "of this database", "run": "the file", "born": "the order of the lines"},
    Cell: {
        "id": "of this database", "run": "the file", "call": "call_number", "born": "the order of the lines",
        "seq": "the order of the lines", "children_total": "counted from the calls", "children_done": "counted from the calls",
        "children_failed": "counted from the calls",
    },
}  # fmt: skip

# What these two columns of a run may hold, by name.
NAMED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "fork": {
        "run": int, "kind": str, "call": int, "cell": int, "changed": list, "retried": list, "again": bool, "code": str,
        "instruction": str, "model": str,
    },
    "reused": {
        "calls": int, "cells": int, "prompt_tokens": int, "completion_tokens": int, "cached_tokens": int,
        "cost": (float, int, type(None)),
    },
}  # fmt: skip

SHA = re.compile(r"[0-9a-f]{64}\Z")
WHOLE_MOST = {
    models.PositiveSmallIntegerField: 32_767,
    models.PositiveIntegerField: 2_147_483_647,
    models.PositiveBigIntegerField: 9_223_372_036_854_775_807,
}


def columns(model: type[models.Model], names: tuple[str, ...]) -> list[tuple[str, Any]]:
    return [(name, model._meta.get_field(name)) for name in names]


RUN_COLUMNS = columns(Run, RUN)
CALL_COLUMNS = columns(Call, CALL)
CELL_COLUMNS = columns(Cell, CELL)
FOLLOW_UP_COLUMNS = columns(FollowUp, FOLLOW_UP)
EARLIER_ANSWER_COLUMNS = columns(EarlierAnswer, EARLIER_ANSWER)


def put(row: models.Model, fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """The values of a row's columns as a line carries them."""
    return {name: _out(getattr(row, name)) for name, _ in fields}


def _out(value: Any) -> Any:
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat()
    return value


def take(line: dict[str, Any], fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """The values of columns from a line. Raises LogRefused naming the field that holds what it cannot."""
    found = {}
    for name, column in fields:
        if name not in line and name in ADDED:
            found[name] = column.get_default()
            continue
        if name not in line:
            raise LogRefused(f"A line of type {line.get('type')!r} lacks the field {name}.")
        try:
            found[name] = _in(name, column, line[name])
        except (ValueError, TypeError, OverflowError):
            raise LogRefused(
                f"The field {name} of a line of type {line.get('type')!r} holds what it cannot: {_peek(line[name])}."
            ) from None
    return found


def _peek(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _in(name: str, column: Any, value: Any) -> Any:
    if value is None:
        if column.null:
            return None
        raise ValueError
    match column:
        case models.BooleanField():
            return _typed(value, bool)
        case models.PositiveIntegerField() | models.PositiveBigIntegerField() | models.PositiveSmallIntegerField():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= WHOLE_MOST[type(column)]:
                raise ValueError
            return value
        case models.FloatField():
            return _real(value, EARLIEST, LATEST) if name.endswith("_at") else _real(value, 0, 1e15)
        case models.DateTimeField():
            moment = datetime.datetime.fromisoformat(_typed(value, str))
            if moment.tzinfo is None or not EARLIEST <= moment.timestamp() < LATEST:
                raise ValueError
            return moment
        case models.BinaryField():
            return _binary(value)
        case models.JSONField():
            return _json(name, column, value)
        case _:
            return _text(name, column, value)


def _typed(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _real(value: Any, least: float, most: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not least <= value <= most
    ):
        raise ValueError
    return float(value)


def _binary(value: Any) -> bytes:
    try:
        return base64.b64decode(_typed(value, str), validate=True)
    except binascii.Error:
        raise ValueError from None


def _text(name: str, column: Any, value: Any) -> str:
    text = clean(_typed(value, str))
    if len(text) > (column.max_length or TEXT_MOST):
        raise ValueError
    allowed = [choice for choice, _ in column.choices] if column.choices else None
    if column.model is Call and name == "kind":
        allowed = ["root", "child", "leaf"]
    if allowed and text not in allowed or name.endswith("_blob") and text and not SHA.match(text):
        raise ValueError
    return text


def _json(name: str, column: Any, value: Any) -> Any:
    value = harmless(value)
    if isinstance(column.get_default(), list | dict):
        _typed(value, type(column.get_default()))
    each: dict[str, type] = {"messages": dict, "variables": dict, "notes": str, "exchange": list}
    for item in value if name in each else ():
        _typed(item, each[name])
    if name in NAMED:
        for key, item in value.items():
            _typed(item, NAMED[name].get(key, ()))
    if name == "limits":
        for limit in value.values():
            if limit is not None:
                _real(limit, 0, 1e15)
    if name == "messages":
        for message in value:
            _message(message)
    elif len(json.dumps(value)) > LIMITS.json_chars:
        raise ValueError
    return value


def _message(message: dict[str, Any]) -> None:
    """A message is a role with its content, or with the blob of it."""
    _typed(message.get("role"), str)
    if "blob" in message:
        if not SHA.match(_typed(message["blob"], str)):
            raise ValueError
        _typed(message.get("head", ""), str)
        _typed(message.get("chars", 0), int)
    elif len(_typed(message.get("content", ""), str)) > TEXT_MOST:
        raise ValueError


def blobs_of(fields: dict[str, Any]) -> list[str]:
    """The blobs that a line names."""
    named = [fields[name] for name in ("answer_blob", "output_blob") if fields.get(name)]
    return named + [message["blob"] for message in fields.get("messages", ()) if message.get("blob")]


def described(line: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A line on a corpus or document: texts and whole numbers."""
    found = {}
    for name in names:
        value = line.get(name)
        if isinstance(value, str) and len(value) <= 1000:
            found[name] = clean(value)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
            found[name] = value  # type: ignore[assignment]
        else:
            raise LogRefused(
                f"The field {name} of a line of type {line.get('type')!r} holds what it cannot: {_peek(value)}."
            )
    return found
