"""Limits of uploads by workspace: the operator's are the ceiling, a workspace's own may be lower, an error names who set it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from analyses.ingest import loose, uploads
from analyses.ingest.limits import BY_OPERATOR, BY_WORKSPACE, NAMES, UploadLimits
from analyses.limit_forms import number_of
from analyses.models import Corpus, LooseBlob, UploadLimit
from tests.analyses.test_ingest_uploads import told, upload, zipped
from tests.workspaces.cast import Cast, make_cast
from workspaces.models import AuditEntry, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    return make_cast()


def own(cast: Cast, **values: int) -> None:
    for name, value in values.items():
        cast.workspace.upload_limits.create(name=name, by="workspace", value=value)


def given(cast: Cast, **values: int) -> None:
    for name, value in values.items():
        cast.workspace.upload_limits.create(name=name, by="operator", value=value)


def keep(cast: Cast, who: User, **values: str) -> Any:
    return cast.client(who).post(cast.url("settings/limits/"), values)


def test_without_rows_the_settings_hold(cast: Cast, settings: Any) -> None:
    settings.UPLOAD_FILES = 7
    assert UploadLimits.of(cast.workspace) == UploadLimits.from_settings()
    assert UploadLimits.of(cast.workspace).files == 7


def test_the_lower_of_ceiling_and_own_holds(cast: Cast, settings: Any) -> None:
    settings.UPLOAD_FILES, settings.UPLOAD_BYTES = 100, 1000
    own(cast, files=20, bytes=5000)
    holds = UploadLimits.of(cast.workspace)
    assert (holds.files, holds.bytes) == (20, 1000)
    assert (holds.who("files"), holds.who("bytes")) == (BY_WORKSPACE, BY_OPERATOR)
    given(cast, bytes=9000, files=10)  # the operator raises one, lowers the other
    holds = UploadLimits.of(cast.workspace)
    assert (holds.files, holds.bytes) == (10, 5000)
    assert (holds.who("files"), holds.who("bytes")) == (BY_OPERATOR, BY_WORKSPACE)
    assert UploadLimits.of(cast.elsewhere).files == 100


@pytest.mark.parametrize(
    ("limit", "files", "which", "said"),
    [
        ({"bytes": 50_000}, {"a.zip": "zip"}, "a.zip", "It unpacks to more than the 50 kB that an upload may have."),
        ({"files": 2}, {"a.zip": "zip"}, "a.zip", "It holds 3 files or more; an upload takes 2."),
        ({"depth": 1}, {"b.zip": "nested"}, "in.zip", "An archive in an archive; 1 level is opened."),
        ({"characters": 5}, {"a.txt": "words"}, "b.txt", "may have 5 characters; with this one they would have 10."),
    ],
)
def test_each_limit_is_named_with_its_figure_and_who_can_change_it(
    limit: dict[str, int], files: dict[str, str], which: str, said: str, cast: Cast
) -> None:
    own(cast, **limit)
    inner = zipped({"x.txt": b"one"})
    data = {
        "zip": zipped({f"{n}.txt": bytes(range(48, 90)) * 500 + b"%d" % n for n in range(3)}),
        "nested": zipped({"in.zip": inner, "top.txt": b"top"}),
        "words": b"words",
    }
    made = upload(cast.workspace, {name: data[kind] for name, kind in files.items()} | {"b.txt": b"fresh"})
    state, reason = told(made)[which]
    assert (state, said in reason, reason.endswith(BY_WORKSPACE)) == ("failed", True, True), reason


def test_a_lower_ratio_refuses_what_another_workspace_takes(cast: Cast) -> None:
    own(cast, ratio=3)
    bomb = zipped({"a.txt": b"a" * (17 << 20)})
    reason = told(upload(cast.workspace, {"a.zip": bomb}))["a.zip"][1]
    assert "more than 3 times that: refused as a zip bomb" in reason and reason.endswith(BY_WORKSPACE)


def test_characters_beyond_the_limit_can_be_tried_again_once_it_is_raised(cast: Cast) -> None:
    own(cast, characters=8)
    made = upload(cast.workspace, {"a.txt": b"words", "b.txt": b"caf\xe9s"})
    assert told(made)["b.txt"][0] == "failed" and made.version and made.version.characters == 5
    assert not LooseBlob.objects.filter(sha=made.files.get(name="b.txt").blob).exists()
    cast.workspace.upload_limits.all().delete()
    assert uploads.retry(made.files.get(name="b.txt"))
    uploads.process(made.pk)
    assert Corpus.objects.get().latest.characters == 10  # type: ignore[union-attr]
    loose.sweep(grace=0)
    assert Corpus.objects.get().latest.documents.count() == 2  # type: ignore[union-attr]


def test_announced_files_are_held_against_the_workspaces_limits(cast: Cast) -> None:
    own(cast, files=1)
    made = uploads.start(cast.workspace, cast.ed)
    files = {"files": [{"name": "a.txt", "size": 3}, {"name": "b.txt", "size": 3}]}
    response = cast.client(cast.ed).post(
        f"{made.get_absolute_url()}files", json.dumps(files), content_type="application/json"
    )
    assert response.status_code == 422
    assert response.json()["reason"] == f"An upload takes 1 files; this one would have 2. {BY_WORKSPACE}"
    plain = cast.client(cast.ed).post(cast.url("corpora/new"), {"files": [io.BytesIO(b"a"), io.BytesIO(b"b")]})
    assert f"These are 2 files; an upload takes 1. {BY_WORKSPACE}" in plain.content.decode()


def test_an_admin_sets_lower_limits_and_nobody_raises_them_above_the_operators(cast: Cast) -> None:
    assert keep(cast, cast.adam, bytes="500 MB", files="1,000", depth="").status_code == 302
    holds = UploadLimits.of(cast.workspace)
    assert (holds.bytes, holds.files, holds.own) == (500_000_000, 1000, {"bytes", "files"})
    entry = AuditEntry.objects.get(action="changed limits of uploads")
    assert entry.details == {"bytes": 500_000_000, "files": 1000}
    refused = keep(cast, cast.alice, files="20000", ratio="x", bytes="9 TB")
    page = refused.content.decode()
    assert refused.status_code == 422
    assert "At most 10,000: that is what this server allows. Whoever runs it can raise it for this workspace." in page
    assert "“x” is no whole number." in page and "At most 2.1 GB" in page
    assert keep(cast, cast.adam).status_code == 302  # all empty: the operator's again
    assert UploadLimits.of(cast.workspace) == UploadLimits.from_settings()
    assert keep(cast, cast.ed, files="1").status_code == 403
    seen = cast.client(cast.vera).get(cast.url("settings/limits/")).content.decode()
    assert "whoever runs this server" in seen and "Set lower ones" not in seen


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("2 GB", 2 * 10**9), ("1.5mb", 1_500_000), ("10,000", 10_000), ("3 000", 3000)]
)
def test_sizes_are_read_as_people_write_them(text: str, number: int) -> None:
    assert number_of(text, size=True) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "GB", "1 XB", "nan", "1e9", "9" * 30, "1.2.3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        number_of(text, size=True)


def test_the_operator_raises_one_workspace_by_command(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("upload_limits", cast.workspace.slug, bytes="20GB", files="50000")
    assert UploadLimits.of(cast.workspace).bytes == 20 * 10**9
    assert "bytes: 20 GB\n" in capsys.readouterr().out
    call_command("upload_limits", cast.workspace.slug, bytes="default")
    assert set(cast.workspace.upload_limits.values_list("name", flat=True)) == {"files"}
    with pytest.raises(CommandError, match="no workspace"):
        call_command("upload_limits", "nowhere")
    with pytest.raises(CommandError, match="--depth takes a number"):
        call_command("upload_limits", cast.workspace.slug, depth="deep")


def test_the_operator_raises_one_workspace_in_the_admin(cast: Cast) -> None:
    client = Client()
    client.force_login(
        User.objects.create_superuser("op@example.com", "x"), backend="django.contrib.auth.backends.ModelBackend"
    )
    response = client.post(
        reverse("admin:analyses_uploadlimit_add"),
        {"workspace": cast.workspace.pk, "name": "depth", "value": "4", "by": "operator"},
    )
    assert response.status_code == 302
    assert UploadLimits.of(cast.workspace).depth == 4


def test_every_limit_has_a_choice_for_the_operator() -> None:
    assert tuple(UploadLimit.Name.values) == NAMES
