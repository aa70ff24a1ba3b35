"""What every test has: files of its own, and no way out to the network."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

from tests import services, strict
from tests.scripted.fixture import scripted, scripted_server

__all__ = ["scripted", "scripted_server"]

TESTS = Path(__file__).resolve().parent
REAL_DATA = TESTS.parent.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def own_files(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Uploads, blobs and caches of a test lie in its own directory."""
    if request.node.path.relative_to(TESTS).parts[0] in ("sandbox", "rlm", "scripted"):
        return  # they know no Django
    settings = request.getfixturevalue("settings")
    settings.DATA_DIR = tmp_path
    settings.STORAGES = settings.STORAGES | {
        name: settings.STORAGES[name] | {"OPTIONS": settings.STORAGES[name]["OPTIONS"] | {"location": tmp_path / name}}
        for name in ("default", "blobs")
    }


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine can be reached: a test that asks elsewhere fails, and says where it went."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("localhost", ""):
            try:
                near = ipaddress.ip_address(str(address[0])).is_loopback
            except ValueError:
                near = False
            if not near:
                raise AssertionError(f"a test tried to reach {address}")
        return real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect)


def pytest_configure(config: pytest.Config) -> None:
    strict.hold_sqlite_to_it()
    if services.POSTGRES:
        services.drop_by_force()
    if services.REDIS:  # its clients belong to event loops, and tests end theirs without a word
        for left in ("unclosed", "loop is closed"):
            config.addinivalue_line("filterwarnings", f"ignore:{left}:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("real_data") and not REAL_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="../shared/data is not there"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real files; tests that ask for it carry the marker real_data."""
    return REAL_DATA
