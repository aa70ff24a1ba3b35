"""``python -m samples DIR`` writes the episodes of the invented podcast there."""

from __future__ import annotations

import sys
from pathlib import Path

from . import write

if len(sys.argv) != 2:
    sys.exit("usage: python -m samples DIR")
for path in write(Path(sys.argv[1])):
    sys.stdout.write(f"{path}\n")
