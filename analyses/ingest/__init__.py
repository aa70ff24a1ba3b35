"""Uploads → documents → context: decode, extract, pack, and hand a corpus version to a run."""

from __future__ import annotations

from analyses.ingest.context import ContextMissing, context_of, oversize
from analyses.ingest.part import part_of
from analyses.ingest.paths import Imported, IngestRefused, Outcome, import_paths
from analyses.ingest.uploads import process, sweep, wake

__all__ = [
    "ContextMissing",
    "Imported",
    "IngestRefused",
    "Outcome",
    "context_of",
    "import_paths",
    "oversize",
    "part_of",
    "process",
    "sweep",
    "wake",
]
