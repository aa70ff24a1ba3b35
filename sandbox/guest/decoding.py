"""From the crossing form back to Python objects, believing nothing: whoever made the bytes may have lied."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import math
import re
import uuid
import zoneinfo
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from .crossing import FACTORIES, MAX_SKELETON, TAG, CrossingError

SURROGATE = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")


def zone_from(data: Any) -> datetime.tzinfo | None:
    if data is None:
        return None
    if isinstance(data, str):
        return zoneinfo.ZoneInfo(data)
    offset = datetime.timedelta(microseconds=data[0])
    if len(data) > 1:
        return datetime.timezone(offset, str(data[1]))
    return datetime.timezone(offset) if offset else datetime.UTC


def parse(skeleton: bytes | memoryview) -> Any:
    """Read a skeleton from anyone: raises ValueError for whatever is not one."""
    data = bytes(skeleton)
    if len(data) > MAX_SKELETON:
        raise ValueError(f"a skeleton of {len(data):,} bytes is too large")
    if SURROGATE.search(data):
        raise ValueError("a skeleton holds a lone surrogate")

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(data.decode(), parse_constant=refuse)
    except RecursionError:
        raise ValueError("a skeleton is nested too deeply") from None


class Decoder:
    """Turns skeleton and region back into a Python object; subclasses decide about records, arrays and frames."""

    def __init__(self, region: Any) -> None:
        self.region = memoryview(region)

    def decode(self, skeleton: bytes | memoryview) -> Any:
        tree = parse(skeleton)
        if b'"$"' not in bytes(skeleton):
            return tree
        try:
            return self.item(tree)
        except (CrossingError, RecursionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 (whatever hostile bytes lead to)
            raise ValueError(f"a malformed value: {type(error).__name__}: {error}") from None

    def raw(self, node: Any) -> memoryview:
        start, size = node["o"], node["n"]
        if (
            type(start) is not int
            or type(size) is not int
            or start < 0
            or size < 0
            or start + size > self.region.nbytes
        ):
            raise ValueError("an address outside the region")
        return self.region[start : start + size]

    def text(self, node: Any) -> str:
        return str(self.raw(node), "utf-8", "replace")

    def item(self, x: Any) -> Any:
        kind = type(x)
        if kind is list:
            return [self.item(y) for y in x]
        if kind is not dict:
            return x
        tag = x.get(TAG)
        if tag is None:
            return {k: self.item(y) for k, y in x.items()}
        known = DECODE.get(tag) if type(tag) is str else None
        if known is not None:
            return known(self, x)
        return self.other(tag, x)

    def items(self, x: Any) -> list[Any]:
        values = x["v"]
        if type(values) is not list:
            raise ValueError("a list was expected")
        return [self.item(y) for y in values]

    def pairs(self, x: Any) -> list[tuple[Any, Any]]:
        return [(self.item(k), self.item(v)) for k, v in x["v"]]

    def texts(self, x: Any) -> list[str]:
        sizes = array("q", bytes(self.raw(x["z"])))
        data = self.raw(x)
        if any(n < 0 for n in sizes) or sum(sizes) != data.nbytes:
            raise ValueError("lengths that do not add up")
        out, at = [], 0
        for n in sizes:
            out.append(str(data[at : at + n], "utf-8", "replace"))
            at += n
        return out

    def numbers(self, x: Any) -> list[Any]:
        if x["d"] not in ("d", "q"):
            raise ValueError("numbers of an unknown kind")
        return array(x["d"], bytes(self.raw(x))).tolist()

    def record(self, name: str, fields: Sequence[str], values: Sequence[Any], frozen: bool, eq: bool) -> Any:
        return dict(zip(fields, values, strict=True))

    def named(self, name: str, fields: Sequence[str], values: Sequence[Any]) -> Any:
        return tuple(values)

    def other(self, tag: Any, x: Any) -> Any:
        raise ValueError(f"an unknown type {tag!r}"[:80])


def _bignum(d: Decoder, x: Any) -> int:
    text = x["v"]
    if type(text) is not str or not re.fullmatch(r"-?0x[0-9a-f]+", text):
        raise ValueError("not an integer")
    return int(text, 16)


def _defaultdict(d: Decoder, x: Any) -> Any:
    return collections.defaultdict(FACTORIES[x["f"]] if x["f"] else None, d.pairs(x))


def _moment(d: Decoder, x: Any) -> Any:
    *parts, fold = x["v"]
    return datetime.datetime(*parts).replace(fold=fold, tzinfo=zone_from(x["z"]))  # noqa: DTZ001 (its zone, or none)


def _clock(d: Decoder, x: Any) -> Any:
    *parts, fold = x["v"]
    return datetime.time(*parts).replace(fold=fold, tzinfo=zone_from(x["z"]))


def _fields(x: Any) -> list[str]:
    names = x["k"]
    if not all(type(k) is str and k.isidentifier() for k in names):
        raise ValueError("field names that are not names")
    return list(names)


DECODE: dict[str, Callable[[Decoder, Any], Any]] = {
    "s": lambda d, x: d.text(x),
    "T": lambda d, x: d.texts(x),
    "L": lambda d, x: d.numbers(x),
    "i": _bignum,
    "f": lambda d, x: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[x["v"]],
    "c": lambda d, x: complex(*d.items(x)),
    "b": lambda d, x: bytes(d.raw(x)),
    "ba": lambda d, x: bytearray(d.raw(x)),
    "t": lambda d, x: tuple(d.items(x)),
    "S": lambda d, x: set(d.items(x)),
    "F": lambda d, x: frozenset(d.items(x)),
    "d": lambda d, x: dict(d.pairs(x)),
    "od": lambda d, x: collections.OrderedDict(d.pairs(x)),
    "ct": lambda d, x: collections.Counter(dict(d.pairs(x))),
    "dd": _defaultdict,
    "dq": lambda d, x: collections.deque(d.items(x), x["m"]),
    "dt": _moment,
    "D": lambda d, x: datetime.date(*x["v"]),
    "tm": _clock,
    "td": lambda d, x: datetime.timedelta(*x["v"]),
    "n": lambda d, x: decimal.Decimal(x["v"]),
    "u": lambda d, x: uuid.UUID(hex=x["v"]),
    "r": lambda d, x: range(*d.items(x)),
    "dc": lambda d, x: d.record(str(x["c"]), _fields(x), d.items(x), bool(x["z"]), bool(x["q"])),
    "nt": lambda d, x: d.named(str(x["c"]), _fields(x), d.items(x)),
}
