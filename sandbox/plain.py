"""Crossing values seen from the host: decoded to plain Python, and cut for display. Neither numpy nor pandas is needed."""

from __future__ import annotations

import base64
import datetime
import math
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from sandbox.guest.crossing import TAG
from sandbox.guest.decoding import Decoder, zone_from

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
UNITS = {
    "s": 1,
    "ms": 1_000,
    "us": 1_000_000,
    "ns": 1_000_000_000,
    "m": 1 / 60,
    "h": 1 / 3600,
    "D": 1 / 86400,
    "W": 1 / 604800,
}
NAT = -(1 << 63)
CODES = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
         "f2": "e", "f4": "f", "f8": "d"}  # fmt: skip
MAX_CELLS = 5_000_000


def moment(ticks: int, unit: str) -> Any:
    """A datetime64 as ISO text; what datetime cannot hold stays a number with its unit."""
    if ticks == NAT:
        return None
    if unit in ("Y", "M"):
        months = ticks * 12 if unit == "Y" else ticks
        return f"{1970 + months // 12}" if unit == "Y" else f"{1970 + months // 12}-{months % 12 + 1:02d}"
    per = UNITS.get(unit)
    if per is None:
        return f"{ticks} {unit}"
    try:
        if unit == "D":
            return (EPOCH + datetime.timedelta(days=ticks)).date().isoformat()
        if per >= 1:
            whole, rest = divmod(ticks, int(per))
            text = (EPOCH + datetime.timedelta(seconds=whole)).replace(tzinfo=None).isoformat()
            digits = len(str(int(per))) - 1
            return text if not rest else f"{text}.{rest:0{digits}d}".rstrip("0")
        return (EPOCH + datetime.timedelta(seconds=round(ticks / per))).replace(tzinfo=None).isoformat()
    except OverflowError:
        return f"{ticks} {unit}"


def zoned(ticks: int, unit: str, zone: Any) -> Any:
    """A moment kept in UTC, as its zone's clock shows it."""
    text = moment(ticks, unit)
    if text is None:
        return None
    try:
        return datetime.datetime.fromisoformat(f"{text[:26]}+00:00").astimezone(zone_from(zone)).isoformat()
    except (ValueError, OSError, OverflowError, KeyError, TypeError):
        return f"{text}Z"


def period(ordinal: int, freq: str) -> str:
    if freq in ("M", "D"):
        return str(moment(ordinal, freq))
    return f"{ordinal} {freq}"


def span(ticks: int, unit: str) -> Any:
    per = UNITS.get(unit)
    if ticks == NAT:
        return None
    if per is None:
        return f"{ticks} {unit}"
    try:
        return str(datetime.timedelta(seconds=ticks / per))
    except OverflowError:
        return f"{ticks} {unit}"


def unpacker(dtype: str) -> tuple[int, Callable[[bytes], Any]]:
    """Item size and reader of one numpy dtype string."""
    order, kind, rest = dtype[:1], dtype[1:2], dtype[2:]
    end = ">" if order == ">" else "<"
    if kind in "Mm":
        unit = rest.partition("[")[2].rstrip("]").lstrip("0123456789")
        show = moment if kind == "M" else span
        return 8, lambda raw: show(struct.unpack(end + "q", raw)[0], unit)
    if kind == "U":
        codec = "utf-32-be" if end == ">" else "utf-32-le"
        return 4 * int(rest), lambda raw: raw.decode(codec, "replace").rstrip("\0")
    if kind == "S":
        return int(rest), lambda raw: raw.rstrip(b"\0")
    if kind == "V":
        return int(rest), lambda raw: raw
    if kind == "c":
        half = {"8": "f", "16": "d"}.get(rest)
        if half:
            return int(rest), lambda raw: complex(*struct.unpack(end + 2 * half, raw))
    code = CODES.get(kind + rest)
    if code is None:
        size = int(rest)
        return size, lambda raw: raw.hex()
    return struct.calcsize(code), lambda raw: struct.unpack(end + code, raw)[0]


