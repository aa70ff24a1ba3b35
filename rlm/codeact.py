"""Strategies ``codeact``, ``codeact_subagents`` and ``codeact_files``: code over a corpus that the model has read whole."""

from __future__ import annotations

from rlm import compaction, wording
from rlm.cellcall import CellCall
from rlm.direct import opening
from rlm.parsing import parse, split_thinking
from rlm.prompts import system_prompt
from rlm.replies import ModelReply
from rlm.run import Run
from rlm.schemas import problems
from rlm.spec import CallSpec, Ending, Outcome
from rlm.whole import answer_of, whole_text
from sandbox import CellResult, Value

FUNCTIONS = {"codeact": "plain", "codeact_subagents": "subagents", "codeact_files": "files"}
PATIENCE = 4  # empty replies in a row
REFUSALS = 6  # answers in a row that break the schema


class CodeactCall(CellCall):
    """Cells' outputs and sub-agents' results come back whole; the answer is a reply without a cell, typed out."""

    def __init__(self, run: Run, spec: CallSpec) -> None:
        super().__init__(run, spec)
        self.functions = FUNCTIONS[spec.strategy]
        self._silent = 0
        self._refused = 0

    async def open(self) -> None:
        self.prepare_repl()
        self.add("system", system_prompt(self.spec.strategy, leaf=self.spec.leaf))
        self.add("user", await opening(self))

    async def work(self) -> Outcome:
        while True:
            self.check_turns()
            reply = await compaction.next_reply(self)
            parsed = parse(reply.text)
            cut = reply.finish_reason == "length" and (parsed.unclosed or not parsed.code)
            code = "" if cut else parsed.code
            self.tell_reply(reply, "code" if code else "reply", code)
            self.add("assistant", split_thinking(reply.text)[1].strip() or "(an empty reply)")
            if code:
                self._silent = 0
                await self._run(code)
            elif cut or not parsed.prose:
                self._silent += 1
                if self._silent >= PATIENCE:
                    raise Ending("failed", f"The model's last {self._silent} replies were empty or cut off.")
                self.add("user", wording.LENGTH_CUT if cut else "Your reply was empty. Go on, or write the answer.")
            elif (outcome := await self._answer(reply)) is not None:
                return outcome

    async def last_words(self, ending: Ending) -> Outcome:
        self.add_last_word(
            f"{ending.reason} This is your last turn: reply with the best answer you can give now, no code."
        )
        reply = await self.ask(max_tokens=self.run.last_tokens, last=True)
        self.tell_reply(reply, "reply")
        text = parse(reply.text).prose
        return Outcome(ending.status, ending.reason, Value.of(answer_of(text)) if text else None, "", bool(text))

    async def _run(self, code: str) -> None:
        result = await self.run_cell(code)
        # "Loaded whole" ends where the window does: past half of it, even this strategy has to cut.
        limit = max(self.run.limits.shown_chars, self.run.window)
        message, shown = self.message_of(result, limit=limit)
        message = "\n\n".join([message, *self._results(result, limit)])
        message = await self.tell_cell(result, message, shown)
        self.add("user", message)
        self.count_errors(result)

    def _results(self, result: CellResult, limit: int) -> list[str]:
        """Return what sub-agents answered, whole, and what a FINAL was given: here both pass through the messages."""
        told = [f"Sub-agent (call {n}) answered:\n{whole_text(v)[:limit]}" for n, v in self.requests.answers]
        if result.final is not None:
            told.append(
                f"FINAL was given:\n{whole_text(result.final)[:limit]}\n"
                "That is not how to answer here: write the answer out as your reply, without a code block."
            )
        return told

    async def _answer(self, reply: ModelReply) -> Outcome | None:
        value = Value.of(answer_of(reply.text))
        if self.spec.schema is not None and (refusal := await problems(value, self.spec.schema)):
            self._refused += 1
            if self._refused >= REFUSALS:
                raise Ending("failed", f"The answer broke the schema {self._refused} times in a row: {refusal[:300]}")
            self.add("user", f"The answer does not satisfy the schema.\n{refusal[:3000]}\nWrite it again.")
            return None
        return Outcome("done", "", value)
