"""Logs of alexzhang13/rlm (RLMLogger's JSON lines): one line an iteration, its sub-calls inside it, several runs a file."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from analyses.models import Call, Cell, Status
from analyses.trajectory.draft import NO_ANSWER, Draft
from analyses.trajectory.limits import LogRefused
from analyses.trajectory.reading import (
    Log,
    asked_in,
    count_of,
    dict_of,
    list_of,
    moment_of,
    number_of,
    seconds_of,
    text_of,
)
from rlm.events import Message, Usage

NAME = "rlm"
TYPES = ("metadata", "run_context", "iteration")
CONTEXTS = ("context", "completion_context", "context_0")
PRINTED = "REPL output:\n"
RAN = "Code executed:"
DESCRIBED = re.compile(r"context is a (\w+) (?:with|of) ([\d,]+) total characters")
RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Iteration|Timeout|Warning)?(?::|$)")


def recognises(line: dict[str, Any]) -> bool:
    return line.get("type") in TYPES and ("format" not in line)


def read(log: Log) -> Iterator[Draft]:
    """One draft for each run: a run_context opens one, and so does an iteration after one that answered."""
    metadata: dict[str, Any] = {}
    run: _Run | None = None
    count = 0
    try:
        for _, line in log.objects():
            kind = line.get("type")
            if kind == "metadata":
                metadata = line
            if run is not None and run.over(kind):
                run.close()
                yield run.draft
                run.draft.close()
                run = None
            if kind in TYPES[1:]:
                if run is None:
                    count += 1
                    run = _Run(log, metadata)
                run.take(line)
        if run is None:
            if not count:
                raise LogRefused("It holds no iteration.")
            return
        run.draft.cut = log.damage()
        run.close()
        yield run.draft
    finally:
        if run is not None:
            run.draft.close()


class _Run:
    """A run of the file: its root call, whose newest iteration waits for the next one, which says what was shown of it."""

    def __init__(self, log: Log, metadata: dict[str, Any]) -> None:
        self.draft = Draft(NAME, log.name, log.limits)
        self.metadata = metadata
        self.context: dict[str, Any] = {}
        self.root: _Trajectory | None = None

    def over(self, kind: Any) -> bool:
        """Whether a line of this type belongs to the next run."""
        if kind == "iteration":
            return self.root is not None and self.root.answered
        return kind in ("run_context", "metadata") and self.root is not None

    def take(self, line: dict[str, Any]) -> None:
        if line["type"] == "run_context":
            self.context = line
            return
        if self.root is None:
            self.root = self._open(line)
        self.root.take(line)

    def _open(self, first: dict[str, Any]) -> _Trajectory:
        told, run = self.metadata, self.draft.run
        run.dialect = "paper"
        run.root_model = (text_of(told.get("root_model")) or "unknown")[:120]
        run.limits = {
            ours: count_of(told[theirs])
            for ours, theirs in (("turns", "max_iterations"), ("depth", "max_depth"))
            if count_of(told.get(theirs))
        }
        run.question = (
            self.draft.text(_question(self.context, first))[:20_000] or f"(not in the log) {run.imported_file}".strip()
        )
        at = moment_of(self.context.get("timestamp")) or moment_of(told.get("timestamp"))
        at = _began(first, at)
        root = self.draft.call(None, None, at=at, model=run.root_model, **_context(self.context, first))
        self.draft.note(
            root,
            f"Ran in the environment {text_of(told.get('environment_type')) or 'unknown'} of rlm. Times in the log name no zone: they are taken as UTC.",
        )
        return _Trajectory(self.draft, root, at)

    def close(self) -> None:
        if self.root is None:
            at = moment_of(self.context.get("timestamp")) or moment_of(self.metadata.get("timestamp")) or time.time()
            run = self.draft.run
            run.root_model = (text_of(self.metadata.get("root_model")) or "unknown")[:120]
            run.question = (
                self.draft.text(_question(self.context, {}))[:20_000] or f"(not in the log) {run.imported_file}".strip()
            )
            self.root = _Trajectory(self.draft, self.draft.call(None, None, at=at, model=run.root_model), at)
        self.root.close(cut=True)
        if any(call.cost for call in self.draft.calls):
            self.root.call.cost = (
                self.root.call.cost or 0.0
            )  # its own turns' cost is not told, that of its sub-calls is
        self.draft.finish()


class _Trajectory:
    """The iterations of one call, taken one after the other; each becomes a cell when the next one has come."""

    def __init__(self, draft: Draft, call: Call, at: float) -> None:
        self.draft = draft
        self.call = call
        self.clock = at
        self.answered = False
        self._sent: list[tuple[str, bytes]] = []  # the conversation so far, as digests
        self._pending: dict[str, Any] | None = None

    def take(self, line: dict[str, Any]) -> None:
        self._flush(line)
        self._pending = line
        self.answered = _final(line)[0] is not NO_ANSWER

    def close(self, *, cut: bool) -> None:
        last = self._pending or {}
        self._flush(None)
        answer, name = _final(last)
        if answer is not NO_ANSWER:
            self.draft.end(self.call, Status.DONE, answer=answer, name=name, at=self.clock)
        elif cut:
            self.draft.end(self.call, Status.STOPPED, "Cut off: the log ends before an answer.", at=self.clock)
        else:
            self.draft.end(self.call, Status.DONE, at=self.clock)

    def _flush(self, following: dict[str, Any] | None) -> None:
        line, self._pending = self._pending, None
        if line is None:
            return
        call, number = self.call, self.call.turns + 1
        blocks = [dict_of(block) for block in list_of(line.get("code_blocks"))]
        results = [dict_of(block.get("result")) for block in blocks]
        seconds = sum(seconds_of(result.get("execution_time")) for result in results)
        took = seconds_of(line.get("iteration_time"))
        ended = moment_of(line.get("timestamp"))
        ended = max(self.clock + max(took, seconds) if ended is None else ended, self.clock)
        started = max(self.clock, ended - took) if took else self.clock
        replied = max(started, ended - seconds)
        output = "\n".join(filter(None, (_printed(result) for result in results)))
        error = "\n".join(
            text for text in (text_of(result.get("stderr")).strip() for result in results) if _is_error(text)
        )
        reply = text_of(line.get("response"))
        messages = self._added(line.get("prompt"), reply)
        self.draft.cell(
            call, number, kind=Cell.Kind.CODE if blocks else Cell.Kind.REPLY, status=Cell.Status.ERROR if error else Cell.Status.DONE,
            messages=messages, reply=reply, code="\n\n".join(text_of(block.get("code")).rstrip() for block in blocks),
            output=output, shown=_shown(following, len(blocks), output), error=error, usage=_usage(line.get("usage_summary")),
            started=started, replied=replied, ended=ended, seconds=ended - replied, final=_final(line)[0] is not NO_ANSWER,
            variables=_variables(results[-1].get("locals") if results else None),
        )  # fmt: skip
        self.clock = ended
        calls = [
            dict_of(sub) for result in results for sub in list_of(result.get("rlm_calls") or result.get("llm_calls"))
        ]
        spans = [seconds_of(sub.get("execution_time")) for sub in calls]
        at, in_turn = replied, sum(spans) <= (ended - replied) * 1.05 + 0.01
        for sub, span in zip(calls, spans, strict=True):
            _sub_call(self.draft, call, number, sub, at, min(at + span, ended))
            at = min(at + span, ended) if in_turn else at

    def _added(self, prompt: Any, reply: str) -> list[Message]:
        """The messages of a prompt that were not sent before. The log repeats the whole conversation at each turn."""
        messages = _messages(prompt)
        digests = [
            (message.role, hashlib.sha256(message.content.encode("utf-8", "replace")).digest()) for message in messages
        ]
        kept = 0
        for old, new in zip(self._sent, digests, strict=False):
            if old != new:
                break
            kept += 1
        added = messages[kept:]
        if kept < len(self._sent) and added:
            # What followed was taken out of the conversation again: the viewer must not show it as sent.
            added[0] = Message(added[0].role, added[0].content, {"after": kept})
        self._sent = [*digests, ("assistant", hashlib.sha256(reply.encode("utf-8", "replace")).digest())]
        return added


def _sub_call(draft: Draft, parent: Call, cell: int, sub: dict[str, Any], at: float, over: float) -> None:
    """A call from within a cell: one completion, or a whole trajectory of its own."""
    told = dict_of(sub.get("metadata"))
    iterations = [dict_of(line) for line in list_of(told.get("iterations"))]
    prompt = sub.get("prompt")
    asked = text_of(prompt)
    about = dict_of(told.get("run_metadata"))
    call = draft.call(
        parent, cell, at=at, kind="child" if iterations else "leaf",
        model=text_of(sub.get("root_model")) or text_of(about.get("root_model")) or "unknown",
        title=asked.strip().partition("\n")[0], instruction=asked if len(asked) <= 2000 else f"{asked[:2000]}…",
        **_of(prompt),
    )  # fmt: skip
    usage = _usage(sub.get("usage_summary"))
    error = text_of(sub.get("error"))
    if iterations:
        inner = _Trajectory(draft, call, at)
        for line in iterations:
            inner.take(line)
        inner.close(cut=False)
        below = [other for other in draft.calls[call.number :] if other.parent_number == call.number]
        _use(call, usage, below)
    else:
        response = text_of(sub.get("response"))
        draft.cell(
            call, 1, kind=Cell.Kind.REPLY, status=Cell.Status.ERROR if error else Cell.Status.DONE, messages=_messages(prompt),
            reply=response, error=error, usage=usage, started=at, replied=over, ended=over,
        )  # fmt: skip
    answer = sub.get("response", NO_ANSWER)
    if error:
        draft.end(call, Status.FAILED, error[:2000], at=over)
    elif not call.answer_type and answer is not None:
        draft.end(call, Status.DONE, answer=answer, at=over)
    call.finished_at = max(over, call.finished_at or over)


def _use(call: Call, usage: Usage, below: Sequence[Call]) -> None:
    """A trajectory's summary counts its sub-calls too: what is left over is its own."""
    call.prompt_tokens = max(call.prompt_tokens, usage.prompt_tokens - sum(other.prompt_tokens for other in below))
    call.completion_tokens = max(
        call.completion_tokens, usage.completion_tokens - sum(other.completion_tokens for other in below)
    )
    costs = [other.cost for other in below]
    call.cost = (
        None if usage.cost is None or None in costs else max(0.0, usage.cost - sum(cost or 0.0 for cost in costs))
    )


