"""SQLite takes what PostgreSQL refuses: texts too long for their column or with NUL in them, numbers out of their range.

Under test it refuses them too, so that what breaks there is found wherever the tests run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import DataError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import CharField, Field, IntegerField


def _no_nul(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
    for given in (params or ()) if many else [params or ()]:
        values: Iterable[Any] = given.values() if isinstance(given, Mapping) else given
        if any(isinstance(value, str) and "\0" in value for value in values):
            raise DataError("PostgreSQL takes no NUL (0x00) in a text")
    return execute(sql, params, many, context)


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "sqlite" and _no_nul not in connection.execute_wrappers:
        connection.execute_wrappers.append(_no_nul)


def _fitting(field: type[Field], fits: Callable[[Any, Any], bool]) -> None:
    prepare = field.get_db_prep_save

    def checked(self: Any, value: Any, connection: BaseDatabaseWrapper) -> Any:
        if not fits(self, value):
            raise DataError(f"PostgreSQL does not take this for {self}: {str(value)[:80]!r}")
        return prepare(self, value, connection)

    field.get_db_prep_save = checked  # type: ignore[method-assign]


def _short(field: Any, value: Any) -> bool:
    return not isinstance(value, str) or field.max_length is None or len(value) <= field.max_length


def _in_range(field: Any, value: Any) -> bool:
    if not isinstance(value, int):
        return True
    from django.db.backends.base.operations import BaseDatabaseOperations

    # As PostgreSQL has them; SQLite's own know no bounds.
    least, most = BaseDatabaseOperations.integer_field_ranges[field.get_internal_type()]
    return least <= value <= most


def hold_sqlite_to_it() -> None:
    connection_created.connect(_watch, dispatch_uid="tests-strict")
    _fitting(CharField, _short)
    _fitting(IntegerField, _in_range)