class Tables(Decoder):
    """Reads arrays and frames a row at a time, as lists and dicts."""

    def cells(self, x: Any) -> Iterator[Any]:
        """The items of an ndarray, flat, in memory order."""
        if x[TAG] != "nd":
            yield from (self.item(y) for y in x["v"])
            return
        data = self.raw(x)
        size, read = unpacker(str(x["d"])) if isinstance(x["d"], str) else (0, bytes)
        if size <= 0:  # structured: no reader here, shown as bytes
            size, read = max(1, data.nbytes // max(1, math.prod(x["s"]))), lambda raw: raw.hex()
        for at in range(0, data.nbytes - size + 1, size):
            yield read(bytes(data[at : at + size]))

    def nested(self, x: Any) -> Any:
        shape = list(x["s"])
        flat = self.cells(x)
        if not shape:
            return next(flat, None)
        if x.get("F") and len(shape) > 1:
            return _columns_first(list(flat), shape)
        return _fold(flat, shape)

    def column(self, a: Any) -> Iterator[Any]:
        """The values of one pandas array."""
        kind = a["k"]
        if kind == "np":
            yield from self.cells(a["v"])
        elif kind == "cat":
            names = list(self.index(a["c"]))
            for code in self.cells(a["v"]):
                yield names[code] if 0 <= code < len(names) else None
        elif kind == "dtz":
            for ticks in self.cells(a["v"]):
                yield zoned(ticks, a["u"], a["z"])
        elif kind in ("msk", "str"):
            values = iter(self.item(a["v"])) if kind == "str" else self.cells(a["v"])
            for value, missing in zip(values, self.cells(a["m"]), strict=False):
                yield None if missing else value
        elif kind == "itv":
            for left, right in zip(self.index(a["l"]), self.index(a["r"]), strict=False):
                yield f"({left}, {right}) {a['x']}"
        elif kind == "per":
            for ordinal in self.cells(a["v"]):
                yield period(ordinal, a["f"])
        else:
            raise ValueError("an unknown column")

    def index(self, x: Any) -> Iterator[Any]:
        if x["k"] == "range":
            yield from range(*x["v"])
        elif x["k"] == "multi":
            levels = [list(self.index(level)) for level in x["l"]]
            for row in zip(*(self.cells(c) for c in x["v"]), strict=False):
                yield tuple(v[c] if 0 <= c < len(v) else None for v, c in zip(levels, row, strict=True))
        else:
            yield from self.column(x["a"])

    def rows(self, x: Any) -> Iterator[dict[str, Any]]:
        """A frame as records; its index comes first where it is more than a count."""
        names = [str(c) for c in self.index(x["c"])]
        columns = [self.column(a) for a in x["a"]]
        if not columns:
            return
        if x["i"]["k"] == "range":
            for values in zip(*columns, strict=False):
                yield dict(zip(names, values, strict=False))
        else:
            for key, *rest in zip(self.index(x["i"]), *columns, strict=False):
                yield {"index": key, **dict(zip(names, rest, strict=False))}

    def length(self, x: Any) -> int | None:
        """Rows of a frame, series or index; first axis of an array."""
        tag = x.get(TAG)
        if tag in ("nd", "no", "nS"):
            return int(x["s"][0]) if x["s"] else None
        if tag in ("se", "df"):
            return self.length(x["i"])
        if tag == "ix":
            if x["k"] == "range":
                return len(range(*x["v"]))
            return self.length(x["v"][0]) if x["k"] == "multi" else self.length(x["a"])
        if tag == "ar":
            return self.length(x["l"]) if x["k"] == "itv" else self.length(x["m"] if x["k"] == "str" else x["v"])
        return None

    def other(self, tag: Any, x: Any) -> Any:
        if tag == "np":
            if not isinstance(x["d"], str):
                return str(x["b"])
            size, read = unpacker(x["d"])
            return read(bytes.fromhex(x["b"])[:size])
        if tag in ("nd", "no", "nS"):
            return self.nested(x)
        if tag == "se":
            return list(self.column(x["a"]))
        if tag == "df":
            return list(self.rows(x))
        if tag == "ix":
            return list(self.index(x))
        if tag == "ar":
            return list(self.column(x))
        if tag == "ts":
            return moment(x["v"], x["u"]) if x["z"] is None else zoned(x["v"], x["u"], x["z"])
        if tag == "pt":
            return span(x["v"], x["u"])
        if tag in ("nat", "na"):
            return None
        if tag == "pe":
            return period(x["v"], x["f"])
        if tag == "iv":
            return tuple(self.items(x))
        return super().other(tag, x)


def _fold(flat: Iterator[Any], shape: list[int]) -> Any:
    if any(n < 0 for n in shape) or math.prod(shape) > MAX_CELLS * 20:
        raise ValueError("an impossible shape")
    if len(shape) == 1:
        return list(islice(flat, shape[0]))
    return [_fold(flat, shape[1:]) for _ in range(shape[0])]


def _columns_first(flat: list[Any], shape: list[int]) -> Any:
    def build(offset: int, stride: int, dims: list[int]) -> Any:
        if not dims:
            return flat[offset]
        return [build(offset + i * stride, stride * dims[0], dims[1:]) for i in range(dims[0])]

    return build(0, 1, shape)


class Display(Tables):
    """Strict JSON for pages and prompts, at most ``room`` characters of text; what is cut says so."""

    def __init__(self, region: Any, room: int, *, exact: bool = False) -> None:
        super().__init__(region)
        self.room = room
        self.exact = exact  # integers of any size stay numbers: for readers whose numbers are not all floats

    def show(self, x: Any) -> Any:
        kind = type(x)
        if kind is str:
            return self._text(x)
        if x is None or kind in (bool, int):
            self.room -= 8
            return x if x is None or kind is bool or abs(x) < 1 << (13_000 if self.exact else 53) else digits(x)
        if kind is float:
            self.room -= 12
            return x if math.isfinite(x) else repr(x)
        if kind is list:
            return self._many(x, len(x))
        if kind is dict and TAG in x:
            return self._tagged(x[TAG], x)
        if kind is dict:
            return self._mapping(x.items(), len(x))
        return self._leaf(x)

    def _text(self, text: str) -> str:
        keep = max(0, self.room)
        self.room -= len(text) + 2
        if len(text) > keep:
            return clean(text[:keep]) + f" … [{len(text) - keep:,} characters more]"
        return clean(text)

    def _long(self, x: Any) -> str:
        raw = self.raw(x)
        keep = max(0, self.room)
        if raw.nbytes <= keep:
            return self._text(str(raw, "utf-8", "replace"))
        head = str(raw[: keep * 4], "utf-8", "replace")[:keep]
        self.room = 0
        return clean(head) + f" … [{raw.nbytes / 1e6:,.1f} MB in all]"

    def _many(self, items: Any, total: int | None, show: Callable[[Any], Any] | None = None) -> list[Any]:
        out = []
        for done, y in enumerate(items):
            if self.room <= 0:
                out.append(f"… [{total - done:,} more]" if total is not None else "… [more]")
                break
            self.room -= 2
            out.append((show or self.show)(y))
        return out

    def _mapping(self, pairs: Any, total: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for done, (k, y) in enumerate(pairs):
            if self.room <= 0:
                out["…"] = f"[{total - done:,} more]"
                break
            key = self._text(k) if type(k) is str else str(self.show(k))
            out[key] = self.show(y)
        return out

    def _leaf(self, y: Any) -> Any:
        """A decoded Python object from an array or a column."""
        if y is None or type(y) in (bool, int, float, str):
            return self.show(y)
        if isinstance(y, bytes | bytearray):
            text = (
                y[: max(0, self.room)].decode("utf-8", "replace") if _texty(y) else base64.b64encode(y[:512]).decode()
            )
            return self._text(text)
        if isinstance(y, dict):
            return self._mapping(((str(k), v) for k, v in y.items()), len(y)) if not _plain(y) else self._plain_map(y)
        if isinstance(y, list | tuple | set | frozenset):
            return self._many(y, len(y), self._leaf)
        if isinstance(y, datetime.date | datetime.time):
            return y.isoformat()
        return self._text(str(y)[:1000])

    def _plain_map(self, y: dict[str, Any]) -> dict[str, Any]:
        return {self._text(k): self._leaf(v) for k, v in y.items()}

    def _tagged(self, tag: Any, x: Any) -> Any:
        if tag == "s":
            return self._long(x)
        if tag in ("t", "S", "F", "dq"):
            return self._many(x["v"], len(x["v"]))
        if tag in ("d", "od", "ct", "dd"):
            return self._mapping(((k, v) for k, v in x["v"]), len(x["v"]))
        if tag in ("dc", "nt"):
            return self._mapping(zip(x["k"], x["v"], strict=False), len(x["k"]))
        if tag == "T":
            sizes = self.numbers({"d": "q", **x["z"]})
            return self._many(self._texts(x, sizes), len(sizes))
        if tag == "L":
            count = self.raw(x).nbytes // 8
            room = max(1, self.room // 4)
            part = {"d": x["d"], "o": x["o"], "n": min(count, room) * 8}
            return self._many(self.numbers(part), count) + ([f"… [{count - room:,} more]"] if count > room else [])
        if tag in ("b", "ba"):
            return self._leaf(bytes(self.raw(x)[: max(0, self.room) + 1]))
        if tag in ("nd", "no", "nS"):
            total = math.prod(x["s"])
            if total <= max(1, self.room):
                return self._leaf(self.nested(x))
            return self._many(self.cells(x), total, self._leaf)
        if tag == "se":
            return self._many(self.column(x["a"]), self.length(x), self._leaf)
        if tag == "df":
            return self._many(self.rows(x), self.length(x), self._leaf)
        if tag in ("ix", "ar"):
            return self._many(self.index(x) if tag == "ix" else self.column(x), self.length(x), self._leaf)
        if tag == "f":
            return str(x["v"])
        return self._leaf(self.item(x))

    def _texts(self, x: Any, sizes: list[int]) -> Iterator[str]:
        data, at = self.raw(x), 0
        for n in sizes:
            if n < 0 or at + n > data.nbytes:
                raise ValueError("lengths that do not add up")
            yield str(data[at : at + min(n, max(0, self.room) * 4 + 4)], "utf-8", "replace")
            at += n


def clean(text: str) -> str:
    """NUL and lone surrogates have no place in a database or a page."""
    if "\0" in text:
        text = text.replace("\0", "\u2400")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def digits(x: int) -> str:
    """Decimal, or hexadecimal where Python would refuse so many digits."""
    return str(x) if x.bit_length() < 10_000 else hex(x)


def _texty(y: bytes | bytearray) -> bool:
    head = bytes(y[:256])
    return b"\0" not in head and all(c >= 32 or c in b"\n\r\t" for c in head)


def _plain(y: dict[Any, Any]) -> bool:
    return all(type(k) is str for k in y)
