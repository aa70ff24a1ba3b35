"""Find blobs that no row names, and remove them."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from analyses import blobs
from analyses.ingest import loose


class Command(BaseCommand):
    help = (
        "List the blobs that no row names; with --delete, remove them. A blob younger than --grace seconds is left "
        "alone, as somebody may be about to name it, and each is looked up again right before it goes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--delete", action="store_true", help="remove them; without, only say what would go")
        parser.add_argument("--grace", type=float, default=3600.0, metavar="SECONDS", help="default: 3600; at least 60")
        parser.add_argument("--json", action="store_true", help="one JSON object: blobs, bytes, deleted, names")

    def handle(self, *args: Any, **options: Any) -> None:
        grace = max(60.0, options["grace"])
        found = loose.unnamed(grace=grace)
        size = sum(blobs.size(sha) for sha in found)
        gone, _ = loose.remove(found, grace=grace) if options["delete"] else (set(), set())
        left = blobs.sweep_workshop() if options["delete"] else 0
        if options["json"]:
            told = {"blobs": len(found), "bytes": size, "deleted": len(gone), "unfinished": left, "names": found}
            self.stdout.write(json.dumps(told))
            return
        for sha in found:
            self.stdout.write(sha)
        said = f"{len(found)} blobs that no row names, {size:,} bytes"
        self.stdout.write(f"{said}; {len(gone)} deleted." if options["delete"] else f"{said}. Nothing was deleted.")
