"""The ``offline`` endpoint: a plain extractive program that writes real cells. It is not a language model."""

from __future__ import annotations

from rlm.offline.client import ENDPOINT, OfflineClient

__all__ = ["ENDPOINT", "OfflineClient"]
