"""Nothing that comes out of a jail is believed: forged, malformed and oversized frames end their own call alone."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from sandbox import HostRequest, Jail, ReplLimits, Value
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
    "many-parts": "frame({'op': 'call', 'id': 1, 'name': 'llm_query', 'options': {'x': [[]] * 1000000}, 'value': None})",
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


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


CALL = (
    "json.dumps({'op': 'call', 'id': i, 'name': 'llm_query', 'options': {'instruction': 'x'}, 'value': None}).encode()"
)
FLOODS = {
    "answered": f"i = 0\nwhile True:\n    i += 1\n    frame(None, text={CALL})",
    "in-thousands": f"i = 0\nwhile True:\n    part = b''\n    for i in range(i, i + 1000):\n        t = {CALL}\n"
    "        part += struct.pack('<IQ', len(t), 0) + t\n    i += 1\n    os.write(3, part)",
    "byte-by-byte": f"i = 0\nwhile True:\n    i += 1\n    t = {CALL}\n    t = struct.pack('<IQ', len(t), 0) + t\n"
    "    for j in range(len(t)): os.write(3, t[j : j + 1])",
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_flood_of_small_valid_frames_leaves_the_others_their_turn(start: Start, flood: str) -> None:
    """Seconds of the smallest frames there are: the host stays small, and a sibling is answered all the while."""
    repl = await start(limits=ReplLimits(cell_seconds=2, grace_seconds=0.3, memory_mb=1024))
    sibling = await start()
    before, slowest, number = resident_mb(), 0.0, 0
    flooding = asyncio.create_task(repl.run(f"{SEND}\n{FLOODS[flood]}", 1))
    while not flooding.done():
        number += 1
        began = time.perf_counter()
        assert (await sibling.run("print(await llm_query('x'))", number)).output == "x\n"
        slowest = max(slowest, time.perf_counter() - began)
    assert (await flooding).killed in ("protocol", "time") or "ran longer" in (await flooding).error
    assert slowest < 30
    assert resident_mb() - before < 64


async def test_exit_that_is_heard_of_late_does_not_end_the_jail(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a REPL's wire is over well before the zygote tells of its exit: its siblings live on."""
    monkeypatch.setattr("sandbox.repl.EXIT_SECONDS", 0.0)
    monkeypatch.setattr("sandbox.repl.KILL_SECONDS", 0.5)
    repl, sibling = await start(), await start()
    assert (await repl.run("import os\nos.write(3, b'\\xff' * 64)", 1)).killed
    await asyncio.sleep(0.8)
    assert (await sibling.run("print(1)", 1)).output == "1\n"


async def test_flood_without_answers_is_not_read_on(start: Start) -> None:
    """Requests that wait fill no memory: past 2,048 the REPL is not read, and its writes block."""
    asked = 0

    async def never(request: HostRequest) -> Value:
        nonlocal asked
        asked += 1
        await asyncio.sleep(100)
        return Value.of(None)

    repl, sibling = await start(on_request=never), await start()
    before = resident_mb()
    flooding = asyncio.create_task(repl.run(f"{SEND}\n{FLOODS['in-thousands']}", 1))
    await asyncio.sleep(1)
    assert (await sibling.run("print(await llm_query('x'))", 1)).output == "x\n"
    used = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - used < 10
    assert asked <= 2048
    assert resident_mb() - before < 64
    await repl.close()
    assert (await flooding).killed


async def test_flood_between_cells_ends_the_repl(start: Start) -> None:
    """A thread left behind that goes on asking while no cell runs."""
    repl = await start()
    code = "\n".join("    " + line for line in f"time.sleep(0.1)\n{FLOODS['answered']}".splitlines())
    await repl.run(f"{SEND}\nimport threading, time\ndef flood():\n{code}\nthreading.Thread(target=flood).start()", 1)
    for _ in range(100):
        if not repl.alive:
            break
        await asyncio.sleep(0.05)
    assert not repl.alive


async def test_large_options_count_for_the_room_of_the_run(jail: Jail) -> None:
    room, jail._room = jail._room, 20 << 20
    gate = asyncio.Event()

    async def hold(request: HostRequest) -> Value:
        await gate.wait()
        return Value.of("held")

    repl = await jail.start_repl(Value.of(1), on_request=hold)
    running = asyncio.create_task(
        repl.run(
            "import asyncio\nr = await asyncio.gather(*[llm_query(1, 'x' * 1_000_000) for i in range(40)], return_exceptions=True)\n"
            "print(sum(x == 'held' for x in r))",
            1,
        )
    )
    while not running.done() and (repl._cell is None or repl._cell.requests + repl._cell.refused < 40):
        await asyncio.sleep(0.02)
    gate.set()
    assert 0 < int((await running).output) <= 20
    assert jail._room == 20 << 20
    jail._room = room
    await repl.close()


async def test_answer_that_is_not_read_does_not_stop_the_clock(start: Start) -> None:
    """A cell's clock stands still while it waits for the host, not while the host waits for it."""

    async def long(request: HostRequest) -> Value:
        return Value.of("x" * 30_000_000)

    repl = await start(limits=ReplLimits(cell_seconds=0.5, grace_seconds=0.2, memory_mb=1024), on_request=long)
    text = "import time, signal\n" + SEND + f"i = 1\nframe(None, text={CALL})\n"
    block = "import fcntl\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\ntime.sleep(30)"
    result = await asyncio.wait_for(repl.run(text + block, 1), 25)
    assert result.killed == "time" or "ran longer" in result.error
