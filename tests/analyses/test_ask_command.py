"""``manage.py ask``: the whole path in one process, as a person types it on a fresh data directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scripted.fixture import ROOT, Scripted

pytestmark = pytest.mark.firejail


@pytest.fixture
def instance(tmp_path: Path) -> dict[str, str]:
    """The environment of a fresh, migrated data directory without server, worker or Redis."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {**kept, "RLMWEB_DATA": str(tmp_path / "data"), "RLMWEB_LOG": "WARNING", "COLUMNS": "100"}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
    return environment


def start(instance: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "ask", *arguments],
        cwd=ROOT, env=instance, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ask(instance: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    process = start(instance, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def one_object(out: str) -> dict[str, Any]:
    assert out.endswith("\n") and out.count("\n") == 1
    found: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return found


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


def test_ask_about_files_prints_one_json_object(
    instance: dict[str, str], scripted: Callable[..., Scripted], tmp_path: Path
) -> None:
    (tmp_path / "one.md").write_text("# First\n\nAlpha speaks.")
    (tmp_path / "two.txt").write_text("Beta speaks.")
    (tmp_path / "bad.txt").write_bytes(bytes(range(256)) * 10)
    code = "answer = {'titles': [d['title'] for d in context], 'nan': float('nan'), 'n': sum(len(d['text']) for d in context)}"
    server = scripted({"replies": [cell("print(len(context))"), cell(f"{code}\nFINAL(answer)")]})
    files = [str(tmp_path / name) for name in ("one.md", "two.txt", "bad.txt")]
    status, out, err = ask(
        instance,
        "--question",
        "Who?",
        "--base-url",
        server.base_url,
        "--api-key",
        "k",
        "--model",
        "m",
        "--json",
        *files,
    )
    result = one_object(out)
    assert status == 0 and result["status"] == "done", result
    assert result["answer"]["titles"] == ["First", "Two"] and isinstance(result["answer"]["nan"], str)
    assert (result["calls"], result["cells"], result["depth"]) == (1, 2, 0)
    assert result["usage"]["prompt_tokens"] > 0 and result["usage"]["cost"] is None and result["seconds"] > 0
    assert "/r/" in result["url"] and "call 1" in err and "bad.txt" in err
    assert "Authorization" not in out + err and server.stats()["requests"] == 2


def test_what_cannot_be_asked_is_one_json_object_too(instance: dict[str, str]) -> None:
    status, out, _ = ask(instance, "--question", " ", "--json")
    assert status == 1 and one_object(out)["reason"].startswith("Write a question")
    status, out, _ = ask(instance, "--question", "?", "--json", "--limits", '{"depth": -1}')
    assert status == 1 and "depth" in one_object(out)["reason"]
    status, out, err = ask(instance, "--question", "?", "no/such/file")
    assert status == 1 and out == "" and "no/such/file" in err


def test_an_endpoint_that_is_down_ends_with_a_sentence(instance: dict[str, str]) -> None:
    arguments = ["--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--limits", '{"run_seconds": 10}', "--json"]
    status, out, _ = ask(instance, "--question", "?", *arguments)
    result = one_object(out)
    assert status == 1 and result["status"] in ("failed", "limit") and result["reason"]


def test_ctrl_c_stops_the_run_and_keeps_it(instance: dict[str, str], scripted: Callable[..., Scripted]) -> None:
    server = scripted(
        {"replies": [cell("print('kept')"), cell("import time\nprint('in it', flush=True)\ntime.sleep(50)")]}
    )
    process = start(instance, "--question", "?", "--base-url", server.base_url, "--model", "m", "--json")
    end = time.monotonic() + 30
    while server.stats()["requests"] < 2 and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    try:
        out, _ = process.communicate(timeout=45)
    finally:
        process.kill()
    result = one_object(out)
    assert process.returncode == 1 and result["status"] == "stopped" and result["cells"] == 2
