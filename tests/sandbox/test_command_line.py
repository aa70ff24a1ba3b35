"""``python -m sandbox``: exec, probe and install, as a person or a script calls them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox import ReplLimits
from sandbox.__main__ import main
from sandbox.errors import SandboxUnavailable
from sandbox.install import install, installed
from sandbox.launcher import check_backend

pytestmark = pytest.mark.firejail

PROJECT = Path(__file__).resolve().parents[2]


def run_exec(cells: Any, *options: str, status: int = 0) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "exec", "--json", *options],
        input=json.dumps(cells), capture_output=True, text=True, cwd=PROJECT, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_exec_prints_one_object_a_cell(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("häuser")
    cells = [
        "x = 1\nprint(len(context))",
        "1 / 0",
        "FINAL({'a': [x, float('nan')]})",
        "await llm_query('x')",
        "while True: pass",
        "import os\nos._exit(4)",
        "print('x' in globals())",
    ]
    rows = run_exec(cells, "--context", str(tmp_path / "c.txt"), "--limits", '{"cell_seconds": 0.5}')
    assert [set(row) for row in rows] == [
        {"output", "output_chars", "error", "finished", "final", "killed", "seconds", "notes"}
    ] * len(cells)
    assert rows[0]["output"] == "6\n" and rows[0]["error"] is None and rows[0]["killed"] is None
    assert "ZeroDivisionError" in rows[1]["error"]
    assert rows[2]["finished"] is True and rows[2]["final"] == {"a": [1, "nan"]}
    assert "LLMQueryError" in rows[3]["error"] and rows[3]["finished"] is False
    assert "Interrupted" in rows[4]["error"] and rows[4]["killed"] is None
    assert rows[5]["killed"] == "exit"
    assert rows[6]["output"] == "False\n"


def test_exec_without_context_has_none() -> None:
    assert run_exec(["print(context)"])[0]["output"] == "None\n"


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        ({"a": 1}, []),
        ([1], []),
        (["1"], ["--limits", '{"seconds": 1}']),
        (["1"], ["--limits", '{"cell_seconds": "x"}']),
        (["1"], ["--limits", "[]"]),
    ],
)
def test_exec_refuses_what_it_does_not_understand(cells: Any, options: list[str]) -> None:
    assert run_exec(cells, *options, status=1) == []


def test_exec_help_lists_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["exec", "--help"])
    shown = capsys.readouterr().out
    for name in ReplLimits.__dataclass_fields__:
        assert name in shown


def test_probe_tells_what_held(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is True
    assert result["backend"] == "firejail"
    assert len(result["checks"]) >= 30
    assert all(result["checks"].values())


def test_install_that_is_done_is_fast() -> None:
    install()
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "install"], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert time.perf_counter() - began < 30
    assert done.stdout.strip() == str(installed())


def test_missing_install_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="python -m sandbox install"):
        installed(tmp_path)


def test_backend_is_never_chosen_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SandboxUnavailable, match="there are firejail and bubblewrap"):
        check_backend("none")
    monkeypatch.setattr("shutil.which", lambda *a, **k: None)
    with pytest.raises(SandboxUnavailable, match="apt-get install firejail"):
        check_backend("firejail")


def test_sandbox_imports_without_django() -> None:
    code = "import sys; sys.modules['django'] = None; import sandbox, sandbox.__main__; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout == "False\n"


def test_documentation_names_tests_limits_and_keys_that_exist() -> None:
    text = (PROJECT / "docs/sandbox.md").read_text()
    tests = "".join(path.read_text() for path in (PROJECT / "tests/sandbox").glob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in tests, name
    for name in ReplLimits.__dataclass_fields__:
        assert f"`{name}`" in text, name


def test_guest_uses_the_standard_library_alone() -> None:
    import ast

    for path in (PROJECT / "sandbox/guest").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names), path
