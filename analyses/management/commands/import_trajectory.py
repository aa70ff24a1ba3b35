"""Bring logs of other harnesses, and our own exports, in as runs."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from analyses.trajectory.importing import Outcome, import_file
from workspaces.local import local_owner
from workspaces.models import User, Workspace


class Command(BaseCommand):
    help = "Import logs of runs: our own JSON lines, and those of fast-rlm, rlm and others (docs/trajectory.md)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--workspace", default="", metavar="SLUG", help="where the runs go; else the owner's first")
        parser.add_argument("--json", action="store_true", help="one JSON object a run on standard output")

    def handle(self, **options: Any) -> None:
        workspace, user = _where(options["workspace"])
        refused = 0
        for path in options["files"]:
            for outcome in _import(path, workspace, user):
                refused += outcome.run is None
                self._tell(outcome, as_json=options["json"])
        if refused:
            sys.exit(1)

    def _tell(self, outcome: Outcome, *, as_json: bool) -> None:
        url = f"http://127.0.0.1:{settings.PORT}{outcome.run.get_absolute_url()}" if outcome.run else ""
        told = outcome.as_dict(url)
        if as_json:
            self.stdout.write(json.dumps(told, ensure_ascii=False, allow_nan=False))
        elif outcome.run is None:
            self.stdout.write(f"{outcome.file}: refused. {outcome.reason}")
        else:
            said = f"{told['calls']} calls, {told['cells']} cells, {told['total_tokens']:,} tokens, {told['status']}"
            self.stdout.write(f"{outcome.file}: {outcome.format}: {said}. {outcome.note}\n  {url}")


def _where(slug: str) -> tuple[Workspace, User | None]:
    if slug:
        workspace = Workspace.objects.filter(slug=slug).first()
        if workspace is None:
            raise CommandError(f"There is no workspace {slug!r}.")
        return workspace, None
    owner, _ = local_owner()
    workspace = Workspace.objects.visible_to(owner).order_by("pk").first()
    assert workspace is not None
    return workspace, owner


def _import(path: Path, workspace: Workspace, user: User | None) -> list[Outcome]:
    try:
        if path.is_dir():
            return _import_folder(path, workspace, user)
        with path.open("rb") as file:
            return import_file(file, path.name, workspace, user)
    except OSError as error:
        return [Outcome(path.name, reason=f"The file cannot be read: {error.strerror}.")]


def _import_folder(folder: Path, workspace: Workspace, user: User | None) -> list[Outcome]:
    """A session of rlmkit: a folder for each agent. Their files one after the other are one log."""
    with tempfile.TemporaryFile() as joined:
        for path in sorted(folder.rglob("session.jsonl")):
            with path.open("rb") as file:
                shutil.copyfileobj(file, joined)
            joined.write(b"\n")
        if not joined.tell():
            return [Outcome(folder.name, reason="The folder holds no session.jsonl.")]
        return import_file(joined, folder.name, workspace, user)
