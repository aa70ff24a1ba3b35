"""Sessions of shyamsn97/rlmkit: JSON lines of nodes, an agent a file; files of several agents may be put one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from analyses.models import Call, Cell, Status
from analyses.trajectory.draft import NO_ANSWER, Draft
from analyses.trajectory.limits import LogRefused
from analyses.trajectory.reading import Log, asked_in, count_of, list_of, text_of
from rlm.events import Message, Usage

NAME = "rlmkit"


def recognises(line: dict[str, Any]) -> bool:
    return all(isinstance(line.get(name), str) for name in ("type", "agent_id", "id")) and "seq" in line


@dataclass
class Agent:
    """Where the nodes of an agent are, in their own order, and whom it waits for."""

    name: str
    nodes: list[tuple[int, int]] = field(default_factory=list)  # seq, and where the line begins
    waits_for: list[str] = field(default_factory=list)


def read(log: Log) -> Iterator[Draft]:
    """One draft for each agent that no other one waits for."""
    agents: dict[str, Agent] = {}
    for at, line in log.objects():
        if not recognises(line):
            continue
        name = line["agent_id"][:200]
        if name not in agents and len(agents) >= log.limits.calls:
            raise LogRefused(f"It holds more than {log.limits.calls:,} agents.")
        agent = agents.setdefault(name, Agent(name))
        agent.nodes.append((count_of(line.get("seq")), at))
        agent.waits_for += [text_of(other)[:200] for other in list_of(line.get("waiting_on"))[:1000]]
    if not agents:
        raise LogRefused("It holds no node of a session.")
    waited_for = {other for agent in agents.values() for other in agent.waits_for}
    roots = [agent for agent in agents.values() if agent.name not in waited_for]
    reached: set[str] = set()
    todo = [agent.name for agent in roots]
    while todo:
        name = todo.pop()
        if name in agents and name not in reached:
            reached.add(name)
            todo += agents[name].waits_for
    if len(reached) < len(agents):
        raise LogRefused("Its agents wait for each other, in a circle: no run can look like that.")
    given: set[str] = set()
    for root in roots:
        draft = Draft(NAME, log.name, log.limits)
        try:
            _Run(log, draft, agents, given).read(root)
            yield draft
        finally:
            draft.close()


@dataclass
class _Turn:
    """What was gathered since the model was last asked."""

    messages: list[Message] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    output: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    error: str = ""
    children: list[str] = field(default_factory=list)


class _Run:
    """The nodes of one root agent, and of those it waits for, as calls and cells."""

    def __init__(self, log: Log, draft: Draft, agents: dict[str, Agent], given: set[str]) -> None:
        self.log = log
        self.draft = draft
        self.agents = agents
        self.given = given  # agents that have their call already
        self.now = time.time()  # sessions name no moment

    def read(self, root: Agent) -> None:
        self.draft.cut = self.log.damage()
        call = self._agent(root, None, None)
        run = self.draft.run
        run.question = run.question or f"(not in the log) {run.imported_file}".strip()
        self.draft.note(call, "A session of rlmkit names no times and no cost.")
        self.draft.finish()

    def _agent(self, agent: Agent, parent: Call | None, parent_cell: int | None) -> Call:
        self.given.add(agent.name)
        call = self.draft.call(
            parent,
            parent_cell,
            at=self.now,
            model="unknown",
            title=agent.name,
            context_type="?",
            context_shape="not in the log",
        )
        call.cost = None
        turn, answer, missing = _Turn(), NO_ANSWER, []
        for _, at in sorted(agent.nodes):
            node = self.log.at(at)
            kind, content = node.get("type"), text_of(node.get("content"))
            if kind == "llm_output":
                missing += self._flush(call, turn)
                turn = _Turn(
                    messages=turn.messages if turn.reply is None else [Message("user", text) for text in turn.shown],
                    reply=node,
                )
                call.model = (text_of(node.get("model")) or call.model)[:120]
            elif kind == "user_query":
                self._asked(call, content)
                turn.messages.append(Message("user", content))
            elif kind == "done_output":
                answer = node.get("result", NO_ANSWER)
                turn.output.append(text_of(node.get("output")))
            elif kind in ("exec_output", "error_output", "supervising_output"):
                turn.output.append(text_of(node.get("output")))
                turn.shown += [content] if content else []
                turn.children += [text_of(other)[:200] for other in list_of(node.get("waiting_on"))]
                turn.error = (
                    text_of(node.get("output")) or text_of(node.get("error")) if kind == "error_output" else turn.error
                )
        missing += self._flush(call, turn, final=answer is not NO_ANSWER)
        if missing:
            self.draft.note(call, f"It waited for {', '.join(missing)[:300]}, whose sessions are not in the file.")
        if answer is NO_ANSWER:
            self.draft.end(call, Status.STOPPED, "Cut off: the session ends before an answer.", at=self.now)
        else:
            self.draft.end(call, Status.DONE, answer=answer, at=self.now)
        return call

    def _asked(self, call: Call, content: str) -> None:
        call.instruction = call.instruction or self.draft.text(asked_in(content) or content.strip())[:20_000]
        if call.parent_number is None and not self.draft.run.question:
            self.draft.run.question = call.instruction

    def _flush(self, call: Call, turn: _Turn, *, final: bool = False) -> list[str]:
        """Write a turn as a cell, with the agents it waited for; return the names of those that are not in the file."""
        node = turn.reply
        if node is None:
            return []
        code = text_of(node.get("code"))
        number = call.turns + 1
        output = "\n".join(text for text in turn.output if text)
        self.draft.cell(
            call, number, kind=Cell.Kind.CODE if code.strip() else Cell.Kind.REPLY,
            status=Cell.Status.ERROR if turn.error else Cell.Status.DONE, messages=turn.messages, reply=text_of(node.get("reply")),
            code=code, output=output, shown="\n".join(turn.shown) or output, error=turn.error, final=final,
            usage=Usage(count_of(node.get("input_tokens")), count_of(node.get("output_tokens")), cost=None),
            started=self.now, replied=self.now, ended=self.now,
        )  # fmt: skip
        missing = []
        for name in dict.fromkeys(turn.children):
            if name not in self.agents:
                missing.append(name)
            elif name not in self.given:
                self._agent(self.agents[name], call, number)
        return missing
