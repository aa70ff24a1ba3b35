"""One call of a model, whatever its strategy: its messages, its requests, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from rlm import compaction, wording
from rlm.events import (
    CallFinished,
    CallStarted,
    CellKind,
    Message,
    Note,
    ReplyCut,
    ReplyDelta,
    ReplyDone,
    TurnStarted,
    Usage,
)
from rlm.ledger import LimitReached
from rlm.parsing import split_thinking
from rlm.prices import price
from rlm.probe import clip
from rlm.recording import RecordedCall, RecordedCell
from rlm.replies import ModelError, ModelReply, ToolCall
from rlm.spec import CallSpec, Ending, Outcome
from rlm.wording import follow_up_message
from sandbox import SandboxError, SandboxUnavailable, Value

if TYPE_CHECKING:
    from rlm.run import Run
    from rlm.warm import WarmRepl

log = logging.getLogger(__name__)
T = TypeVar("T")

MESSAGE_TOKENS = 16  # allowed for the envelope of one message
LAST_BYTES = 6_000  # of the message that asks for a partial answer
BIG = 1 << 20  # bytes; what reads a larger value whole is done in a thread


class Call:
    """The base of all strategies: a subclass says in ``work`` how a call comes to its outcome."""

    with_repl = False  # that the model knows of

    def __init__(self, run: Run, spec: CallSpec) -> None:
        self.run = run
        self.spec = spec
        self.messages: list[dict[str, Any]] = []
        self.turn = 0  # number of the cell under way; cells are numbered from 1
        self.ending: Ending | None = None
        self._task: asyncio.Task[Any] | None = None
        self._over = False
        self._at_work = False  # holds a place in run.slots
        self._told = 0  # messages that TurnStarted has told of
        self._reported = 0  # prompt tokens of the last request, as the provider counted them
        self._appended = 0  # upper bound of the tokens appended since
        self._warned: set[str] = set()
        self.has_something = False  # that a last request could make a partial answer of
        self.written = ""  # of a reply that was cut off
        self.record: RecordedCall | None = None  # what there is of it already
        self._noted: list[str] = []  # sentences that are told of already
        self.follow_ups = run.spec.follow_ups if spec.parent is None else ()
        self.first_turn = 1  # of the question that is being answered

    # what was there before

    def take_up(self, record: RecordedCall) -> None:
        """Go on where the record of this call ends."""
        self.record = record
        self._noted = list(record.notes)

    def recorded(self, number: int) -> RecordedCell | None:
        """Return what is recorded of a turn."""
        return self.record.cells.get(number) if self.record is not None else None

    @property
    def next_recorded(self) -> RecordedCell | None:
        return self.recorded(self.turn + 1)

    # to be said by each strategy

    async def open(self) -> None:
        """Begin the conversation: what the call is, and what it is to do."""
        raise NotImplementedError

    async def work(self) -> Outcome:
        """Go on from the messages as they stand, until the question is answered."""
        raise NotImplementedError

    async def run_again(self, recorded: RecordedCell) -> None:
        """Run the code of a turn once more, for what it leaves behind; strategies without a REPL have none."""

    def adopt(self, warm: WarmRepl) -> None:
        """Go on in a REPL that was kept; strategies without one have no use for it."""

    async def last_words(self, ending: Ending) -> Outcome:
        """Make a partial answer after a limit. By default there is none."""
        return Outcome(ending.status, ending.reason)

    def so_far(self) -> str:
        """Return what there is of an answer without asking for it, or ""."""
        return ""

    async def release(self, outcome: Outcome) -> None:
        """Give back what the call holds."""

    # from the beginning to the end

    async def execute(self) -> Outcome:
        """Run the call to its end. Never raises for what a model, a cell or an endpoint does."""
        self._task = asyncio.current_task()
        outcome = Outcome("stopped", "The run was ended.")
        try:
            outcome = await self._outcome()
        except SandboxUnavailable as error:
            self.run.give_up(error)
            raise
        finally:
            self._over = True
            try:
                await self.release(outcome)
            except Exception:
                log.exception("call %d could not be closed", self.spec.number)
            self.rest()
            self.run.closed(self)
            if self.record is not None:
                self.run.close_left_behind(self.spec.number)
            self._tell_end(outcome)
        return outcome

    def end(self, ending: Ending) -> None:
        """End the call from outside. A hard ending wins over one that allows a last request."""
        if self._over or (self.ending is not None and (ending.last or not self.ending.last)):
            return
        self.ending = ending
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _outcome(self) -> Outcome:
        try:
            return await self._guarded(self._begin)
        except Ending as first:
            ending = first
        text = ending.prose
        if ending.status == "stopped" and self.spec.parent is None:
            text = text or self.so_far()  # a stop sends no last request
        prose = Value.of(text) if text else None
        outcome = Outcome(ending.status, ending.reason, prose, "", bool(prose))
        if ending.last and self.turn >= self.first_turn:
            try:
                outcome = await self._guarded(lambda: self.last_words(ending))
            except Ending as second:
                log.info("call %d has no partial answer: %s", self.spec.number, second.reason)
                if second.status == "stopped":
                    outcome = Outcome(second.status, second.reason)
        return outcome

    async def _begin(self) -> Outcome:
        await self.run.slots.admit(self.spec.number)
        self._at_work = True
        if self.record is None or not self.record.started:
            self.run.emit(CallStarted(self.spec.number, time.time()))
        if self.follow_ups:
            await self._go_through_earlier()
        else:
            await self.open()
        return await self.work()

    # a follow-up

    async def _go_through_earlier(self) -> None:
        """Take the turns of the questions before from the record, with no request; then put the newest question."""
        upto = self.follow_ups[-1].after
        newest = None
        while self.turn < upto and (recorded := self.next_recorded) is not None:
            newest = recorded
            await self._go_through(recorded)
        if newest is None:
            await self.open()
        else:
            self._close_turn(newest)
        self.turn, self.first_turn = upto, upto + 1
        self.spec = replace(self.spec, schema=None)  # it was of the first question's answer
        self._warned.clear()
        self.has_something = False
        if self.next_recorded is None:
            self._noted.clear()  # those were noted of the questions before
        for follow_up in self.follow_ups:
            if follow_up.after == upto:  # more than one, where those before ended without a turn
                self.add_to_unsent(follow_up_message(follow_up.question, repl=self.with_repl))

    async def _go_through(self, recorded: RecordedCell) -> None:
        self.turn += 1
        self._as_recorded(recorded)
        if not recorded.replied:
            return
        self._count_reported(recorded)
        if recorded.kind == "compaction":
            self.restart(compaction.KEPT)
        elif recorded.code:
            await self.run_again(recorded)

    def _close_turn(self, recorded: RecordedCell) -> None:
        """Append what the last turn of a question left unsaid: its reply, and what came of it."""
        if not recorded.replied:
            self.add("assistant", "(no reply came)")
        elif recorded.kind == "compaction":
            self.add("user", compaction.summary_of(recorded.reply, recorded.number - 1))
        else:
            text = split_thinking(_said(recorded))[1].strip()
            if recorded.kind == "tool":  # as text: not every tool it called may have been answered
                text = f"{text}\n\n{recorded.code}".strip()
            self.add("assistant", text or "(an empty reply)")
            if recorded.code and not recorded.done:
                self.add("user", f"Cell {recorded.number} was not run to its end.")
            elif told := recorded.shown or clip(recorded.output, self.run.limits.shown_chars):
                self.add("user", told)

    async def _guarded(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work``; turn whatever ends it early into an Ending."""
        if self.ending is not None and not self.ending.last:
            raise self.ending
        try:
            return await work()
        except asyncio.CancelledError:
            if self.ending is None or self._task is None:
                raise
            while self._task.uncancel() > 0:  # a soft ending and a hard one may have come together
                pass
            raise self.ending from None
        except LimitReached as limit:
            self.run.limit(limit.name, str(limit))
            raise self.ending or Ending("limit", str(limit)) from None
        except ModelError as error:
            raise Ending("failed", str(error)) from error
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            raise Ending("failed", f"The sandbox failed: {error}") from error
        except Ending:
            raise
        except Exception as error:  # a bug of ours must not take the other calls along
            log.exception("call %d failed", self.spec.number)
            raise Ending("failed", f"The engine failed: {type(error).__name__}: {str(error)[:300]}") from error

    def rest(self) -> None:
        """Give the place at work back: the call has ended, or waits for its children."""
        if self._at_work:
            self._at_work = False
            self.run.slots.dismiss()

    def resume(self) -> None:
        """Go on after the children."""
        if not self._at_work and not self._over:
            self._at_work = True
            self.run.slots.recall()

    def _tell_end(self, outcome: Outcome) -> None:
        self.run.emit(
            CallFinished(
                self.spec.number, outcome.status, outcome.reason, outcome.answer, outcome.answer_name,
                outcome.partial, time.time(),
            )
        )  # fmt: skip

    def note(self, text: str, *, again: bool = False) -> None:
        """Tell a person something, once: what was noted before a recorded turn is noted already.

        ``again``: it is about the replay itself.
        """
        if self.next_recorded is not None and not again:
            return
        if text in self._noted:
            self._noted.remove(text)
            return
        self.run.emit(Note(self.spec.number, text, time.time()))

    # messages and requests

    def add(self, role: str, content: str, **extra: Any) -> None:
        """Append a message: the conversation only grows at its end."""
        message = {"role": role, "content": content, **extra}
        self.messages.append(message)
        self._appended += _tokens(message)

    def add_to_unsent(self, content: str) -> None:
        """Append to the last message where that is the user's and not sent yet, else as a message of its own.

        Some models' templates want the two sides to alternate.
        """
        if len(self.messages) > self._told and self.messages[-1]["role"] == "user":
            last = self.messages.pop()
            self._appended -= _tokens(last)
            content = f"{last['content']}\n\n{content}"
        self.add("user", content)

    def restart(self, kept: int) -> None:
        """Forget the messages after the first ``kept``: a compaction's new prefix begins."""
        old, self.messages, self._reported, self._appended = self.messages[:kept], [], 0, 0
        for message in old:
            self.add(**message)
        self._told = len(self.messages)

    def add_last_word(self, said: str) -> None:
        """Append the message that asks for a partial answer, within what was set aside for it.

        What has not been sent yet (the last reply and its output) goes along if there is room, else shortened.
        """
        sent, unsent = self.messages[: self._told], self.messages[self._told :]
        tail = str(unsent[-1]["content"]) if unsent and unsent[-1]["role"] == "user" else ""
        before = self._appended
        if tail:
            self._appended -= MESSAGE_TOKENS + len(tail.encode("utf-8", "replace"))
            self.messages.pop()
        self.add("user", f"{tail}\n\n{said}" if tail else said)
        if self.spec.number == 1 and not self.run.ledger.fits(self.spec.model, self.bound, self.run.last_tokens):
            self.messages = sent
            self._appended = before - sum(_tokens(m) for m in unsent)
            room = LAST_BYTES - MESSAGE_TOKENS - len(said.encode()) - 100
            head = tail.encode("utf-8", "replace")[: max(0, room)].decode("utf-8", "ignore")
            self.add("user", f"{head}\n[…]\n\n{said}" if head else said)

    @property
    def bound(self) -> int:
        """An upper bound of the prompt's tokens: what the provider counted, plus the bytes appended since."""
        return self._reported + self._appended

    @property
    def estimate(self) -> int:
        """About how many tokens the prompt has."""
        return self._reported + self._appended // 3

    async def ask(
        self,
        *,
        max_tokens: int = 0,
        tools: Sequence[dict[str, Any]] | None = None,
        last: bool = False,
        standing: bool = True,
    ) -> ModelReply:
        """Send the messages as the next turn; return the reply, told of but not yet appended.

        ``last``: the request that was set aside from the start. Raises ModelError or LimitReached.
        """
        run = self.run
        max_tokens = max_tokens or run.reply_tokens
        if (recorded := self.next_recorded) is not None:
            if not last:
                self._end_as(recorded)
            self._as_recorded(recorded)
            if recorded.replied:
                return self._reply_again(recorded)
            if (later := self.recorded(recorded.number + 1)) is not None:
                self.turn += 1
                self._end_as(later)  # a limit cut this request off; else it was the one failure that a call survives
                raise ModelError("context_length", "The provider refused the conversation as too long.")
        await run.control.until_running()
        await run.slots.take(self.spec.number)
        try:
            if tools and not self._told:
                self._appended += len(json.dumps(tools).encode())
            prompt = self.bound
            if last and self.spec.number == 1:
                number = run.ledger.hold_last(self.spec.model, prompt, max_tokens)
                if number is None:
                    raise Ending("limit", "Nothing is left for a partial answer.")
            else:
                after = (prompt + LAST_BYTES, run.last_tokens) if standing and self.spec.number == 1 else None
                number, hold = await run.ledger.hold(self.spec.model, prompt, max_tokens, after)
                max_tokens = hold.completion
            return await self._send(number, max_tokens, tools)
        finally:
            run.slots.give()

    def _end_as(self, recorded: RecordedCell) -> None:
        """Raise the Ending at which a recorded turn was the call's last, if it was."""
        if reason := wording.said_last(recorded.messages[-1].content if recorded.messages else ""):
            if reason.startswith("The run's limit"):
                self.run.limit("", reason)
            raise self.ending or Ending("limit", reason, last=True)

    def _as_recorded(self, recorded: RecordedCell) -> None:
        """Put the messages of a turn in the place of ours: they may tell of limits that were near at that time."""
        for message in self.messages[self._told :]:
            self._appended -= _tokens(message)
        del self.messages[self._told :]
        for told in recorded.messages:
            self.add(told.role, told.content, **told.extra)
        self._told = len(self.messages)

    def _reply_again(self, recorded: RecordedCell) -> ModelReply:
        """Return a recorded reply: it was paid for once."""
        self.turn += 1
        self._count_reported(recorded)
        return ModelReply(
            _said(recorded), recorded.reasoning, recorded.usage, self.tool_calls_of(recorded), recorded.finish_reason
        )

    def _count_reported(self, recorded: RecordedCell) -> None:
        if recorded.usage.prompt_tokens:
            self._reported, self._appended = recorded.usage.prompt_tokens, 0

    def tool_calls_of(self, recorded: RecordedCell) -> tuple[ToolCall, ...]:
        """Return what a recorded reply called through the API; strategies without tools have none."""
        return ()

    async def _send(self, hold: int, max_tokens: int, tools: Sequence[dict[str, Any]] | None) -> ModelReply:
        self.turn += 1
        run, cell, call = self.run, self.turn, self.spec.number
        texts: list[str] = []
        thoughts: list[str] = []
        streamed = 0  # characters, those of earlier tries included

        def on_delta(text: str, reasoning: str) -> None:
            nonlocal streamed
            streamed += len(text) + len(reasoning)
            texts.append(text)
            thoughts.append(reasoning)
            run.emit(ReplyDelta(call, cell, text, reasoning))

        def on_retry(sentence: str) -> None:
            texts.clear()
            thoughts.clear()
            run.emit(ReplyDelta(call, cell, "", restart=True))
            self.note(sentence)

        used: Usage | None = None
        self.written = ""
        run.control.requests += 1
        try:
            fresh = [
                Message(m["role"], m["content"], {k: v for k, v in m.items() if k not in ("role", "content")})
                for m in self.messages[self._told :]
            ]
            if self.recorded(cell) is None:
                run.emit(TurnStarted(call, cell, fresh, time.time()))
            self._told = len(self.messages)
            await run.commit()
            reply = await run.client.complete(
                list(self.messages), model=self.spec.model, max_tokens=max_tokens, on_delta=on_delta, on_retry=on_retry,
                tools=tools, sampling=run.spec.sampling or None, seconds=run.limits.request_seconds, run_key=run.key,
                ready=run.commit, known=run.answered,
            )  # fmt: skip
            run.answered = True
            used = Usage() if reply.cached else reply.usage
        except BaseException:
            self.written = "".join(texts)
            if streamed:  # the provider bills what it sent, though nobody says how much that was
                used = Usage(self.estimate, streamed // 3 + 1)
                used = replace(used, cost=price(run.endpoint, self.spec.model, used))
                run.emit(ReplyCut(call, cell, self.written, "".join(thoughts), used, time.time()))
            raise
        finally:
            run.control.requests -= 1
            run.ledger.settle(hold, used)
        if not reply.estimated:
            self._reported, self._appended = reply.usage.prompt_tokens, 0
        return reply

    def tell_reply(self, reply: ModelReply, kind: CellKind, code: str = "", text: str | None = None) -> None:
        """Tell of a whole reply; its cell, if any, has not run yet."""
        if (recorded := self.recorded(self.turn)) is not None and recorded.replied:
            return
        if kind in ("code", "tool"):
            self.run.cells += 1
        usage = Usage() if reply.cached else reply.usage
        self.run.emit(
            ReplyDone(
                self.spec.number, self.turn, kind, reply.text if text is None else text, reply.reasoning, code, usage,
                time.time(), reply.first_token, reply.finish_reason,
            )
        )  # fmt: skip

    @property
    def turns_left(self) -> int:
        return self.run.limits.turns - (self.turn + 1 - self.first_turn)

    def check_turns(self) -> None:
        """Raise the Ending of a call that has used its turns up."""
        if self.turns_left <= 0:
            raise Ending("limit", f"The call's limit of {self.run.limits.turns} turns is reached.", last=True)

    def notices(self) -> list[str]:
        """Return what the model should know of limits that are near; each is said once, the last turns every time."""
        run = self.run
        found: list[str] = []
        left = self.turns_left
        if left <= 2 and run.limits.turns > 3:
            found.append(f"[{left} turn{'s' if left != 1 else ''} left: come to an end with FINAL.]" if left else "")
        near = {phrase.split(" of ")[-1]: phrase for phrase in run.ledger.near()}
        used = run.clock.used
        if used > 0.8 * run.limits.run_seconds:
            near["time"] = f"{used / run.limits.run_seconds:.0%} of the run's time is used"
        for name, phrase in near.items():
            if name not in self._warned:
                self._warned.add(name)
                found.append(f"[{phrase}: come to an end with FINAL.]")
        return [text for text in found if text]


def _said(recorded: RecordedCell) -> str:
    """What a recorded reply says to the model: with the code that ran, where a person changed it."""
    if recorded.edited and recorded.kind == "code":
        return wording.reply_with(recorded.reply, recorded.code)
    return recorded.reply


def _tokens(message: dict[str, Any]) -> int:
    """An upper bound of a message's tokens: its UTF-8 bytes, and its envelope."""
    extra = {name: value for name, value in message.items() if name not in ("role", "content")}
    size = len(json.dumps(extra, ensure_ascii=False).encode("utf-8", "replace")) if extra else 0
    return MESSAGE_TOKENS + len(str(message["content"]).encode("utf-8", "replace")) + size
