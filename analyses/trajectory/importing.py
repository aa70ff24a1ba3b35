"""Which format a file is, and what became of each run in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Any, BinaryIO, TypeVar

from django.db import InterfaceError, OperationalError, transaction

from analyses.models import Run
from analyses.trajectory import fast_rlm, jsonl, la3d, node_rlm, rlm_official, rlmkit
from analyses.trajectory.draft import Draft
from analyses.trajectory.limits import LIMITS, ImportLimits, LogRefused
from analyses.trajectory.reading import Log
from workspaces.models import User, Workspace

log = logging.getLogger(__name__)
T = TypeVar("T")

# Each has NAME, `recognises(line)` and `read(log)`, which yields a Draft for each run.
LINES: tuple[ModuleType, ...] = (jsonl, fast_rlm, rlm_official, rlmkit, la3d)
WHOLES: tuple[ModuleType, ...] = (node_rlm,)
FORMATS = [reader.NAME for reader in (*LINES, *WHOLES)]
SNIFFED = 200  # lines looked at for one that some format knows


@dataclass(frozen=True)
class Outcome:
    """What became of a file, or of one run in it."""

    file: str
    format: str = ""
    run: Run | None = None
    errors: int = 0  # cells that raised
    reason: str = ""  # why it was refused
    note: str = ""  # why not all of it is there

    def as_dict(self, url: str = "") -> dict[str, Any]:
        """One object for a program; a refused file has a reason."""
        run = self.run
        told: dict[str, Any] = {
            "file": self.file, "format": self.format, "run": run.key if run else None, "url": url if run else None,
            "calls": run.calls if run else 0, "cells": run.cells if run else 0, "errors": self.errors,
            "depth": run.depth if run else 0, "total_tokens": run.prompt_tokens + run.completion_tokens if run else 0,
            "cost": run.cost if run else None, "answer": run.answer_display if run else None,
            "status": run.status if run else "refused",
        }  # fmt: skip
        return told | ({"reason": self.reason} if not run else {"note": self.note} if self.note else {})


def import_file(
    file: BinaryIO,
    name: str,
    workspace: Workspace,
    user: User | None,
    limits: ImportLimits = LIMITS,
    *,
    before: int = 0,
    keep: Callable[[Outcome], None] = lambda outcome: None,
    seen: Callable[[int], None] = lambda at: None,
) -> list[Outcome]:
    """Import the runs of a seekable file: each as a whole or not at all. Never raises for what the file holds.

    ``before``: so many runs of it are here already and are passed over. ``keep`` is told of each run in the transaction
    that makes it, ``seen`` now and then how far the file is read; what they raise ends it.
    """
    source = Log(file, name, limits, seen=_passing_on(seen))
    outcomes: list[Outcome] = []
    known = ""
    try:
        source.check()
        reader = _reader(source)
        known = reader.NAME
        drafts: Iterator[Draft] = reader.read(source)
        for number, draft in enumerate(drafts):
            if number >= limits.runs:
                raise LogRefused(f"It holds more than {limits.runs} runs; the first {limits.runs} were imported.")
            if number < before:
                continue
            with transaction.atomic():
                outcome = Outcome(name, known, draft.save(workspace, user), draft.errors, note=draft.cut)
                _passing_on(keep)(outcome)
            outcomes.append(outcome)
    except LogRefused as refusal:
        outcomes.append(Outcome(name, known, reason=str(refusal)))
    except RecursionError:
        outcomes.append(Outcome(name, known, reason="Something in it is nested too deeply."))
    except _Raised as raised:
        raise raised.error from None
    except (OperationalError, InterfaceError):
        raise  # the database is away: no fault of the file
    except Exception:
        log.exception("the log %r could not be imported", name)
        outcomes.append(Outcome(name, known, reason="It could not be read: it holds something that nobody thought of."))
    return outcomes


class _Raised(BaseException):
    """What the caller's own function raised, on its way past everything that takes exceptions for the file's."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _passing_on(tell: Callable[[T], None]) -> Callable[[T], None]:
    def told(value: T) -> None:
        try:
            tell(value)
        except Exception as error:
            raise _Raised(error) from error

    return told


def _reader(source: Log) -> ModuleType:
    """The format that knows the first line of its kind."""
    for _, line in islice(source.objects(), SNIFFED):
        for reader in LINES:
            if reader.recognises(line):
                return reader
    whole = source.whole()
    for reader in WHOLES:
        if isinstance(whole, dict) and reader.recognises(whole):
            return reader
    raise LogRefused(f"It is not a log of a kind that is known here. Known are: {', '.join(FORMATS)}.")
