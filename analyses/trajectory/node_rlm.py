"""Results of openprose/node-rlm: one JSON object a task, with its trace; its cells are JavaScript."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from analyses.models import Cell, Status
from analyses.trajectory.draft import NO_ANSWER, Draft
from analyses.trajectory.limits import LogRefused
from analyses.trajectory.reading import Log, dict_of, list_of, number_of, text_of

NAME = "node-rlm"


def recognises(whole: dict[str, Any]) -> bool:
    return isinstance(whole.get("trace"), list) and "taskId" in whole


def read(log: Log) -> Iterator[Draft]:
    whole = log.whole()
    if not isinstance(whole, dict):
        raise LogRefused("The file changed while it was read.")
    draft = Draft(NAME, log.name, log.limits)
    try:
        _fill(draft, whole)
        yield draft
    finally:
        draft.close()


def _fill(draft: Draft, whole: dict[str, Any]) -> None:
    run = draft.run
    took = min((number_of(whole.get("wallTimeMs")) or 0.0) / 1000, 1e7)
    over = time.time()  # the file names no moment
    begun = over - took
    run.question = draft.text(text_of(whole.get("query")) or f"(not in the log) task {text_of(whole.get('taskId'))}")[
        :20_000
    ]
    run.root_model = (text_of(whole.get("model")) or "unknown")[:120]
    root = draft.call(None, None, at=begun, model=run.root_model, context_type="?", context_shape="not in the log")
    draft.note(root, "Its cells are JavaScript. The log holds no times, tokens or cost of a turn.")
    if (score := number_of(whole.get("score"))) is not None:
        draft.note(root, f"Score {score:g}, by the log.")
    steps = [dict_of(step) for step in list_of(whole.get("trace"))]
    span = took / max(1, len(steps))
    answer = whole.get("answer")
    for place, step in enumerate(steps):
        code = "\n\n".join(text_of(piece).rstrip() for piece in list_of(step.get("code"))) or text_of(
            step.get("code") or None
        )
        error, at = text_of(step.get("error")), begun + place * span
        draft.cell(
            root, place + 1, kind=Cell.Kind.CODE if code.strip() else Cell.Kind.REPLY,
            status=Cell.Status.ERROR if error else Cell.Status.DONE, reply=text_of(step.get("reasoning")), code=code,
            output=text_of(step.get("output")), error=error, final=place == len(steps) - 1 and answer is not None,
            started=at, replied=at + span, ended=at + span,
        )  # fmt: skip
    root.cost = None
    if answer is None:
        said = text_of(whole.get("error"))
        draft.end(
            root, Status.FAILED if said else Status.STOPPED, said[:2000] or "Cut off: the log holds no answer.", at=over
        )
    else:
        draft.end(root, Status.DONE, answer=answer if answer is not None else NO_ANSWER, at=over)
    draft.finish()
