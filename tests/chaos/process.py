"""A worker, or a person who asks, in a process of its own: ``python -m tests.chaos.process worker | ask QUESTION``."""

from __future__ import annotations

import os
import sys
import threading

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlmweb.settings")


def main(verb: str, *words: str) -> None:
    import django

    django.setup()
    from analyses import actions
    from analyses.worker import Worker
    from workspaces.models import User, Workspace

    if verb == "ask":
        workspace = Workspace.objects.first() or Workspace.start("Desk", User.objects.create_user("a@example.org"))
        run = actions.start_run(workspace, None, question=words[0], wake=False, limits={"depth": 3}, seed="1")
        sys.stdout.write(f"{run.pk}\n")
        return
    Worker().start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
