"""Every type the product names crosses without loss: cell to host, host to cell, cell to cell."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import math
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import CrossingError, ReplLimits, Value
from tests.sandbox.conftest import RunCells, Start

loop = pytest.mark.asyncio(loop_scope="module")
UTC = datetime.UTC

VALUES: list[Any] = [
    None, True, 0, -1, 2**53 + 1, 2**63, -(2**63) - 1, 10**5000, 1.5, -0.0, 5e-324, math.inf, -math.inf, "", "é𝄞\0\n", "x" * 10_000,
    "é" * 5000, b"", b"\0\xff" * 5000, bytearray(b"x"), 1j, [], [[]], [1] * 100, [2**70] * 100, [1.5, math.inf] * 50, ["a", "é" * 9000] * 40,
    [True] * 100, [1, 2.0] * 50, (), (1, (2, [3])), set(), {1, "a", (2,)}, frozenset({frozenset({1})}), {}, {"$": 1}, {"a": {"$": {}}},
    {1: "int", "1": "str", None: 0, (1, 2): [3], 1.5: 2, b"k": 3},
    datetime.datetime(2020, 2, 29, 1, 2, 3, 4), datetime.datetime(2020, 1, 1, tzinfo=UTC),  # noqa: DTZ001
    datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST")),
    datetime.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    datetime.date(1, 1, 1), datetime.time(23, 59, tzinfo=UTC), datetime.timedelta(-5, 3, 7), decimal.Decimal("1.10"), decimal.Decimal("NaN"),
    decimal.Decimal("-Infinity"), uuid.UUID(int=5), range(1, 10, 2), collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.Counter("aab"), collections.defaultdict(list, {"a": [1]}), collections.deque([1, 2], maxlen=5),
]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if type(a) is int:
        return type(b) is int and a == b
    if isinstance(a, set | frozenset):  # the order of equal ones depends on what was put in first
        return type(a) is type(b) and sorted(map(repr, a)) == sorted(map(repr, b))
    return type(a) is type(b) and repr(a) == repr(b) and getattr(a, "fold", 0) == getattr(b, "fold", 0)


@pytest.mark.parametrize("value", VALUES, ids=[f"{type(v).__name__}{i}" for i, v in enumerate(VALUES)])
def test_value_is_the_same_on_the_host(value: Any) -> None:
    crossed = Value.of(value)
    assert same(crossed.python(), value)
    assert Value.load(crossed.dump()).digest == crossed.digest
    json.dumps(crossed.plain(), allow_nan=False).encode()
    assert len(crossed.preview(50)) <= 50


@pytest.mark.firejail
@loop
async def test_values_come_back_from_a_cell_as_they_were(start: Start) -> None:
    repl = await start(context=VALUES)
    result = await repl.run("FINAL(await llm_query(context))", 1)
    assert result.final is not None, result.error
    for crossed, value in zip(result.final.python(), VALUES, strict=True):
        assert same(crossed, value)
    assert result.final.digest == Value.of(VALUES).digest


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(json_like)
@settings(max_examples=150, deadline=None)
def test_any_nesting_comes_back(value: Any) -> None:
    crossed = Value.of(value)
    assert repr(crossed.python()) == repr(value)
    assert Value.of(crossed.python()).digest == crossed.digest
    json.dumps(crossed.plain(max_chars=100), allow_nan=False)
    crossed.preview(30)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_value_raise_only_value_errors(data: bytes) -> None:
    for attempt in (lambda: Value.load(data), lambda: Value(data).python()):
        try:
            attempt()
        except ValueError:
            continue
    assert isinstance(Value(data).plain(), object)
    assert Value(data).digest


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, 1, 2, "\ud800"]}, 'value["a"][3]: has a lone surrogate (U+D800) at character 0'),
        (["ok"] * 100 + ["x\udfff"], "value[100]: has a lone surrogate (U+DFFF) at character 1"),
        ({"k": {1: object()}}, 'value["k"][1]: is a builtins.object, which cannot cross; pass plain data made from it'),
        ({(1, 2): {"x": print}}, 'value[(1, 2)]["x"]: is a builtins.builtin_function_or_method'),
        (({1, print},), "value[0]{…}: is a builtins.builtin_function_or_method"),
        ({"a": iter([])}, 'value["a"]: is a builtins.list_iterator'),
        (collections.defaultdict(lambda: 0), "value: is a defaultdict whose factory cannot cross; pass dict(…) of it"),
        ({"bad\ud800": 1}, "has a lone surrogate"),
    ],
)
def test_what_cannot_cross_names_its_place(value: Any, place: str) -> None:
    with pytest.raises(CrossingError) as caught:
        Value.of(value)
    assert place in str(caught.value)


def test_cycle_names_its_place() -> None:
    cycle: dict[str, Any] = {"a": [1]}
    cycle["a"].append(cycle)
    with pytest.raises(CrossingError, match=r'value\["a"\]\[1\]: contains itself'):
        Value.of(cycle)


def test_depth_is_bounded_and_its_place_cut() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CrossingError, match="nested more than 128 levels"):
        Value.of(deep)
    shallow: Any = 1
    for i in range(128):
        shallow = {i: shallow} if i % 2 else (shallow,)
    assert Value.of(shallow).python() == shallow


def test_shared_parts_are_no_cycle() -> None:
    part = [1, 2]
    assert Value.of([part, part]).python() == [[1, 2], [1, 2]]


@pytest.mark.firejail
@loop
async def test_exponential_sharing_is_refused_or_interrupted(run: RunCells) -> None:
    result = await run(
        "a = ['x']\nfor _ in range(60): a = [a, a]\nFINAL(a)", limits=ReplLimits(cell_seconds=2, memory_mb=1024)
    )
    assert not result.finished
    assert result.error


@pytest.mark.firejail
@loop
async def test_hostile_dict_subclass_cannot_cross(run: RunCells) -> None:
    result = await run("class D(dict):\n    def items(self): raise SystemExit\nFINAL([D()])")
    assert "value[0]: is a __main__.D, which cannot cross" in result.error


@pytest.mark.firejail
@loop
async def test_numpy_crosses_from_cell_to_cell(start: Start) -> None:
    repl = await start(context=None)
    result = await repl.run(
        """
