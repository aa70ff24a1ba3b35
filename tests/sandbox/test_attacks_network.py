"""A cell reaches no network, of any family; not the embedded Valkey either, by port or by socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.sandbox.conftest import RunCells

pytestmark = [pytest.mark.firejail, pytest.mark.asyncio(loop_scope="module")]

OPEN = "import socket\ns = socket.socket({family}, {kind})\nprint('reached')"


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("socket.AF_INET", "socket.SOCK_STREAM"),
        ("socket.AF_INET", "socket.SOCK_DGRAM"),
        ("socket.AF_INET6", "socket.SOCK_STREAM"),
        ("socket.AF_INET", "socket.SOCK_RAW"),
        ("socket.AF_PACKET", "socket.SOCK_RAW"),
        ("socket.AF_NETLINK", "socket.SOCK_RAW"),
        ("socket.AF_UNIX", "socket.SOCK_STREAM"),
        ("socket.AF_VSOCK", "socket.SOCK_STREAM"),
        ("socket.AF_BLUETOOTH", "socket.SOCK_RAW"),
        ("socket.AF_ALG", "socket.SOCK_SEQPACKET"),
        ("socket.AF_CAN", "socket.SOCK_RAW"),
    ],
)
async def test_socket_of_any_family_is_refused(attack: RunCells, family: str, kind: str) -> None:
    result = await attack(OPEN.format(family=family, kind=kind))
    assert "PermissionError" in result.error
    assert not result.output


async def test_local_server_cannot_be_reached(attack: RunCells) -> None:
    """The embedded Valkey listens on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        result = await attack(f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)")
        assert "PermissionError" in result.error
        with pytest.raises(TimeoutError):
            server.accept()


async def test_unix_socket_of_the_host_is_not_there(attack: RunCells, tmp_path: Path) -> None:
    path = tmp_path / "valkey.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        result = await attack(f"import os\nprint(os.path.exists({str(path)!r}), os.path.exists('/run/docker.sock'))")
    assert result.output == "False False\n"


async def test_abstract_socket_is_refused(attack: RunCells) -> None:
    result = await attack("import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0covert')")
    assert "PermissionError" in result.error


async def test_name_resolution_fails(attack: RunCells) -> None:
    result = await attack("import socket\nprint(socket.getaddrinfo('example.com', 80))")
    assert "gaierror" in result.error


async def test_url_cannot_be_opened(attack: RunCells) -> None:
    result = await attack("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:80/', timeout=1)")
    assert "URLError" in result.error


async def test_pandas_cannot_read_a_url(attack: RunCells) -> None:
    result = await attack("import pandas as pd\npd.read_csv('http://127.0.0.1/x.csv')")
    assert "URLError" in result.error


async def test_raw_socket_system_call_is_refused(attack: RunCells) -> None:
    result = await attack(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.syscall(41, 2, 1, 0), ctypes.get_errno())"
    )
    assert result.output == "-1 1\n"


async def test_connecting_the_wire_elsewhere_is_refused(attack: RunCells) -> None:
    """The REPL's own socket is the only one: it cannot be bound, connected or asked to accept."""
    result = await attack(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print([(libc.syscall(n, 3, b'x' * 16, 16), ctypes.get_errno()) for n in (42, 49, 50, 43)])"
    )
    assert result.output == "[(-1, 1), (-1, 1), (-1, 1), (-1, 1)]\n"
