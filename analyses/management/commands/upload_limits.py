"""The operator's limits of uploads for one workspace, in place of the settings."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from analyses.ingest.limits import NAMES, UploadLimits
from analyses.limit_forms import keep, number_of, shown
from analyses.models import UploadLimit
from workspaces.models import Workspace


class Command(BaseCommand):
    help = (
        "Show the limits of uploads of a workspace, or give it others than the settings say; “default” takes one back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workspace", metavar="SLUG", help="as in /w/SLUG/")
        for name in NAMES:
            parser.add_argument(f"--{name}", metavar="N", help="such as 20GB" if name == "bytes" else None)

    def handle(self, **options: Any) -> None:
        workspace = Workspace.objects.filter(slug=options["workspace"]).first()
        if workspace is None:
            raise CommandError(
                f"There is no workspace {options['workspace']!r}: its slug stands in its address, /w/<slug>/."
            )
        given: dict[str, int | None] = {}
        for name in NAMES:
            if (text := options[name]) is not None:
                try:
                    given[name] = None if text == "default" else number_of(text, size=name == "bytes")
                except ValueError:
                    raise CommandError(f"--{name} takes a number of at least 1, or default; not {text!r}.") from None
        for name, value in given.items():
            keep(workspace, name, UploadLimit.By.OPERATOR, value)
        holds = UploadLimits.of(workspace)
        for name in NAMES:
            own = " (the workspace’s own)" if name in holds.own else ""
            self.stdout.write(f"{name}: {shown(name, getattr(holds, name))}{own}")
