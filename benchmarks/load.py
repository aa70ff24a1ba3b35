"""Lists of a full workspace, and nothing for strangers: ``python -m benchmarks.load --json`` prints one object last.

A workspace with 200 members, 5,000 runs and 500 corpora in a database of its own. Each list is asked for as a browser
would, through every middleware; what is measured is from the request to the whole response, at the server. Queries are
counted in a small workspace and in the full one: they must be as many. Then every route is asked as every persona
(tests/analyses/test_routes.py), and what anybody is told beyond their role is a leak. With DATABASE_URL on an empty PostgreSQL.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

MEMBERS, RUNS, CORPORA = 200, 5_000, 500
SMALL = (5, 60, 60)  # more than a page of each, so that pages look alike
PATHS = (
    "",
    "runs/",
    "runs/?page=100",
    "runs/?status=failed",
    "runs/?who=me",
    "runs/?who=2",
    "runs/?q=light+7",
    "corpora/",
    "corpora/?who=me",
    "corpora/?q=pus+7",
    "settings/",
    "settings/?page=4",
    "settings/?q=son",
    "settings/budgets/",
    "usage/",
    "endpoints/",
    "audit/",
)


def of_100(values: list[float], percent: int) -> float:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def fill(workspace: Any, owner: Any, members: int, runs: int, corpora: int) -> None:
    """Rows up to these counts."""
    from django.utils import timezone

    from analyses.models import Corpus, CorpusVersion, Run
    from workspaces.models import AuditEntry, Member, User

    have = workspace.members.count()
    people = User.objects.bulk_create(
        User(email=f"person{n}@{workspace.slug}.example", name=f"Person {n}", password="!")
        for n in range(have, members)
    )
    Member.objects.bulk_create(Member(workspace=workspace, user=user, role="editor") for user in people)
    everybody = [owner, *people]
    made = Corpus.objects.bulk_create(
        Corpus(workspace=workspace, name=f"Corpus {n}", created_by=everybody[n % len(everybody)])
        for n in range(workspace.corpora.count(), corpora)
    )
    versions = CorpusVersion.objects.bulk_create(
        CorpusVersion(
            corpus=corpus, number=number, text="0" * 64, document_count=24, characters=4_120_000, bytes=4_200_000
        )
        for corpus in made
        for number in (1, 2)
    )
    now = timezone.now()
    first = workspace.runs.count()
    statuses = ("done", "done", "done", "failed", "limit", "stopped")
    Run.objects.bulk_create(
        (
            Run(
                workspace=workspace, number=n + 1, question=f"Which guests saw the light {n} go dark, and when? " * 4,
                corpus_version=versions[n % len(versions)], created_by=everybody[n % len(everybody)],
                created_at=now - timedelta(minutes=7 * n), started_at=now, finished_at=now, endpoint="default",
                root_model="atlas-large", child_model="atlas-mini", seed="0" * 16, status=statuses[n % 6],
                reason="" if n % 6 < 3 else "It reached a limit.", cost=0.3, seconds=60.0, calls=40, cells=70,
                prompt_tokens=90_000, completion_tokens=4_000, limits={"cost": 2.0}, answer_display="words " * 400,
            )
            for n in range(first, runs)
        ),
        batch_size=500,
    )  # fmt: skip
    AuditEntry.objects.bulk_create(
        AuditEntry(workspace=workspace, actor_email=owner.email, action="exported a run") for _ in range(first, runs)
    )


def lists(times: int) -> Iterator[dict[str, Any]]:
    """One case a list: how long it took, and its queries in a small and in the full workspace."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from workspaces.models import Budget, User, Workspace

    owner = User.objects.create_user("owner@load.example", "x", name="Owner")
    workspace = Workspace.start("Full", owner)
    Budget.objects.create(workspace=workspace, of="workspace", cost=1e6)
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")

    def queries(path: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as caught:
            response = client.get(f"/w/{workspace.slug}/{path}")
        assert response.status_code == 200, f"{path}: {response.status_code}"
        return len(caught)

    fill(workspace, owner, *SMALL)
    small = {path: queries(path) for path in PATHS}
    fill(workspace, owner, MEMBERS, RUNS, CORPORA)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for path in PATHS:
        full = queries(path)
        gc.collect()  # what filling left behind is no part of an answer
        gc.freeze()
        wall, busy = [], []
        for _ in range(times):
            began, cpu = time.perf_counter(), time.thread_time()
            client.get(f"/w/{workspace.slug}/{path}")
            wall.append(1000 * (time.perf_counter() - began))
            busy.append(1000 * (time.thread_time() - cpu))
        yield {
            "case": f"/w/full/{path}",
            "ms_p50": round(of_100(wall, 50), 1),
            "ms_p95": round(of_100(wall, 95), 1),
            "cpu_ms_p95": round(of_100(busy, 95), 1),
            "queries": full,
            "queries_small": small[path],
        }


def walk() -> dict[str, Any]:
    """Every route as every persona."""
    from tests.analyses import test_routes as routes

    world = routes.make_world()
    strange, asked = routes.told_to_strangers(world)
    beyond, more = routes.beyond_their_role(world)
    return {
        "case": "route walk",
        "routes": len(routes.OURS),
        "without_a_rule": sorted(set(routes.OURS) - set(routes.RULES)),
        "personas": len(routes.STRANGERS) + len(routes.MEMBERS),
        "asked": asked + more,
        "leaks": [*strange, *beyond],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="a line of JSON a case, and the total last")
    parser.add_argument("--times", type=int, default=40, help="requests for each list")
    given = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"  # a data directory that goes away

    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    logging.disable(logging.CRITICAL)  # what strangers are refused is no news
    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, "testserver"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    call_command("migrate", verbosity=0)

    cases = []
    for case in lists(given.times):
        cases.append(case)
        say(case, given.json)
    walked = walk()
    say(walked, given.json)
    total = {
        "list_ms_p95": max(case["ms_p95"] for case in cases),  # of the slowest list
        "list_cpu_ms_p95": max(case["cpu_ms_p95"] for case in cases),
        "queries_constant": all(case["queries"] == case["queries_small"] for case in cases),
        "routes": walked["routes"],
        "personas": walked["personas"],
        "leaks": len(walked["leaks"]) + len(walked["without_a_rule"]),
    }
    say(total, given.json)


def say(what: dict[str, Any], as_json: bool) -> None:
    words = json.dumps(what) if as_json else "  ".join(f"{name}: {value}" for name, value in what.items())
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
