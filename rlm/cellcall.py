"""A call with a REPL: running its cells, and answering what they ask of the host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlm.call import Call
from rlm.events import CellDiffers, CellDone, CellWaiting, OutputDelta
from rlm.recording import RecordedCell
from rlm.requests import Requests
from rlm.spec import CallSpec, Ending, Outcome
from rlm.warm import WarmRepl
from rlm.wording import output_message
from sandbox import CellResult, Jail, Repl, ReplLimits, SandboxError, SandboxUnavailable

if TYPE_CHECKING:
    from rlm.run import Run


LEAST_AGAIN = 0.2  # seconds that a cell which was interrupted gets when it runs again


class CellCall(Call):
    """The base of the strategies that run cells."""

    functions = "plain"  # which names the REPL provides

    def __init__(self, run: Run, spec: CallSpec) -> None:
        super().__init__(run, spec)
        self.repl: Repl | None = None
        self.errors = 0  # cells in a row that raised
        self.requests = Requests(self)
        self._starting: asyncio.Task[Repl] | None = None
        self._ran = 0  # cells run in the REPL that is there now
        self._kept = 0  # turns whose cells have left what they leave in a REPL that was kept

    def adopt(self, warm: WarmRepl) -> None:
        self.repl, self._ran, self._kept = warm.repl, warm.ran, warm.turn
        warm.repl.serve(self.requests.answer)

    async def release(self, outcome: Outcome) -> None:
        if self._starting is not None and self.repl is None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
            if not self._starting.cancelled() and self._starting.exception() is None:
                self.repl = self._starting.result()
        stay = self.spec.parent is None and self.run.keep_warm and outcome.status != "stopped"
        if self.repl is not None and not stay:
            await self.repl.close()
        await self.requests.end_children("Its parent call has ended.")
        if self.repl is not None and stay and not await self.run.keep(self.repl, self.turn, self._ran):
            await self.repl.close()

    # the REPL

    def prepare_repl(self) -> None:
        """Begin to start the REPL, while the model writes its first reply."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_repl())

    async def _start_repl(self) -> Repl:
        jail = await self.run.jail()
        try:
            return await self._start_in(jail)
        except SandboxError:
            if jail.alive:
                raise
        return await self._start_in(await self.run.jail())  # the jail ended under it, through another call's doing

    async def _start_in(self, jail: Jail) -> Repl:
        run, spec = self.run, self.spec
        limits = ReplLimits(
            cell_seconds=max(0.1, run.limits.cell_seconds),
            cpu_seconds=max(0.1, run.limits.cell_seconds * 4),  # threads of numpy may use more than one processor
            memory_mb=max(256, run.limits.memory_mb),
            output_bytes=max(1_000, run.limits.output_bytes),
        )
        return await jail.start_repl(
            spec.context,
            question=run.spec.question if spec.parent is None else None,
            functions=self.functions,
            leaf=spec.leaf,
            tools=[{"name": tool.name, "source": tool.source} for tool in spec.tools],
            seed=run.seed_of(spec),
            limits=limits,
            on_request=self.requests.answer,
        )

    async def the_repl(self) -> Repl:
        """Return the REPL; a fresh one where the last was killed."""
        if self.repl is None or not self.repl.alive:
            if self.repl is not None:
                await self.repl.close()
                self.repl, self._starting, self._ran = None, None, 0
            self.prepare_repl()
            assert self._starting is not None
            self.repl = await asyncio.shield(self._starting)
        return self.repl

    # cells

    async def run_cell(self, code: str, *, number: int = 0) -> CellResult:
        """Run a cell in the REPL, after all so far is durable; what it prints and waits for is told of."""
        run, call, cell = self.run, self.spec.number, number or self.turn
        recorded = self.recorded(cell)
        told = recorded is not None and recorded.done
        if self.record is not None and recorded is not None and told:
            self.has_something = True
            if self.stands(recorded):
                run.close_left_behind(call, cell, "The cell that asked for it was ended.")
                return CellResult(recorded.output, recorded.output_chars, recorded.error, killed=recorded.killed)

        def on_output(text: str) -> None:
            if not told:
                run.emit(OutputDelta(call, cell, text))

        def on_waiting(waiting: bool) -> None:
            if not told:
                run.emit(CellWaiting(call, cell, waiting, time.time()))

        self.requests.begin(cell)
        if self.record is not None and recorded is not None:
            self.requests.follow(run.record.exchange_of(self.record, recorded), told=told)
        repl: Repl | None = None
        task: asyncio.Task[CellResult] | None = None
        try:
            await run.commit()
            repl = await self.the_repl()
            self._ran += 1
            self.has_something = True
            task = asyncio.create_task(repl.run(code, cell, on_output=on_output, on_waiting=on_waiting))
            if recorded is not None and told and recorded.was_interrupted:  # not for longer than it had then
                again = asyncio.get_running_loop().call_later(
                    max(LEAST_AGAIN, recorded.seconds), repl.interrupt, "time"
                )
                task.add_done_callback(lambda _: again.cancel())
            result = await asyncio.shield(task)
        except SandboxUnavailable:
            raise  # the cell runs where there is one
        except (asyncio.CancelledError, SandboxError) as error:
            await self._interrupted(repl, task, str(error))
            raise
        if result.killed:
            await self.requests.end_children("The cell that asked for it was ended.")
        if recorded is not None:
            self.requests.followed()
            run.close_left_behind(call, cell, "The cell that asked for it was ended.")
            if told and result.finished and not recorded.final:
                result = replace(result, finished=False, final=None, final_name="")
        return result

    async def _interrupted(self, repl: Repl | None, task: asyncio.Task[CellResult] | None, error: str) -> None:
        """The call ends while its cell runs: what the cell printed, and its names, are kept if they can be."""
        reason = self.ending.reason if self.ending is not None else error or "The run was ended."
        last = self.ending is not None and self.ending.last
        if task is None:
            ended = CellResult(error=f"The cell was not run. {reason}")
        else:
            if repl is not None and not task.done():
                repl.interrupt("time")
                # Names matter where one last cell may follow; a stop has to be quick.
                await asyncio.wait({task}, timeout=2.5 if last else 0.4)
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=2)
            whole = task.done() and not task.cancelled() and task.exception() is None
            ended = task.result() if whole else CellResult(killed="exit")
            ended = replace(ended, error=f"The cell was interrupted. {reason}", final=None, finished=False, notes=())
        message, shown = self.message_of(ended)
        if (recorded := self.recorded(self.turn)) is not None and recorded.done:
            message = recorded.shown or message  # it ran again, and that was interrupted: its row says how it went
        else:
            await self.tell_cell(ended, message, shown)
        if last:
            self.add("user", message)

    async def tell_cell(self, result: CellResult, shown: str, shown_chars: int, *, output: str | None = None) -> str:
        """Tell of a cell that has run; return what the model is to be told of it: what it was told, where it was."""
        if (recorded := self.recorded(self.turn)) is not None and recorded.done:
            self.compare(recorded, result.output if output is None else output, result)
            return recorded.shown or shown
        variables: list[dict[str, Any]] = []
        if self.repl is not None and self.repl.alive and not result.killed:
            variables = [as_dict(v) for v in await self.repl.variables()]
        self.run.emit(
            CellDone(
                self.spec.number, self.turn, shown, result.output if output is None else output, result.output_chars,
                shown_chars, result.error, result.killed, result.seconds, result.waited, result.finished, time.time(),
                variables, tuple(self.requests.exchange),
            )
        )  # fmt: skip
        return shown

    async def tell_tools(self, result: CellResult | None, output: str, seconds: float, waited: float) -> None:
        """Tell of a turn's tool calls, whose results the model sees whole."""
        if (recorded := self.recorded(self.turn)) is not None and recorded.done:
            self.compare(recorded, output, result or CellResult())
            return
        error, killed = (result.error, result.killed) if result is not None else ("", "")
        self.run.emit(
            CellDone(
                self.spec.number, self.turn, output, output, len(output), len(output), error, killed, seconds, waited, False,
                time.time(), (), tuple(self.requests.exchange),
            )
        )  # fmt: skip

    async def run_again(self, recorded: RecordedCell) -> None:
        if recorded.done and not self.stands(recorded):
            result = await self.run_cell(recorded.code)
            self.compare(recorded, result.output, result)
        elif not recorded.done:
            said = f"Cell {recorded.number} had not run to its end: what it left in the REPL is not there."
            self.note(said, again=True)

    def stands(self, recorded: RecordedCell) -> bool:
        """Whether a recorded cell is not to run again: its REPL was lost after it, or is there, or it never ran."""
        assert self.record is not None
        return recorded.was_not_run or recorded.number <= max(self.record.last_reset, self._kept)

    def compare(self, recorded: RecordedCell, output: str, again: CellResult) -> None:
        """Say where a cell that ran again did something else than it did the first time."""
        assert self.record is not None
        if self.stands(recorded):
            return
        if recorded.was_interrupted:
            self.note(
                f"Cell {recorded.number} was interrupted at a limit and has run again: the state may differ.",
                again=True,
            )
        tell = self.run.record.clean
        same = tell(output) == recorded.output and tell(again.error) == recorded.error
        if (same and again.killed == recorded.killed and again.finished == recorded.final) or recorded.differs:
            return
        self.run.emit(CellDiffers(self.spec.number, recorded.number, time.time()))
        self.note(f"The replayed output of cell {recorded.number} differs from the record.", again=True)

    def message_of(self, result: CellResult, *, limit: int = 0) -> tuple[str, int]:
        """Return what the model is told of a cell that did not end the call, and how much of its output that shows."""
        return output_message(
            self.turn, result.output, result.output_chars, result.error, limit=limit or self.run.limits.shown_chars,
            killed=result.killed, notes=[*(f"[{note}]" for note in result.notes), *self.notices()],
            kept_as=f"history[{self._ran - 1}]",
        )  # fmt: skip

    def count_errors(self, result: CellResult) -> None:
        """End a call whose cells do nothing but raise."""
        if not result.error and not result.killed:
            self.errors = 0
            return
        self.errors += 1
        if self.errors >= self.run.limits.errors:
            what = (result.error or f"the REPL was ended ({result.killed})").strip().splitlines()[-1][:200]
            raise Ending("limit", f"{self.errors} cells in a row raised an error, the last: {what}.", last=True)


def as_dict(variable: Any) -> dict[str, Any]:
    """Return a variable's row as plain data, whichever form the sandbox gives it."""
    if isinstance(variable, dict):
        return variable
    fields: Callable[[Any], dict[str, Any]] = vars
    return dict(fields(variable))
