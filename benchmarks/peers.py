"""Other people's sandboxes on the same machine, for comparison. Installed into a temporary directory when asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SCRIPT = """
import { loadPyodide } from "npm:pyodide";
const began = performance.now();
const python = await loadPyodide();
await python.runPythonAsync("x = 1");
const ready = performance.now();
const idle = Deno.memoryUsage().rss;
python.globals.set("context", await Deno.readTextFile(Deno.args[0]));
const size = await python.runPythonAsync("len(context)");
const usable = performance.now();
const cells = [];
for (let i = 0; i < 500; i++) {
  const start = performance.now();
  await python.runPythonAsync("x = 1");
  cells.push(performance.now() - start);
}
cells.sort((a, b) => a - b);
console.log(JSON.stringify({
  repl_start_ms: ready - began, context_40mb_ms: usable - ready, size, cell_ms_p50: cells[250],
  idle_repl_mb: idle / 2 ** 20, mb_with_context: Deno.memoryUsage().rss / 2 ** 20,
}));
"""


def run(command: list[str], **options: Any) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def deno_pyodide() -> dict[str, Any]:
    """One REPL of Deno + Pyodide, the way fast-rlm starts one: without numpy and pandas, which it would have to fetch."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        uv = Path(sys.executable).with_name("uv")
        program = str(uv) if uv.exists() else shutil.which("uv") or "uv"
        run([program, "pip", "install", "--quiet", "--target", str(place / "py"), "deno"])
        run(["npm", "install", "--no-audit", "--no-fund", "--silent", "pyodide"], cwd=place)
        (place / "repl.mjs").write_text(SCRIPT)
        (place / "context.txt").write_text(
            "The quick brown fox jumps over the lazy dog, said number 7.\n" * ((40 << 20) // 60)
        )
        deno = [
            str(place / "py/bin/deno"),
            "run",
            "--node-modules-dir=manual",
            "--cached-only",
            "--allow-read",
            "--no-prompt",
        ]
        environment = {**os.environ, "DENO_DIR": str(place / "deno"), "NO_COLOR": "1"}
        figures = json.loads(run([*deno, "repl.mjs", "context.txt"], cwd=place, env=environment))
        assert figures.pop("size") > 40_000_000
        return {f"deno_pyodide_{key}": round(value, 3) for key, value in figures.items()}
