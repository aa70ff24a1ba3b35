"""Logs of LA3D/rlm, which runs dspy.RLM: JSON lines of {timestamp, event_type, data}; the end may come before the iterations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from analyses.models import Cell, Status
from analyses.trajectory.draft import NO_ANSWER, Draft
from analyses.trajectory.limits import LogRefused
from analyses.trajectory.reading import Log, count_of, dict_of, moment_of, number_of, text_of

NAME = "la3d-rlm"


def recognises(line: dict[str, Any]) -> bool:
    return isinstance(line.get("event_type"), str) and isinstance(line.get("data"), dict)


def read(log: Log) -> Iterator[Draft]:
    """One draft for each run_start; iterations before any make a run too."""
    run: _Run | None = None
    try:
        for at, line in log.objects():
            if not recognises(line):
                continue
            if run is not None and line["event_type"] == "run_start":
                yield run.close(cut="")
                run.draft.close()
                run = None
            run = run or _Run(log)
            run.take(at, line)
        if run is None:
            raise LogRefused("It holds no event of a run.")
        yield run.close(cut=log.damage())
    finally:
        if run is not None:
            run.draft.close()


class _Run:
    """The events of one run, as far as they tell of the whole; iterations are found again when it is over."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.draft = Draft(NAME, log.name, log.limits)
        self.start: dict[str, Any] = {}
        self.complete: dict[str, Any] | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.iterations: list[tuple[int, int]] = []  # number, and where its line begins
        self.tools: dict[str, int] = {}

    def take(self, at: int, line: dict[str, Any]) -> None:
        data, kind = line["data"], line["event_type"]
        time = moment_of(line.get("timestamp"))
        if time is not None:
            self.first = time if self.first is None else min(self.first, time)
            self.last = time if self.last is None else max(self.last, time)
        if kind == "run_start":
            self.start = data
        elif kind == "run_complete":
            self.complete = data
        elif kind == "iteration":
            if len(self.iterations) >= self.log.limits.cells:
                raise LogRefused(f"A run of more than {self.log.limits.cells:,} iterations is not imported.")
            self.iterations.append((count_of(data.get("iteration")), at))
        elif kind == "tool_call":
            name = text_of(data.get("tool"))[:80]
            if name in self.tools or len(self.tools) < 20:
                self.tools[name] = self.tools.get(name, 0) + 1

    def close(self, *, cut: str) -> Draft:
        draft, run = self.draft, self.draft.run
        begun = self.first or time.time()
        over = self.last or begun
        run.root_model = (text_of(self.start.get("model")) or "unknown")[:120]
        run.child_model = (text_of(self.start.get("sub_model")) or run.root_model)[:120]
        question = text_of(self.start.get("task")) or text_of(self.start.get("query"))
        run.question = draft.text(question)[:20_000] or f"(not in the log) {run.imported_file}".strip()
        run.limits = {"turns": most} if (most := count_of(self.start.get("max_iters"), 100_000)) else {}
        size = count_of(self.start.get("context_size"))
        root = draft.call(
            None, None, at=begun, model=run.root_model, context_type="str" if size else "?", context_chars=size,
            context_shape=f"str · {size:,} ch" if size else "not in the log",
        )  # fmt: skip
        if self.tools:
            draft.note(root, "Tools called: " + ", ".join(f"{name} ×{count:,}" for name, count in self.tools.items()))
        # The log writes all iterations down when the run is over: their own times are those of the writing.
        step = (over - begun) / max(1, len(self.iterations))
        for place, (_, at) in enumerate(sorted(self.iterations)):
            data = dict_of(self.log.at(at).get("data"))
            last = place == len(self.iterations) - 1
            code, output = text_of(data.get("code")), text_of(data.get("output"))
            failed = output.lstrip().startswith(("Traceback (most recent call last)", "[Error]", "Error:"))
            draft.cell(
                root, place + 1, kind=Cell.Kind.CODE if code.strip() else Cell.Kind.REPLY,
                status=Cell.Status.ERROR if failed else Cell.Status.DONE, reasoning=text_of(data.get("reasoning")), code=code,
                output=output, error=output if failed else "", final=last and self.complete is not None,
                started=begun + place * step, replied=begun + (place + 1) * step, ended=begun + (place + 1) * step,
            )  # fmt: skip
        self._end(root, over)
        draft.cut = cut
        draft.finish()
        return draft

    def _end(self, root: Any, over: float) -> None:
        told = self.complete
        usage = dict_of(told.get("lm_usage")) if told else {}
        root.prompt_tokens, root.completion_tokens = (
            count_of(usage.get("prompt_tokens")),
            count_of(usage.get("completion_tokens")),
        )
        root.cached_tokens = min(count_of(usage.get("cache_read_tokens")), root.prompt_tokens)
        root.cost = number_of(usage.get("total_cost"))
        answer = told.get("answer", NO_ANSWER) if told else NO_ANSWER
        if told is None:
            self.draft.end(root, Status.STOPPED, "Cut off: the log ends before the run did.", at=over)
        elif told.get("converged") is False:
            self.draft.end(root, Status.LIMIT, "It ended without converging on an answer.", answer=answer, at=over)
        else:
            self.draft.end(root, Status.DONE, answer=answer, at=over)
            if answer is NO_ANSWER:
                size = count_of(told.get("answer_length"))
                self.draft.note(
                    root, f"The log does not hold the answer itself{f', of {size:,} characters' if size else ''}."
                )
