"""Nothing that comes out of a jail is believed: forged, malformed and oversized frames end their own call alone."""

from __future__ import annotations

import json

import pytest

from sandbox import HostRequest, Value
from tests.sandbox.conftest import RunCells, Start

pytestmark = [pytest.mark.firejail, pytest.mark.asyncio(loop_scope="module")]

SEND = """
import os, struct, json
def frame(message, blob=b"", text=None, sizes=None):
    text = json.dumps(message).encode() if text is None else text
    head = struct.pack("<IQ", *(sizes or (len(text), len(blob))))
    data = head + text + blob
    while data: data = data[os.write(3, data):]
"""
FORGED = {
    "garbage": "os.write(3, os.urandom(1000))",
    "oversized-text": "frame({}, sizes=(1 << 31, 0))",
    "oversized-blob": "frame({'op': 'call'}, sizes=(14, 1 << 60))",
    "not-json": "frame(None, text=b'{')",
    "not-utf8": 'frame(None, text=b\'{"op": "\\xff"}\')',
    "nan": "frame(None, text=b'{\"op\": NaN}')",
    "deep": "frame(None, text=b'[' * 100000)",
    "huge-int": "frame(None, text=b'{\"op\": ' + b'9' * 100000 + b'}')",
    "no-object": "frame(['op'])",
    "no-op": "frame({'x': 1})",
    "unknown-op": "frame({'op': 'grant'})",
    "second-up": "frame({'op': 'up', 'pid': 1})",
    "late-failed": "frame({'op': 'failed', 'error': 'x'})",
    "unasked-vars": "frame({'op': 'vars', 'rows': []})",
    "done-of-another-cell": "frame({'op': 'done', 'cell': 99, 'error': '', 'final_name': '', 'notes': [], 'value': None})",
    "done-without-fields": "frame({'op': 'done', 'cell': 1})",
    "done-wrong-types": "frame({'op': 'done', 'cell': 1, 'error': 5, 'final_name': [], 'notes': {}, 'value': None})",
    "call-without-fields": "frame({'op': 'call'})",
    "call-wrong-types": "frame({'op': 'call', 'id': 'x', 'name': 5, 'options': [], 'value': None})",
    "call-of-one-id-twice": "t = json.dumps({'op': 'call', 'id': 7, 'name': 'llm_query', 'options': {}, 'value': None}).encode();"
    "os.write(3, 2 * (struct.pack('<IQ', len(t), 0) + t))",
    "sizes-that-lie": "frame({'op': 'call', 'id': 7, 'name': 'llm_query', 'options': {}, 'value': [5, 900]}, b'12345')",
    "negative-sizes": "frame({'op': 'call', 'id': 7, 'name': 'llm_query', 'options': {}, 'value': [-5, 10]}, b'12345')",
    "many-frames": "[frame({'op': 'call', 'id': i, 'name': 'x', 'options': {}, 'value': None}) for i in range(5000)]",
    "wire-closed": "os.close(3)",
    "all-closed": "os.closerange(0, 64)",
}


@pytest.mark.parametrize("name", FORGED)
async def test_forged_frame_ends_its_call(start: Start, name: str) -> None:
    repl, sibling = await start(), await start()
    result = await repl.run(f"{SEND}\n{FORGED[name]}\nimport time\ntime.sleep(3)", 1)
    assert result.killed in ("protocol", "exit")
    assert not repl.alive
    assert (await sibling.run("print(await llm_query('x'))", 1)).output == "x\n"


async def test_forged_done_does_not_start_the_next_cell_early(start: Start) -> None:
    repl = await start()
    result = await repl.run(
        SEND
        + "frame({'op': 'done', 'cell': 1, 'error': '', 'interrupted': False, 'final_name': '', 'notes': [], 'value': None})",
        1,
    )
    assert not result.finished
    if repl.alive:  # the true frame of cell 1 comes while nothing runs, or as another cell's
        result = await repl.run("import time; time.sleep(1)", 2)
        assert result.killed == "protocol"


