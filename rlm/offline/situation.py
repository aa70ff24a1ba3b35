"""What the messages of a request tell: which call this is, what is asked, what has been done and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm.offline.linking import defined_in
from rlm.offline.question import Shape
from rlm.parsing import parse

_SECTION = (
    r"^# {}\n(.*?)(?=\n\n# (?:context|Question|Form of|Limits|Instruction|Functions)|\n\nWrite your first cell\.|\Z)"
)

_FURTHER = re.compile(
    r"^# Follow-up question\n(.*?)(?=\n\n# Follow-up question|\n\nYour REPL is as you left it|\Z)", re.M | re.S
)


@dataclass(frozen=True)
class Situation:
    system: str
    first: str  # the first message: probe, question or instruction
    turns: tuple[tuple[str, str], ...]  # the replies so far, and what came back
    further: str = ""  # the newest follow-up's question: the turns before it count no more

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]]) -> Situation:
        told = [(str(m.get("role")), str(m.get("content") or "")) for m in messages]
        system = "\n".join(text for role, text in told if role == "system")
        rest = [(role, text) for role, text in told if role != "system"]
        first = rest[0][1] if rest else ""
        turns: list[tuple[str, str]] = []
        further = ""
        for role, text in rest[1:]:
            if role == "user" and (asked := _FURTHER.findall(text)):
                further, turns = asked[-1].strip(), []
                continue
            if role == "assistant":
                turns.append((text, ""))
            elif turns:
                turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{text}".strip())
        return cls(system, first, tuple(turns), further)

    def section(self, name: str) -> str:
        match = re.search(_SECTION.format(name), self.first, re.M | re.S)
        return match[1].strip() if match else ""

    @property
    def question(self) -> str:
        """The user's question; of a child, the one that its instruction hands on."""
        if self.further:
            return self.further
        if self.instruction:
            handed = re.search(r"^Question: (.*)\Z", self.instruction, re.M | re.S)
            return handed[1].strip() if handed else self.instruction
        if self.alone:
            whole = re.search(r"<data>\n(.*)\n</data>", self.first, re.S)
            return whole[1].strip() if whole else self.first
        return self.section("Question")

    @property
    def instruction(self) -> str:
        return self.section("Instruction")

    @property
    def alone(self) -> bool:
        """There is no corpus: the context is the question itself."""
        return "`context` is the question itself" in self.first

    @property
    def recursive(self) -> bool:
        return "`context`" in self.system and "FINAL" in self.system and "marked `repl`" in self.system

    @property
    def parallel(self) -> bool:
        """This call may start children."""
        return "batch_llm_query" in self.system

    @property
    def calls(self) -> int:
        """How many calls the whole run may have, this one included."""
        match = re.search(r"([\d,]+) calls in the whole run", self.first)
        return int(match[1].replace(",", "")) if match else 500

    @property
    def child(self) -> bool:
        return bool(self.instruction) or "There is no separate instruction" in self.first

    @property
    def output(self) -> str:
        """What came back last."""
        return self.turns[-1][1] if self.turns else ""

    @property
    def error(self) -> str:
        """What went wrong in the last cell, or ""."""
        last = self.output
        if match := re.search(r"^Your REPL was ended while cell \d+ ran: ([^.]*)", last, re.M):
            return match[1]
        if re.search(r"^Cell \d+ raised an error:", last, re.M):
            lines = [line for line in last.split("raised an error:", 1)[1].strip().splitlines() if line.strip()]
            return next(
                (line.strip() for line in reversed(lines) if re.match(r"[\w.]+(?:Error|Exception|Interrupt)\b", line)),
                "an error",
            )
        if "Your reply was cut off at its greatest length" in last:
            return "a reply here may not be as long as its cell has to be"
        if "was not accepted: it does not satisfy the schema" in last:
            return "schema"
        return ""

    @property
    def failures(self) -> int:
        return sum(1 for i in range(len(self.turns)) if Situation(self.system, self.first, self.turns[: i + 1]).error)

    @property
    def lost(self) -> bool:
        """The REPL is a fresh one: nothing defined before is there."""
        return "ALL YOUR VARIABLES ARE LOST" in self.output

    @property
    def last(self) -> bool:
        return "This is your last turn" in self.output

    def did(self, code: str) -> bool:
        """Some cell so far has this in it, and its output was no error."""
        return any(
            code in reply and not Situation(self.system, self.first, self.turns[: i + 1]).error
            for i, (reply, _) in enumerate(self.turns)
        )

    @property
    def known(self) -> frozenset[str]:
        """The functions, constants and modules that cells of this call left in the REPL."""
        names: frozenset[str] = frozenset()
        for i, (reply, output) in enumerate(self.turns):
            if "ALL YOUR VARIABLES ARE LOST" in output:
                names = frozenset()
            elif not Situation(self.system, self.first, self.turns[: i + 1]).error:
                names |= defined_in(parse(reply).code)
        return names

    @property
    def answered(self) -> bool:
        """A cell made the answer and looked at it, and it was not empty."""
        return any(
            "print(answer[" in reply
            and output
            and not re.search(r"^0 (?:places|names)|^usable: 0$|raised an error:|LOST", output, re.M)
            for reply, output in self.turns
        )

    @property
    def none_found(self) -> bool:
        """A cell looked for something word for word, in vain."""
        return any(re.search(r"^0 (?:places|names)", output, re.M) for _, output in self.turns)

    def line(self, label: str) -> str:
        """The rest of the last output line that begins with a label."""
        found = re.findall(rf"^{re.escape(label)}: (.*)$", "\n".join(output for _, output in self.turns), re.M)
        return str(found[-1]).strip() if found else ""

    @property
    def shape(self) -> Shape:
        """What the reading cell printed of the corpus."""
        speakers = tuple(name for name in self.line("speakers").split(" | ") if name and name != "none")
        columns = tuple(name for name in self.line("columns").split(" | ") if name and name != "none")
        documents = re.match(r"([\d,]+)", self.line("documents") or "1")
        count = int(documents[1].replace(",", "")) if documents else 1
        return Shape(count, speakers, columns)
