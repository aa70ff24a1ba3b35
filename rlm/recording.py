"""What a run has recorded so far, as the engine reads it when the run is taken up again (design.md, decision 5).

Whoever keeps the record (the database, an export, a test) builds a Recording; ``solve`` replays it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rlm.events import CellKind, Message, Usage
from rlm.spec import Outcome

STALL_SECONDS = (
    3.0  # without one recorded request or delivery coming again, past what the cell took when it was recorded
)
STALL_MOST = 30.0
OVER_SECONDS = 0.3  # after the last of them: what still waits had no answer when it was recorded

Step = tuple[str, int, str]  # as in CellDone.exchange
_AT_A_LIMIT = re.compile(r"^Interrupted: the |Its variables are kept\.$", re.MULTILINE)


@dataclass(frozen=True)
class RecordedCell:
    """One turn. Without a reply, its request was sent and nothing came back that was written down."""

    number: int
    messages: Sequence[Message] = ()
    replied: bool = False
    kind: CellKind = "reply"
    reply: str = ""
    reasoning: str = ""
    code: str = ""
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)
    done: bool = False  # its code has run to its end
    shown: str = ""
    output: str = ""
    output_chars: int = 0
    error: str = ""
    killed: str = ""
    final: bool = False
    seconds: float = 0.0
    differs: bool = False  # an earlier replay has already said so
    edited: bool = False  # a person changed the code that the reply had
    exchange: Sequence[Step] = ()  # of one that is not done: as it went in the run that this one was forked from

    @property
    def was_not_run(self) -> bool:
        return self.error.startswith("The cell was not run.")

    @property
    def was_interrupted(self) -> bool:
        """Whether a limit ended it somewhere in the middle: nobody can say where a second run of it stops."""
        return bool(_AT_A_LIMIT.search(self.error)) or self.error.startswith("The cell was interrupted.")


@dataclass(frozen=True)
class RecordedCall:
    """One call; ``outcome`` is None while it is open, and is called in a thread, as the answer may lie in a blob."""

    number: int
    parent: int | None
    cell: int | None
    identity: str
    model: str
    started: bool = False
    outcome: Callable[[], Outcome] | None = None
    cells: dict[int, RecordedCell] = field(default_factory=dict)  # by number; of ended calls they are not needed
    notes: Sequence[str] = ()
    queued_at: float = 0.0
    finished_at: float | None = None
    instruction: str | None = None  # given by a person, in the place of what its parent asked for
    reused: bool = False  # it ran in the run that this one was forked from

    @property
    def turns(self) -> int:
        return max(self.cells, default=0)

    @property
    def last_reset(self) -> int:
        """Number of the last cell that lost its REPL: what came before it left nothing behind."""
        return max((c.number for c in self.cells.values() if c.done and c.killed), default=0)


@dataclass(frozen=True)
class Reusable:
    """A call that has ended in another run, with all below it: it may stand for an equal one here."""

    number: int  # there
    model: str
    leaf: bool
    calls: int  # with all below it
    depth: int  # the greatest below it, root 0
    outcome: Callable[[], Outcome]
    notes: Callable[[], Sequence[tuple[str, str]]] = tuple  # files that it wrote, in strategy codeact_files
    models_of_run: bool = True  # those below it had models that calls of this run would have too


class Recording:
    """Every call of a run, and what the run has used: for its newest question, where it has follow-ups."""

    def __init__(
        self, calls: Iterable[RecordedCall] = (), *, usage: Usage | None = None, known_cost: float | None = None,
        seconds: float = 0.0, cells: int = 0, depth: int = 0, clean: Callable[[str], str] = str,
        notes: Sequence[tuple[str, str]] = (), calls_before: int = 0, reusable: Mapping[str, Reusable] | None = None,
    ) -> None:  # fmt: skip
        self.calls = {call.number: call for call in calls}
        self.usage = usage or Usage()
        self.known_cost = known_cost if known_cost is not None else self.usage.cost or 0.0
        self.seconds = seconds  # the run was at work
        self.cells = cells  # of the kinds that count
        self.depth = depth
        self.calls_before = calls_before  # that were made for earlier questions, and count no more
        self.notes = notes  # (name, text) as strategy codeact_files wrote them, in order
        self.clean = clean  # what the record does to a text that it keeps
        self._reusable = dict(reusable or {})  # by identity
        self._by_identity = {call.identity: call for call in self.calls.values()}
        self._taken: set[int] = set()

    @property
    def last_number(self) -> int:
        return max(self.calls, default=0)

    def find(self, identity: str) -> RecordedCall | None:
        return self._by_identity.get(identity)

    def take(self, identity: str) -> RecordedCall | None:
        """Return the recorded call of this identity, once: it is being taken up, or its result used."""
        call = self._by_identity.get(identity)
        if call is None or call.number in self._taken:
            return None
        self._taken.add(call.number)
        return call

    def reuse(self, identity: str, model: str, leaf: bool) -> Reusable | None:
        """Return the call of another run that asked the same of the same model, once."""
        found = self._reusable.get(identity)
        if found is None or found.model != model or found.leaf != leaf or not found.models_of_run:
            return None
        return self._reusable.pop(identity)

    def left_behind(self, parent: int | None = None, cell: int | None = None) -> list[RecordedCall]:
        """Return the open calls below ``parent`` (or below its cell) that nobody took up, children before parents.

        Without a parent: those whose parent has ended. They are taken by this.
        """
        if parent is None:
            tops = [
                call for call in self.calls.values()
                if call.parent is not None and (above := self.calls.get(call.parent)) and above.outcome is not None
            ]  # fmt: skip
        else:
            tops = [c for c in self.calls.values() if c.parent == parent and (cell is None or c.cell == cell)]
        lost = {call.number for call in tops if call.number not in self._taken}
        for call in sorted(self.calls.values(), key=lambda c: c.number):
            if call.parent in lost and call.number not in self._taken:
                lost.add(call.number)
        found = [self.calls[number] for number in sorted(lost, reverse=True) if self.calls[number].outcome is None]
        self._taken |= {call.number for call in found}
        return found

    def exchange_of(self, call: RecordedCall, cell: RecordedCell) -> Exchange:
        """Return the requests and deliveries of a cell in their order; of one that was cut short, as its children tell."""
        if cell.done:
            return Exchange(cell.exchange, STALL_SECONDS + min(STALL_MOST, cell.seconds))
        moments: list[tuple[float, int, Step]] = []
        for child in self.calls.values():
            if child.parent == call.number and child.cell == cell.number:
                moments.append((child.queued_at, child.number, ("ask", child.number, child.identity)))
                if child.outcome is not None and child.finished_at is not None:
                    moments.append((child.finished_at, child.number, ("give", child.number, "")))
        steps = [step for _, _, step in sorted(moments)]
        return Exchange(steps or cell.exchange, STALL_SECONDS)


class Exchange:
    """The requests of one recorded cell, which come again, and the answers, which go out in the recorded order."""

    def __init__(self, steps: Sequence[Step], stall: float) -> None:
        self.strayed = False  # it does not come as it was recorded
        self._stall = stall
        asked = {order: identity for kind, order, identity in steps if kind == "ask"}
        self._done = [False] * len(steps)
        self._first = 0  # the first step that has not come yet
        self._at: dict[tuple[str, str], int] = {}
        self._tells: dict[int, tuple[int, str]] = {}  # by order
        for place, (kind, order, text) in enumerate(steps):
            if kind == "ask":
                self._at["ask", text] = place
            elif kind == "give":
                self._at["give", asked.get(order, "")] = place
            elif kind == "tell":
                self._tells[order] = (place, text)
            else:
                self._done[place] = True
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._skip()

    def holds(self, identity: str) -> bool:
        return ("ask", identity) in self._at

    def came(self, identity: str) -> None:
        """A request has come."""
        self._pass(self._at.get(("ask", identity)))

    def gave(self, identity: str) -> None:
        """Its answer goes out."""
        self._pass(self._at.get(("give", identity)))

    def tell(self, order: int) -> str | None:
        """Return what a question to the host itself was told, as JSON; None where that is not recorded."""
        if order not in self._tells:
            return None
        place, text = self._tells[order]
        self._pass(place)
        return text

    def gives(self, identity: str) -> bool:
        return ("give", identity) in self._at

    async def turn(self, identity: str) -> None:
        """Wait until everything recorded before this answer has come; for one that is not recorded, until all stray."""
        place = self._at.get(("give", identity), len(self._done))
        while self._first < place or place == len(self._done):
            if self.strayed:
                return
            future = self._waiting.get(place)
            if future is None or future.done():
                future = self._waiting[place] = asyncio.get_running_loop().create_future()
            self._watch()
            await asyncio.shield(future)

    def close(self) -> None:
        """The cell is over."""
        self._rest()
        self._stray()

    def _pass(self, place: int | None) -> None:
        if place is None or self._done[place]:
            return
        self._done[place] = True
        self._skip()
        self._rest()
        self._watch()

    def _skip(self) -> None:
        while self._first < len(self._done) and self._done[self._first]:
            self._first += 1
        future = self._waiting.pop(self._first, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _watch(self) -> None:
        if self._waiting and self._timer is None and not self.strayed:
            seconds = self._stall if self._first < len(self._done) else OVER_SECONDS
            self._timer = asyncio.get_running_loop().call_later(seconds, self._stray)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stray(self) -> None:
        self._timer = None
        self.strayed = True
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
