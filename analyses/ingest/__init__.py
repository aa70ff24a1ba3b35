"""Uploads → documents → context: decode, extract, pack, and hand a corpus version to a run."""

from __future__ import annotations

from analyses.ingest.context import context_of

__all__ = ["context_of"]
