"""docs/trajectory.md says of the format what the code does: the same lines, fields, kinds and limits, in the same order."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from django.db.models import Model

from analyses.models import Call, Cell, EarlierAnswer, FollowUp, Run
from analyses.trajectory import fields, jsonl
from analyses.trajectory.exporting import EXPORTS
from analyses.trajectory.importing import FORMATS, Outcome, import_file
from analyses.trajectory.limits import LIMITS
from tests.factories import make_run, make_workspace

TEXT = (Path(__file__).parents[2] / "docs" / "trajectory.md").read_text()


def table(heading: str) -> list[str]:
    """The names in the first column of the first table below a heading."""
    section = re.split(rf"^#+ {re.escape(heading)}$", TEXT, maxsplit=1, flags=re.MULTILINE)[1]
    lines = section.split("\n#", maxsplit=1)[0].splitlines()
    return [found[1] for line in lines if (found := re.match(r"\| `([^`]+)` \|", line))]


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("run", ("format", "version", "origin", *fields.RUN)),
        ("corpus", (*fields.CORPUS, *fields.OF_A_PART)),
        ("document", fields.DOCUMENT),
        ("earlier_answer", fields.EARLIER_ANSWER),
        ("follow_up", fields.FOLLOW_UP),
        ("call", fields.CALL),
        ("cell", fields.CELL),
    ],
)
def test_fields_stand_in_the_document_as_in_the_file(heading: str, names: tuple[str, ...]) -> None:
    assert table(heading) == list(names)


def test_kinds_formats_limits_and_version_are_the_codes() -> None:
    assert table("Out") == list(EXPORTS)
    assert all(f"`.{export.suffix}`" in TEXT for export in EXPORTS.values())
    assert [name for name in table("Kinds of logs") if name in FORMATS] == FORMATS
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|$", TEXT, re.MULTILINE))
    assert told == {field.name: str(getattr(LIMITS, field.name)) for field in dataclasses.fields(LIMITS)}
    assert f"Version **{fields.VERSION}**" in TEXT


def test_what_import_says_is_in_the_document() -> None:
    refused, imported = Outcome("f", reason="no").as_dict(), Outcome("f", run=Run(), note="cut").as_dict()
    assert table("In") == [name for name in dict.fromkeys([*imported, "reason", "note"]) if name != "note"] + ["note"]
    assert set(refused) == set(table("In")) - {"note"}


@pytest.mark.django_db
def test_every_type_of_line_is_in_the_document() -> None:
    run = make_run(make_workspace(), "further")
    lines = [json.loads(line) for line in b"".join(jsonl.export(run)).splitlines()]
    assert {line["type"] for line in lines} <= set(table("The format"))
    for kind in ("run", "earlier_answer", "follow_up", "call", "cell", "end"):
        assert set(next(line for line in lines if line["type"] == kind)) - {"type"} == set(table(kind))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Run, fields.RUN),
        (Call, fields.CALL),
        (Cell, fields.CELL),
        (FollowUp, fields.FOLLOW_UP),
        (EarlierAnswer, fields.EARLIER_ANSWER),
    ],
)
def test_every_column_is_in_the_file_or_left_out_for_a_reason(model: type[Model], names: tuple[str, ...]) -> None:
    """Whoever adds a column decides here: put it into the file and the document, or say in LEFT_OUT why not."""
    columns = {column.name for column in model._meta.concrete_fields}
    assert columns == set(names) | set(fields.LEFT_OUT[model])
    assert not set(names) & set(fields.LEFT_OUT[model])


@pytest.mark.django_db
def test_a_later_version_is_refused_by_its_number() -> None:
    run = make_run(make_workspace(), "done")
    first, rest = b"".join(jsonl.export(run)).split(b"\n", maxsplit=1)
    later = json.dumps(json.loads(first) | {"version": fields.VERSION + 1}).encode() + b"\n" + rest
    [outcome] = import_file(io.BytesIO(later), "later.jsonl", run.workspace, None)
    assert outcome.run is None
    assert "version 2" in outcome.reason
