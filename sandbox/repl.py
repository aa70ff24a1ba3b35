"""The host's side of one REPL: run a cell, hold it to its limits, say plainly how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox.cell import Cell
from sandbox.channel import MAX_TEXT_CELL, Channel
from sandbox.errors import SandboxError
from sandbox.guest.crossing import MAX_SKELETON
from sandbox.limits import ReplLimits
from sandbox.memory import Memory
from sandbox.output import OutputReader, harmless
from sandbox.requests import Requests
from sandbox.results import WHY, CellResult, OnRequest, Variable, is_sound, value_in
from sandbox.values import Value

if TYPE_CHECKING:
    from sandbox.jail import Jail

CPU_BASE_SECONDS = 0.25
EXIT_SECONDS = 2.0  # from the end of a wire to the news of the exit
KILL_SECONDS = 5.0  # for the zygote to confirm a kill; then the whole jail goes


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
        self._loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._exit: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._cell: Cell | None = None
        self._rested: asyncio.Future[int] | None = None
        self._context_bytes = context.memory.size
        self._rows: asyncio.Future[list[Any]] | None = None
        self._late_rows = 0  # answers about variables that nobody waits for any more
        self._background: set[asyncio.Task[Any]] = set()
        self._killing = ""
        self._closed = False
        self._output = OutputReader(output_fd, lambda: self.interrupt("output"))
        self._channel = Channel(sock, limits.value_bytes + MAX_SKELETON, self._frame, self._wire_ended, jail.reserve)
        self._requests = Requests(
            self._channel,
            context=context,
            functions=functions,
            limits=limits,
            on_request=on_request,
            reserve=jail.reserve,
        )

    @property
    def alive(self) -> bool:
        return not self.ended and not self._closed and not self._killing

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

    async def run(
        self, code: str, number: int, *, on_output: Callable[[str], None] | None = None,
        on_waiting: Callable[[bool], None] | None = None,
    ) -> CellResult:  # fmt: skip
        """Run one cell to its end. ``on_output`` gets pieces of the kept head; ``on_waiting`` the waits for the host."""
        if self._cell is not None:
            raise SandboxError("a REPL runs one cell at a time")
        if not self.alive:
            raise SandboxError(f"this REPL has ended ({self.ended or 'closed'})")
        cell = self._cell = Cell(number, self.limits.cell_seconds, self.interrupt, on_waiting)
        self._channel.text_left = MAX_TEXT_CELL
        self._output.begin(self.limits.output_bytes, self.limits.output_stop_bytes, on_output)
        cell.go_on()
        cell.timer("cpu", CPU_BASE_SECONDS, self._ask_cpu)
        try:
            with contextlib.suppress(ConnectionError, OSError):
                await self._channel.send(
                    {"op": "run", "code": code.encode("utf-8", "replace").decode(), "number": number}
                )
            done = await cell.ended
            if cell.final is not None and not await is_sound(cell.final):
                cell.final, done = None, {"killed": "protocol"}
                await self._kill("protocol")
                self._finish("protocol")
        except BaseException:
            self._cell = None
            self._requests.cancel()
            cell.finish()
            self._output.finish()
            await self.close()
            raise
        return self._result(cell, done)

    def _result(self, cell: Cell, done: dict[str, Any]) -> CellResult:
        seconds = time.perf_counter() - cell.started
        abandoned = self._requests.cancel()
        cell.finish()
        self._cell = None
        output, chars = self._output.finish()
        notes = [harmless(note[:500]) for note in done.get("notes", ())[:20]]
        error = harmless(done.get("error", "")[:20_000])[:8192]
        killed = done.get("killed", "")
        if killed:
            error = f"The REPL was killed: {WHY[killed]}{done.get('detail', '')}. All its variables are lost."
        elif cell.overdue and done.get("interrupted"):
            error += f"\n\n{self._overdue_sentence(cell.overdue)} Its variables are kept."
        elif error.strip().rpartition("\n")[2].startswith("MemoryError"):
            error += f"\n\nThe REPL may hold {self.limits.memory_mb:,} MB beside its context. Its variables are kept."
        if abandoned and not killed:
            notes.append(
                f"{abandoned} request(s) had no answer yet when the cell ended, and were cancelled: await them in the cell."
            )
        final = cell.final if not killed else None
        return CellResult(
            output=output,
            output_chars=chars,
            error=error.strip("\n"),
            finished=final is not None,
            final=final,
            final_name=harmless(done.get("final_name", "")[:200]) if final is not None else "",
            killed=killed,
            seconds=seconds,
            waited=cell.waited,
            notes=tuple(notes),
        )

    def _overdue_sentence(self, reason: str) -> str:
        if reason == "output":
            return f"The cell was interrupted: it printed more than {self.limits.output_stop_bytes:,} bytes."
        return f"The cell was interrupted: it ran longer than its {self.limits.cell_seconds:g} s."

    async def variables(self) -> list[Variable]:
        """The names in the REPL, between cells; nothing where it does not answer in two seconds."""
        if self._cell is not None or not self.alive or self._rows is not None:
            return []
        self._rows = self._loop.create_future()
        try:
            await self._channel.send({"op": "vars"})
            for _ in range(2):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        return [Variable.of(row) for row in await asyncio.shield(self._rows)]
                await self._signal(signal.SIGINT)
            self._late_rows += 1
        except (ConnectionError, OSError, SandboxError):
            pass
        finally:
            self._rows = None
        return []

    def serve(self, on_request: OnRequest) -> None:
        """Let somebody else answer the requests of the cells to come."""
        self._requests.serve(on_request)

    async def rest(self) -> int:
        """Halt the process between two cells: it takes no processor time until ``wake``. Returns the bytes it holds."""
        if self._cell is not None or not self.alive:
            raise SandboxError(f"this REPL cannot rest ({self.ended or 'a cell runs in it'})")
        self._rested = self._loop.create_future()
        try:
            await self._jail.order(op="rest", id=self._number, still=True)
            async with asyncio.timeout(KILL_SECONDS):
                return self._context_bytes + await self._rested
        except TimeoutError:
            raise SandboxError("the jail did not halt its REPL") from None
        finally:
            self._rested = None

    async def wake(self) -> None:
        """Let a halted process go on."""
        if not self.alive:
            raise SandboxError(f"this REPL has ended ({self.ended or 'closed'})")
        await self._jail.order(op="rest", id=self._number, still=False)

    async def close(self) -> None:
        """End the process, whatever it does."""
        if self._closed:
            return
        self._closed = True
        if not self._exit.done():
            with contextlib.suppress(SandboxError):
                await self._signal(signal.SIGKILL)
        self._finish("closed")

    def abandon(self) -> None:
        """Let go of this side: the jail ends the process."""
        self._closed = True
        self._finish("closed")

    def _finish(self, why: str) -> None:
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
        if self._rested is not None and not self._rested.done():
            self._rested.set_exception(SandboxError(f"this REPL has ended ({self.ended})"))
        self._requests.cancel()
        # Its exit is still to be heard of, or who waits for a kill to be confirmed would take the jail for dead.
        self._exit.add_done_callback(lambda _: self._jail.forget(self._number))
        self._loop.call_soon(self._output.close)  # after a waiting run() has drained it

    # what comes from the REPL

    def _frame(self, message: dict[str, Any], blob: Memory) -> None:
        op = message["op"]
        try:
            if op == "call" and self._up.done():
                self._requests.take(message, blob, self._cell)
            elif op == "done":
                self._done(message, blob)
            elif op == "up" and not self._up.done():
                self._up.set_result(None)
            elif op == "failed" and not self._up.done():
                self._up.set_exception(
                    SandboxError(f"a REPL could not start: {harmless(str(message.get('error')))[:2000]}")
                )
            elif op == "vars" and self._rows is not None and not self._rows.done():
                rows = message.get("rows")
                self._rows.set_result(rows[:500] if type(rows) is list else [])
            elif op == "vars" and self._late_rows:
                self._late_rows -= 1
            else:
                raise ValueError(op)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._channel.close()
            self._wire_ended("protocol")

    def _done(self, message: dict[str, Any], blob: Memory) -> None:
        cell = self._cell
        if cell is None or cell.ended.done() or message["cell"] != cell.number:
            raise ValueError("no such cell")
        texts = [message["error"], message["final_name"], *message["notes"]]
        if type(message["notes"]) is not list or not all(type(text) is str for text in texts):
            raise ValueError("not a result")
        cell.final = value_in(message["value"], blob)
        cell.ended.set_result({k: message.get(k) for k in ("error", "final_name", "notes", "interrupted")})

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
            news = {"reason": "exit"}
        elif not news:
            await self._kill("protocol")  # closed its wire, and lives
        self._conclude(news)

    def _conclude(self, news: dict[str, Any]) -> None:
        why = self._killing or str(news.get("reason") or "") or "exit"
        why = why if why in WHY else "exit"
        code = news.get("code")
        detail = ""
        if news.get("reason") == "threads":
            detail = ": it had more threads than it may"
        elif why == "exit" and type(code) is int:
            detail = f" by signal {-code}" if code < 0 else f" with status {code}"
        elif why == "exit" and not self._jail.alive:
            detail = " with its jail"
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

    def rested(self, size: int) -> None:
        """It is halted, with the whole jail's memory at this size."""
        if self._rested is not None and not self._rested.done():
            self._rested.set_result(max(0, size))

    # limits

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
        else:
            cell.timer("cpu", max(0.25, (limit - used) / 2), self._ask_cpu)

    def _ask_cpu(self) -> None:
        self._later(self._jail.order(op="usage", id=self._number))

    def interrupt(self, reason: str, attempt: int = 0) -> None:
        """SIGINT, SIGINT, SIGKILL, a grace apart."""
        cell = self._cell
        if cell is None or cell.ended.done() or (cell.overdue and not attempt):
            return
        cell.overdue = reason
        if attempt == 2:
            self._later(self._kill(reason))
            return
        self._later(self._signal(signal.SIGINT))
        cell.timer("overdue", self.limits.grace_seconds, self.interrupt, reason, attempt + 1)

    async def _kill(self, reason: str) -> None:
        if self._killing or self._closed:
            return
        self._killing = reason
        with contextlib.suppress(SandboxError):
            await self._signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(KILL_SECONDS):
                await asyncio.shield(self._exit)
        except TimeoutError:
            self._jail.kill()  # the zygote does not answer: end the whole jail

    async def _signal(self, number: signal.Signals) -> None:
        await self._jail.order(op="signal", id=self._number, signal=int(number))

    def _later(self, work: Any) -> None:
        async def quietly() -> None:
            with contextlib.suppress(SandboxError, ConnectionError):
                await work

        task = self._loop.create_task(quietly())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