@pytest.mark.parametrize(
    "skeleton",
    [
        b'{"$": "s", "o": 0, "n": 99999999}', b'{"$": "s", "o": -5, "n": 3}', b'{"$": "nope"}', b'{"$": ["s"]}', b"{", b"\xff",
        b"[" * 50_000, b'"\\ud800"', b"NaN", b'{"$": "T", "z": {"o": 0, "n": 8}, "o": 0, "n": 0}', b'{"$": "nd", "s": "x"}',
        b'{"$": "df", "a": 5}', b'{"$": "L", "d": "q", "o": 0.5, "n": 8}', b'{"$": "dt", "v": [1, 2]}',
    ],
)  # fmt: skip
async def test_forged_value_does_no_harm(start: Start, skeleton: bytes) -> None:
    """A malformed value is refused, or shows as malformed; no look at it raises."""
    seen: list[Value | None] = []

    async def look(request: HostRequest) -> Value:
        seen.append(request.context)
        return Value.of("ok")

    repl = await start(on_request=look)
    result = await repl.run(
        f"{SEND}\nskeleton = {skeleton!r}\n"
        "frame({'op': 'done', 'cell': 1, 'error': '', 'interrupted': False, 'final_name': '', 'notes': [], 'value': [len(skeleton), 0]}, skeleton)\n"
        "import time\ntime.sleep(2)",
        1,
    )
    if result.final is not None:
        value = result.final
        json.dumps(
            [value.type_name, value.length, value.chars, value.shape, value.digest, value.preview(), value.plain()]
        )
        with pytest.raises(ValueError):
            value.python()
    else:
        assert result.killed == "protocol"


async def test_options_of_a_request_are_fit_for_a_database(start: Start) -> None:
    seen: list[object] = []

    async def look(request: HostRequest) -> Value:
        seen.append(request.options)
        return Value.of(None)

    repl = await start(on_request=look)
    await repl.run("await llm_query('x', 'a\\0b\\ud800', schema={'k\\udfff': ['\\0']})", 1)
    assert seen == [{"instruction": "a\u2400b?", "schema": {"k?": ["\u2400"]}, "tools": None, "model": None}]


async def test_dump_of_hostile_bytes_is_refused() -> None:
    good = Value.of({"a": ["x" * 5000, 1]}).dump()
    for bad in (b"", b"RLMV1\n", good[:-1], good + b"x", b"PK" + good[2:], good.replace(b'"o":0', b'"o":9')):
        with pytest.raises(ValueError):
            Value.load(bad)


async def test_descriptors_sent_to_the_host_are_dropped(start: Start) -> None:
    repl = await start()
    result = await repl.run(
        "import socket, array, os\n"
        "s = socket.socket(fileno=os.dup(3))\n"
        "s.sendmsg([b'\\0' * 12], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1, 2]))])\n"
        "import time\ntime.sleep(2)",
        1,
    )
    assert result.killed == "protocol"


async def test_pickle_is_never_loaded(run: RunCells) -> None:
    result = await run(
        "class Evil:\n    def __reduce__(self): return (print, ('owned',))\nFINAL({'x': Evil()})",
    )
    assert not result.finished
    assert 'value["x"]: is a __main__.Evil, which cannot cross' in result.error


async def test_name_of_another_dialect_is_refused(start: Start) -> None:
    repl = await start(functions="plain")
    result = await repl.run(
        SEND + "frame({'op': 'call', 'id': 1, 'name': 'llm_query', 'options': {}, 'value': None})\nprint(1)", 1
    )
    assert result.output == "1\n"


async def test_host_that_fails_does_not_hang_the_cell(start: Start) -> None:
    async def broken(request: HostRequest) -> Value:
        raise KeyError("a bug")

    repl = await start(on_request=broken)
    repl._loop.set_exception_handler(lambda loop, context: None)
    result = await repl.run("await llm_query(1)", 1)
    assert "LLMQueryError: the host could not answer" in result.error
