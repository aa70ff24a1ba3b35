"""Strategy ``react``: a fixed list of tools through the API's own tool calling, one result at a time."""

from __future__ import annotations

import ast
import json
from typing import Any

from rlm import compaction
from rlm.cellcall import CellCall
from rlm.direct import opening
from rlm.parsing import split_thinking
from rlm.probe import clip
from rlm.prompts import system_prompt
from rlm.recording import RecordedCell
from rlm.replies import ModelReply, ToolCall
from rlm.schemas import problems
from rlm.spec import Ending, Outcome
from rlm.toolbox import NAMES, SOURCE, TOOLS
from rlm.whole import answer_of
from sandbox import CellResult, Value

AT_ONCE = 8  # tool calls of one reply that are done
REFUSALS = 6
RESULT = 20_000  # characters of one tool's result


class ReactCall(CellCall):
    """Each tool call runs inside the jail; its result goes into the messages, whole."""

    functions = "plain"

    async def open(self) -> None:
        self.prepare_repl()
        self.add("system", system_prompt("react"))
        self.add("user", await opening(self))

    async def work(self) -> Outcome:
        silent = refused = 0
        while True:
            self.check_turns()
            if compaction.is_due(self):
                raise Ending("limit", "The conversation is as long as the model's window.", last=True)
            reply = await self.ask(tools=TOOLS)
            if reply.tool_calls:
                await self._use(reply)
                continue
            self.tell_reply(reply, "reply")
            text = split_thinking(reply.text)[1].strip()
            self.add("assistant", text or "(an empty reply)")
            if not text:
                silent += 1
                if silent >= 4:
                    raise Ending("failed", f"The model's last {silent} replies were empty.")
                self.add("user", "Your reply was empty. Call a tool, or write the answer.")
                continue
            value = Value.of(answer_of(text))
            refusal = await problems(value, self.spec.schema) if self.spec.schema is not None else ""
            if not refusal:
                return Outcome("done", "", value)
            refused += 1
            if refused >= REFUSALS:
                raise Ending("failed", f"The answer broke the schema {refused} times in a row: {refusal[:300]}")
            self.add("user", f"The answer does not satisfy the schema.\n{refusal[:3000]}\nWrite it again.")

    def tool_calls_of(self, recorded: RecordedCell) -> tuple[ToolCall, ...]:
        """Read the calls back from what the next turn sent, else from the cell as it was written down."""
        if recorded.kind != "tool":
            return ()
        after = self.recorded(recorded.number + 1)
        for message in after.messages if after is not None else ():
            if calls := message.extra.get("tool_calls"):
                return tuple(ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls)
        return tuple(_read(line, n) for n, line in enumerate(recorded.code.splitlines()))

    async def last_words(self, ending: Ending) -> Outcome:
        self.add_last_word(
            f"{ending.reason} This is your last turn: write the best answer you can give now; call no tool."
        )
        reply = await self.ask(max_tokens=self.run.last_tokens, last=True)
        self.tell_reply(reply, "reply")
        text = split_thinking(reply.text)[1].strip()
        return Outcome(ending.status, ending.reason, Value.of(answer_of(text)) if text else None, "", bool(text))

    async def _use(self, reply: ModelReply) -> None:
        """Run the tools a reply calls, as one cell row, and append their results."""
        calls = reply.tool_calls[:AT_ONCE]
        written = [_code(call) for call in calls]
        self.tell_reply(reply, "tool", "\n".join(shown for shown, _ in written))
        self.add(
            "assistant",
            reply.text,
            tool_calls=[
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls
            ],
        )
        outputs: list[str] = []
        result: CellResult | None = None
        seconds = waited = 0.0
        for call, (_, code) in zip(calls, written, strict=True):
            done, output = await self._tool(call, code)
            if done is not None:
                result, seconds, waited = done, seconds + done.seconds, waited + done.waited
            outputs.append(output)
            self.add("tool", output, tool_call_id=call.id)
        if notices := self.notices():
            self.add("user", "\n".join(notices).replace("with FINAL", "with your answer"))
        whole = "\n\n".join(outputs)
        await self.tell_tools(result, whole, seconds, waited)
        if result is not None:
            self.count_errors(result)

    async def _tool(self, call: ToolCall, code: str) -> tuple[CellResult | None, str]:
        """Run one tool's cell; return its result, and what the model is told of it."""
        if not code:
            return None, f"There is no tool {call.name[:80]!r}, or its arguments are not JSON."
        if not self._ran or self.repl is None or not self.repl.alive:
            await self.run_cell(SOURCE)
        result = await self.run_cell(code)
        text = result.output.strip() or result.error.strip() or "(nothing)"
        return result, clip(f"The tool was ended: {result.killed}" if result.killed else text, RESULT)

    async def run_again(self, recorded: RecordedCell) -> None:
        if not recorded.done or self.stands(recorded):
            return
        result = None
        outputs = []
        for call in self.tool_calls_of(recorded)[:AT_ONCE]:
            done, output = await self._tool(call, _code(call)[1])
            result = done or result
            outputs.append(output)
        self.compare(recorded, "\n\n".join(outputs), result or CellResult())


def _read(written: str, number: int) -> ToolCall:
    """Return the tool call that ``_code`` wrote."""
    name, _, rest = written.partition("(")
    arguments = rest.removesuffix(")")
    try:
        tree = ast.parse(written, mode="eval").body
        if isinstance(tree, ast.Call):
            arguments = json.dumps({str(k.arg): ast.literal_eval(k.value) for k in tree.keywords})
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return ToolCall(f"call_{number}", name, arguments)


def _code(call: ToolCall) -> tuple[str, str]:
    """Return a tool call as a page shows it, and as the cell that does it ("" where it cannot be done)."""
    try:
        arguments: Any = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return f"{call.name}({call.arguments[:200]})", ""
    if call.name not in NAMES or not isinstance(arguments, dict) or not all(k.isidentifier() for k in arguments):
        return f"{call.name}({call.arguments[:200]})", ""
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{call.name}({given})", f"print({call.name}({given}))"
