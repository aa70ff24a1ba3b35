"""numpy and pandas values, to and from the crossing form. Both are looked up only when a cell already uses them."""

from __future__ import annotations

from typing import Any

from .crossing import Decoder, Encoder


def encoder(max_bytes: int) -> Encoder:
    return Encoder(max_bytes)


class GuestDecoder(Decoder):
    def __init__(self, region: Any, namespace: dict[str, Any]) -> None:
        super().__init__(region)
        self.namespace = namespace
