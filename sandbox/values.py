"""Value: a Python object in crossing form, as the host holds it. It is shown, stored and handed on, never run."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sandbox.guest.crossing import INLINE_BYTES, TAG, CrossingError, Encoder
from sandbox.guest.decoding import parse
from sandbox.memory import Memory
from sandbox.output import harmless
from sandbox.plain import Display, Tables, clean

__all__ = ["CrossingError", "Value"]

MAGIC = b"RLMV1\n"
HEADER = struct.Struct("<QQ")
CONTINUATION = bytes(range(0x80, 0xC0))
NAMES = {
    "s": "str", "T": "list", "L": "list", "i": "int", "f": "float", "c": "complex", "b": "bytes", "ba": "bytearray",
    "t": "tuple", "S": "set", "F": "frozenset", "d": "dict", "od": "OrderedDict", "ct": "Counter", "dd": "defaultdict",
    "dq": "deque", "dt": "datetime", "D": "date", "tm": "time", "td": "timedelta", "n": "Decimal", "u": "UUID",
    "r": "range", "np": "numpy scalar", "nd": "ndarray", "no": "ndarray", "nS": "ndarray", "se": "Series",
    "df": "DataFrame", "ix": "Index", "ar": "pandas array", "ts": "Timestamp", "pt": "Timedelta", "nat": "NaT",
    "na": "NA", "pe": "Period", "iv": "Interval",
}  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """What a page says of a value without opening it."""

    type_name: str
    length: int | None
    chars: int
    shape: str


class Value:
    """A skeleton (JSON) and one region of memory. Compare by ``digest``; make with ``of``, ``text``, ``documents``, ``load``."""

    def __init__(self, skeleton: bytes, memory: Memory | None = None) -> None:
        self.skeleton = skeleton
        self.memory = memory or Memory()

    def __repr__(self) -> str:
        return f"<Value {len(self.skeleton) + self.memory.size} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    # making one

    @classmethod
    def of(cls, obj: Any) -> Value:
        """Encode a plain Python object. Raises CrossingError, naming the place, where that cannot be."""
        skeleton, buffers = Encoder().encode(obj)
        return cls(skeleton, Memory(b"".join(buffers)) if buffers else None)

    @classmethod
    def text(cls, data: bytes | Path | Memory, start: int = 0, end: int | None = None) -> Value:
        """A str: bytes ``start`` to ``end`` of UTF-8 data or of a file, by reference."""
        memory = _memory(data)
        end = memory.size if end is None else end
        return cls(_dump(_text_node(memory, start, end)), memory)

    @classmethod
    def documents(cls, blob: Path | bytes | Memory, index: Sequence[Mapping[str, Any]]) -> Value:
        """A corpus: a list of {"title", "text", "name", "meta"} whose texts are slices of one UTF-8 blob."""
        memory = _memory(blob)
        tree = []
        for entry in index:
            tree.append(
                {
                    "title": _short(entry.get("title", "")),
                    "text": _text_node(memory, int(entry["start"]), int(entry["end"])),
                    "name": _short(entry.get("name", "")),
                    "meta": Encoder(inline=True).item(entry.get("meta")),  # the region is the blob's alone
                }
            )
        return cls(_dump(tree), memory)

    # keeping one

    def dump(self) -> bytes:
        """One blob for storage."""
        view = self.memory.view()
        return b"".join((MAGIC, HEADER.pack(len(self.skeleton), view.nbytes), self.skeleton, view))

    @classmethod
    def load(cls, data: bytes) -> Value:
        """The inverse of dump. Raises ValueError for bytes that are none; bad addresses show when it is decoded."""
        start = len(MAGIC) + HEADER.size
        if data[: len(MAGIC)] != MAGIC or len(data) < start:
            raise ValueError("these bytes are not a dumped value")
        size, region = HEADER.unpack_from(data, len(MAGIC))
        if start + size + region != len(data):
            raise ValueError("a dumped value is cut or has something after it")
        value = cls(data[start : start + size], Memory(memoryview(data)[start + size :]))
        if not value.sound:
            raise ValueError("a dumped value is malformed")
        return value

    # looking at one

    def tree(self) -> Any:
        """The parsed skeleton; kept only where it is small."""
        if len(self.skeleton) > 1 << 18:
            return parse(self.skeleton)
        return self._tree

    @cached_property
    def _tree(self) -> Any:
        return parse(self.skeleton)

    @cached_property
    def summary(self) -> Summary:
        try:
            return self._summarise()
        except Exception:  # noqa: BLE001 (bytes from a jail may be anything)
            return Summary("malformed", None, 0, "malformed")

    @property
    def sound(self) -> bool:
        """Whether its addresses, types and shapes are ones."""
        return self.summary.type_name != "malformed"

    def _summarise(self) -> Summary:
        tree = self.tree()
        tables = Tables(self.memory.view())
        chars = _chars(tree, tables)
        length = _length(tree, tables)
        name = _name(tree)
        return Summary(name, length, chars, _shape(name, tree, length, chars, tables))

    @property
    def type_name(self) -> str:
        return self.summary.type_name

    @property
    def length(self) -> int | None:
        return self.summary.length

    @property
    def chars(self) -> int:
        """Characters of text in it; other leaves count by their written length."""
        return self.summary.chars

    @property
    def shape(self) -> str:
        return self.summary.shape

    @property
    def nbytes(self) -> int:
        return len(self.skeleton) + self.memory.size

    @cached_property
    def digest(self) -> str:
        """Equal for equal values, however their bytes lie. Reads all of it: use a thread for large ones."""
        try:
            data = _dump(_canonical(self.tree(), Tables(self.memory.view())))
        except Exception:  # noqa: BLE001 (bytes from a jail may be anything)
            data = self.skeleton + bytes(self.memory.view())
        return hashlib.sha256(data).hexdigest()

    def preview(self, chars: int = 200) -> str:
        """A head of it, as one would read it in a REPL: never more than ``chars`` characters."""
        text = self.head(chars + 1) if self.type_name == "str" else None
        if text is None:
            shown = self.plain(max_chars=chars * 2)
            text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
        else:
            text = repr(text)
        text = re.sub(r"\s+", " ", harmless(clean(text)))
        return text if len(text) <= chars else text[: max(0, chars - 1)] + "…"

    def plain(self, *, max_chars: int = 2_000_000, exact: bool = False) -> Any:
        """Strict JSON for display: tuples and sets are lists, frames lists of records, nan "nan"; cuts are marked.

        Integers past 2**53 become text, which JavaScript would round; with ``exact`` they stay numbers.
        """
        try:
            return Display(self.memory.view(), max_chars, exact=exact).show(self.tree())
        except Exception:  # noqa: BLE001 (bytes from a jail may be anything)
            return "(a malformed value)"

    def python(self) -> Any:
        """The object in plain Python: records are dicts, arrays and frames lists. Raises ValueError if malformed."""
        try:
            return Tables(self.memory.view()).decode(self.skeleton)
        except CrossingError as error:
            raise ValueError(str(error)) from None

    def head(self, chars: int) -> str:
        return self._slice(chars, last=False)

    def tail(self, chars: int) -> str:
        return self._slice(chars, last=True)

    def _slice(self, chars: int, *, last: bool) -> str:
        tree = self.tree()
        if isinstance(tree, str):
            return clean(tree[-chars:] if last else tree[:chars]) if chars > 0 else ""
        if not (isinstance(tree, dict) and tree.get(TAG) == "s"):
            raise ValueError(f"only a str has a head and a tail, not a {self.type_name}")
        raw = Tables(self.memory.view()).raw(tree)
        near = raw[max(0, raw.nbytes - 4 * chars) :] if last else raw[: 4 * chars]
        text = str(near, "utf-8", "replace")
        return clean(text[-chars:] if last else text[:chars]) if chars > 0 else ""


def _memory(data: bytes | Path | Memory) -> Memory:
    if isinstance(data, Memory):
        return data
    return Memory.of_file(data) if isinstance(data, Path) else Memory(data)


def _dump(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def _short(text: Any) -> str:
    return str(text)[: INLINE_BYTES // 4].encode("utf-8", "replace").decode()


def _text_node(memory: Memory, start: int, end: int) -> Any:
    if not 0 <= start <= end <= memory.size:
        raise ValueError(f"bytes {start} to {end} are not in a blob of {memory.size} bytes")
    if end - start <= INLINE_BYTES:
        return str(memory.view()[start:end], "utf-8", "replace")
    return {TAG: "s", "o": start, "n": end - start}


def _name(tree: Any) -> str:
    if isinstance(tree, dict):
        tag = tree.get(TAG)
        if tag is None:
            return "dict"
        if tag in ("dc", "nt"):
            return str(tree.get("c"))[:80]
        return NAMES.get(tag, "?") if isinstance(tag, str) else "?"
    return type(tree).__name__


def _length(tree: Any, tables: Tables) -> int | None:
    if isinstance(tree, str | list):
        return len(tree)
    if not isinstance(tree, dict):
        return None
    tag = tree.get(TAG)
    if tag is None:
        return len(tree)
    if tag == "s":
        return _count_chars(tables.raw(tree))
    if tag in ("b", "ba"):
        return tables.raw(tree).nbytes
    if tag == "L":
        return tables.raw(tree).nbytes // 8
    if tag == "T":
        return tables.raw(tree["z"]).nbytes // 8
    if tag in ("t", "S", "F", "d", "od", "ct", "dd", "dq"):
        return len(tree["v"])
    return tables.length(tree)


def _count_chars(raw: memoryview) -> int:
    count = 0
    for at in range(0, raw.nbytes, 4 << 20):
        piece = bytes(raw[at : at + (4 << 20)])
        count += len(piece) if piece.isascii() else len(piece.translate(None, CONTINUATION))
    return count


def _chars(tree: Any, tables: Tables) -> int:
    count, todo = 0, [tree]
    while todo:
        x = todo.pop()
        kind = type(x)
        if kind is str:
            count += len(x)
        elif kind is list:
            todo.extend(x)
        elif kind is dict:
            tag = x.get(TAG)
            if tag is None:
                todo.extend(x.values())
                count += sum(map(len, x))
            elif tag in ("s", "T"):
                count += _count_chars(tables.raw(x))
            elif "o" in x and "n" in x:
                count += tables.raw(x).nbytes
            else:
                todo.extend(
                    y for k, y in x.items() if k in ("v", "a", "l", "r", "m", "i", "b") and type(y) in (list, dict, str)
                )
        else:
            count += len(repr(x)) if kind is not int or -(10**18) < x < 10**18 else 20
    return count


def _shape(name: str, tree: Any, length: int | None, chars: int, tables: Tables) -> str:
    text = name
    tag = tree.get(TAG) if isinstance(tree, dict) else None
    if tag in ("nd", "no", "nS"):
        dtype = tree.get("d", "object")
        return f"ndarray({' × '.join(str(int(n)) for n in tree['s'])}) {dtype if isinstance(dtype, str) else 'structured'}"[
            :120
        ]
    if tag == "df":
        return f"DataFrame · {tables.length(tree):,} rows × {len(tree['a'])} columns"
    if name in ("str", "NoneType", "bool", "int", "float"):
        return f"str · {_amount(chars)} ch" if name == "str" else name
    if length is not None:
        text += f"[{length:,}]"
    items = tree if isinstance(tree, list) else tree.get("v") if tag in ("t", "S", "F", "dq") else None
    if tag == "L":
        text += f" of {'float' if tree['d'] == 'd' else 'int'}"
    elif tag == "T":
        text += " of str"
    elif items:
        kinds = sorted({_name(x) for x in items[:1000]})
        text += f" of {kinds[0] if len(kinds) == 1 else 'mixed'}"
    return f"{text} · {_amount(chars)} ch" if tag not in ("b", "ba") else f"{text} bytes"


def _amount(n: int) -> str:
    return f"{n:,}" if n < 1_000_000 else f"{n / 1e6:.2f} M"


def _canonical(tree: Any, tables: Tables) -> Any:
    """The skeleton with each address replaced by a digest of what lies there, and sets in one order."""
    kind = type(tree)
    if kind is list:
        return [_canonical(x, tables) for x in tree]
    if kind is not dict:
        return tree
    out = {k: _canonical(x, tables) for k, x in tree.items()}
    if TAG in tree and "o" in tree and "n" in tree:
        del out["o"]
        out["n"] = [tree["n"], hashlib.sha256(tables.raw(tree)).hexdigest()]
    if tree.get(TAG) == "T":
        out["z"] = hashlib.sha256(tables.raw(tree["z"])).hexdigest()
    if tree.get(TAG) in ("S", "F"):
        out["v"] = sorted(out["v"], key=lambda x: json.dumps(x, ensure_ascii=False))
    return out
