"""./run says its address when all is well, or after a while, and then what is not."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rlmweb import announce

Answers = Callable[..., str]


def report(**parts: bool) -> tuple[int, str]:
    return 200 if all(parts.values()) else 503, json.dumps(
        {"parts": {name: {"ok": ok, "says": f"{name} says so"} for name, ok in parts.items()}}
    )


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """A site that gives these answers one after the other, and the last one for ever."""
    queue: list[tuple[int, str]] = []
    hosts: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"])
            status, body = queue.pop(0) if len(queue) > 1 else queue[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr(announce, "PATIENCE", 0.5)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def answer(*answers: tuple[int, str]) -> str:
        queue[:] = answers
        return f"http://127.0.0.1:{server.server_port}/"

    yield answer
    server.shutdown()
    thread.join()
    server.server_close()
    assert set(hosts) == {"rlm.example"}, "it asks by a name the site goes by"


def test_address_is_said_when_all_is_well(site: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    address = site(report(database=True, worker=True))
    announce.announce(address, "rlm.example")
    assert capsys.readouterr().out == f"rlmweb is at {address}\n"


def test_what_is_not_well_after_a_while_is_named(site: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    address = site(report(database=True, worker=False))
    announce.announce(address, "rlm.example")
    assert capsys.readouterr().out == f"rlmweb is at {address}\nrlmweb: worker is not well: worker says so\n"


def test_what_becomes_well_in_time_is_waited_for(
    site: Answers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "PATIENCE", 60)
    told: list[str] = []

    def read_health(address: str, host: str) -> Any:
        told.append(capsys.readouterr().out)
        return real(address, host)

    real = announce.read_health
    monkeypatch.setattr(announce, "read_health", read_health)
    address = site(report(worker=False), report(worker=False), report(worker=True))
    announce.announce(address, "rlm.example")
    assert told == ["", "", ""]  # whoever reads the address finds all of it well
    assert capsys.readouterr().out == f"rlmweb is at {address}\n"


def test_page_that_ends_with_an_error_is_not_called_an_address(
    site: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    address = site(*[(500, "<h1>Server Error</h1>")] * 7, report(worker=True))
    announce.announce(address, "rlm.example")
    out = capsys.readouterr().out
    assert out.startswith(
        f"rlmweb: {address} does not work yet: the page ends with an error (500 Internal Server Error)"
    )
    assert out.endswith(f"\nrlmweb is at {address}\n") and out.count("\n") == 2
