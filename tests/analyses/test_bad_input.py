"""What people and programs send that no upload should stumble over; a full disk is a real one, small and full."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from analyses import blobs, tus
from analyses.ingest import uploads, versions
from analyses.models import Corpus, Document
from analyses.reader import LINE_MOST, Window
from tests.analyses.test_blobs_s3 import bucket  # noqa: F401 — a fixture
from tests.analyses.test_ingest_uploads import texts, told, upload, zipped
from tests.factories import make_workspace
from tests.workspaces.cast import make_cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def workspace() -> Any:
    return make_workspace()


def kept() -> set[Path]:
    return {path for path in blobs.workshop().parent.rglob("*") if path.is_file()}


def test_json_of_any_depth_is_text(workspace: Any) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    made = upload(workspace, {"deep.json": deep, "deep.jsonl": deep + b"\n{}", "flat.json": b'{"a": 1}'})
    assert {state for state, _ in told(made).values()} == {"ready"}
    assert made.version and deep.decode() in texts(made.version)


def test_a_table_with_a_field_of_fifty_megabytes_is_read_in_pieces(workspace: Any) -> None:
    field = b"lamp " * 10_000_000
    made = upload(workspace, {"wide.csv": b'id,text\n1,"' + field + b'"\n2,short\n', "b.txt": b"fine"})
    assert told(made)["wide.csv"] == ("ready", "") and told(made)["b.txt"] == ("ready", "")
    document = Document.objects.select_related("version").get(name="wide.csv")
    assert document.characters == len(field) + 21
    window = Window.of(document, {"c": "40000011-40000015"})
    assert "".join(bit.text for para in window.paragraphs for bit in para.bits if bit.kind == "cited") == "lamp"
    assert max(len("".join(bit.text for bit in para.bits)) for para in window.paragraphs) <= LINE_MOST


def test_names_of_three_hundred_characters_and_of_right_to_left_scripts_are_whole(workspace: Any) -> None:
    long, hebrew = "n" * 296 + ".txt", "שלום עולם " * 20 + ".md"
    made = upload(workspace, {long: b"one", hebrew: "# שלום".encode()})
    assert {row.name for row in made.files.all()} == {long, hebrew}
    assert made.version and {d.name for d in made.version.documents.all()} == {long, hebrew}


def test_a_file_that_grew_meanwhile_is_what_came(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    (row,) = uploads.announce(made, [("log.txt", 3)])
    assert row
    uploads.receive(made, "log.txt", io.BytesIO(b"grown meanwhile"), row)
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    row.refresh_from_db()
    assert (row.state, row.size, row.received) == ("ready", 15, 15)
    assert made.version and texts(made.version) == ["grown meanwhile"]


def test_thousands_of_tiny_files_are_taken_and_more_than_ten_thousand_refused(workspace: Any) -> None:
    made = upload(workspace, {"a.zip": zipped({f"d/{n}.txt": b"%d" % n for n in range(2_000)}), "b.txt": b"fine"})
    assert told(made)["a.zip"] == ("ready", "2,000 of 2,000 files in it are ready.")
    assert made.version and made.version.document_count == 2_001
    over = upload(workspace, {"a.zip": zipped({f"{n}.txt": b"%d" % n for n in range(10_001)})})
    assert "It holds 10,001 files or more; an upload takes 10,000." in told(over)["a.zip"][1]


class Full:
    """Every file that is written to ends with the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left, self.on = after, True
        write = blobs.Writer.write

        def limited(writer: blobs.Writer, data: Any) -> int:
            self.left -= len(data)
            if self.on and self.left < 0:
                write(writer, bytes(data)[: len(data) // 2])  # a part of it had room
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(writer, data)

        monkeypatch.setattr(blobs.Writer, "write", limited)


@pytest.mark.parametrize("after", [0, 12, 25, 30])
def test_a_disk_that_fills_up_anywhere_leaves_nothing_half_and_another_try_works(
    after: int, workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, disk = kept(), Full(monkeypatch, after)
    made = uploads.start(workspace, None, name="Fog")
    sent = {"a.txt": "café".encode("utf-16"), "b.txt": "thé!".encode("utf-16"), "c.txt": b"fog!"}
    for name, data in sent.items():
        uploads.receive(made, name, io.BytesIO(data))
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert any("disk is full" in reason for _, reason in told(made).values()) or "disk is full" in made.reason
    assert not [path for path in kept() - before if "part-" in path.name]
    disk.on = False
    for row in made.files.filter(state="failed"):
        uploads.retry(row)
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    gone = made.files.filter(state="failed").values_list("name", flat=True)  # their bytes never came: added again
    if gone:
        upload(workspace, {name: sent[name] for name in gone}, corpus=made.corpus)
    corpus = Corpus.objects.get()
    assert corpus.latest and sorted(texts(corpus.latest)) == ["café", "fog!", "thé!"]


def test_a_disk_that_is_full_while_packing_keeps_the_files_for_another_try(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = versions.pack

    def full(pieces: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(versions, "pack", full)
    made = upload(workspace, {"a.txt": b"one", "b.txt": b"two"})
    assert "disk is full" in made.reason and not Corpus.objects.exists()
    monkeypatch.setattr(versions, "pack", pack)
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert made.version and texts(made.version) == ["one", "two"]


def test_a_piece_that_finds_the_disk_full_can_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cast = make_cast()
    client = cast.client(cast.ed)
    made = uploads.start(cast.workspace, cast.ed, name="Fog")
    (row,) = uploads.announce(made, [("a.txt", 6)])
    assert row
    says = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
    place, kind = f"{made.get_absolute_url()}tus/{row.pk}", "application/offset+octet-stream"
    assert send(client, place, b"one", says, kind).status_code == 204
    append = tus.append

    def full(*given: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tus, "append", full)
    refused = send(client, place, b"two", says | {"Upload-Offset": "3"}, kind)
    assert refused.status_code == 507 and "disk is full" in refused.content.decode()
    monkeypatch.setattr(tus, "append", append)
    assert client.head(place, headers=says).headers["Upload-Offset"] == "3"
    assert send(client, place, b"two", says | {"Upload-Offset": "3"}, kind).status_code == 204
    row.refresh_from_db()
    assert blobs.read(row.blob) == b"onetwo"


def send(client: Client, place: str, data: bytes, says: dict[str, str], kind: str) -> Any:
    return client.patch(place, data, content_type=kind, headers=says)


@pytest.fixture
def in_a_store(bucket: Any) -> Iterator[Any]:  # noqa: F811
    yield bucket


def test_files_are_read_from_an_object_store(in_a_store: Any) -> None:
    cast = make_cast()
    made = upload(cast.workspace, {"a.zip": zipped({"x.txt": "zwölf 🚤".encode()}), "b.vtt": VTT, "c.txt": b"caf\xe9"})
    assert made.version and made.corpus
    client = cast.client(cast.vera)
    page = client.get(f"{made.corpus.get_absolute_url()}d/2/?q=zw").content.decode()
    assert "zw</mark>ölf" in page
    assert "ten past two" in client.get(f"{made.corpus.get_absolute_url()}d/0/").content.decode()
    found = client.get(f"{made.corpus.get_absolute_url()}search?q=caf")
    assert found.context["answer"].total == 1
    original = client.get(f"{made.corpus.get_absolute_url()}d/1/original")
    assert b"".join(original.streaming_content) == b"caf\xe9"  # type: ignore[attr-defined]
    assert any(made.version.text in each.key for each in in_a_store.objects.all())


VTT = b"WEBVTT\n\n00:00:01.000 --> 00:00:03.000\nten past two\n"
