"""The jail that reads files: what runs in a reader reaches nothing, and a bad file fails alone, within its limits."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import SandboxError, SandboxUnavailable, extraction, launcher
from sandbox.extraction import Extraction, ExtractLimits, Unreadable, probe_extraction
from sandbox.memory import Memory

pytestmark = pytest.mark.firejail

PAGE = Memory(b"<title>Fog</title><h1>Fog</h1><p>Ten past two.")
PAGES = struct.pack("<II", 34, 0) + b'{"op":"page","number": 1, "of": 1}'
Attempt = Callable[..., Any]


@pytest.fixture(scope="module", params=["firejail", "bubblewrap"])
def jail(request: pytest.FixtureRequest) -> Iterator[Extraction]:
    with Extraction.start(request.param) as jail:
        yield jail


@pytest.fixture
def attempt(jail: Extraction) -> Attempt:
    """Have code run as a reader would: what it hands to FINAL comes back."""

    def run(code: str, **limits: Any) -> Any:
        order = {"kind": "attempt", "code": code}
        return jail._run(order, None, ExtractLimits(**limits), lambda text: None, None)["found"]

    return run


def text_of(jail: Extraction, kind: str = "html", file: Memory = PAGE, **limits: Any) -> str:
    pieces: list[str] = []
    jail.read(kind, file, pieces.append, limits=ExtractLimits(**limits))
    return "".join(pieces)


def test_file_is_read(jail: Extraction) -> None:
    pieces: list[str] = []
    found = jail.read("html", PAGE, pieces.append)
    assert ("".join(pieces), found["title"]) == ("# Fog\n\nTen past two.\n", "Fog")


def test_every_escape_of_the_probe_fails(jail: Extraction) -> None:
    checks = jail.probe()
    assert len(checks) > 30 and all(checks.values()), checks
    assert probe_extraction(jail.backend) == checks


def test_hostile_reader_reaches_no_server_of_this_machine(attempt: Attempt) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        port = server.getsockname()[1]
        found = attempt(
            "import socket, urllib.request\nfound = {}\n"
            f"for name, way in {{'connect': lambda: socket.create_connection(('127.0.0.1', {port}), 1),\n"
            f"                  'url': lambda: urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=1)}}.items():\n"
            "    try:\n        way()\n        found[name] = 'reached'\n"
            "    except OSError as error:\n        found[name] = 'refused'\nFINAL(found)"
        )
        assert found == {"connect": "refused", "url": "refused"}
        with pytest.raises(TimeoutError):
            server.accept()


def test_hostile_reader_sees_no_file_of_the_host(attempt: Attempt, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the tin lighthouse")
    found = attempt(
        f"import os\nFINAL({{'secret': os.path.exists({str(secret)!r}), 'project': os.path.exists({str(Path(__file__))!r}),"
        " 'passwd': os.path.exists('/etc/passwd'), 'environment': sorted(os.environ)})"
    )
    assert not (found["secret"] or found["project"] or found["passwd"])
    assert not [name for name in found["environment"] if name.startswith(("RLMWEB", "DJANGO", "OPENAI", "DATABASE"))]


def test_file_cannot_be_changed_by_who_reads_it(jail: Extraction) -> None:
    """The descriptor is sealed: another process could otherwise be shown other bytes than were hashed."""
    file = Memory(b"%PDF-1.4 " + bytes(100_000))
    fd = os.dup(file.fd())
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 1)
    finally:
        os.close(fd)


def test_reader_has_only_its_own_descriptors(attempt: Attempt) -> None:
    code = "import os\nFINAL({'open': [fd for fd in range(64) if os.path.exists(f'/proc/self/fd/{fd}')]})"
    assert attempt(code) == {"open": [0, 1, 2, 3]}  # /dev/null, twice its silence, and the wire


def test_endless_reader_is_ended_and_the_next_file_is_read(jail: Extraction, attempt: Attempt) -> None:
    for code in ("while True: pass", "import time\ntime.sleep(1e6)"):
        with pytest.raises(Unreadable) as told:
            attempt(code, seconds=0.5)
        assert told.value.why == "time"
    assert text_of(jail).startswith("# Fog")


def test_endless_reader_does_not_hold_up_another(jail: Extraction) -> None:
    class Enough(Exception):
        pass

    enough, ended = threading.Event(), threading.Event()
    code = f"import os, time\nwhile True:\n    os.write(3, {PAGES!r})\n    time.sleep(0.01)"

    def on_page(number: int, of: int) -> None:
        if enough.is_set():
            raise Enough

    def read() -> None:
        with pytest.raises(Enough):
            order = {"kind": "attempt", "code": code}
            jail._run(order, None, ExtractLimits(seconds=100), lambda text: None, on_page)
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(5):
            assert text_of(jail).startswith("# Fog")
        assert not ended.is_set()
    finally:
        enough.set()
        thread.join(110)
    assert ended.is_set()


def test_silent_reader_is_ended_long_before_its_time(attempt: Attempt) -> None:
    with pytest.raises(Unreadable) as told:
        attempt("import time\ntime.sleep(1e6)", seconds=3600, silent_seconds=0.5)
    assert told.value.why == "time"


def test_any_number_of_files_is_read_in_one_jail() -> None:
    """What the zygote says of each that ended is taken from the socket, which would be full after some 270."""
    with Extraction.start() as jail:
        for _ in range(600):
            assert text_of(jail).startswith("# Fog")
        assert not jail._reading


def test_memory_of_a_reader_is_bounded(jail: Extraction, attempt: Attempt) -> None:
    with pytest.raises(Unreadable) as told:
        attempt("x = bytearray(1 << 40)")
    assert told.value.why == "memory"
    with pytest.raises(Unreadable) as told:
        attempt("x = []\nwhile True: x.append(bytearray(1 << 24))", memory_mb=256)
    assert told.value.why == "memory"
    assert text_of(jail).startswith("# Fog")


@pytest.mark.parametrize(
    "code",
    ["import os\nos._exit(3)", "import os\nos.abort()", "import ctypes\nctypes.string_at(1)"],
    ids=["exit", "abort", "segfault"],
)
def test_death_of_a_reader_is_its_own(jail: Extraction, attempt: Attempt, code: str) -> None:
    with pytest.raises(Unreadable) as told:
        attempt(code)
    assert told.value.why == "crash"
    assert text_of(jail).startswith("# Fog")


def _frame(message: Any, words: bytes = b"", *, size: int | None = None, length: int | None = None) -> str:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    raw = (
        struct.pack("<II", len(data) if size is None else size, len(words) if length is None else length) + data + words
    )
    return f"import os\nos.write(3, {raw!r})\nimport time\ntime.sleep(30)"


@pytest.mark.parametrize(
    "code",
    [
        _frame(b"not json"),
        _frame([1]),
        _frame({"op": 3}),
        _frame({"nothing": 1}),
        _frame(b"[" * 60_000),
        _frame(b'{"op": "page", "number": NaN, "of": 1}'),
        _frame({"op": "page", "number": -1, "of": 3}),
        _frame({"op": "page", "number": "one", "of": 3}),
        _frame({"op": "page"}),
        _frame({"op": "text"}, b"\xff\xfe not UTF-8"),
        _frame({"op": "text"}, "\ud800".encode("utf-8", "surrogatepass")),
        _frame({}, size=1 << 31),
        _frame({}, length=1 << 31),
    ],
)
def test_forged_frame_ends_the_reading(jail: Extraction, code: str) -> None:
    with pytest.raises(Unreadable) as told:
        jail._run({"kind": "attempt", "code": code}, None, ExtractLimits(), lambda text: None, lambda n, of: None)
    assert told.value.why == "protocol"
    assert text_of(jail).startswith("# Fog")


def test_flood_of_text_is_stopped(jail: Extraction) -> None:
    head = struct.pack("<II", 13, 1 << 20) + b'{"op":"text"}'
    code = f"import os\nframe = {head!r} + b'x' * (1 << 20)\nwhile True: os.write(3, frame)"
    got: list[int] = []
    with pytest.raises(Unreadable) as told:
        jail._run(
            {"kind": "attempt", "code": code},
            None,
            ExtractLimits(text_bytes=5 << 20),
            lambda t: got.append(len(t)),
            None,
        )
    assert told.value.why == "size"
    assert sum(got) <= 5 << 20


def test_flood_of_pages_without_text_ends_in_time(attempt: Attempt) -> None:
    with pytest.raises(Unreadable) as told:
        attempt(f"import os\nwhile True: os.write(3, {PAGES!r})", seconds=1)
    assert told.value.why == "time"


def test_what_the_host_raises_ends_the_reader(jail: Extraction) -> None:
    def full(text: str) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        jail.read("html", PAGE, full)
    assert text_of(jail).startswith("# Fog")


def test_jail_that_is_gone_says_so() -> None:
    jail = Extraction.start()
    jail._launched.kill()
    jail._launched.process.wait(30)
    with pytest.raises((SandboxError, Unreadable)):
        text_of(jail)
    with pytest.raises(SandboxError):
        text_of(jail)
    assert not jail.alive
    jail.close()


def test_nothing_is_left_when_it_is_closed() -> None:
    PAGE.fd()  # is the page's own, and stays open from the first test on that has it read
    fds = len(os.listdir("/proc/self/fd"))
    jail = Extraction.start()
    pid = jail._launched.process.pid
    text_of(jail)
    jail.close()
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    deadline = time.monotonic() + 30
    while len(os.listdir("/proc/self/fd")) > fds and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= fds


@pytest.mark.parametrize(
    ("line", "flaw"),
    [("read-only /tmp\n", "nothing writable"), ("private-etc rlm-none\n", "no host files"), ("noroot\n", "not root")],
)
def test_jail_with_a_flaw_reads_nothing(monkeypatch: pytest.MonkeyPatch, line: str, flaw: str) -> None:
    monkeypatch.setattr(launcher, "PROFILE", launcher.PROFILE.replace(line, "", 1))
    monkeypatch.setattr(extraction, "_probed", {})
    with pytest.raises(SandboxUnavailable, match=flaw):
        Extraction.start()
    assert not extraction._probed


def test_jail_that_cannot_be_started_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="python -m sandbox install"):
        Extraction.start(base=tmp_path)
    with pytest.raises(SandboxUnavailable, match="no sandbox backend"):
        Extraction.start("none")
