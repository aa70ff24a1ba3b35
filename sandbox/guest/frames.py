"""numpy and pandas values, to and from the crossing form. Both are looked up only where a cell already uses them."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from . import bigtext
from .crossing import TAG, CrossingError, Encoder, zone_of
from .decoding import Decoder, zone_from

MASKED = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "boolean")


def encoder(max_bytes: int) -> Encoder:
    return Encoder(max_bytes, extra)


def extra(e: Encoder, o: Any) -> Any:
    """The crossing form of a numpy or pandas object; None for anything else."""
    package = type(o).__module__.partition(".")[0]
    if package == "numpy" and "numpy" in sys.modules:
        return _numpy(e, o, sys.modules["numpy"])
    if package == "pandas" and "pandas" in sys.modules:
        return _pandas(e, o, sys.modules["pandas"])
    return None


def _descr(dtype: Any) -> Any:
    if dtype.names is None:
        return dtype.str
    if dtype.hasobject:
        raise CrossingError("is a structured array that holds objects, which cannot cross")
    fields = [[name, _descr(dtype.fields[name][0]), dtype.fields[name][1]] for name in dtype.names]
    return [fields, dtype.itemsize]


def _dtype(np: Any, descr: Any) -> Any:
    if isinstance(descr, str):
        dtype = np.dtype(descr)
        if dtype.hasobject:
            raise ValueError("objects are no raw bytes")
        return dtype
    fields, size = descr
    return np.dtype(
        {
            "names": [f[0] for f in fields],
            "formats": [_dtype(np, f[1]) for f in fields],
            "offsets": [f[2] for f in fields],
            "itemsize": size,
        }
    )


def _numpy(e: Encoder, o: Any, np: Any) -> Any:
    kind = type(o)
    if kind is np.ndarray:
        return ndarray(e, o, np)
    if isinstance(o, np.generic) and kind.__module__ == "numpy":
        return {TAG: "np", "d": _descr(o.dtype), "b": np.asarray(o).tobytes().hex()}
    return None


def ndarray(e: Encoder, o: Any, np: Any) -> Any:
    shape = list(o.shape)
    if o.dtype.kind == "O":
        return {TAG: "no", "s": shape, "v": e.sequence(o.ravel().tolist(), lambda i: _at(shape, i))}
    if o.dtype.kind == "T":  # texts of any length: as objects, and back
        return {TAG: "nS", "s": shape, "v": e.sequence(o.ravel().tolist(), lambda i: _at(shape, i))}
    if any(f[0].subdtype is not None for f in (o.dtype.fields or {}).values()):
        raise CrossingError("is a structured array with arrays in it, which cannot cross")
    columns = o.ndim > 1 and o.flags.f_contiguous and not o.flags.c_contiguous
    flat = (o.T if columns else np.ascontiguousarray(o)).reshape(-1)
    raw = flat.view(np.uint8) if flat.size and flat.dtype.itemsize else b""
    return {TAG: "nd", "d": _descr(o.dtype), "s": shape, "F": columns, **e.raw(raw)}


def _at(shape: Sequence[int], i: int) -> str:
    steps = []
    for n in reversed(shape):
        steps.append(i % n)
        i //= n
    return f"[{', '.join(map(str, reversed(steps)))}]"


def _ndarray_of(d: Decoder, x: Any, np: Any) -> Any:
    shape = tuple(int(n) for n in x["s"])
    if x[TAG] != "nd":
        values = d.items(x)
        if x[TAG] == "nS":
            return np.array(values, dtype=np.dtypes.StringDType()).reshape(shape)
        out = np.empty(len(values), dtype=object)
        out[:] = values if len(values) != 1 else [None]
        if len(values) == 1:
            out[0] = values[0]
        return out.reshape(shape)
    dtype = _dtype(np, x["d"])
    if not dtype.itemsize:
        return np.zeros(shape, dtype)
    flat = np.frombuffer(bytearray(d.raw(x)), dtype=dtype)  # its own memory, so that it can be written to
    return flat.reshape(shape[::-1]).T if x["F"] else flat.reshape(shape)


def _pandas(e: Encoder, o: Any, pd: Any) -> Any:
    kind = type(o)
    if kind is pd.DataFrame:
        columns = [_named(e, o.iloc[:, i].array, f"[{name!r}]", pd) for i, name in enumerate(o.columns)]
        return {TAG: "df", "a": columns, "c": index(e, o.columns, pd), "i": index(e, o.index, pd), "at": _attrs(e, o)}
    if kind is pd.Series:
        return {
            TAG: "se",
            "a": array(e, o.array, pd),
            "i": index(e, o.index, pd),
            "n": e.item(o.name),
            "at": _attrs(e, o),
        }
    if isinstance(o, pd.Index):
        return index(e, o, pd)
    if isinstance(o, pd.api.extensions.ExtensionArray):
        return array(e, o, pd)
    if o is pd.NaT:
        return {TAG: "nat"}
    if o is pd.NA:
        return {TAG: "na"}
    if kind is pd.Timestamp:
        return {TAG: "ts", "v": int(o._value), "u": o.unit, "z": zone_of(o.tzinfo), "f": o.fold}
    if kind is pd.Timedelta:
        return {TAG: "pt", "v": int(o._value), "u": o.unit}
    if kind is pd.Period:
        return {TAG: "pe", "v": int(o.ordinal), "f": o.freqstr}
    if kind is pd.Interval:
        return {TAG: "iv", "v": [e.item(o.left), e.item(o.right)], "x": o.closed}
    return None


def _attrs(e: Encoder, o: Any) -> Any:
    return e.item(dict(o.attrs)) if o.attrs else None


def _named(e: Encoder, values: Any, step: str, pd: Any) -> Any:
    try:
        return array(e, values, pd)
    except CrossingError as error:
        raise error.inside(step) from None


def array(e: Encoder, o: Any, pd: Any) -> Any:
    """One column."""
    np = sys.modules["numpy"]
    dtype, out = o.dtype, {TAG: "ar"}
    if isinstance(dtype, np.dtype) or type(o) is pd.arrays.NumpyExtensionArray:
        return {**out, "k": "np", "v": ndarray(e, np.asarray(o), np)}
    if isinstance(dtype, pd.CategoricalDtype):
        codes = ndarray(e, np.asarray(o.codes), np)
        return {**out, "k": "cat", "v": codes, "c": index(e, o.categories, pd), "r": bool(o.ordered)}
    if isinstance(dtype, pd.DatetimeTZDtype):
        ticks = np.asarray(o.asi8)
        return {**out, "k": "dtz", "v": ndarray(e, ticks, np), "u": dtype.unit, "z": zone_of(dtype.tz)}
    if str(dtype) in MASKED:
        return {**out, "k": "msk", "t": str(dtype), "v": ndarray(e, o._data, np), "m": ndarray(e, o._mask, np)}
    if isinstance(dtype, pd.StringDtype) and dtype.storage == "python":
        missing = np.asarray(o.isna())
        texts = ["" if gone else str(text) for text, gone in zip(o.tolist(), missing.tolist(), strict=True)]
        return {**out, "k": "str", "v": e.item(texts), "m": ndarray(e, missing, np), "na": dtype.na_value is not pd.NA}
    if isinstance(dtype, pd.PeriodDtype):
        return {**out, "k": "per", "v": ndarray(e, np.asarray(o.asi8), np), "f": dtype.name[7:-1]}  # period[M]
    if isinstance(dtype, pd.IntervalDtype):
        return {**out, "k": "itv", "l": index(e, o.left, pd), "r": index(e, o.right, pd), "x": o.closed}
    raise CrossingError(f"is a pandas column of dtype {dtype}, which cannot cross; use .astype(object) or dense data")


def _array_of(d: Decoder, x: Any, pd: Any) -> Any:
    np, kind = importlib.import_module("numpy"), x["k"]
    if kind == "np":
        values = _ndarray_of(d, x["v"], np)
        return (
            pd.array(values, dtype=values.dtype) if values.dtype.kind in "mM" else pd.arrays.NumpyExtensionArray(values)
        )
    if kind == "cat":
        return pd.Categorical.from_codes(_ndarray_of(d, x["v"], np), _index_of(d, x["c"], pd), ordered=x["r"])
    if kind == "dtz":
        ticks = _ndarray_of(d, x["v"], np).view(f"M8[{x['u']}]")
        return pd.DatetimeIndex(ticks).tz_localize("UTC").tz_convert(zone_from(x["z"])).array
    if kind == "msk":
        values, mask = _ndarray_of(d, x["v"], np), _ndarray_of(d, x["m"], np)
        maker = {"b": "BooleanArray", "f": "FloatingArray"}.get(values.dtype.kind, "IntegerArray")
        return getattr(pd.arrays, maker)(values, mask)
    if kind == "str":
        mask = _ndarray_of(d, x["m"], np)
        missing = np.nan if x["na"] else pd.NA
        texts = np.array(d.item(x["v"]), dtype=object)
        texts[mask] = missing
        return pd.array(texts, dtype=pd.StringDtype("python", na_value=missing))
    if kind == "per":
        return pd.PeriodIndex.from_ordinals(_ndarray_of(d, x["v"], np), freq=x["f"]).array
    if kind == "itv":
        return pd.arrays.IntervalArray.from_arrays(_index_of(d, x["l"], pd), _index_of(d, x["r"], pd), closed=x["x"])
    raise ValueError("an unknown column")


def index(e: Encoder, o: Any, pd: Any) -> Any:
    out: dict[str, Any] = {TAG: "ix"}
    try:
        if isinstance(o, pd.RangeIndex):
            return {**out, "k": "range", "v": [int(o.start), int(o.stop), int(o.step)], "n": e.item(o.name)}
        if isinstance(o, pd.MultiIndex):
            np = sys.modules["numpy"]
            codes = [ndarray(e, np.asarray(c), np) for c in o.codes]
            levels = [index(e, level, pd) for level in o.levels]
            return {**out, "k": "multi", "l": levels, "v": codes, "n": e.item(list(o.names))}
        freq = getattr(o, "freqstr", None) if isinstance(o, pd.DatetimeIndex | pd.TimedeltaIndex) else None
        return {**out, "k": "plain", "a": array(e, o.array, pd), "n": e.item(o.name), "f": freq}
    except CrossingError as error:
        raise error.inside(".index") from None


def _index_of(d: Decoder, x: Any, pd: Any) -> Any:
    np, kind = importlib.import_module("numpy"), x["k"]
    if kind == "range":
        return pd.RangeIndex(*x["v"], name=d.item(x["n"]))
    if kind == "multi":
        levels = [_index_of(d, level, pd) for level in x["l"]]
        return pd.MultiIndex(levels=levels, codes=[_ndarray_of(d, c, np) for c in x["v"]], names=d.item(x["n"]))
    values = _array_of(d, x["a"], pd)
    if x["f"] is not None:
        return type(pd.Index(values))(values, freq=x["f"], name=d.item(x["n"]))
    return pd.Index(values, dtype=values.dtype, name=d.item(x["n"]))


class GuestDecoder(Decoder):
    """Decodes into real numpy and pandas objects, and into records of the classes this REPL knows."""

    def __init__(self, region: Any, namespace: dict[str, Any], fd: int = -1) -> None:
        super().__init__(region)
        self.namespace = namespace
        self.fd = fd  # where the region can be read from, too
        self.made: dict[Any, Any] = {}

    def text(self, node: Any) -> str:
        size = self.raw(node).nbytes
        if self.fd >= 0 and size >= bigtext.FROM:
            found = bigtext.read(self.fd, node["o"], size)
            if found is not None:
                return found
        return super().text(node)

    def record(self, name: str, fields: Sequence[str], values: Sequence[Any], frozen: bool, eq: bool) -> Any:
        """An instance of this REPL's own dataclass of that name and those fields, or of one made like it."""
        known: Any = self.namespace.get(name)
        if not (dataclasses.is_dataclass(known) and [f.name for f in dataclasses.fields(known)] == list(fields)):
            key = (name, tuple(fields), frozen, eq)
            known = self.made.get(key)
            if known is None:
                known = dataclasses.make_dataclass(name, [(f, Any) for f in fields], frozen=frozen, eq=eq)
                known.__module__ = "__main__"
                self.made[key] = known
        made = object.__new__(known)
        for field, value in zip(fields, values, strict=True):
            object.__setattr__(made, field, value)
        return made

    def named(self, name: str, fields: Sequence[str], values: Sequence[Any]) -> Any:
        known: Any = self.namespace.get(name)
        if not (
            isinstance(known, type) and issubclass(known, tuple) and getattr(known, "_fields", None) == tuple(fields)
        ):
            known = self.made.get((name, tuple(fields)))
            if known is None:
                known = collections.namedtuple(name, fields)  # type: ignore[no-redef,misc]
                known.__module__ = "__main__"
                self.made[name, tuple(fields)] = known
        return tuple.__new__(known, values)

    def other(self, tag: Any, x: Any) -> Any:
        if tag in ("np", "nd", "no", "nS"):
            np = importlib.import_module("numpy")
            if tag == "np":
                return np.frombuffer(bytes.fromhex(x["b"]), dtype=_dtype(np, x["d"]), count=1)[0]
            return _ndarray_of(self, x, np)
        if tag not in ("df", "se", "ix", "ar", "nat", "na", "ts", "pt", "pe", "iv"):
            return super().other(tag, x)
        pd = importlib.import_module("pandas")
        if tag == "df":
            rows = _index_of(self, x["i"], pd)
            columns = {i: pd.Series(_array_of(self, a, pd), index=rows, copy=False) for i, a in enumerate(x["a"])}
            frame = pd.DataFrame(columns, index=rows, copy=False)
            frame.columns = _index_of(self, x["c"], pd)
            return self._with_attrs(frame, x)
        if tag == "se":
            values = _array_of(self, x["a"], pd)
            series = pd.Series(values, index=_index_of(self, x["i"], pd), name=self.item(x["n"]), dtype=values.dtype)
            return self._with_attrs(series, x)
        if tag == "ix":
            return _index_of(self, x, pd)
        if tag == "ar":
            return _array_of(self, x, pd)
        if tag in ("nat", "na"):
            return pd.NaT if tag == "nat" else pd.NA
        if tag == "ts":
            np = importlib.import_module("numpy")
            moment = pd.Timestamp(np.datetime64(x["v"], x["u"]))
            zone = zone_from(x["z"])
            return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)
        if tag == "pt":
            np = importlib.import_module("numpy")
            return pd.Timedelta(np.timedelta64(x["v"], x["u"]))
        if tag == "pe":
            return pd.Period(ordinal=x["v"], freq=x["f"])
        left, right = self.items(x)
        return pd.Interval(left, right, closed=x["x"])

    def _with_attrs(self, made: Any, x: Any) -> Any:
        if x.get("at"):
            made.attrs = self.item(x["at"])
        return made
