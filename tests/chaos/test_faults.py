"""Every kind of fault once, on a whole installation: benchmarks/chaos.py does the same at 50 random moments."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.chaos import faults
from tests import services
from tests.chaos.lane import KINDS, STOP_SECONDS

# One installation goes through all of them: it takes a minute on a quiet machine.
pytestmark = [pytest.mark.firejail, pytest.mark.browser, pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, dict[str, Any]]]:
    """What became of each kind of fault."""
    seed = random.SystemRandom().randrange(1 << 20)
    rng = random.Random(seed)
    # The worker whose clock is set is the first one: that saves a start.
    kinds = ["clock stepped", *rng.sample([kind for kind in KINDS if kind != "clock stepped"], len(KINDS) - 1)]
    cases = [(number, kind, rng.randrange(1 << 30)) for number, kind in enumerate(kinds, 1)]
    found: dict[str, dict[str, Any]] = {"seed": {"seed": seed}}
    with services.installation() as environment:
        options = {"lease": 5, "quick": True, "children": 16, "database": environment.get("DATABASE_URL", "")}
        if services.REDIS:  # one of its own all the same: it is killed
            options["redis_server"] = shutil.which("redis-server") or ""
        for line in faults(cases, 1, options):
            found[line.get("kind", "figures")] = line
    yield found


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_survives(kind: str, told: dict[str, dict[str, Any]]) -> None:
    said = told.get(kind, {"why": ["it was not tried: the installation did not last"]})
    assert said.get("survived"), json.dumps(said | told["seed"])


def test_a_stopped_run_lets_go_of_models_and_jail(told: dict[str, dict[str, Any]]) -> None:
    figures = told["figures"]["figures"]
    assert figures["status"] == "stopped"
    # The benchmark holds it to 2 s; a busy machine may take longer.
    assert max(figures["stop_streams_s"], figures["stop_jail_s"]) < 10 * STOP_SECONDS
