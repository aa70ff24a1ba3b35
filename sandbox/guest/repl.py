"""The REPL of one call: a namespace that lasts, cells run in it one at a time, and the host on the other end of a wire."""

from __future__ import annotations

import asyncio
import builtins
import mmap
import os
import random
import signal
import sys
import threading
import types
from typing import Any

from . import frames, variables
from .asking import Host
from .cells import explain, forget, is_coroutine, prepare, remember
from .names import Final, Names
from .output import Output
from .wire import Closed, Wire

MAX_HISTORY = 64 << 20  # characters
CPU_GRACE = 2.0  # CPU seconds after the interrupt until SIGXCPU-like death


class Interrupted(KeyboardInterrupt):
    """The cell has passed a limit."""

    __module__ = "builtins"  # shown without a package


class Repl:
    def __init__(self, wire: Wire, context_fd: int, output: Output) -> None:
        message, blob = wire.read()
        limits = message["limits"]
        self.wire = wire
        self.cpu_seconds: float = limits["cpu_seconds"]
        self.output = output
        self.output.max_threads = limits["threads"]
        self.module = types.ModuleType("__main__")
        self.namespace = self.module.__dict__
        self.host = Host(wire, limits["value_bytes"], frames.encoder, self.decode)
        self.final = Final(self.host)
        self.history: list[str] = []
        self._history_size = self._history_cut = 0
        self.names = Names(self.host, self.final, message, self.show_vars, self.history)
        self.provided = frozenset(self.names.functions)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.running = False
        self.code: types.CodeType | None = None
        self.notes: list[str] = []
        self._interrupts = 0
        sys.modules["__main__"] = self.module
        self.namespace["__builtins__"] = builtins
        self.namespace.update(self.names.functions)
        self.namespace.update(self.names.hidden)
        self.original = self._context(message["context"], blob, context_fd)
        self.names.original = self.original
        self.namespace["context"] = self.original
        if message["question"] is not None:
            self.namespace["question"] = message["question"]
        seed = message["seed"]
        random.seed(seed)
        self._seed_numpy(seed & 0xFFFFFFFF)
        for tool in message["tools"]:
            self._define(tool)

    # setting up

    def decode(self, skeleton: bytes, region: Any) -> Any:
        return frames.GuestDecoder(region, self.namespace).decode(skeleton)

    def _context(self, sizes: Any, blob: memoryview, fd: int) -> Any:
        """From the frame's own bytes, or from a sealed memfd that is read once and closed."""
        if fd < 0:
            return self.host.unpack(sizes, blob)
        with mmap.mmap(fd, sizes[1], prot=mmap.PROT_READ) as region:
            view = memoryview(region)
            decoder = frames.GuestDecoder(view, self.namespace, fd)
            try:
                return decoder.decode(bytes(blob[: sizes[0]]))
            finally:
                decoder.region.release()
                view.release()
                os.close(fd)

    @staticmethod
    def _seed_numpy(seed: int) -> None:
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed(seed)

    def _define(self, tool: dict[str, str]) -> None:
        filename = f"<tool {tool['name'][:60]}>"
        remember(filename, tool["source"])
        exec(compile(tool["source"], filename, "exec", dont_inherit=True), self.namespace)  # noqa: S102 (what the jail is for)

    def show_vars(self) -> str:
        """The user's names, with type and size."""
        return variables.table(self.namespace, self.provided | set(self.names.hidden), self.original)

    # serving

    def serve(self) -> None:
        self.wire.send({"op": "up", "pid": os.getpid()})
        while True:
            message, blob = self.host.next_order()
            if message["op"] == "run":
                self.run(message["code"], message["number"])
            elif message["op"] == "vars":
                self.tell_variables()

    def run(self, source: str, number: int) -> None:
        self.notes = []
        error, interrupted = "", False
        final = self.final
        final.packed, final.name, final.again, final.names = None, "", False, frozenset()
        self.names.unawaited = []
        self._restore(quiet=True)
        self.output.dropped = 0
        self.output.begin(number)
        self._arm()
        try:
            try:
                self.running = True
                error = self._execute(source, number)
            finally:
                self.running = False
        except KeyboardInterrupt as stop:
            error, interrupted = self._safely(stop), True
        except BaseException as failure:  # noqa: BLE001 (whatever a cell raises is its result)
            error = self._safely(failure)
        self._disarm()
        if self.code is not None:
            forget(self.code)
            self.code = None
        self._leftovers(interrupted)
        self._restore(quiet=False)
        self._remember(self.output.end())
        done: dict[str, Any] = {"op": "done", "cell": number, "error": error, "interrupted": interrupted}
        packed, final.packed = final.packed, None
        done |= {"notes": self.notes[:20], "value": packed.sizes if packed else None, "final_name": final.name[:200]}
        self.wire.send(done, packed.buffers if packed else ())

    def _remember(self, output: str) -> None:
        """For ``history``: in full, as long as all of it together is no burden; then the oldest go."""
        self.history.append(output)
        self._history_size += len(output)
        while self._history_size > MAX_HISTORY and self._history_cut < len(self.history) - 1:
            old = self.history[self._history_cut]
            if type(old) is str and len(old) > 1000:  # a cell may have put anything there
                self.history[self._history_cut] = f"{old[:500]}\n… {len(old) - 500:,} characters no longer kept …"
                self._history_size -= len(old) - 500
            self._history_cut += 1

    def _execute(self, source: str, number: int) -> str:
        try:
            code, self.final.names = prepare(source, number, self.names.awaited)
            self.code = code
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return explain(error)
        try:
            if is_coroutine(code):
                self._drive(eval(code, self.namespace))  # noqa: S307
            elif "asyncio" in source:
                self._drive(self._inside_loop(code))
            else:
                eval(code, self.namespace)  # noqa: S307
            self._answer_dict()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            return explain(error)
        return ""

    def _safely(self, error: BaseException) -> str:
        """Explain while interrupts are off."""
        return explain(error)

    async def _inside_loop(self, code: types.CodeType) -> None:
        """For asyncio.create_task and the like in a cell that awaits nothing itself."""
        eval(code, self.namespace)  # noqa: S307

    def _drive(self, coroutine: Any) -> None:
        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
            self.loop.set_exception_handler(lambda loop, context: None)
            asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(coroutine)
        try:
            self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            for other in asyncio.all_tasks(self.loop):
                other.cancel()
            if not task.done():
                try:
                    self.loop.run_until_complete(asyncio.wait({task}, timeout=0.5))
                except BaseException:  # noqa: BLE001, S110 (it is being ended)
                    pass
            raise

    def _answer_dict(self) -> None:
        """The authors' dialect: answer = {"content": …, "ready": True}."""
        if "FINAL_VAR" not in self.provided or self.final.packed is not None:
            return
        answer = self.namespace.get("answer")
        if type(answer) is dict and answer.get("ready") is True and "content" in answer:
            self.final.take(answer["content"], "answer")

    def _leftovers(self, interrupted: bool) -> None:
        self.host.abandon()
        asked = [note["name"] for note in self.names.unawaited if not note["started"]]
        if asked and not interrupted:
            self.notes.append(f"{asked[0]} was called {len(asked)} times without await: nothing has been asked.")
        if self.final.again:
            self.notes.append("FINAL was called more than once: the first value counts.")
        if self.output.dropped:
            self.notes.append("Output of a thread or task left behind by an earlier cell was dropped.")

    def _restore(self, *, quiet: bool) -> None:
        """Put back what a cell has overwritten or deleted."""
        for name, function in self.names.functions.items():
            found = self.namespace.get(name, self)
            if found is function:
                continue
            self.namespace[name] = function
            kept = ""
            if found is not self and not callable(found):
                self.namespace[f"user_{name}"] = found  # the value itself is not to be lost
                kept = f"; your value is now user_{name}"
            if not quiet:
                self.notes.append(f"{name} is provided by the REPL: it was overwritten and has been restored{kept}.")
        self.namespace.update(self.names.hidden)

    # limits

    def _arm(self) -> None:
        self._interrupts = 0
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGPROF, self._interrupt)
        signal.signal(signal.SIGXCPU, self._interrupt)
        signal.signal(signal.SIGALRM, self._interrupt)  # a value that takes too long to show
        signal.setitimer(signal.ITIMER_PROF, self.cpu_seconds, CPU_GRACE)

    def _disarm(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: Any) -> None:
        if not self.running:
            return
        cpu = number in (signal.SIGPROF, signal.SIGXCPU)
        self._interrupts += cpu
        if cpu and self._interrupts > 2:
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGXCPU)
        raise Interrupted("the CPU limit of a cell was reached" if cpu else "the cell was interrupted")

    def tell_variables(self) -> None:
        rows: list[dict[str, Any]] = []
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGALRM, self._interrupt)
        try:
            try:
                self.running = True
                rows = variables.listed(self.namespace, self.provided | set(self.names.hidden), self.original)
            finally:
                self.running = False
        except BaseException:  # noqa: BLE001, S110 (a value's own methods)
            pass
        self.wire.send({"op": "vars", "rows": rows})


def warm_up() -> None:
    """Touch what every REPL touches, so that a spare one has its own copies of those pages already."""
    random.seed(0)
    Repl._seed_numpy(0)
    threading.stack_size(2 << 20)
    prepare("warm = 1", 0, frozenset({"llm_query"}))
    frames.GuestDecoder(b"", {}).decode(frames.encoder(1 << 20).encode({"a": [1.5, ("b",)]})[0])


def main(wire_fd: int, context_fd: int, output: Output) -> None:
    wire = Wire(wire_fd)
    try:
        try:
            repl = Repl(wire, context_fd, output)
        except (Exception, MemoryError) as error:  # noqa: BLE001 (a context that does not fit, a tool that does not compile)
            wire.send({"op": "failed", "error": explain(error)[:2000]})
            return
        repl.serve()
    except (Closed, OSError):
        os._exit(0)
