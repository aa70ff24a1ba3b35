"""Columns that the two databases would not keep alike."""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class JSONAsWritten(models.JSONField):
    """JSON that comes back as it went in, with its keys in their order and its numbers as they were written.

    PostgreSQL's jsonb sorts keys, turns 1e22 into an integer, and refuses NUL and half a surrogate pair: there it is text.
    Nothing inside can be asked for by key.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "text" if connection.vendor == "postgresql" else super().db_type(connection)

    def get_transform(self, name: str) -> Any:
        return models.Field.get_transform(self, name)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        # Characters as they are, so that they can be searched for; half a pair has no UTF-8 and stays escaped.
        text = json.dumps(value, cls=self.encoder, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:
            return json.dumps(value, cls=self.encoder)
        return text
