"""What is in a REPL's namespace, for SHOW_VARS and for the page: name, type, size and a short preview of each."""

from __future__ import annotations

import datetime
import decimal
import inspect
import reprlib
import signal
import threading
import types
from typing import Any

MAX_NAMES = 500
PATIENCE = 0.2  # seconds for the size and preview of one value of a class we do not know
SAFE = (str, bytes, bytearray, int, float, complex, bool, type(None), list, dict, tuple, set, frozenset,
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)  # fmt: skip

short = reprlib.Repr()
short.maxstring = short.maxother = 120
short.maxlist = short.maxtuple = short.maxdict = short.maxset = 4
short.maxlevel = 3


def describe(name: str, value: Any, original: Any) -> dict[str, Any]:
    kind = type(value)
    row = {"name": name[:100], "type": kind.__name__[:60], "size": "", "preview": "", "is_context": value is original}
    timed = kind not in SAFE and threading.current_thread() is threading.main_thread()
    try:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        row["size"] = size_of(value)
        row["preview"] = preview(value)
    except KeyboardInterrupt:
        if not timed or signal.getitimer(signal.ITIMER_REAL)[0]:
            raise  # from outside
        row["preview"] = "(no preview: it takes too long)"
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return row


def size_of(value: Any) -> str:
    """Length, shape or signature, as one would say it."""
    try:
        kind = type(value)
        if kind is str:
            return f"{len(value):,} ch"
        if kind in (bytes, bytearray):
            return f"{len(value):,} bytes"
        if _from(kind, "numpy", "pandas") and hasattr(value, "shape"):
            shape = " × ".join(f"{int(n):,}" for n in value.shape)
            return shape[:60] or "scalar"
        if kind in SAFE and hasattr(kind, "__len__"):
            return f"{len(value):,} items"
        if isinstance(value, types.FunctionType):
            return str(inspect.signature(value))[:60]
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 (a value's own methods may do anything)
        return ""
    return ""


def preview(value: Any) -> str:
    kind = type(value)
    try:
        if kind is str:
            text = repr(value[:160])
        elif kind is int and value.bit_length() > 10_000:
            text = f"an int of {value.bit_length():,} bits"
        elif kind in SAFE:
            text = short.repr(value)
        elif _from(kind, "pandas") and hasattr(value, "columns"):
            text = "columns: " + ", ".join(str(c) for c in list(value.columns[:12]))
        elif _from(kind, "numpy") and hasattr(value, "dtype"):
            text = f"{value.dtype} {short.repr(value.ravel()[:6].tolist()) if getattr(value, 'ndim', 0) else value}"
        elif isinstance(value, types.FunctionType | type):
            text = (inspect.getdoc(value) or "").split("\n")[0]
        else:
            text = short.repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (a value's own __repr__)
        text = f"(no preview: {type(error).__name__})"
    text = " ".join(text.split()).encode("utf-8", "replace").decode()
    return text if len(text) <= 160 else text[:159] + "…"


def _from(kind: type, *packages: str) -> bool:
    return kind.__module__.partition(".")[0] in packages


def listed(namespace: dict[str, Any], provided: frozenset[str], original: Any) -> list[dict[str, Any]]:
    """The user's names, context first; neither modules nor what the REPL provides."""
    names = [n for n in list(namespace) if type(n) is str and not n.startswith("_") and n not in provided]
    found = []
    for name in names[:MAX_NAMES]:
        value = namespace.get(name)
        if not isinstance(value, types.ModuleType):
            found.append(describe(name, value, original))
    return found


def table(namespace: dict[str, Any], provided: frozenset[str], original: Any) -> str:
    rows = listed(namespace, provided, original)
    if not rows:
        return "No variables."
    lines = [f"{r['name']}: {r['type']}{', ' + r['size'] if r['size'] else ''}  {r['preview'][:80]}" for r in rows]
    if "context" not in namespace:
        lines.append("(context has been deleted)")
    elif namespace["context"] is not original:
        lines.append("(context has been rebound: it is no longer the data this call was given)")
    if len(rows) >= MAX_NAMES:
        lines.append(f"(only the first {MAX_NAMES} names)")
    return "\n".join(lines)
