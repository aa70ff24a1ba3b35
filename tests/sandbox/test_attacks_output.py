"""What a cell prints is data: bounded, harmless, in order, and of its own cell alone."""

from __future__ import annotations

import json

import pytest

from sandbox import ReplLimits
from tests.sandbox.conftest import RunCells, Start

pytestmark = [pytest.mark.firejail, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ("'a\\0b'", "ab"),
        ("'\\x1b[2J\\x1b]0;title\\x07x'", "[2J]0;titlex"),
        ("'a\\rb'", "a\nb"),
        ("'abc\\u202edef'", "abcdef"),
        ("'\\u2066x\\u2069'", "x"),
        ("'\\ud800'", "\\ud800"),
        ("'tab\\tline'", "tab\tline"),
        ("'\\x85\\x9b31m'", "31m"),
        ("'é 𝄞'", "é 𝄞"),
    ],
)
async def test_control_character_is_made_harmless(run: RunCells, printed: str, kept: str) -> None:
    result = await run(f"print({printed})")
    assert result.output == kept + "\n"
    json.dumps(result.output).encode()


async def test_bytes_that_are_no_text_are_replaced(run: RunCells) -> None:
    result = await run("import os\nos.write(1, b'\\xff\\xfe caf\\xc3')")
    assert result.output == "\ufffd\ufffd caf\ufffd"


async def test_flood_of_print_keeps_head_and_tail(run: RunCells) -> None:
    result = await run(
        "for i in range(300_000): print('line', i)",
        limits=ReplLimits(cell_seconds=30, output_bytes=2000, memory_mb=1024),
    )
    assert result.output.startswith("line 0\nline 1\n")
    assert result.output.endswith("line 299999\n")
    assert len(result.output) < 2100
    assert "characters cut" in result.output
    assert result.output_chars == sum(len(f"line {i}\n") for i in range(300_000))


async def test_flood_of_raw_writes_is_drained(run: RunCells) -> None:
    result = await run("import os\nfor i in range(1000): os.write(1, b'x' * 65536)")
    assert result.output_chars == 65_536_000
    assert len(result.output) < 201_000


async def test_output_without_end_is_stopped(start: Start) -> None:
    repl = await start(limits=ReplLimits(cell_seconds=30, output_stop_bytes=1 << 20, memory_mb=1024))
    result = await repl.run("while True: print('x' * 1000)", 1)
    assert "printed more than" in result.error
    assert not result.killed


async def test_output_that_resists_being_stopped_is_killed(start: Start) -> None:
    repl = await start(limits=ReplLimits(cell_seconds=30, grace_seconds=0.2, output_stop_bytes=1 << 20, memory_mb=1024))
    result = await repl.run(
        "while True:\n    try:\n        while True: print('x' * 1000)\n    except BaseException: print('no')", 1
    )
    assert result.killed == "output"


async def test_print_and_c_writes_keep_their_order(run: RunCells) -> None:
    result = await run(
        "import os, sys, ctypes\nlibc = ctypes.CDLL(None)\n"
        "print('1', end=' ')\nos.write(1, b'2 ')\nprint('3', end=' ', file=sys.stderr)\nlibc.write(1, b'4 ', 2)\n"
        "sys.stdout.buffer.write(b'5 ')\nprint(6)"
    )
    assert result.output == "1 2 3 4 5 6\n"


async def test_nothing_printed_last_is_lost(start: Start) -> None:
    repl = await start()
    for number in range(1, 50):
        result = await repl.run(f"print('x' * 100_000); print({number})", number)
        assert result.output.endswith(f"\n{number}\n")


async def test_output_streams_as_it_comes(start: Start) -> None:
    repl = await start()
    pieces: list[str] = []
    await repl.run("import time\nfor i in range(4):\n    print(i)\n    time.sleep(0.15)", 1, on_output=pieces.append)
    assert "".join(pieces) == "0\n1\n2\n3\n"
    assert len(pieces) >= 3


async def test_thread_left_behind_does_not_write_into_later_cells(start: Start) -> None:
    repl = await start()
    await repl.run(
        "import threading, time, os\n"
        "def late():\n"
        "    for _ in range(20): time.sleep(0.02); print('late'); os.write(1, b'late raw')\n"
        "threading.Thread(target=late).start()",
        1,
    )
    result = await repl.run("import time\ntime.sleep(0.3)\nprint('mine')", 2)
    assert result.output == "mine\n"
    assert any("left behind" in note for note in result.notes)


async def test_task_left_behind_does_not_write_into_later_cells(start: Start) -> None:
    repl = await start()
    await repl.run(
        "import asyncio\nasync def late():\n    for _ in range(20):\n        await asyncio.sleep(0.01)\n        print('late')\n"
        "t = asyncio.create_task(late())",
        1,
    )
    result = await repl.run("await asyncio.sleep(0.2)\nprint('mine')", 2)
    assert result.output == "mine\n"


async def test_threads_of_the_cell_itself_are_heard(run: RunCells) -> None:
    result = await run(
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\nlist(pool.map(print, [1]))",
        "import asyncio\nlist(pool.map(print, [2]))\nawait asyncio.to_thread(print, 3)",
    )
    assert result.output == "2\n3\n"


async def test_replaced_stdout_does_not_break_the_next_cell(start: Start) -> None:
    repl = await start()
    await repl.run("import sys\nsys.stdout = None", 1)
    result = await repl.run("print('heard')", 2)
    assert result.output == "heard\n"


async def test_exception_that_cannot_be_shown_is_named(run: RunCells) -> None:
    result = await run("class Bad(Exception):\n    def __str__(self): raise ValueError\nraise Bad")
    assert "Bad" in result.error


async def test_huge_traceback_is_cut(run: RunCells) -> None:
    result = await run("raise ValueError('x' * 10_000_000)")
    assert len(result.error) < 5000


async def test_hostile_repr_does_not_stop_the_variables(start: Start) -> None:
    repl = await start()
    await repl.run(
        "class Slow:\n    def __repr__(self):\n        while True: pass\nclass Bad:\n    def __repr__(self): raise SystemExit\na, b, c = 1, Bad(), 2",
        1,
    )
    names = [v.name for v in await repl.variables()]
    assert {"a", "c"} <= set(names)
    await repl.run("s = Slow()", 2)
    await repl.variables()
    assert (await repl.run("print(a)", 3)).output == "1\n"
