"""One run under way: what its calls share, and the three ways in which all of them end at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlm import identity
from rlm.call import BIG
from rlm.clock import Clock
from rlm.control import Control
from rlm.events import CallFinished, CallQueued, CallReused, Emit, Event
from rlm.files import Files
from rlm.ledger import LEAST_REPLY, Ledger, LimitReached
from rlm.prices import ceiling
from rlm.probe import clip_line
from rlm.recording import RecordedCall, Recording, Reusable
from rlm.replies import Model
from rlm.slots import Slots
from rlm.spec import CallSpec, Ending, Outcome, RunSpec, Tool
from rlm.warm import WarmRepl
from sandbox import Jail, JailPool, Repl, SandboxError, Value

if TYPE_CHECKING:
    from rlm.call import Call

KEPT_INSTRUCTION = 20_000  # characters: a record keeps no more of one
TITLE = 120  # characters
LAST_REPLY = 1_024  # tokens of the reply that makes a partial answer


class Run:
    """What the calls of one run share. Belongs to one event loop."""

    def __init__(
        self,
        spec: RunSpec,
        *,
        pool: JailPool,
        client: Model,
        emit: Emit,
        control: Control,
        make: Callable[[Run, CallSpec], Call],
        record: Recording | None = None,
        keep_warm: bool = False,
    ) -> None:
        self.spec = spec
        self.limits = spec.limits
        self.client = client
        self.endpoint = client.endpoint
        self.control = control
        self.ledger = Ledger(
            spec.limits, lambda model, prompt, completion: ceiling(self.endpoint, model, prompt, completion)
        )
        self.record = record or Recording()
        self.ledger.carry(self.record.usage, self.record.known_cost)
        self.slots = Slots(spec.limits.calls_in_flight)
        self.files = Files()
        for name, text in self.record.notes:
            self.files.write(name, text)
        self.dialect = spec.dialect or self.endpoint.dialect
        self.window = self.endpoint.window
        self.key = spec.run_key or f"run-{id(self)}"
        self.started = time.monotonic()
        self.clock = Clock(spec.limits.run_seconds, self.record.seconds)
        own = sum(not call.reused for call in self.record.calls.values())
        self.calls = own - self.record.calls_before  # that count against the limit
        self.cells = self.record.cells
        self.depth = self.record.depth
        self.answered = self.record.usage.prompt_tokens > 0  # the endpoint has replied to this run
        self.keep_warm = keep_warm
        self.warm: WarmRepl | None = None  # what is kept of the run after its end
        self.failure: BaseException | None = None  # the recorder's: it ends the run without a further word
        self.ending: Ending | None = None
        self._emit = emit
        self._make = make
        self._pool = pool
        self._jail: Jail | None = None
        self._jail_lock = asyncio.Lock()
        self._numbers = itertools.count(self.record.last_number + 1)
        self._open: dict[int, Call] = {}

    # telling

    def emit(self, event: Event) -> None:
        if self.failure is None:
            self._emit(event)

    async def commit(self) -> None:
        """Wait until all that was told is durable; a recorder that may no longer write ends the run."""
        if self.failure is None:
            try:
                await self._emit.commit()
            except Exception as error:
                self.failure = error
                self.end(Ending("stopped", "The record of this run is no longer ours to write."))
        if self.failure is not None:
            raise Ending("stopped", "The record of this run is no longer ours to write.")

    def give_up(self, why: Exception) -> None:
        """End the run without a further word: it may go on elsewhere from what was told."""
        self.failure = self.failure or why
        self.end(Ending("stopped", str(why)))

    # models and limits

    def model_at(self, depth: int) -> str:
        """Return the model that a call at this depth uses where none was asked for."""
        if depth < len(self.spec.models) and self.spec.models[depth]:
            return self.spec.models[depth]
        root = self.spec.root_model or self.endpoint.root_model
        if depth == 0:
            return root
        return self.spec.child_model or self.endpoint.child_model or root

    @property
    def reply_tokens(self) -> int:
        """The longest reply asked for: never more than a quarter of the window."""
        return max(16, min(self.limits.reply_tokens, self.window // 4))

    @property
    def last_tokens(self) -> int:
        """The longest reply to the request for a partial answer; a small part of a small limit."""
        limit = self.limits.completion_tokens
        return min(LAST_REPLY, self.reply_tokens, max(LEAST_REPLY, limit // 4) if limit is not None else LAST_REPLY)

    def left(self) -> dict[str, Any]:
        """Return what is left of each limit of the run."""
        return {
            **self.ledger.left(),
            "calls": max(0, self.limits.calls - self.calls),
            "run_seconds": round(self.clock.left, 1),
        }

    # the jail

    async def jail(self) -> Jail:
        async with self._jail_lock:
            if self._jail is not None and not self._jail.alive:
                await self._jail.close()  # it went down with all its REPLs: their calls go on in a fresh one
                self._jail = None
            if self._jail is None:
                self._jail = await self._pool.open()
            return self._jail

    async def adopt(self, warm: WarmRepl, root: Call) -> None:
        """Go on in a REPL that was kept; where it is gone meanwhile, its cells run again as for any other."""
        with contextlib.suppress(SandboxError):
            await warm.wake()
            self._jail = warm.jail
            root.adopt(warm)

    async def keep(self, repl: Repl, turn: int, ran: int) -> bool:
        """Keep the root's REPL beyond the end of the run, if that is wanted and can be."""
        if self._jail is None or not ran or not repl.alive or self.failure is not None:
            return False
        warm = WarmRepl(self._jail, repl, turn, ran)
        try:
            await warm.rest()
        except SandboxError:
            return False
        self.warm = warm
        return True

    async def close(self, kept: WarmRepl | None = None) -> None:
        if self._jail is not None and (kept is None or kept.jail is not self._jail):
            await self._jail.close()

    # calls

    def new_call(
        self,
        context: Value,
        *,
        parent: CallSpec | None = None,
        cell: int | None = None,
        order: int = 0,
        call_identity: str = "",
        model: str = "",
        instruction: str = "",
        schema: Any = None,
        tools: tuple[Tool, ...] = (),
        plain: bool = False,
        title: str = "",
        recorded: RecordedCall | None = None,
    ) -> Call:
        """Make the next call and tell of it. Raises LimitReached where the run may have no more.

        ``recorded``: the call is there already; it is taken up again under its number, and nothing is told.
        """
        if recorded is None and parent is not None and self.calls >= self.limits.calls:
            raise LimitReached("calls", f"The run's limit of {self.limits.calls:,} calls is reached.")
        if recorded is not None and recorded.instruction is not None:
            asked = self.record.clean(instruction)[: len(recorded.instruction)]
            if asked != recorded.instruction or len(recorded.instruction) < KEPT_INSTRUCTION:
                instruction = recorded.instruction
        depth = 0 if parent is None else parent.depth + 1
        leaf = plain or depth >= self.limits.depth
        spec = CallSpec(
            number=recorded.number if recorded else next(self._numbers), parent=parent.number if parent else None, cell=cell, order=order, depth=depth,
            kind="root" if parent is None else "leaf" if leaf else "child",
            identity=call_identity, strategy="direct" if plain else self.spec.strategy,
            model=recorded.model if recorded else model or self.model_at(depth), dialect=self.dialect, context=context, leaf=leaf,
            instruction=instruction, schema=schema, tools=tools, plain=plain,
            title=clip_line(title or title_of(context, instruction), TITLE),
        )  # fmt: skip
        call = self._make(self, spec)
        self._open[spec.number] = call
        if recorded is not None:
            call.take_up(recorded)
            return call
        self.calls += 1
        self.depth = max(self.depth, depth)
        self.emit(
            CallQueued(
                call=spec.number, parent=spec.parent, cell=cell, order=order, depth=depth, kind=spec.kind,
                identity=call_identity, instruction=instruction, schema=schema, context=context,
                context_type=context.type_name, context_shape=context.shape, context_chars=context.chars,
                model=spec.model, dialect=spec.dialect, strategy=spec.strategy, time=time.time(), title=spec.title,
            )
        )  # fmt: skip
        return call

    def reuse(self, found: Reusable, *, parent: CallSpec, cell: int, order: int, call_identity: str) -> RecordedCall:
        """Take a call over from the run that this one was forked from, with all below it."""
        number = next(self._numbers)
        for _ in range(found.calls - 1):
            next(self._numbers)
        self.depth = max(self.depth, found.depth)
        self.emit(CallReused(number, found.number, found.calls, parent.number, cell, order, call_identity, time.time()))
        return RecordedCall(number, parent.number, cell, call_identity, found.model, True, found.outcome, reused=True)

    def closed(self, call: Call) -> None:
        self._open.pop(call.spec.number, None)

    def close_left_behind(self, parent: int | None = None, cell: int | None = None, why: str = "") -> None:
        """Tell the end of recorded calls that nobody takes up again."""
        reason = why or "Its parent call has ended."
        for lost in self.record.left_behind(parent, cell):
            self.emit(CallFinished(lost.number, "stopped", reason, None, "", False, time.time()))

    def seed_of(self, call: CallSpec) -> str:
        return identity.repl_seed(self.spec.seed, call.identity)

    def end(self, ending: Ending) -> None:
        """End every call from outside: model code cannot swallow it. The root may have one last request."""
        if self.ending is None or (self.ending.last and not ending.last):
            self.ending = ending
        for number, call in sorted(self._open.items(), reverse=True):
            call.end(ending if number == 1 else Ending(ending.status, ending.reason))

    def limit(self, name: str, sentence: str) -> Ending:
        """End the run because a limit is reached; returns what to raise."""
        ending = Ending("limit", sentence, last=True)
        self.end(ending)
        return Ending("limit", sentence)


def title_of(context: Value, instruction: str) -> str:
    """Name a call for people: by its document's title, else by what it is to do, else by how its text begins."""
    if context.type_name == "dict" and len(context.skeleton) < BIG:
        title = context.tree().get("title")
        if isinstance(title, str) and title.strip():
            return title
    if instruction.strip():
        return instruction.strip().partition("\n")[0]
    return context.head(TITLE) if context.type_name == "str" else context.shape


def describe(outcome: Outcome, number: int) -> str:
    """Say to a parent's cell why a child gave no result."""
    why = {"failed": "failed", "limit": "reached a limit", "stopped": "was stopped"}.get(outcome.status, outcome.status)
    text = f"child call {number} {why}: {outcome.reason}"
    if outcome.partial and outcome.answer is not None:
        text += f" What it had so far: {outcome.answer.preview(500)}"
    return text
