"""Write a run as a file: our JSON lines, a notebook, a Markdown report, or one HTML page."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from analyses.models import Run
from analyses.trajectory.exporting import EXPORTS


class Command(BaseCommand):
    help = "Write a run as a file (docs/trajectory.md)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", metavar="RUN", help="the run's key, as in its URL")
        parser.add_argument("--format", default="jsonl", choices=list(EXPORTS))
        parser.add_argument("--output", type=Path, metavar="FILE", help="else standard output")

    def handle(self, **options: Any) -> None:
        run = Run.objects.filter(key=options["run"]).first()
        if run is None:
            raise CommandError(f"There is no run {options['run']!r}.")
        pieces = EXPORTS[options["format"]].write(run)
        if options["output"] is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        # Under another name until it is whole: half a file looks like a file.
        draft = options["output"].with_name(options["output"].name + ".part")
        with draft.open("wb") as file:
            file.writelines(pieces)
        draft.replace(options["output"])
