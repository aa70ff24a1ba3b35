"""The crossing form of a value: a JSON skeleton beside one region of raw bytes. Both sides of the jail use it.

Whatever JSON cannot say is an object with the key ``$``: its value names the type (the table is in docs/sandbox.md).
Long texts, bytes, arrays and long lists of numbers lie in the region, addressed by offset and length.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import json
import math
import uuid
import zoneinfo
from array import array
from collections.abc import Callable
from typing import Any

from . import bigtext

TAG = "$"
INLINE_BYTES = 4096  # a text longer than this, in UTF-8, lies in the region
PACK_ITEMS = 64  # lists of numbers or texts at least this long lie in the region
MAX_DEPTH = 128
MAX_PARTS = 10_000_000
MAX_SKELETON = 96 << 20
INT64 = 1 << 63
FACTORIES: dict[str, type] = {t.__name__: t for t in (list, dict, set, int, float, str, bool, tuple)}


class CrossingError(ValueError):
    """A value cannot cross; the message says where in the value, and why."""

    __module__ = "builtins"  # shown without a package

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place: list[str] = []

    def inside(self, step: str) -> CrossingError:
        self.place.insert(0, step)
        return self

    def __str__(self) -> str:
        steps = (
            self.place
            if len(self.place) <= 12
            else [*self.place[:6], f"…{len(self.place) - 12} more…", *self.place[-6:]]
        )
        return f"value{''.join(steps)}: {self.reason}"


def step_of(key: Any) -> str:
    """Name one step into a dict, cut, whatever the key is."""
    try:
        text = json.dumps(key, ensure_ascii=False) if type(key) is str else repr(key)
    except Exception:  # noqa: BLE001 (a cell's own __repr__)
        text = f"<{type(key).__name__}>"
    return f"[{text if len(text) <= 60 else text[:57] + '…'}]"


class Encoder:
    """Turns one Python object into a skeleton and a list of buffers; objects are taken by their exact type."""

    def __init__(
        self, max_bytes: int | None = None, extra: Callable[[Encoder, Any], Any] | None = None, *, inline: bool = False
    ) -> None:
        self.inline = inline  # no region: everything goes into the skeleton
        self.max_bytes = max_bytes
        self.extra = extra  # numpy and pandas, in the jail
        self.buffers: list[Any] = []
        self.alive: list[str] = []  # texts whose own bytes are among the buffers
        self.size = 0
        self.parts = 0
        self.depth = 0
        self.open: set[int] = set()  # containers being encoded: to notice cycles

    def encode(self, value: Any) -> tuple[bytes, list[Any]]:
        try:
            tree = self.item(value)
            skeleton = json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except RecursionError:
            raise CrossingError("is nested too deeply to cross") from None
        if len(skeleton) > MAX_SKELETON:
            raise CrossingError(f"has too many small parts to cross ({len(skeleton):,} bytes of structure)")
        self._check_size(len(skeleton))
        return skeleton, self.buffers

    def item(self, o: Any) -> Any:
        kind = type(o)
        if kind is str:
            return self._text(o)
        if kind is bool or o is None:
            return o
        if kind is int:
            return o if -INT64 <= o < INT64 else {TAG: "i", "v": hex(o)}
        if kind is float:
            return o if math.isfinite(o) else {TAG: "f", "v": repr(o)}
        simple = SIMPLE.get(kind)
        if simple is not None:
            return simple(self, o)
        if self.depth >= MAX_DEPTH:
            raise CrossingError(f"is nested more than {MAX_DEPTH} levels deep")
        if id(o) in self.open:
            raise CrossingError("contains itself")
        self.open.add(id(o))
        self.depth += 1
        try:
            return self._container(o, kind)
        finally:
            self.depth -= 1
            self.open.discard(id(o))

    def raw(self, data: Any) -> dict[str, Any]:
        """Put a buffer into the region; give its address."""
        if self.inline:
            raise CrossingError("holds bytes, which have no place here")
        view = memoryview(data)
        if not view.c_contiguous:
            view = memoryview(bytes(view))
        if view.nbytes and (view.ndim != 1 or view.format != "B"):
            view = view.cast("B")
        start = self.size
        self.size += view.nbytes
        self._check_size(0)
        if view.nbytes:
            self.buffers.append(view)
        return {"o": start, "n": view.nbytes}

    def sequence(self, items: Any, step: Callable[[int], str] = lambda i: f"[{i}]") -> list[Any]:
        self._count(len(items))
        out = []
        item = self.item
        for i, x in enumerate(items):
            try:
                out.append(item(x))
            except CrossingError as error:
                raise error.inside(step(i)) from None
        return out

    def _count(self, n: int) -> None:
        self.parts += n
        if self.parts > MAX_PARTS:
            raise CrossingError(f"has more than {MAX_PARTS:,} parts")

    def _check_size(self, more: int) -> None:
        if self.max_bytes is not None and self.size + more > self.max_bytes:
            raise CrossingError(
                f"is larger than the {self.max_bytes / 1e6:,.0f} MB a value may have (so far {(self.size + more) / 1e6:,.0f} MB)"
            )

    def _text(self, o: str) -> Any:
        n = len(o)
        if n <= INLINE_BYTES and o.isascii():
            return o
        if self.max_bytes is not None and n > self.max_bytes:
            self._check_size(n)
        if n >= bigtext.FROM and o.isascii() and not self.inline:
            self.alive.append(o)
            return {TAG: "s", **self.raw(bigtext.bytes_of(o))}
        try:
            data = o.encode()
        except UnicodeEncodeError as error:
            raise CrossingError(
                f"has a lone surrogate (U+{ord(o[error.start]):04X}) at character {error.start}"
            ) from None
        if len(data) <= INLINE_BYTES or self.inline:
            return o
        return {TAG: "s", **self.raw(data)}

    def _list(self, o: list[Any]) -> Any:
        if len(o) >= PACK_ITEMS and not self.inline:
            kinds = set(map(type, o))
            if kinds == {float}:
                return {TAG: "L", "d": "d", **self.raw(array("d", o))}
            if kinds == {int}:
                try:
                    return {TAG: "L", "d": "q", **self.raw(array("q", o))}
                except OverflowError:
                    pass
            if kinds == {str}:
                return self._texts(o)
        return self.sequence(o)

    def _texts(self, o: list[str]) -> Any:
        """Many texts at once: their UTF-8 in a row, and the length of each."""
        try:
            data = list(map(str.encode, o))
        except UnicodeEncodeError:
            for i, x in enumerate(o):
                try:
                    self._text(x)
                except CrossingError as error:
                    raise error.inside(f"[{i}]") from None
            raise
        sizes = self.raw(array("q", map(len, data)))
        return {TAG: "T", "z": sizes, **self.raw(b"".join(data))}

    def _container(self, o: Any, kind: type) -> Any:
        if kind is list:
            return self._list(o)
        if kind is dict:
            return self._dict(o)
        if kind is tuple:
            return {TAG: "t", "v": self.sequence(o)}
        if kind is set or kind is frozenset:
            parts = self.sequence(list(o), lambda i: "{…}")
            return {TAG: "S" if kind is set else "F", "v": parts}
        if kind is collections.OrderedDict:
            return {TAG: "od", "v": self._pairs(o)}
        if kind is collections.Counter:
            return {TAG: "ct", "v": self._pairs(o)}
        if kind is collections.defaultdict:
            factory = o.default_factory
            name = "" if factory is None else getattr(factory, "__name__", "?")
            if factory is not None and FACTORIES.get(name) is not factory:
                raise CrossingError("is a defaultdict whose factory cannot cross; pass dict(…) of it")
            return {TAG: "dd", "f": name, "v": self._pairs(o)}
        if kind is collections.deque:
            return {TAG: "dq", "m": o.maxlen, "v": self.sequence(o)}
        if dataclasses.is_dataclass(kind):
            return self._record(o, kind)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            names = list(kind._fields)
            return {TAG: "nt", "c": kind.__name__, "k": names, "v": self.sequence(o, lambda i: f".{names[i]}")}
        if self.extra is not None:
            found = self.extra(self, o)
            if found is not None:
                return found
        raise CrossingError(f"is a {kind.__module__}.{kind.__qualname__}, which cannot cross{hint(kind)}")

    def _dict(self, o: dict[Any, Any]) -> Any:
        if TAG in o or not all(type(k) is str and len(k) <= INLINE_BYTES and (k.isascii() or _encodes(k)) for k in o):
            return {TAG: "d", "v": self._pairs(o)}
        self._count(len(o))
        out = {}
        item = self.item
        for k, x in o.items():
            try:
                out[k] = item(x)
            except CrossingError as error:
                raise error.inside(step_of(k)) from None
        return out

    def _pairs(self, o: Any) -> list[Any]:
        self._count(2 * len(o))
        out = []
        for k, x in o.items():
            try:
                key = self.item(k)
            except CrossingError as error:
                raise error.inside(f".key{step_of(k)}") from None
            try:
                out.append([key, self.item(x)])
            except CrossingError as error:
                raise error.inside(step_of(k)) from None
        return out

    def _record(self, o: Any, kind: Any) -> Any:
        names = [f.name for f in dataclasses.fields(kind)]
        values = []
        for name in names:
            try:
                values.append(self.item(getattr(o, name)))
            except CrossingError as error:
                raise error.inside(f".{name}") from None
            except AttributeError:
                raise CrossingError(f"is a {kind.__name__} without its field {name}") from None
        params = kind.__dataclass_params__
        return {TAG: "dc", "c": kind.__name__, "k": names, "z": bool(params.frozen), "q": bool(params.eq), "v": values}


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def hint(kind: type) -> str:
    """Say what to do instead, where that is known."""
    name = kind.__name__
    if name in (
        "generator",
        "map",
        "filter",
        "zip",
        "range_iterator",
        "dict_keys",
        "dict_values",
        "dict_items",
        "range",
    ):
        return "; pass list(…) of it"
    if name == "coroutine":
        return "; await it first"
    if hasattr(kind, "__members__"):
        return "; pass its .value"
    return "; pass plain data made from it"


def zone_of(zone: Any) -> Any:
    if zone is None:
        return None
    if type(zone) is zoneinfo.ZoneInfo and zone.key:
        return zone.key
    if type(zone) is datetime.timezone:
        args = zone.__getinitargs__()  # type: ignore[attr-defined]
        seconds = args[0] / datetime.timedelta(microseconds=1)
        return [int(seconds), args[1]] if len(args) > 1 else [int(seconds)]
    raise CrossingError(f"has a time zone of type {type(zone).__name__}, which cannot cross")


def _datetime(e: Encoder, o: datetime.datetime) -> Any:
    naive = [o.year, o.month, o.day, o.hour, o.minute, o.second, o.microsecond, o.fold]
    return {TAG: "dt", "v": naive, "z": zone_of(o.tzinfo)}


def _time(e: Encoder, o: datetime.time) -> Any:
    return {TAG: "tm", "v": [o.hour, o.minute, o.second, o.microsecond, o.fold], "z": zone_of(o.tzinfo)}


SIMPLE: dict[type, Callable[[Encoder, Any], Any]] = {
    bytes: lambda e, o: {TAG: "b", **e.raw(o)},
    bytearray: lambda e, o: {TAG: "ba", **e.raw(bytes(o))},
    complex: lambda e, o: {TAG: "c", "v": [e.item(o.real), e.item(o.imag)]},
    datetime.datetime: _datetime,
    datetime.date: lambda e, o: {TAG: "D", "v": [o.year, o.month, o.day]},
    datetime.time: _time,
    datetime.timedelta: lambda e, o: {TAG: "td", "v": [o.days, o.seconds, o.microseconds]},
    decimal.Decimal: lambda e, o: {TAG: "n", "v": str(o)},
    uuid.UUID: lambda e, o: {TAG: "u", "v": o.hex},
    range: lambda e, o: {TAG: "r", "v": [e.item(o.start), e.item(o.stop), e.item(o.step)]},
}
