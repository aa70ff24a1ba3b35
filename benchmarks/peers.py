"""Other people's sandboxes on the same machine, for comparison. Installed into a temporary directory when asked for."""

from __future__ import annotations

import subprocess
from typing import Any


def run(command: list[str], **options: Any) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def deno_pyodide() -> dict[str, Any]:
    return {}