# — reading —


def _question(context: dict[str, Any], first: dict[str, Any]) -> str:
    """What was asked: the root prompt, else a short prompt, else what the first turn says of it."""
    for told in (context.get("root_prompt"), context.get("prompt")):
        if isinstance(told, str) and told.strip():
            return told.strip()
    for message in _messages(first.get("prompt")):
        if message.role != "system" and (asked := asked_in(message.content)):
            return asked
    held = _held(first)
    return held.strip() if isinstance(held, str) else ""


def _held(line: dict[str, Any]) -> Any:
    """The context as the namespace of a turn shows it."""
    for block in list_of(line.get("code_blocks")):
        names = dict_of(dict_of(dict_of(block).get("result")).get("locals"))
        for name in CONTEXTS:
            if name in names:
                return names[name]
    return None


def _context(context: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Type and size of the context, from the first place that tells them."""
    if context.get("prompt") is not None:
        return _of(context["prompt"])
    for message in _messages(first.get("prompt")):
        if found := DESCRIBED.search(message.content):
            chars = int(found[2].replace(",", "")[:15])
            return {"context_type": found[1], "context_shape": f"{found[1]} · {chars:,} ch", "context_chars": chars}
    held = _held(first)
    return _of(held) if held is not None else {"context_type": "?", "context_shape": "not in the log"}


def _of(value: Any) -> dict[str, Any]:
    kind, chars = type(value).__name__, len(text_of(value))
    size = f"[{len(value):,}]" if isinstance(value, list | dict) else ""
    return {"context_type": kind, "context_shape": f"{kind}{size} · {chars:,} ch", "context_chars": chars}


def _began(first: dict[str, Any], told: float | None) -> float:
    ended = moment_of(first.get("timestamp"))
    begun = None if ended is None else ended - seconds_of(first.get("iteration_time"))
    return told or begun or time.time()


def _messages(prompt: Any) -> list[Message]:
    if isinstance(prompt, list) and all(isinstance(message, dict) and "role" in message for message in prompt):
        return [Message(text_of(message["role"]), text_of(message.get("content"))) for message in prompt]
    return [Message("user", text_of(prompt))] if prompt is not None else []


def _printed(result: dict[str, Any]) -> str:
    stderr = text_of(result.get("stderr"))
    return text_of(result.get("stdout")) + (f"\n{stderr}" if stderr.strip() else "")


def _is_error(stderr: str) -> bool:
    """Warnings go to stderr too: an error ends with the line that names it."""
    if not stderr:
        return False
    last = stderr.rstrip().rpartition("\n")[2]
    return (
        "Traceback (most recent call last)" in stderr
        or bool(RAISED.match(last))
        and "Warning" not in last.partition(":")[0]
    )


def _shown(following: dict[str, Any] | None, blocks: int, output: str) -> str:
    """What the next turn's prompt tells of these blocks' output."""
    if following is None or not blocks:
        return output
    told = [m.content for m in _messages(following.get("prompt")) if m.content.startswith(RAN) and PRINTED in m.content]
    return "\n".join(text.partition(PRINTED)[2].strip("\n") for text in told[-blocks:]) if told else output


def _final(line: dict[str, Any]) -> tuple[Any, str]:
    """The answer that an iteration gave, and the variable it came from. Some versions write [type, value]."""
    results = [dict_of(dict_of(block).get("result")) for block in list_of(line.get("code_blocks"))]
    for told in (line.get("final_answer"), *(result.get("final_answer") for result in results)):
        if told is None:
            continue
        if isinstance(told, list) and len(told) == 2 and isinstance(told[0], str):
            return _named(told[1], results) if told[0] == "FINAL_VAR" else (told[1], "")
        return told, ""
    return NO_ANSWER, ""


def _named(value: Any, results: list[dict[str, Any]]) -> tuple[Any, str]:
    """The value of a variable that FINAL_VAR names, where the namespace is in the log."""
    name = value.strip().strip("\"'") if isinstance(value, str) else ""
    for result in reversed(results):
        if name in dict_of(result.get("locals")):
            return result["locals"][name], name
    return value, ""


def _usage(told: Any) -> Usage:
    summary = dict_of(told)
    models = [dict_of(usage) for usage in dict_of(summary.get("model_usage_summaries")).values()]
    costs = [number_of(usage.get("total_cost")) for usage in models]
    total = number_of(summary.get("total_cost"))
    if total is None and costs and None not in costs:
        total = sum(each or 0.0 for each in costs)
    return Usage(
        sum(count_of(usage.get("total_input_tokens")) for usage in models),
        sum(count_of(usage.get("total_output_tokens")) for usage in models),
        cost=total,
    )


def _variables(names: Any) -> list[dict[str, Any]]:
    """The namespace as the variables panel lists it; the log holds representations, not types."""
    rows = []
    for name, value in list(dict_of(names).items())[:500]:
        text = value if isinstance(value, str) else text_of(value)
        kind = (
            type(value).__name__
            if not (isinstance(value, str) and value.startswith("<"))
            else value[1:].split(" ")[0].rstrip(">")
        )
        size = (
            f"{len(value):,} ch"
            if isinstance(value, str)
            else f"{len(value):,} items"
            if isinstance(value, list | dict)
            else ""
        )
        rows.append(
            {"name": name[:100], "type": kind[:60], "size": size, "preview": text[:160], "is_context": name in CONTEXTS}
        )
    return rows
