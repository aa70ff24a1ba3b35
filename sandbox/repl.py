"""The host's side of one REPL: run a cell, answer what it asks, hold it to its limits, say plainly how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.channel import MAX_TEXT_CELL, Channel
from sandbox.errors import HostError, SandboxError
from sandbox.guest.crossing import MAX_SKELETON
from sandbox.limits import ReplLimits
from sandbox.memory import Memory
from sandbox.output import OutputReader, harmless
from sandbox.values import Value

if TYPE_CHECKING:
    from sandbox.jail import Jail

REQUESTS = {
    "plain": frozenset[str](),
    "async": frozenset({"llm_query", "budget"}),
    "paper": frozenset({"llm_query", "llm_complete", "budget"}),
    "subagents": frozenset({"sub_agent"}),
    "files": frozenset({"sub_agent", "write_file", "read_file", "list_files"}),
}
QUICK = frozenset({"budget", "write_file", "read_file", "list_files"})  # answered at once: nobody is told of waiting
MAX_PENDING = 2048  # requests in flight; then the REPL is not read until some are answered
MAX_REFUSED = 200  # requests that were refused, in one cell; more is no honest program
LARGE = 1 << 16  # a skeleton at least this long is read in a thread
CPU_BASE_SECONDS = 0.25
EXIT_SECONDS = 0.5  # from the end of a wire to the news of the exit
WHY = {
    "time": "it went on after its time limit and did not react to being interrupted",
    "cpu": "it used more processor time than it may",
    "memory": "the run's memory was used up, and this REPL held the most",
    "output": "it printed without end and did not react to being interrupted",
    "protocol": "it sent something that is no message of a REPL",
    "exit": "its process ended",
}


@dataclass(frozen=True)
class HostRequest:
    """What a cell asks of the host."""

    name: str  # llm_query, llm_complete, budget, sub_agent, write_file, read_file, list_files
    cell: int
    order: int  # how many requests this cell made before
    context: Value | None  # the first argument, by reference
    options: dict[str, Any]  # instruction, schema, tools, model, name …
    same_as_context: bool = False  # the argument is the call's whole own context, unchanged


@dataclass(frozen=True)
class CellResult:
    """How a cell ended. What failed in it is here, never raised."""

    output: str = ""
    output_chars: int = 0
    error: str = ""
    finished: bool = False
    final: Value | None = None
    final_name: str = ""
    killed: str = ""
    seconds: float = 0.0
    waited: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variable:
    """One name of a REPL, for the page."""

    name: str
    type: str
    size: str
    preview: str
    is_context: bool = False


OnRequest = Callable[[HostRequest], Awaitable[Value]]


@dataclass
class _Cell:
    number: int
    on_waiting: Callable[[bool], None] | None
    ended: asyncio.Future[dict[str, Any]]
    left: float  # seconds of wall clock
    started: float = field(default_factory=time.perf_counter)
    since: float = field(default_factory=time.perf_counter)  # the clock last went on
    requests: int = 0
    visible: int = 0  # pending requests that people are told of
    waiting_since: float | None = None
    waited: float = 0.0
    overdue: str = ""  # why it is being interrupted
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    cpu_base: float | None = None
    final: Value | None = None


class Repl:
    """Made by ``Jail.start_repl``. One cell at a time."""

    def __init__(
        self, jail: Jail, number: int, sock: socket.socket, output_fd: int, *, context: Value, functions: str,
        limits: ReplLimits, on_request: OnRequest | None,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.functions = functions
        self.ended = ""  # why, once it is
        self._jail = jail
        self._number = number
        self._context = context
        self._on_request = on_request
        self._loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._exit: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._cell: _Cell | None = None
        self._rows: asyncio.Future[list[Any]] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._killing = ""
        self._closed = False
        self._output = OutputReader(output_fd, lambda: self._interrupt("output"))
        max_blob = limits.value_bytes + MAX_SKELETON
        self._channel = Channel(sock, max_blob, self._frame, self._wire_ended, jail.reserve)
        self._refused = 0
        self._late_rows = 0  # answers about variables that nobody waits for any more

    @property
    def alive(self) -> bool:
        return not self.ended and not self._closed and not self._killing

    # starting

    async def begin(self, start: dict[str, Any], skeleton: bytes, region: memoryview | None) -> None:
        """Hand over what the REPL is about and wait until it is up."""
        try:
            with contextlib.suppress(ConnectionError, OSError):
                await self._channel.send(start, [region, skeleton] if region else [skeleton])
            async with asyncio.timeout(self.limits.start_seconds):
                await self._up
        except TimeoutError:
            await self.close()
            raise SandboxError(f"a REPL was not ready within {self.limits.start_seconds:g} s") from None
        except BaseException:
            await self.close()
            raise

    # running

    async def run(
        self, code: str, number: int, *, on_output: Callable[[str], None] | None = None,
        on_waiting: Callable[[bool], None] | None = None,
    ) -> CellResult:  # fmt: skip
        """Run one cell to its end. ``on_output`` gets pieces of the kept head; ``on_waiting`` the waits for the host."""
        if self._cell is not None:
            raise SandboxError("a REPL runs one cell at a time")
        if not self.alive:
            raise SandboxError(f"this REPL has ended ({self.ended or 'closed'})")
        cell = _Cell(number, on_waiting, self._loop.create_future(), self.limits.cell_seconds)
        self._cell = cell
        self._refused, self._channel.text_left = 0, MAX_TEXT_CELL
        self._output.begin(self.limits.output_bytes, self.limits.output_stop_bytes, on_output)
        self._go_on(cell)
        if self.limits.cpu_seconds < 1e6:
            cell.timers["cpu"] = self._loop.call_later(CPU_BASE_SECONDS, self._ask_cpu)
        try:
            with contextlib.suppress(ConnectionError, OSError):
                await self._channel.send({"op": "run", "code": code.encode("utf-8", "replace").decode(), "number": number})
            done = await cell.ended
            if cell.final is not None and not await _sound(cell.final):
                cell.final, done = None, {"killed": "protocol"}
                await self._kill("protocol")
                self._finish("protocol")
        except BaseException:
            self._cell = None
            self._end_cell(cell)
            self._output.finish()
            await self.close()
            raise
        return self._result(cell, done)

    def _result(self, cell: _Cell, done: dict[str, Any]) -> CellResult:
        seconds = time.perf_counter() - cell.started
        abandoned = len(self._tasks)
        self._end_cell(cell)
        self._cell = None
        output, chars = self._output.finish()
        notes = [harmless(str(note))[:500] for note in done.get("notes", ())[:20]]
        error = harmless(done.get("error", "")[:20_000])[:8192]
        killed = done.get("killed", "")
        if killed:
            error = f"The REPL was killed: {WHY[killed]}{done.get('detail', '')}. All its variables are lost."
        elif cell.overdue and done.get("interrupted"):
            error += f"\n\n{self._overdue_sentence(cell.overdue)} Its variables are kept."
        if abandoned and not killed:
            notes.append(f"{abandoned} request(s) had no answer yet when the cell ended, and were cancelled: await them in the cell.")
        return CellResult(
            output=output,
            output_chars=chars,
            error=error.strip("\n"),
            finished=cell.final is not None,
            final=cell.final,
            final_name=harmless(str(done.get("final_name", "")))[:200] if cell.final is not None else "",
            killed=killed,
            seconds=seconds,
            waited=cell.waited,
            notes=tuple(notes),
        )

    def _overdue_sentence(self, reason: str) -> str:
        if reason == "output":
            return f"The cell was interrupted: it printed more than {self.limits.output_stop_bytes:,} bytes."
        return f"The cell was interrupted: it ran longer than its {self.limits.cell_seconds:g} s."

    def _end_cell(self, cell: _Cell) -> None:
        for timer in cell.timers.values():
            timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        if cell.waiting_since is not None:
            cell.waited += time.perf_counter() - cell.waiting_since
            cell.waiting_since = None
            if cell.visible and cell.on_waiting is not None:
                cell.on_waiting(False)
        self._channel.pause(False)

    async def variables(self) -> list[Variable]:
        """The names in the REPL, between cells; nothing where it does not answer in two seconds."""
        if self._cell is not None or not self.alive or self._rows is not None:
            return []
        self._rows = self._loop.create_future()
        try:
            await self._channel.send({"op": "vars"})
            for seconds in (1.0, 1.0):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        return [_variable(row) for row in await asyncio.shield(self._rows)]
                await self._jail.order(op="signal", id=self._number, signal=int(signal.SIGINT))
            self._late_rows += 1
            await self._kill("time")
        except (ConnectionError, OSError, SandboxError):
            pass
        finally:
            self._rows = None
        return []

    async def close(self) -> None:
        """End the process, whatever it does."""
        if self._closed:
            return
        self._closed = True
        if not self._exit.done():
            with contextlib.suppress(SandboxError):
                await self._jail.order(op="signal", id=self._number, signal=int(signal.SIGKILL))
        self._finish("closed")

    def _finish(self, why: str) -> None:
        """Let go of everything on this side."""
        self.ended = self.ended or why
        self._channel.close()
        if not self._up.done():
            self._up.set_exception(SandboxError(f"a REPL ended before it was ready ({why})"))
            self._up.exception()
        cell = self._cell
        if cell is not None and not cell.ended.done():
            cell.ended.set_result({"killed": why if why in WHY else "exit"})
        if self._rows is not None and not self._rows.done():
            self._rows.set_result([])
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._jail.forget(self._number)
        self._loop.call_soon(self._output.close)  # after a waiting run() has drained it

    # what comes from the REPL

    def _frame(self, message: dict[str, Any], blob: Memory) -> None:
        op = message["op"]
        try:
            if op == "call" and self._up.done():
                self._call(message, blob)
            elif op == "done":
                self._done(message, blob)
            elif op == "up" and not self._up.done():
                self._up.set_result(None)
            elif op == "failed" and not self._up.done():
                self._up.set_exception(SandboxError(f"a REPL could not start: {harmless(str(message.get('error')))[:2000]}"))
            elif op == "vars" and self._rows is not None and not self._rows.done():
                rows = message.get("rows")
                self._rows.set_result(rows[:500] if type(rows) is list else [])
            elif op == "vars" and self._late_rows:
                self._late_rows -= 1
            else:
                raise ValueError(op)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._protocol_error()

    def _done(self, message: dict[str, Any], blob: Memory) -> None:
        cell = self._cell
        if cell is None or cell.ended.done() or message["cell"] != cell.number:
            raise ValueError("no such cell")
        if not (
            type(message["error"]) is str
            and type(message["final_name"]) is str
            and type(message["notes"]) is list
            and all(type(note) is str for note in message["notes"])
        ):
            raise ValueError("not a result")
        cell.final = _value(message["value"], blob)
        cell.ended.set_result(message)

    def _call(self, message: dict[str, Any], blob: Memory) -> None:
        number, name, options = message["id"], message["name"], message["options"]
        if type(number) is not int or type(name) is not str or type(options) is not dict or number in self._tasks:
            raise ValueError("not a request")
        context = _value(message["value"], blob)
        same = message.get("same") is True
        if same:
            context = self._context
        cell, refused = self._cell, ""
        if name not in REQUESTS[self.functions]:
            refused = f"there is no {name[:40]} here"
        elif cell is None or cell.ended.done():
            refused = "the cell that asked has ended: await inside the cell"
        elif cell.requests >= self.limits.requests:
            refused = f"a cell may make {self.limits.requests:,} requests, and this one has"
        elif self._on_request is None:
            refused = "nobody answers requests here"
        size = context.nbytes if context is not None and not same else 0
        if not refused and not self._jail.reserve(size):
            refused = "the requests in flight hold more data than the run has room for; send less at once"
        if refused or cell is None:
            self._refused += 1
            if self._refused > MAX_REFUSED:
                raise ValueError("it goes on asking")
            self._later(self._answer(number, None, refused))
            return
        request = HostRequest(name, cell.number, cell.requests, context, options, same)
        cell.requests += 1
        self._tasks[number] = task = self._loop.create_task(self._serve(number, request, cell))
        if len(self._tasks) == 1:
            self._stop_clock(cell)
        if name not in QUICK:
            cell.visible += 1
            if cell.visible == 1 and cell.on_waiting is not None:
                cell.on_waiting(True)
        task.add_done_callback(lambda _: self._served(number, name, cell, size))
        if len(self._tasks) >= MAX_PENDING:
            self._channel.pause(True)

    async def _serve(self, number: int, request: HostRequest, cell: _Cell) -> None:
        assert self._on_request is not None
        value, error = None, ""
        try:
            if request.context is not None and not await _sound(request.context):
                raise HostError("the value sent is malformed")
            if not request.same_as_context and request.context is not None and await self._is_own_context(request.context):
                request = HostRequest(request.name, request.cell, request.order, request.context, request.options, True)
            value = await self._on_request(request)
        except HostError as refused:
            error = str(refused) or "the request was refused"
        except asyncio.CancelledError:
            raise
        except Exception as failure:  # noqa: BLE001 (the engine's bug must not hang the cell)
            self._loop.call_exception_handler({"message": f"on_request failed for {request.name}", "exception": failure})
            error = "the host could not answer"
        await self._answer(number, value, error)

    async def _is_own_context(self, value: Value) -> bool:
        own = self._context
        if abs(value.nbytes - own.nbytes) > 64 + own.nbytes // 100 or len(value.skeleton) != len(own.skeleton):
            return False
        if value.nbytes < LARGE:
            return value.digest == own.digest
        return await asyncio.to_thread(lambda: value.digest == own.digest)

    async def _answer(self, number: int, value: Value | None, error: str) -> None:
        message: dict[str, Any] = {"op": "answer", "id": number, "error": error[:10_000] or None, "value": None}
        buffers: list[Any] = []
        if value is not None and not error:
            region = value.memory.view()
            message["value"] = [len(value.skeleton), region.nbytes]
            buffers = [region, value.skeleton] if region.nbytes else [value.skeleton]
        elif not error:
            message["error"] = "the host gave no value"
        with contextlib.suppress(ConnectionError, OSError):
            await self._channel.send(message, buffers)

    def _served(self, number: int, name: str, cell: _Cell, size: int) -> None:
        self._jail.reserve(-size)
        if self._tasks.pop(number, None) is None or self._cell is not cell:
            return
        if len(self._tasks) < MAX_PENDING // 2:
            self._channel.pause(False)
        if name not in QUICK:
            cell.visible -= 1
            if not cell.visible and cell.on_waiting is not None:
                cell.on_waiting(False)
        if not self._tasks:
            self._go_on(cell)

    def _protocol_error(self) -> None:
        self._channel.close()
        self._wire_ended("protocol")

    def _wire_ended(self, reason: str) -> None:
        """The stream is over: the process has ended, or it spoke nonsense and will."""
        if self._closed:
            return
        if reason:
            self._later(self._kill("protocol"))
        self._later(self._bury())

    async def _bury(self) -> None:
        """Find out why it ended, then say so to whoever waits."""
        news: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                news = await asyncio.shield(self._exit)
        if not news and not self._jail.alive:
            news = {"reason": "exit", "detail": " with its jail"}
        elif not news:
            await self._kill("protocol")  # closed its wire, and lives
        self._conclude(news)

    def _conclude(self, news: dict[str, Any]) -> None:
        why = self._killing or str(news.get("reason") or "") or "exit"
        why = why if why in WHY else "exit"
        code = news.get("code")
        detail = ""
        if why == "exit" and type(code) is int:
            detail = f" by signal {-code}" if code < 0 else f" with status {code}"
        cell = self._cell
        if cell is not None and not cell.ended.done():
            cell.ended.set_result({"killed": why, "detail": detail})
        self._finish(why + detail)

    # what comes from the jail

    def exited(self, news: dict[str, Any]) -> None:
        if not self._exit.done():
            self._exit.set_result(news)
            if not self._closed:
                self._later(self._bury_soon())

    async def _bury_soon(self) -> None:
        await asyncio.sleep(0.02)  # frames written before the end come first
        if not self._closed and not self.ended:
            self._conclude(self._exit.result())

    def jail_ended(self) -> None:
        if not self._exit.done():
            self._exit.set_result({"reason": "exit"})
        self._conclude({"reason": "exit"})

    def usage(self, cpu: float) -> None:
        """Processor time of the process, as the zygote sees it; the REPL's own timer is only the first line."""
        cell = self._cell
        if cell is None or cell.ended.done():
            return
        if cell.cpu_base is None:
            cell.cpu_base = cpu
        used = cpu - cell.cpu_base
        limit = self.limits.cpu_seconds + 2 * self.limits.grace_seconds + 0.5
        if used > limit:
            self._later(self._kill("cpu"))
            return
        cell.timers["cpu"] = self._loop.call_later(max(0.25, (limit - used) / 2), self._ask_cpu)

    def _ask_cpu(self) -> None:
        self._later(self._jail.order(op="usage", id=self._number))

    # time

    def _go_on(self, cell: _Cell) -> None:
        if cell.waiting_since is not None:
            cell.waited += time.perf_counter() - cell.waiting_since
            cell.waiting_since = None
        cell.since = time.perf_counter()
        if not cell.overdue:
            cell.timers["wall"] = self._loop.call_later(max(0.0, cell.left), self._interrupt, "time")

    def _stop_clock(self, cell: _Cell) -> None:
        cell.waiting_since = time.perf_counter()
        cell.left -= cell.waiting_since - cell.since
        if not cell.overdue:
            cell.timers["wall"].cancel()

    def _interrupt(self, reason: str, attempt: int = 0) -> None:
        """SIGINT, SIGINT, SIGKILL, a grace apart."""
        cell = self._cell
        if cell is None or cell.ended.done() or (cell.overdue and not attempt):
            return
        cell.overdue = reason
        if attempt == 2:
            self._later(self._kill(reason))
            return
        self._later(self._jail.order(op="signal", id=self._number, signal=int(signal.SIGINT)))
        cell.timers["overdue"] = self._loop.call_later(self.limits.grace_seconds, self._interrupt, reason, attempt + 1)

    async def _kill(self, reason: str) -> None:
        if self._killing or self._closed:
            return
        self._killing = reason
        with contextlib.suppress(SandboxError):
            await self._jail.order(op="signal", id=self._number, signal=int(signal.SIGKILL))
        try:
            async with asyncio.timeout(2.0):
                await asyncio.shield(self._exit)
        except TimeoutError:
            self._jail.kill()  # the zygote does not answer: end the whole jail

    def _later(self, work: Any) -> None:
        async def quietly() -> None:
            with contextlib.suppress(SandboxError, ConnectionError):
                await work

        task = self._loop.create_task(quietly())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _value(sizes: Any, blob: Memory) -> Value | None:
    """The value in a frame: its region, then its skeleton."""
    if sizes is None:
        return None
    skeleton, region = sizes
    if type(skeleton) is not int or type(region) is not int or skeleton < 0 or region < 0:
        raise ValueError("sizes that are none")
    if skeleton > MAX_SKELETON or skeleton + region != blob.size:
        raise ValueError("sizes that do not add up")
    return Value(bytes(blob.view()[region:]), blob.head(region) if region else None)


async def _sound(value: Value) -> bool:
    """Whether a value from the jail is one: read once here, so that nobody meets the flaw later."""
    if len(value.skeleton) < LARGE:
        return value.sound
    return await asyncio.to_thread(lambda: value.sound)


def _variable(row: Any) -> Variable:
    if type(row) is not dict:
        return Variable("?", "?", "", "")
    name, kind, size, preview = (harmless(str(row.get(key, ""))[:200]) for key in ("name", "type", "size", "preview"))
    return Variable(name, kind, size, preview, row.get("is_context") is True)
