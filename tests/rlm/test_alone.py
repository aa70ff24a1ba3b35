"""The engine stands without Django, and carries large data by reference."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.rlm.conftest import Ask, cell

ROOT = Path(__file__).parent.parent.parent


def test_rlm_and_sandbox_import_where_django_cannot_be_found() -> None:
    code = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('django', 'channels', 'celery'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "import rlm.engine, rlm.client, rlm.offline, rlm.sharedgate, sandbox\n"
        "print('django' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


async def test_large_data_goes_down_and_comes_back_by_reference(ask: Ask) -> None:
    script = {
        "rules": [
            {"match": "# Instruction\nmirror", "reply": cell("FINAL({'whole': context, 'n': len(context)})")},
            {"turn": 0, "reply": cell("r = await llm_query(context[1:], 'mirror')\nprint(r['n'])")},
            {"turn": 1, "reply": cell("FINAL(r['whole'])")},
        ]
    }
    text = "é" + "lorem ipsum " * 800_000
    began = time.monotonic()
    told = await ask(script, context=text)
    assert told.result.status == "done", told.result
    assert told.answer == text[1:]
    assert time.monotonic() - began < 30
    assert max(len(str(r["messages"])) for r in told.server.log()) < 20_000


async def test_twenty_runs_share_one_loop(ask: Ask) -> None:
    import asyncio

    script = {
        "rules": [
            {"match": "# Instruction\nlength", "reply": cell("FINAL(len(context))")},
            {
                "turn": 0,
                "reply": cell("FINAL(await batch_llm_query(*[llm_query('x' * n, 'length') for n in range(1, 4)]))"),
            },
        ]
    }
    told = await asyncio.gather(*[ask(script) for _ in range(20)])
    assert all(t.answer == [1, 2, 3] for t in told)
