"""Strategy ``rlm``: the loop of a call that is not shown its data. See ../shared/rlm.md for what it means."""

from __future__ import annotations

import asyncio

from rlm import compaction, wording
from rlm.call import BIG
from rlm.cellcall import CellCall
from rlm.events import CellKind
from rlm.parsing import Parsed, final_expression, parse, split_thinking
from rlm.probe import clip, probe
from rlm.prompts import system_prompt
from rlm.replies import ModelReply
from rlm.run import Run
from rlm.schemas import problems
from rlm.spec import CallSpec, Ending, Outcome
from rlm.toolsources import describe_tools
from sandbox import CellResult, Value

PATIENCE = 4  # replies in a row without a cell until the call ends
REFUSALS = 6  # values in a row that break the schema until the call ends


class RecursiveCall(CellCall):
    """A root, child or leaf call of strategy ``rlm``."""

    with_repl = True

    def __init__(self, run: Run, spec: CallSpec) -> None:
        super().__init__(run, spec)
        self.functions = spec.dialect
        self._silent = 0  # replies in a row without a cell
        self._refused = 0  # FINALs in a row that broke the schema
        self._prose = ""  # what the last reply without a cell said

    async def open(self) -> None:
        self.prepare_repl()
        self.add("system", system_prompt("rlm", self.spec.dialect, leaf=self.spec.leaf))
        self.add("user", await self._first_message())

    async def work(self) -> Outcome:
        while True:
            self.check_turns()
            reply = await compaction.next_reply(self)
            outcome = await self._take(reply)
            if outcome is not None:
                return outcome

    async def last_words(self, ending: Ending) -> Outcome:
        """One last request turns what is in the REPL into a partial answer."""
        self.add_last_word(wording.last_word(ending.reason))
        reply = await self.ask(max_tokens=self.run.last_tokens, last=True)
        parsed = parse(reply.text)
        code = parsed.code or parsed.final
        self.requests.closed = "This is the last turn: no child calls."
        self.tell_reply(reply, "code" if code else "reply", code)
        if not code:
            text = parsed.prose or self._prose
            return Outcome(ending.status, ending.reason, Value.of(text) if text else None, "", bool(text))
        result = await self.run_cell(code)
        await self.tell_cell(result, "", 0)
        return Outcome(ending.status, ending.reason, result.final, result.final_name, result.final is not None)

    def so_far(self) -> str:
        """The last reply, where it was no cell: the model may have meant it as the answer."""
        return self._prose if self._silent else ""

    # the first message

    async def _first_message(self) -> str:
        spec, run = self.spec, self.run
        question = run.spec.question if spec.parent is None and run.spec.has_corpus else ""
        about = (
            await asyncio.to_thread(probe, spec.context, question, run.limits, schema=spec.schema)
            if spec.context.nbytes > BIG
            else probe(spec.context, question, run.limits, schema=spec.schema)
        )
        parts = [about]
        if spec.parent is None and not run.spec.has_corpus:
            parts.append("`context` is the question itself: there is no other data.")
        elif spec.parent is not None and spec.instruction:
            parts.append(f"# Instruction\n{clip(spec.instruction, 12_000)}")
        elif spec.parent is not None:
            parts.append("There is no separate instruction: `context` itself says what is wanted.")
        if spec.tools:
            parts.append(f"# Functions handed to you\n{describe_tools(spec.tools)}")
        parts.append("Write your first cell.")
        return "\n\n".join(parts)

    # a turn

    async def _take(self, reply: ModelReply) -> Outcome | None:
        """Do what a reply says; return the outcome where that ends the call."""
        parsed = parse(reply.text)
        cut = reply.finish_reason == "length" and (parsed.unclosed or not parsed.code)
        code = "" if cut else parsed.code or parsed.final
        kind: CellKind = "code" if code else "reply"
        self.tell_reply(reply, kind, code)
        self.add("assistant", split_thinking(reply.text)[1].strip() or "(an empty reply)")
        if not code:
            self._no_cell(parsed, cut)
            return None
        self._silent = 0
        result = await self.run_cell(code)
        if parsed.final and not result.finished and not parsed.code and "NameError" in result.error:
            result = await self.run_cell(f"FINAL({parsed.final_text!r})")  # not a variable: the answer, written out
        if result.finished and result.final is not None:
            refusal = await problems(result.final, self.spec.schema) if self.spec.schema is not None else ""
            if not refusal:
                await self.tell_cell(result, "", 0)
                return Outcome("done", "", result.final, result.final_name or final_expression(code))
            await self._refuse(result, refusal)
            return None
        message, shown = self.message_of(result)
        message = await self.tell_cell(result, message, shown)
        self.add("user", message)
        self.count_errors(result)
        return None

    async def _refuse(self, result: CellResult, refusal: str) -> None:
        """Feed the schema's complaints back, so that the model mends its value."""
        self._refused += 1
        message = wording.schema_refusal(clip(refusal, 3_000), REFUSALS - self._refused)
        message = await self.tell_cell(result, message, 0)
        self.add("user", message)
        if self._refused >= REFUSALS:
            first = refusal.splitlines()[0].lstrip("- ")[:300]
            raise Ending("failed", f"FINAL broke the schema {self._refused} times in a row, the last time {first}")

    def _no_cell(self, parsed: Parsed, cut: bool) -> None:
        self._silent += 1
        self._prose = parsed.prose if not cut else self._prose
        if self._silent >= PATIENCE:
            why = f"The model wrote no code block in {self._silent} replies in a row."
            raise Ending("failed", why, prose=self._prose)
        self.add("user", wording.reminder("" if parsed.prose or cut else "empty", cut))
        self.note(
            "The reply had no cell; the model was reminded." if not cut else "The reply was cut at its greatest length."
        )
