"""How ./run prepares what the supervisor starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from django.conf import LazySettings
from supervisor.options import ServerOptions

from rlmweb.serve import Refused, check_port, hold_lock, make_run_directory, private_directory, supervisor_config


def parse(config: Path) -> ServerOptions:
    options = ServerOptions()
    options.realize(["-n", "-c", str(config)])
    return options


def test_config_is_one_that_the_supervisor_reads(settings: LazySettings, tmp_path: Path) -> None:
    config = tmp_path / "supervisord.conf"
    config.write_text(supervisor_config(settings, tmp_path, tmp_path / "valkey.sock"))
    groups = {group.name: group for group in parse(config).process_group_configs}
    programs = {program.name: program for group in groups.values() for program in group.process_configs}
    assert set(groups) == {"valkey", "app"}
    assert set(programs) == {"valkey", "web", "worker", "announce"}
    assert min(groups.values(), key=lambda group: group.priority).name == "valkey", "it starts first and ends last"
    assert sum(max(p.stopwaitsecs for p in group.process_configs) for group in groups.values()) <= 5
    for name in ("valkey", "web", "worker"):
        assert programs[name].killasgroup


def test_config_has_no_valkey_where_a_redis_is_named(settings: LazySettings, tmp_path: Path) -> None:
    assert "program:valkey" not in supervisor_config(settings, tmp_path, None)


@pytest.mark.parametrize(
    ("bind", "address"),
    [("127.0.0.1", "http://127.0.0.1:8000/"), ("0.0.0.0", "http://127.0.0.1:8000/"), ("::1", "http://[::1]:8000/")],
)
def test_announced_address_is_one_to_open(settings: LazySettings, tmp_path: Path, bind: str, address: str) -> None:
    settings.BIND = bind
    assert address in supervisor_config(settings, tmp_path, None)


def test_run_directory_lies_in_the_data_directory(tmp_path: Path) -> None:
    short = Path("/tmp") / f"rlmweb-test-{os.getpid()}"
    short.mkdir()
    try:
        assert make_run_directory(short) == short / "run"
        assert (short / "run").stat().st_mode & 0o777 == 0o700
    finally:
        (short / "run").rmdir()
        short.rmdir()


@pytest.mark.parametrize("name", ["x" * 100, "with space", "hash#", "per%cent", "semi;colon", "umläut"])
def test_run_directory_of_a_long_or_odd_path_lies_elsewhere(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.mkdir()
    found = make_run_directory(data)
    assert found != data / "run"
    assert len(str(found / "valkey.sock")) < 100 and " " not in str(found)
    assert found == make_run_directory(data)
    assert found.stat().st_mode & 0o777 == 0o700
    found.rmdir()


def test_private_directory_refuses_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Refused, match="belongs to somebody else"):
        private_directory(tmp_path / "link")


def test_lock_is_held_once(tmp_path: Path) -> None:
    hold_lock(tmp_path)
    with pytest.raises(Refused, match="already runs on"):
        hold_lock(tmp_path)


def test_port_that_is_taken_is_refused_with_another_to_try() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Refused, match=f"port {port} is taken .* PORT={port + 1}"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(Refused, match="cannot be listened on"):
        check_port("192.0.2.1", 8000)