import numpy as np
arrays = [np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.).reshape(2, 3)), np.array(5), np.zeros((0, 3)), np.array(["a", "é"]),
          np.array([b"ab"]), np.array([True]), np.array([1j]), np.array(["2020-01-01", "NaT"], dtype="M8[ns]"), np.array([1], dtype="m8[s]"),
          np.array([1, "a", None], dtype=object), np.arange(10)[::2], np.array([1, 2], dtype=">i4"), np.float16([1.5]), np.longdouble([1.5]),
          np.array([(1, 2.)], dtype=[("a", "i4"), ("b", "f8")]), np.array(["a", "b" * 99], dtype=np.dtypes.StringDType()), np.ones((300, 300))]
scalars = [np.int64(3), np.float32(1.5), np.bool_(True), np.str_("é"), np.bytes_(b"x"), np.datetime64("2020-01-01"), np.timedelta64(3, "h"),
           np.complex64(1j), np.uint8(255), np.float64("nan"), np.datetime64("NaT")]
back = await llm_query([arrays, scalars])
for a, b in zip(arrays, back[0]):
    assert a.dtype == b.dtype and a.shape == b.shape, (a, b)
    np.testing.assert_array_equal(a, b)
    b.ravel()
for a, b in zip(scalars, back[1]):
    assert type(a) is type(b) and a.dtype == b.dtype and (a == b or a != a), (a, b)
back[0][0][0, 0] = 7
print("ok")
FINAL([arrays[0], scalars[0], np.datetime64("2020-01-01T10:00:00"), arrays[1]])
""",
        1,
    )
    assert (result.output, result.error) == ("ok\n", "")
    assert result.final is not None
    assert result.final.python() == [
        [[0, 1, 2], [3, 4, 5]],
        3,
        "2020-01-01T10:00:00",
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
    ]


@pytest.mark.firejail
@loop
async def test_pandas_crosses_from_cell_to_cell(start: Start) -> None:
    repl = await start(context=None)
    result = await repl.run(
        """
import numpy as np, pandas as pd
days = pd.date_range("2020", periods=3, freq="D")
df = pd.DataFrame({
    "a": [1, 2, 3], "b": [1.5, np.nan, 3], "s": ["x", None, "é"], "c": pd.Categorical(["u", "v", "u"], ordered=True), "t": days,
    "tz": days.tz_localize("Europe/Berlin"), "I": pd.array([1, None, 3], dtype="Int64"), "B": pd.array([True, None, False], dtype="boolean"),
    "o": [1, "x", None], "p": pd.period_range("2020", periods=3, freq="M"), "iv": pd.interval_range(0, 3),
    "td": pd.to_timedelta([1, 2, None], unit="s"), "mixed": [pd.Timestamp("2020"), pd.NaT, pd.NA],
    "st": pd.array(["a", pd.NA, "b"], dtype=pd.StringDtype("python"))})
df.attrs = {"source": "x"}
frames = [df, df.set_index("a"), df.set_index(["a", "s"]), df[["a", "b"]].T, pd.DataFrame(), pd.DataFrame([[1, 2]], columns=["x", "x"]),
          pd.DataFrame({("a", 1): [1], ("b", 2): [2]}), df.set_index(days), pd.DataFrame(index=[1, 2]), pd.DataFrame(np.ones((3, 4)))]
