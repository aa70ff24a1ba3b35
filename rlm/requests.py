"""What cells ask of the host: child calls, plain completions, what is left, notes. One answerer a call."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rlm import identity
from rlm.call import BIG, Call
from rlm.files import FileError
from rlm.ledger import LimitReached
from rlm.recording import Exchange, RecordedCall
from rlm.run import describe
from rlm.schemas import schema_error
from rlm.spec import Ending, Outcome, Tool
from rlm.wording import unchanged_context
from sandbox import HostError, HostRequest, Value

if TYPE_CHECKING:
    from rlm.cellcall import CellCall

LARGE = 20_000  # characters; a context that is smaller may go down unchanged
TOLD = 200_000  # characters of what a cell was told, kept for a replay; a longer file is read again as it is then
CHILDREN = {"llm_query", "rlm_query", "sub_agent", "llm_complete"}


class Requests:
    """Answers the requests of one call's cells, and keeps their order for replay."""

    def __init__(self, call: CellCall) -> None:
        self._call = call
        self._cell = 0
        self._seen: Counter[str] = Counter()  # equal requests so far in this cell
        self._refused: set[str] = set()
        self._in_order = asyncio.Lock()  # fair: first come, first identified
        self._children: dict[int, tuple[Call, asyncio.Task[Outcome]]] = {}
        self.closed = ""  # why no child may be started any more
        self.exchange: list[tuple[str, int, str]] = []
        self.answers: list[tuple[int, Value]] = []  # of this cell's children: (number, answer)
        self._again: Exchange | None = None  # what a recorded cell asked for and was given
        self._told = False  # that cell has run to its end before

    def begin(self, cell: int) -> None:
        """A new cell begins."""
        self._cell = cell
        self._seen.clear()
        self.exchange = []
        self.answers = []
        self._again, self._told = None, False

    def follow(self, exchange: Exchange, *, told: bool) -> None:
        """The cell has run before: it gets the results it got then, in the order it got them."""
        self._again, self._told = exchange, told

    def followed(self) -> None:
        """That cell is over."""
        if self._again is not None:
            self._again.close()

    async def answer(self, request: HostRequest) -> Value:
        """Answer one request of the cell under way; raises HostError, which the cell sees."""
        run = self._call.run
        if run.ending is not None:
            raise HostError(run.ending.reason)
        if request.name in CHILDREN:
            if self.closed:
                raise HostError(self.closed)
            return await self._child(request)
        try:
            if self._again is not None and (said := self._again.tell(request.order)) is not None:
                return Value.of(json.loads(said))
            if self._told and request.name == "write_file":
                return Value.of(None)  # it stands among the run's files, or what was written over it since
            found = self._plain(request)
            self._remember(request, found)
            return Value.of(found)
        except FileError as error:
            raise HostError(str(error)) from None

    def _remember(self, request: HostRequest, found: Any) -> None:
        """What is not the same at another time has to be told to a replay, and files outlive the call that wrote them."""
        if request.name == "write_file" and request.context is not None:
            note = json.dumps([str(request.options.get("name", "")), request.context.python()])
            self.exchange.append(("write", request.order, note))
            return
        said = json.dumps(found)
        if len(said) <= TOLD:
            self.exchange.append(("tell", request.order, said))

    def _plain(self, request: HostRequest) -> Any:
        call, run = self._call, self._call.run
        name = str(request.options.get("name", ""))
        if request.name == "budget":
            return {
                **run.left(),
                "turns": max(0, call.turns_left),
                "depth": max(0, run.limits.depth - call.spec.depth),
                "calls_in_flight": run.limits.calls_in_flight,
            }
        if request.name == "write_file":
            run.files.write(name, request.context.python() if request.context is not None else "")
            return None
        if request.name == "read_file":
            return run.files.read(name)
        if request.name == "list_files":
            return run.files.list()
        raise HostError(f"the host knows no request {request.name!r}")

    async def _child(self, request: HostRequest) -> Value:
        call = self._call
        async with self._in_order:
            own, child = await self._make(request)
        if not isinstance(child, Call):
            return await self._known(request, own, child)
        task = asyncio.create_task(child.execute())
        self._children[child.spec.number] = (child, task)
        call.rest()
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            child.end(Ending("stopped", "The cell that asked for it was ended."))
            raise
        finally:
            task.add_done_callback(lambda _: self._gone(child.spec.number))
        return self._give(request, own, outcome, child.spec.number)

    async def _known(self, request: HostRequest, own: str, record: RecordedCall) -> Value:
        """Answer from the record, in its turn."""
        again, outcome = self._again, None
        if again is not None and (again.gives(own) or not record.reused):
            await again.turn(own)
        if record.outcome is not None:
            outcome = await asyncio.to_thread(record.outcome)
        return self._give(
            request, own, outcome or Outcome("stopped", "The cell that asked for it was ended."), record.number
        )

    def _give(self, request: HostRequest, own: str, outcome: Outcome, number: int) -> Value:
        self.exchange.append(("give", request.order, ""))
        if self._again is not None:
            self._again.gave(own)
        if outcome.status != "done" or outcome.answer is None:
            raise HostError(describe(outcome, number))
        self.answers.append((number, outcome.answer))
        return outcome.answer

    def _gone(self, number: int) -> None:
        self._children.pop(number, None)
        if not self._children:
            self._call.resume()

    async def _make(self, request: HostRequest) -> tuple[str, Call | RecordedCall]:
        """Return the identity and the child that a request asks for; raises HostError where it must not be.

        A child that has ended before is its record.
        """
        call, run, options = self._call, self._call.run, request.options
        spec = call.spec
        if spec.leaf:
            raise HostError(
                "this call is at the greatest depth and can start no further call: work on `context` by code"
            )
        plain = request.name == "llm_complete"
        instruction = str(options.get("instruction") or "")
        schema = options.get("schema")
        if schema is not None and (why := schema_error(schema)):
            raise HostError(f"schema is not a JSON Schema: {why}")
        tools = tuple(Tool(str(t["name"]), str(t["source"])) for t in options.get("tools") or ())
        model = str(options.get("model") or "")
        if model and run.endpoint.models and model not in (*run.endpoint.models, run.model_at(0), run.model_at(1)):
            raise HostError(f"there is no model {model[:80]!r} here; there are: {', '.join(run.endpoint.models)}")
        if len(model) > 200:
            raise HostError("the name of a model has at most 200 characters")
        context = spec.context if request.same_as_context else request.context
        if context is None or (request.name == "sub_agent" and context.type_name == "NoneType"):
            context = Value.of(instruction)
        if context.nbytes > BIG:
            await asyncio.to_thread(lambda: context.summary)
        digest = await digest_of(context)
        asked = identity.request_hash(
            digest, instruction, schema, [[t.name, t.source] for t in tools], model, "llm_complete" if plain else ""
        )
        own = identity.identity(spec.identity, self._cell, asked, self._seen[asked])
        again = self._again
        known = again is not None and again.holds(own)  # it was let through before
        same = not known and (request.same_as_context or digest == await digest_of(spec.context))
        if same and not plain and context.chars > LARGE and asked not in self._refused:
            self._refused.add(asked)
            raise HostError(unchanged_context(context.chars, spec.dialect))
        self._seen[asked] += 1
        self.exchange.append(("ask", request.order, own))
        if again is not None:
            again.came(own)
        if self._told and known and (left := run.record.find(own)) is not None and left.outcome is None:
            return own, left  # its cell did not wait for it
        recorded = run.record.take(own) if self._call.record is not None else None
        if recorded is not None and recorded.outcome is not None:
            return own, recorded
        if self._told and known and recorded is None:
            raise HostError("this call was refused when the cell first ran: the run might have no more calls")
        if run.ending is not None:
            raise HostError(run.ending.reason)
        leaf = plain or spec.depth + 1 >= run.limits.depth
        found = None if recorded else run.record.reuse(own, model or run.model_at(spec.depth + 1), leaf)
        if found is not None:
            for name, text in await asyncio.to_thread(found.notes):
                run.files.write(name, text)
            return own, run.reuse(found, parent=spec, cell=self._cell, order=request.order, call_identity=own)
        try:
            return own, run.new_call(
                context, parent=spec, cell=self._cell, order=request.order, call_identity=own, model=model,
                instruction=instruction, schema=schema, tools=tools, plain=plain, recorded=recorded,
            )  # fmt: skip
        except LimitReached as limit:
            run.limit(limit.name, str(limit))
            raise HostError(str(limit)) from None

    async def end_children(self, reason: str) -> None:
        """End the children that are still at work, and wait until they are gone."""
        open_children = list(self._children.values())
        for child, _ in open_children:
            child.end(Ending("stopped", reason))
        if open_children:
            await asyncio.wait([task for _, task in open_children], timeout=5)


async def digest_of(value: Value) -> str:
    """Return a value's digest, computed aside where that takes long."""
    return await asyncio.to_thread(lambda: value.digest) if value.nbytes > BIG else value.digest
