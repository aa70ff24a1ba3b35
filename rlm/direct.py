"""Strategy ``direct``: one request with the whole corpus in it; the reply is the answer. Also the paper's plain llm_query."""

from __future__ import annotations

import asyncio
import json

from rlm.call import Call
from rlm.parsing import split_thinking
from rlm.probe import fenced
from rlm.prompts import system_prompt
from rlm.spec import Ending, Outcome
from rlm.whole import answer_of, fit, whole_text
from sandbox import Value


class DirectCall(Call):
    """One request, one reply."""

    async def open(self) -> None:
        if self.spec.plain:
            self.add("user", await asyncio.to_thread(whole_text, self.spec.context))
        else:
            self.add("system", system_prompt("direct"))
            self.add("user", await opening(self))

    async def work(self) -> Outcome:
        spec = self.spec
        reply = await self.ask(standing=False)
        self.tell_reply(reply, "reply")
        value = Value.of(reply.text.strip() if spec.plain else answer_of(reply.text))
        if not reply.text.strip():
            raise Ending("failed", "The model's reply was empty.")
        if reply.finish_reason == "length" and not spec.plain:
            raise Ending("limit", "The answer was cut off at the greatest length of a reply.", prose=reply.text)
        return Outcome("done", "", value)

    def so_far(self) -> str:
        """The reply as far as it was written is an answer as far as it goes."""
        return split_thinking(self.written)[1].strip()


async def opening(call: Call) -> str:
    """Return the first message of a strategy that shows the whole context; notes what had to be cut."""
    spec, run = call.spec, call.run
    if spec.parent is None and not run.spec.has_corpus:
        return f"# Question\n{run.spec.question}"
    text, cut = fit(
        await asyncio.to_thread(whole_text, spec.context), run.window, run.reply_tokens, run.spec.when_too_long
    )
    if cut:
        call.note(cut)
    task = run.spec.question if spec.parent is None else spec.instruction
    wanted = json.dumps(spec.schema, ensure_ascii=False) if spec.schema is not None else ""
    schema = f"\n\nThe answer must satisfy this JSON Schema:\n{wanted}" if wanted else ""
    if spec.parent is not None and spec.context.type_name == "str" and text == task:
        return f"# Task\n{task}"
    return f"# Text\n{fenced(text)}\n\n{cut}\n\n# {'Question' if spec.parent is None else 'Task'}\n{task}{schema}"
