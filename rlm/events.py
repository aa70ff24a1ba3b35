"""What happens in a run, as the engine tells it: one small frozen class a kind.

The engine emits, a recorder writes; neither knows the other's tables or prompts. Calls are numbered
from 1 (the root) in the order in which they start, so a parent's number is smaller than its
children's; cells are numbered from 1 within their call. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sandbox.values import Value

CallKind = Literal["root", "child", "leaf"]
CellKind = Literal["code", "tool", "reply", "compaction"]
Status = Literal["queued", "running", "waiting", "paused", "done", "failed", "stopped", "limit"]


@dataclass(frozen=True)
class Message:
    """One chat message as it was sent to the model."""

    role: str
    content: str
    extra: dict[str, Any] = field(default_factory=dict)  # tool_calls, tool_call_id … where a strategy uses them


@dataclass(frozen=True)
class Usage:
    """Tokens and money of one request, or a sum of them. ``cost`` is in dollars; None means unknown, never 0."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            cost,
        )


@dataclass(frozen=True)
class CallQueued:
    """A call exists. It may have to wait for its turn (calls in flight) before CallStarted."""

    call: int
    parent: int | None  # number of the parent call
    cell: int | None  # number of the parent's cell that asked for it
    order: int  # how many requests that cell had made before this one
    depth: int  # root 0
    kind: CallKind
    identity: str  # design.md, decision 5: hex digest
    instruction: str
    schema: Any  # a JSON Schema, or None
    context: Value
    context_type: str  # "str", "list", …
    context_shape: str  # for people: "dict · 39,275 ch"
    context_chars: int
    model: str
    dialect: str
    strategy: str
    time: float
    title: str = ""  # a short name for the row: the instruction's first line, or a document's title


@dataclass(frozen=True)
class CallReused:
    """A call that ended in the run that this one was forked from stands here too, with all below it: nothing was asked."""

    call: int  # its number here; those below it have the numbers after it, in their order
    source: int  # its number there
    calls: int  # itself and those below it
    parent: int
    cell: int
    order: int
    identity: str
    time: float


@dataclass(frozen=True)
class CallStarted:
    call: int
    time: float


@dataclass(frozen=True)
class TurnStarted:
    """A request to the model is about to go out. ``messages`` are those added since the last turn."""

    call: int
    cell: int
    messages: Sequence[Message]
    time: float


@dataclass(frozen=True)
class ReplyDelta:
    """Text of the reply as it streams. Transient: kept nowhere but in the live hash."""

    call: int
    cell: int
    text: str
    reasoning: str = ""
    restart: bool = False  # the request is tried again: what streamed of this reply so far is void


@dataclass(frozen=True)
class ReplyDone:
    """The reply is whole; its cell, if any, has not run yet."""

    call: int
    cell: int
    kind: CellKind
    reply: str  # the whole text of the reply
    reasoning: str  # what the provider sends apart from the reply
    code: str
    usage: Usage
    time: float
    first_token: float | None = None  # when the first piece of the reply came
    finish_reason: str = "stop"  # "length": cut at its greatest length


@dataclass(frozen=True)
class ReplyCut:
    """A request ended before its reply was whole. What had come is kept; its usage is an estimate."""

    call: int
    cell: int
    reply: str
    reasoning: str
    usage: Usage
    time: float


@dataclass(frozen=True)
class CellWaiting:
    """The cell waits for child calls (``waiting``), or goes on after them."""

    call: int
    cell: int
    waiting: bool
    time: float


@dataclass(frozen=True)
class OutputDelta:
    """Output of a cell as it is printed. Transient."""

    call: int
    cell: int
    text: str


@dataclass(frozen=True)
class CellDone:
    """The cell has run. ``shown`` is exactly what the model is told of it; ``output`` is what was kept."""

    call: int
    cell: int
    shown: str
    output: str
    output_chars: int  # true length of what was printed; may exceed len(output)
    shown_chars: int  # how many characters of the output the model saw
    error: str  # traceback text, "" if none
    killed: str  # "" while the REPL lives, else time, cpu, memory, output, protocol, exit
    seconds: float  # wall, waiting included
    waited: float  # of which waiting for child calls
    final: bool  # FINAL was called
    time: float
    variables: Sequence[dict[str, Any]] = ()  # name, type, size, preview
    exchange: Sequence[
        tuple[str, int, str]
    ] = ()  # for replay, as they came: ("ask", order, identity), ("give", order, ""), ("tell", order, JSON of what the host itself said), ("write", order, JSON of a file's name and text)


@dataclass(frozen=True)
class CellDiffers:
    """A cell that was recorded has run again, and its output, error or end was another."""

    call: int
    cell: int
    time: float


@dataclass(frozen=True)
class CallFinished:
    call: int
    status: Status  # done, failed, stopped, limit
    reason: str  # a sentence for a person; "" when done
    answer: Value | None
    answer_name: str  # the variable or expression it was returned from, "" if it was written out
    partial: bool  # what was in the REPL when a limit was reached
    time: float


@dataclass(frozen=True)
class Note:
    """Something a person should know that is no cell: a retry, a reminder, a limit near."""

    call: int
    text: str
    time: float


Event = (
    CallQueued | CallReused | CallStarted | TurnStarted | ReplyDelta | ReplyDone | ReplyCut | CellWaiting | OutputDelta | CellDone
    | CellDiffers | CallFinished | Note
)  # fmt: skip


class Emit(Protocol):
    """Where events go. Calling never blocks; ``await commit()`` returns when all so far are durable.

    ``commit`` raises ``LeaseLost`` (or whatever the recorder raises) when this process may no longer
    write: the engine then ends the run at once without a further word.
    """

    def __call__(self, event: Event) -> None: ...

    async def commit(self) -> None: ...
