"""Standard output of a REPL: in order with what C code writes, and only from the cell that runs."""

from __future__ import annotations

import _thread
import concurrent.futures
import contextvars
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

KEEP_HISTORY = 8 << 20  # bytes of a cell's output kept for ``history``


class Output:
    """Knows which cell runs; drops (and counts) what threads and tasks of earlier cells write."""

    def __init__(self) -> None:
        self.cell: contextvars.ContextVar[int] = contextvars.ContextVar("cell", default=0)
        self.now = 0
        self.dropped = 0
        self.kept = bytearray()
        self.max_threads = 32
        self._os_write = os.write

    def install(self) -> None:
        raw = _Raw(self)
        out, err = (
            io.TextIOWrapper(raw, "utf-8", "backslashreplace", newline="\n", write_through=True) for _ in range(2)
        )
        self.streams = out, err
        sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = err  # type: ignore[misc]
        start = _thread.start_new_thread

        def start_in_context(function: Callable[..., Any], args: Any, kwargs: Any = None) -> int:
            if _thread._count() >= self.max_threads:
                raise RuntimeError(f"can't start new thread: a REPL may have {self.max_threads}")
            context = contextvars.copy_context()
            return start(context.run, (function, *args), kwargs or {})

        _thread.start_new_thread = start_in_context
        threading._start_new_thread = start_in_context  # type: ignore[attr-defined]
        pool: Any = concurrent.futures.ThreadPoolExecutor
        submit = pool.submit

        def submit_in_context(executor: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            return submit(executor, contextvars.copy_context().run, function, *args, **kwargs)

        pool.submit = submit_in_context
        os.write = self._write

    def _write(self, fd: int, data: Any, /) -> int:
        if fd in (1, 2) and self.stale():
            self.dropped += 1
            return len(data)
        return self._os_write(fd, data)

    def begin(self, number: int) -> None:
        self.now = number
        self.cell.set(number)
        sys.stdout, sys.stderr = self.streams  # whatever an earlier cell has put there
        self.kept.clear()

    def end(self) -> str:
        """Stop listening; the text of the cell, for history."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # noqa: BLE001, S112 (a cell may have put anything there)
                continue
        self.now = 0
        return self.kept.decode("utf-8", "replace")

    def stale(self) -> bool:
        return self.cell.get() != self.now


class _Raw(io.BufferedWriter):
    """Writes through at once, so that ``print`` and ``os.write`` keep their order."""

    def __init__(self, output: Output) -> None:
        super().__init__(io.FileIO(1, "w", closefd=False))
        self._output = output

    def write(self, data: Any, /) -> int:
        output = self._output
        if output.stale():
            output.dropped += 1
            return len(data)
        written = super().write(data)
        super().flush()
        if len(output.kept) < KEEP_HISTORY:
            output.kept += data
        return written
