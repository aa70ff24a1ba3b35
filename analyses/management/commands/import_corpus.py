"""Make a corpus from files, folders and archives of this machine, without a browser, a worker or Redis."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from analyses import ingest
from workspaces.local import local_owner
from workspaces.models import Workspace


class Command(BaseCommand):
    help = (
        "Make a corpus from files, folders and archives. With --json: one JSON object a file, then one for the corpus."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--name", default="", help="the corpus's name; otherwise it is taken from the files")
        parser.add_argument("--workspace", default="", metavar="SLUG", help="otherwise the local owner's")
        parser.add_argument("--json", action="store_true", help="JSON lines on standard output")

    def handle(self, **options: Any) -> None:
        owner, _ = local_owner()
        mine = Workspace.objects.visible_to(owner).order_by("members__joined_at")
        workspace = mine.filter(slug=options["workspace"]).first() if options["workspace"] else mine.first()
        if workspace is None:
            raise CommandError(f"The local owner has no workspace {options['workspace']!r}.")
        try:
            imported = ingest.import_paths(workspace, owner, options["paths"], name=options["name"])
        except ingest.IngestRefused as refused:
            self._say(refused.outcomes, options["json"])
            if options["json"]:
                self._line({"corpus": None, "documents": 0, "characters": 0, "url": None, "reason": str(refused)})
                sys.exit(1)
            raise CommandError(str(refused)) from None
        self._say(imported.outcomes, options["json"])
        version = imported.version
        url = f"http://127.0.0.1:{settings.PORT}{version.corpus.get_absolute_url()}"
        if options["json"]:
            made = {"corpus": version.corpus.name, "documents": version.document_count}
            self._line(made | {"characters": version.characters, "url": url})
        else:
            self.stdout.write(
                f"{version.corpus.name}: {version.document_count:,} documents, {version.characters:,} characters. {url}"
            )

    def _say(self, outcomes: list[ingest.Outcome], as_json: bool) -> None:
        for outcome in outcomes:
            if as_json:
                self._line(outcome.as_dict())
            else:
                detail = f"{outcome.document_chars:,} characters" if outcome.outcome == "ready" else outcome.reason
                self.stdout.write(f"{outcome.outcome:9}  {outcome.name}  {detail}")

    def _line(self, value: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False))
