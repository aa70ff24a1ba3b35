"""What a run and a call are asked to do, and how they end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlm.events import CallKind, Status, Usage
from rlm.limits import Limits
from sandbox import Value

if TYPE_CHECKING:
    from rlm.warm import WarmRepl


@dataclass(frozen=True)
class FollowUp:
    """A further question to the root call, asked after so many of its turns."""

    question: str
    after: int


@dataclass(frozen=True)
class RunSpec:
    """What a run is asked to do. With follow-ups, the last of them is what it is asked now; the limits are of that one."""

    question: str
    strategy: str = "rlm"
    root_model: str = ""  # "" means the endpoint's
    child_model: str = ""
    models: tuple[str, ...] = ()  # by depth; where it names none, root_model and child_model hold
    dialect: str = ""  # "" means the endpoint's
    limits: Limits = field(default_factory=Limits)
    seed: str = ""  # of random in the REPLs; a fork copies it
    has_corpus: bool = True  # False: the context is the question itself
    schema: Any = None  # a JSON Schema for the answer, or None
    sampling: dict[str, Any] = field(default_factory=dict)
    when_too_long: str = "cut"  # or "refuse": a corpus longer than the window, in the strategies that show it whole
    follow_ups: tuple[FollowUp, ...] = ()
    run_key: str = ""  # whose turn it is at the endpoint's gate; "" means this run alone


@dataclass(frozen=True)
class RunResult:
    """How a run ended. Its numbers are of the newest question alone, but for ``depth``."""

    status: Status
    reason: str
    answer: Value | None
    answer_name: str
    partial: bool
    usage: Usage
    calls: int
    cells: int
    depth: int  # the greatest reached, root 0
    seconds: float
    warm: WarmRepl | None = None  # where it was to be kept: whoever gets it closes it


@dataclass(frozen=True)
class Tool:
    """A function defined in one REPL and handed down to another, by source."""

    name: str
    source: str


@dataclass(frozen=True)
class CallSpec:
    """What a call is asked to do."""

    number: int
    parent: int | None
    cell: int | None
    order: int
    depth: int
    kind: CallKind
    identity: str
    strategy: str
    model: str
    dialect: str
    context: Value
    leaf: bool
    instruction: str = ""
    schema: Any = None
    tools: tuple[Tool, ...] = ()
    title: str = ""
    plain: bool = False  # one bare completion of the context, as the paper's llm_query


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    status: Status
    reason: str = ""
    answer: Value | None = None
    answer_name: str = ""
    partial: bool = False


class Ending(Exception):
    """Ends a call (or, from outside, a whole run).

    ``last``: one last request may make a partial answer. ``prose``: a partial answer that is there already.
    """

    def __init__(self, status: Status, reason: str, *, last: bool = False, prose: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.last = last
        self.prose = prose
