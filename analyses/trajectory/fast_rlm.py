"""Logs of avbiswas/fast-rlm: JSON lines by pino, one agent's steps among those of others that ran at the same time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from analyses.models import Call, Cell, Status
from analyses.trajectory.draft import NO_ANSWER, Draft
from analyses.trajectory.limits import LogRefused
from analyses.trajectory.reading import Log, count_of, dict_of, moment_of, number_of, text_of
from rlm.events import Usage

NAME = "fast-rlm"
STEPS = ("execution_result", "code_generated")
PROBED = re.compile(r"Context type:\s+<class '([\w.]+)'>\nContext length:\s+(\d{1,12})\b")
WHOLE = re.compile(r"^Context:[ ]{0,2}(.*)\Z", re.DOTALL | re.MULTILINE)
BEGINNING = re.compile(r"^First \d+ characters of str\(context\):[ ]{0,2}(.*?)(?:\n---\n|\Z)", re.DOTALL | re.MULTILINE)
SHOWN_WHOLE = "[FULL OUTPUT SHOWN]... "
SHOWN_CUT = re.compile(r"\A\[TRUNCATED: Last \d+ chars shown\]\.\. ")
RETURNED = re.compile(r"\bFINAL(?:_VAR)?\(\s*([A-Za-z_]\w*)\s*\)\s*$", re.MULTILINE)
NO_OUTPUT = "[EMPTY OUTPUT]"


def recognises(line: dict[str, Any]) -> bool:
    return isinstance(line.get("event_type"), str) and isinstance(line.get("run_id"), str) and "data" not in line


@dataclass
class Agent:
    """What the first pass over a log keeps of an agent: where its lines are, and whose child it is."""

    name: str
    first: int  # where its first line begins
    parent: str = ""
    began: float | None = None
    steps: list[int] = field(default_factory=list)
    final: int | None = None
    ended: bool = False
    last: float | None = None
    children: list[Agent] = field(default_factory=list)

    def starts(self) -> float | None:
        """When it began: its name says so, in milliseconds, else its first line."""
        told = moment_of(number_of(int(found[1]))) if (found := re.match(r"(\d{13})-", self.name)) else None
        if told is not None and self.began is not None and not 0 <= self.began - told < 86_400:
            told = None
        return told if told is not None else self.began


def read(log: Log) -> Iterator[Draft]:
    """One draft for each agent that no other one started."""
    agents: dict[str, Agent] = {}
    for at, line in log.objects():
        if recognises(line):
            _note(agents, at, line, log)
    if not agents:
        raise LogRefused("It holds no event of an agent.")
    roots = _grow(agents)
    for root in roots:
        draft = Draft(NAME, log.name, log.limits)
        try:
            _Run(log, draft).read(root)
            yield draft
        finally:
            draft.close()


def _note(agents: dict[str, Agent], at: int, line: dict[str, Any], log: Log) -> None:
    name = line["run_id"][:200]
    agent = agents.get(name)
    time = moment_of(line.get("time"))
    if agent is None:
        if len(agents) >= log.limits.calls:
            raise LogRefused(f"It holds more than {log.limits.calls:,} agents.")
        agent = agents[name] = Agent(name, at, began=time)
    if isinstance(line.get("parent_run_id"), str) and not agent.parent:
        agent.parent = line["parent_run_id"][:200]
    agent.last = time if time is not None else agent.last
    if line["event_type"] in STEPS:
        agent.steps.append(at)
    elif line["event_type"] == "final_result":
        agent.final = at
    elif line["event_type"] == "agent_end":
        agent.ended = True


def _grow(agents: dict[str, Agent]) -> list[Agent]:
    """Hang each agent under the one that started it; return those that are left, the roots."""
    for agent in list(agents.values()):
        if agent.parent and agent.parent not in agents:
            # The head of the log is gone: an empty agent stands for the one that started this one.
            agents[agent.parent] = Agent(agent.parent, agent.first, began=agent.began, last=agent.last)
    roots = [agent for agent in agents.values() if not agent.parent]
    for agent in agents.values():
        if agent.parent:
            agents[agent.parent].children.append(agent)
    seen, todo = 0, list(roots)
    while todo:
        agent = todo.pop()
        seen += 1
        agent.children.sort(key=lambda child: child.first)
        todo.extend(agent.children)
    if seen < len(agents):
        raise LogRefused("Its agents name each other as their parents, in a circle: no run can look like that.")
    return sorted(roots, key=lambda root: root.first)


class _Run:
    """The second pass: the agents of one root, each step followed by the agents that it started."""

    def __init__(self, log: Log, draft: Draft) -> None:
        self.log = log
        self.draft = draft

    def read(self, root: Agent) -> None:
        run = self.draft.run
        run.dialect = "async"
        self.draft.cut = self.log.damage()
        self._agent(root, None, None, root.starts() or time.time())
        run.root_model = run.child_model = "unknown"
        self.draft.finish()

    def _agent(self, agent: Agent, parent: Call | None, parent_cell: int | None, at: float) -> Call:
        first = self.log.at(agent.steps[0]) if agent.steps else {}
        probe = first if first.get("step") == 0 else None
        call = self.draft.call(parent, parent_cell, at=at, model="unknown", **_asked(probe))
        if parent is None:
            self._question(call, probe)
        clock, begun = at, 0  # children before `begun` have their call
        for place, offset in enumerate(agent.steps):
            line = self.log.at(offset)
            upto = begun
            while line.get("step") != 0 and upto < len(agent.children) and agent.children[upto].first < offset:
                upto += 1
            started, begun = agent.children[begun:upto], upto
            last = place == len(agent.steps) - 1
            clock = self._step(call, line, clock, started, final=last and line["event_type"] == "code_generated")
        if waiting := agent.children[begun:]:
            # They were started by a step that the log does not hold any more: an empty turn stands for it.
            number = call.turns + 1
            self.draft.cell(call, number, kind=Cell.Kind.REPLY, status=Cell.Status.STOPPED, started=clock, ended=clock)
            for child in waiting:
                self._agent(child, call, number, child.starts() or clock)
        self._end(call, agent, max(clock, agent.last or clock))
        return call

    def _step(self, call: Call, line: dict[str, Any], clock: float, children: list[Agent], *, final: bool) -> float:
        code, kind = text_of(line.get("code")), Cell.Kind.CODE
        probe = line.get("step") == 0 and not call.turns and not self.draft.has_cell(call, 0)
        if probe:
            kind = Cell.Kind.PROBE
        elif not code.strip():
            kind = Cell.Kind.REPLY
        stamps = {name: moment_of(value) for name, value in dict_of(line.get("timestamps")).items()}
        ended = max(clock, moment_of(line.get("time")) or clock)
        started = min(max(clock, stamps.get("llm_call_start") or stamps.get("execution_start") or clock), ended)
        first_child = min((child.starts() or ended for child in children), default=ended)
        replied = started if probe else stamps.get("llm_call_end") or (stamps.get("execution_start") or first_child)
        replied = min(max(replied, started), ended)
        over = min(max(stamps.get("execution_end") or ended, replied), ended)
        output = text_of(line.get("output"))
        failed = line.get("hasError") is True
        number = 0 if probe else call.turns + 1
        self.draft.cell(
            call, number, kind=kind, status=Cell.Status.ERROR if failed else Cell.Status.DONE,
            reasoning=text_of(line.get("reasoning")), code=code, shown=output, output=_printed(output),
            error=_error(output) if failed else "", usage=_usage(line.get("usage")), started=started, replied=replied,
            ended=over, seconds=over - replied if kind != Cell.Kind.REPLY else 0.0, final=final and kind == Cell.Kind.CODE,
        )  # fmt: skip
        for child in children:
            self._agent(child, call, number, min(max(child.starts() or replied, started), ended))
        return over

    def _question(self, call: Call, probe: dict[str, Any] | None) -> None:
        """The log names no question. Where the context was short, it was the question."""
        seen = text_of(probe.get("output")) if probe else ""
        if whole := WHOLE.search(seen):
            self.draft.run.question = self.draft.text(whole[1].strip())
        elif beginning := BEGINNING.search(seen):
            self.draft.run.question = f"(not in the log; its context begins:) {self.draft.text(beginning[1].strip())}"
        if not self.draft.run.question:
            self.draft.run.question = f"(not in the log) {self.draft.run.imported_file}".strip()

    def _end(self, call: Call, agent: Agent, at: float) -> None:
        if agent.final is not None:
            code = text_of(self.log.at(agent.steps[-1]).get("code")) if agent.steps else ""
            names = [name for name in RETURNED.findall(code) if name not in ("None", "True", "False")]
            answer = self.log.at(agent.final).get("result", NO_ANSWER)
            self.draft.end(call, Status.DONE, answer=answer, name=names[-1] if names else "", at=at)
        elif agent.ended:
            self.draft.end(call, Status.FAILED, "It ended without an answer.", at=at)
        else:
            self.draft.end(call, Status.STOPPED, "Cut off: the log ends before an answer.", at=at)


def _asked(probe: dict[str, Any] | None) -> dict[str, Any]:
    """What the probe of a call tells of its context."""
    seen = text_of(probe.get("output")) if probe else ""
    probed = PROBED.search(seen)
    if not probed:
        return {"context_type": "?", "context_shape": "not in the log"}
    kind, size = probed[1], int(probed[2])
    found = WHOLE.search(seen) or BEGINNING.search(seen)
    text = found[1].strip() if found else ""
    return {
        "context_type": kind,
        "context_shape": f"{kind} · {size:,} ch" if kind == "str" else f"{kind}[{size:,}]",
        "context_chars": size if kind == "str" else 0,
        "instruction": text,
        "title": text.partition("\n")[0],
    }


def _usage(told: Any) -> Usage:
    usage = dict_of(told)
    prompt, completion, cached, thought = (
        count_of(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "cached", "reasoning")
    )
    cost = number_of(usage.get("cost"))
    return Usage(prompt, completion, cached, thought, 0.0 if cost is None and not prompt + completion else cost)


def _printed(output: str) -> str:
    """What a step printed, without the harness's own words before it."""
    if output == NO_OUTPUT:
        return ""
    return SHOWN_CUT.sub("", output.removeprefix(SHOWN_WHOLE), count=1)


def _error(output: str) -> str:
    """The harness appends the error to what was printed, and says nowhere where it begins."""
    at = max(output.rfind("\nTraceback (most recent call last)"), output.rfind("\nError: "))
    return output[at:].strip() if at >= 0 else output.strip()[-2000:]