series = [df[c] for c in df] + [pd.Series(dtype="int8", name=("a", 1)), pd.Series([1, 2], index=["x", "x"])]
indexes = [pd.Index([1, 2], name="q"), pd.RangeIndex(3), days, pd.MultiIndex.from_product([[1, 2], ["a"]], names=["x", None]), pd.Index([1, "a"])]
scalars = [pd.Timestamp("2020-01-01 01:02:03.123456789"), pd.Timestamp("2020", tz="UTC"), pd.NaT, pd.NA, pd.Timedelta("1 day 2ns"), pd.Period("2020-01"),
           pd.Interval(1, 2.5, closed="both"), pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert("Europe/Berlin")]
f, s, i, x = await llm_query([frames, series, indexes, scalars])
for a, b in zip(frames, f):
    pd.testing.assert_frame_equal(a, b, check_freq=True, check_column_type="exact")
    assert a.attrs == b.attrs
for a, b in zip(series, s): pd.testing.assert_series_equal(a, b)
for a, b in zip(indexes, i): pd.testing.assert_index_equal(a, b, exact=True)
for a, b in zip(scalars, x): assert type(a) is type(b) and (a is b or a == b), (a, b)
f[0].loc[0, "a"] = 99
print("ok")
FINAL(df[["a", "b", "s", "c", "t", "tz"]])
""",
        1,
    )
    assert (result.output, result.error) == ("ok\n", "")
    assert result.final is not None
    assert result.final.shape == "DataFrame · 3 rows × 6 columns"
    assert result.final.plain()[0] == {
        "a": 1,
        "b": 1.5,
        "s": "x",
        "c": "u",
        "t": "2020-01-01T00:00:00",
        "tz": "2020-01-01T00:00:00+01:00",
    }
    assert result.final.plain()[1]["b"] == "nan"


@pytest.mark.firejail
@loop
@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("pd.arrays.SparseArray([0, 0, 1])", "value: is a pandas column of dtype Sparse"),
        ("{'a': pd.DataFrame({'q': [1, print]})}", "value[\"a\"]['q'][1]: is a builtins.builtin_function_or_method"),
        ("np.ma.array([1])", "value: is a numpy.ma.MaskedArray"),
        ("np.array([[1, print]], dtype=object)", "value[0, 1]: is a"),
    ],
)
async def test_table_that_cannot_cross_names_its_place(run: RunCells, made: str, why: str) -> None:
    result = await run(f"import numpy as np, pandas as pd\nFINAL({made})")
    assert why in result.error


@pytest.mark.firejail
@loop
async def test_dataclass_comes_back_as_the_receivers_own_class(start: Start) -> None:
    cell = "import dataclasses, collections\n@dataclasses.dataclass(frozen=True)\nclass P:\n    x: int\n    y: list\nNT = collections.namedtuple('NT', 'a b')\n"
    repl = await start(context=None)
    result = await repl.run(
        cell
        + "back = await llm_query([P(1, [2]), NT(3, 4)])\nprint(back == [P(1, [2]), NT(3, 4)], type(back[0]) is P, type(back[1]) is NT)\nFINAL(back)",
        1,
    )
    assert result.output == "True True True\n"
    assert result.final is not None
    assert result.final.python() == [{"x": 1, "y": [2]}, (3, 4)]
    other = await start(context=result.final)
    result = await other.run(
        "p, n = context\nprint(type(p).__name__, p.x, p, n.b, n)\ntry: p.x = 5\nexcept Exception as e: print(type(e).__name__)",
        1,
    )
    assert result.output == "P 1 P(x=1, y=[2]) 4 NT(a=3, b=4)\nFrozenInstanceError\n"


@pytest.mark.firejail
@loop
async def test_value_past_its_limit_is_refused(run: RunCells) -> None:
    result = await run("FINAL({'big': 'x' * 300_000_000})", limits=ReplLimits(cell_seconds=20))
    assert 'CrossingError: value["big"]: is larger than the 268 MB a value may have' in result.error


@pytest.mark.firejail
@loop
async def test_value_of_300_mb_crosses_where_it_may(start: Start) -> None:
    repl = await start(limits=ReplLimits(cell_seconds=60, memory_mb=4096, value_bytes=400 << 20))
    result = await repl.run("x = 'x' * 300_000_000\nFINAL(x)", 1)
    assert result.final is not None, result.error
    assert result.final.length == 300_000_000
    assert result.final.tail(3) == "xxx"
    assert result.seconds < 20


@pytest.mark.firejail
@loop
async def test_many_small_parts_cross_or_are_refused(run: RunCells) -> None:
    result = await run(
        "FINAL([{'i': i, 'w': str(i)} for i in range(100_000)])", limits=ReplLimits(cell_seconds=30, memory_mb=4096)
    )
    assert result.final is not None, result.error
    assert result.final.length == 100_000
    assert result.final.python()[-1] == {"i": 99_999, "w": "99999"}
    assert result.final.preview(60).startswith('[{"i": 0, "w": "0"}')
