"""Uploads: an outcome and a reason for every file, one packed text for what is ready, nothing half-kept."""

from __future__ import annotations

import datetime
import errno
import io
import json
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analyses import blobs, ingest
from analyses.ingest import loose, uploads, versions
from analyses.jobs import Hold
from analyses.models import Corpus, CorpusVersion, Document, LooseBlob, Upload, UploadFile
from sandbox.extraction import Extraction
from tests import documents as make
from tests.factories import make_user, make_workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def workspace() -> Any:
    return make_workspace()


def upload(workspace: Any, files: dict[str, bytes], corpus: Corpus | None = None, name: str = "") -> Upload:
    """Send these files and have them taken in."""
    made = uploads.start(workspace, None, corpus=corpus, name=name)
    for filename, data in files.items():
        uploads.receive(made, filename, io.BytesIO(data))
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    return made


def told(made: Upload) -> dict[str, tuple[str, str]]:
    return {row.name: (row.state, row.reason) for row in made.files.all()}


def texts(version: CorpusVersion) -> list[str]:
    packed = blobs.read(version.text)
    return [packed[d.byte_start : d.byte_end].decode() for d in version.documents.all()]


def zipped(files: dict[str, bytes], **options: Any) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def test_files_become_documents_in_natural_order(workspace: Any) -> None:
    made = upload(workspace, {"e10.txt": b"ten", "e2.txt": b"two", "E1.txt": b"one"}, name="The Tin Lighthouse")
    version = made.version
    assert version and version.corpus.name == "The Tin Lighthouse"
    assert texts(version) == ["one", "two", "ten"]
    assert [d.name for d in version.documents.all()] == ["E1.txt", "e2.txt", "e10.txt"]
    assert (version.document_count, version.characters, version.bytes) == (3, 9, 9)


@given(
    st.lists(
        st.text(min_size=1, max_size=200).filter(
            lambda t: t.strip(" \n\t\r\f\x0b\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029") and "\0" not in t
        ),
        min_size=1,
        max_size=6,
    )
)
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_offsets_give_the_text_back_for_any_unicode(workspace: Any, documents: list[str]) -> None:
    documents = [f"{number} {text}".encode("utf-8", "ignore").decode() for number, text in enumerate(documents)]
    made = upload(workspace, {f"{number}.txt": text.encode() for number, text in enumerate(documents)})
    wanted = [text.replace("\r\n", "\n").replace("\r", "\n") for text in documents]
    refused = {row.name for row in made.files.exclude(state="ready")}  # such as a few control codes and nothing else
    kept = [text for number, text in enumerate(wanted) if f"{number}.txt" not in refused]
    if not kept:
        assert made.version is None
        return
    assert made.version
    packed = blobs.read(made.version.text)
    whole = packed.decode()
    for document, text in zip(made.version.documents.all(), kept, strict=True):
        assert packed[document.byte_start : document.byte_end].decode() == text
        assert whole[document.char_start : document.char_start + document.characters] == text
        assert len(whole[: document.char_start].encode()) == document.byte_start
    assert made.version.characters == len(whole)
    assert made.version.bytes == len(packed)


def test_bad_files_do_not_hold_up_the_good_one(workspace: Any) -> None:
    made = upload(
        workspace,
        {
            "good.txt": b"words",
            "empty.txt": b"",
            "blank.md": b" \n\n\t",
            "s4e03.txt": b"\x89PNG\r\n\x1a\n" + bytes(200),
            "nul.txt": b"a\0b" * 50,
            "film.mp4": b"\0\0\0\x20ftypisom" + bytes(200),
            "noext": b"more words",
            "broken.zip": b"PK\x03\x04 not really",
            "broken.tgz": b"\x1f\x8b nor this",
            "copy.txt": b"words",
        },
    )
    said = told(made)
    assert said["good.txt"] == ("ready", "")
    assert said["copy.txt"] == ("duplicate", "Same bytes as good.txt. Kept once.")
    assert {name: state for name, (state, _) in said.items() if state == "failed"}.keys() == said.keys() - {
        "good.txt",
        "copy.txt",
    }
    assert said["empty.txt"][1] == "The file is empty."
    assert said["blank.md"][1] == "It holds no text, only blank space."
    assert said["s4e03.txt"][1] == "It looks like a binary file: this is a PNG image, not text."
    assert "an MP4 recording" in said["film.mp4"][1]
    assert "without an extension" in said["noext"][1]
    assert said["broken.zip"][1] == "It is not a zip archive, or a damaged one."
    assert said["broken.tgz"][1] == "It is not a tar archive, or a damaged one."
    assert made.version and texts(made.version) == ["words"]


def test_upload_without_a_ready_document_makes_nothing(workspace: Any) -> None:
    made = upload(workspace, {"empty.txt": b"", "x.txt": b"\x89PNG\r\n\x1a\n"})
    assert made.finished_at and made.version is None
    assert made.reason == "No document came out of this upload, so nothing was made. Each file says why."
    assert not Corpus.objects.exists()
    assert upload(workspace, {}).reason == "No file came with this upload, so nothing was made."


def test_bytes_of_a_failed_file_are_let_go(workspace: Any) -> None:
    made = upload(workspace, {"good.txt": b"words", "bad.txt": b"a\0b" * 50})
    assert set(made.files.exclude(state="ready").values_list("blob", flat=True)) == {""}
    loose.sweep(grace=0)
    kept = {path.name for path in Path(blobs.workshop()).parent.rglob("*") if path.is_file()}
    assert made.version
    assert kept == {made.version.text, *made.version.documents.values_list("original", flat=True)}


def test_blob_that_somebody_names_is_not_swept(workspace: Any) -> None:
    made = upload(workspace, {"good.txt": b"words"})
    assert made.version
    loose.let_go([made.version.text])
    assert loose.sweep(grace=0) == 0
    assert blobs.exists(made.version.text)
    assert not LooseBlob.objects.exists()


def test_blob_put_just_now_is_not_swept() -> None:
    sha = blobs.put(b"somebody is about to name it")
    loose.let_go([sha])
    LooseBlob.objects.update(since=timezone.now() - datetime.timedelta(hours=1))
    assert loose.sweep() == 0
    assert blobs.exists(sha)
    assert LooseBlob.objects.exists()


def test_clean_text_is_its_own_original(workspace: Any) -> None:
    made = upload(workspace, {"a.txt": b"clean\n"})
    assert made.version
    document = made.version.documents.get()
    assert made.version.text == document.original


def test_adding_files_makes_a_new_version_and_leaves_the_old(workspace: Any) -> None:
    first = upload(workspace, {"b.txt": b"bee", "c.txt": b"sea"}).version
    assert first
    second = upload(workspace, {"a.txt": b"ay", "b2.txt": b"bee"}, corpus=first.corpus)
    assert second.version
    assert (second.version.number, texts(second.version)) == (2, ["bee", "sea", "ay"])
    assert told(second)["b2.txt"] == ("duplicate", "Same bytes as b.txt, document 1. Kept once.")
    assert texts(first) == ["bee", "sea"]


def test_corpus_and_its_first_version_appear_together(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> Any:
        assert not Corpus.objects.exists()  # nothing to be found, should the worker die here
        raise KeyboardInterrupt

    monkeypatch.setattr(versions, "pack", killed)
    with pytest.raises(KeyboardInterrupt):
        upload(workspace, {"a.txt": b"one", "b.txt": b"two"})
    assert not Corpus.objects.exists()


def test_upload_of_nothing_new_changes_nothing(workspace: Any) -> None:
    first = upload(workspace, {"b.txt": b"bee"}).version
    assert first
    second = upload(workspace, {"b.txt": b"bee"}, corpus=first.corpus)
    assert second.version is None
    assert second.reason == "Every file of it is here already; nothing was changed."
    assert first.corpus.versions.count() == 1


def test_version_made_meanwhile_is_built_upon(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = upload(workspace, {"a.txt": b"one"}).version.corpus  # type: ignore[union-attr]
    real, raced = versions.pack, []

    def pack(pieces: Any) -> Any:
        if not raced:
            raced.append(True)
            upload(workspace, {"b.txt": b"two"}, corpus=corpus)
        return real(pieces)

    monkeypatch.setattr(versions, "pack", pack)
    made = upload(workspace, {"c.txt": b"three"}, corpus=corpus)
    assert made.version and made.version.number == 3
    assert texts(made.version) == ["one", "two", "three"]


def test_zip_members_become_documents_by_their_path(workspace: Any) -> None:
    made = upload(workspace, {"season.zip": zipped({"s/e2.md": b"# Two", "s/e10.md": b"# Ten", "s/": b""})})
    assert made.version
    assert [(d.title, d.name) for d in made.version.documents.all()] == [("Two", "s/e2.md"), ("Ten", "s/e10.md")]
    assert told(made)["season.zip"] == ("ready", "2 of 2 files in it are ready.")
    assert made.version.corpus.name == "s"
    assert made.files.get(name="season.zip").blob == ""


@pytest.mark.parametrize(
    "name, mode", [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w:"), ("a.tar.bz2", "w:bz2")]
)
def test_tar_members_become_documents(name: str, mode: str, workspace: Any) -> None:
    made = upload(workspace, {name: tarred({"d/b.txt": b"bee", "d/a.txt": b"x" * 5120}, mode)})
    assert made.version and texts(made.version) == ["x" * 5120, "bee"]


def test_names_that_lead_out_of_an_archive_are_refused(workspace: Any) -> None:
    names = ["../../etc/passwd.txt", "/etc/x.txt", "C:\\x.txt", "a/../../b.txt", "..\\w.txt"]
    for data, kind in [
        (zipped({n: b"evil" + n.encode() for n in names} | {"ok.txt": b"fine"}), "zip"),
        (tarred(dict.fromkeys(names, b"evil") | {"ok.txt": b"fine"}), "tar.gz"),
    ]:
        made = upload(workspace, {f"a.{kind}": data})
        rows = made.files.exclude(name=f"a.{kind}")
        assert rows.filter(state="failed", reason__contains="leads out of the archive").count() == len(names)
        assert made.version and texts(made.version) == ["fine"]


def test_links_and_devices_in_archives_are_not_followed(workspace: Any) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, kind, to in [
            ("link.txt", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.txt", tarfile.LNKTYPE, "ok.txt"),
            ("pipe.txt", tarfile.FIFOTYPE, ""),
            ("dev.txt", tarfile.CHRTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, to
            archive.addfile(info)
        info = tarfile.TarInfo("ok.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"fine"))
    said = told(upload(workspace, {"a.tgz": made.getvalue()}))
    assert said["link.txt"] == said["hard.txt"] == ("skipped", "It is a link; links are not followed.")
    assert said["pipe.txt"][0] == said["dev.txt"][0] == "failed"
    assert said["ok.txt"][0] == "ready"

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("ok.txt", "fine")
    assert told(upload(workspace, {"b.zip": made.getvalue()}))["link.txt"] == (
        "skipped",
        "It is a symbolic link; links are not followed.",
    )


def test_system_files_and_other_types_in_an_archive_are_skipped(workspace: Any) -> None:
    made = upload(
        workspace,
        {
            "a.zip": zipped(
                {
                    "__MACOSX/._e1.txt": b"x",
                    ".DS_Store": b"x",
                    "a/.git/x.txt": b"x",
                    "pic.png": b"\x89PNG",
                    "e1.txt": b"one",
                }
            )
        },
    )
    said = told(made)
    assert {state for name, (state, _) in said.items() if name not in ("a.zip", "e1.txt")} == {"skipped"}
    assert said["pic.png"][1] == "Files of type .png are not read."
    assert said["e1.txt"][0] == "ready"


def test_encrypted_member_says_so(workspace: Any) -> None:
    data = bytearray(zipped({"secret.txt": b"hidden words", "open.txt": b"open words"}))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    said = told(upload(workspace, {"a.zip": bytes(data)}))
    assert said["secret.txt"] == ("failed", "Encrypted: it needs a password. Remove it and add the file again.")
    assert said["open.txt"][0] == "ready"


def test_damaged_member_says_so_and_the_others_stay(workspace: Any) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.txt", "the original words")
        archive.writestr("b.txt", "other words")
    said = told(upload(workspace, {"a.zip": made.getvalue().replace(b"the original words", b"the 0riginal words")}))
    assert said["a.txt"] == ("failed", "It is damaged in the archive: its bytes do not match their checksum.")
    assert said["b.txt"][0] == "ready"


def test_zip_bomb_is_refused_whole_whatever_it_says_of_itself(workspace: Any, settings: Any) -> None:
    bomb = zipped({"a.txt": b"words", "bomb.txt": b"a" * (24 << 20)})
    made = upload(workspace, {"bomb.zip": bomb, "good.txt": b"fine"})
    assert told(made)["bomb.zip"][1].endswith(
        "unpacks to more than 100 times that: refused as a zip bomb. Whoever runs this server can raise that limit."
    )
    assert set(told(made)) == {"bomb.zip", "good.txt"}  # not even its honest member

    # The same with sizes that lie: read, not believed.
    size = (24 << 20).to_bytes(4, "little")
    made = upload(workspace, {"liar.zip": bomb.replace(size, (100).to_bytes(4, "little"))})
    assert told(made)["bomb.txt"] == ("failed", "It is damaged in the archive: its bytes do not match their checksum.")
    assert made.version and texts(made.version) == ["words"]


def test_bomb_in_a_tar_or_in_an_inner_zip_is_refused(workspace: Any) -> None:
    bomb = b"a" * (24 << 20)
    assert "bomb" in told(upload(workspace, {"a.tgz": tarred({"a.txt": b"one", "b.txt": bomb})}))["a.tgz"][1]
    made = upload(workspace, {"a.zip": zipped({"x.txt": b"one", "in.zip": zipped({"y.txt": b"two", "b.txt": bomb})})})
    assert "bomb" in told(made)["a.zip"][1]
    assert made.files.count() == 1


def test_archive_larger_than_an_upload_is_refused(workspace: Any, settings: Any) -> None:
    settings.UPLOAD_BYTES = 50_000
    import os

    made = upload(workspace, {"a.zip": zipped({"a.txt": os.urandom(40_000).hex().encode()}), "b.txt": b"fine"})
    assert "more than the 50 kB that an upload may have" in told(made)["a.zip"][1]
    assert told(made)["b.txt"][0] == "ready"


def test_archive_of_too_many_files_is_refused(workspace: Any, settings: Any) -> None:
    settings.UPLOAD_FILES = 20
    data = {f"{n}.txt": b"%d" % n for n in range(21)}
    for name, packed in (("a.zip", zipped(data)), ("a.tgz", tarred(data))):
        made = upload(workspace, {name: packed})
        assert (
            told(made)[name][1]
            == "It holds 21 files or more; an upload takes 20. Whoever runs this server can raise that limit."
        )
        assert made.version is None


def test_archives_in_archives_open_to_their_depth(workspace: Any) -> None:
    three = zipped({"deep.txt": b"deep"})
    two = zipped({"three.zip": three, "mid.txt": b"mid"})
    made = upload(workspace, {"one.zip": zipped({"two.zip": two, "top.txt": b"top"})})
    said = told(made)
    assert said["top.txt"][0] == said["two.zip/mid.txt"][0] == "ready"
    assert said["two.zip/three.zip"] == (
        "failed",
        "An archive in an archive in an archive; 2 levels are opened. Whoever runs this server can raise that limit.",
    )
    assert made.version and sorted(texts(made.version)) == ["mid", "top"]


def test_table_of_contents_that_is_absurd_is_not_read(workspace: Any) -> None:
    data = bytearray(zipped({"a.txt": b"one"}))
    at = data.rindex(b"PK\x05\x06") + 12
    data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    assert told(upload(workspace, {"a.zip": bytes(data)}))["a.zip"][0] == "failed"


def test_tar_header_of_absurd_size_is_not_read_into_memory(workspace: Any) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 200 << 20
    data = header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    assert told(upload(workspace, {"a.tar": data}))["a.tar"][0] == "failed"


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>.txt",
        "‮gpj.txt",
        "a\nb\x1b[31m.txt",
        "x" * 600 + ".txt",
        "../../up.txt",
        "/abs.txt",
        "",
        "שלום עולם.txt",
        "a\\b\\c.txt",
    ],
)
def test_odd_names_are_kept_fit_to_show(name: str, workspace: Any) -> None:
    made = upload(workspace, {name: b"words", "ok.txt": b"fine"})
    kept = made.files.exclude(name="ok.txt").get().name
    assert kept and len(kept) <= 500
    assert not kept.startswith("/") and ".." not in kept.split("/")
    assert all(c.isprintable() for c in kept)


def test_full_disk_is_said_and_the_upload_goes_on(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = uploads.start(workspace, None)
    real = blobs.put_file

    def full(source: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(blobs, "put_file", full)
    uploads.receive(made, "a.txt", io.BytesIO(b"one"))
    monkeypatch.setattr(blobs, "put_file", real)
    uploads.receive(made, "b.txt", io.BytesIO(b"two"))
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert "disk is full" in told(made)["a.txt"][1]
    assert made.version and texts(made.version) == ["two"]


def test_error_nobody_foresaw_fails_one_file_and_can_be_retried(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = uploads.extract

    def breaks(path: Path, name: str, sha: str, **jail: Any) -> Any:
        if name == "a.txt":
            raise ZeroDivisionError
        return real(path, name, sha, **jail)

    monkeypatch.setattr(uploads, "extract", breaks)
    made = upload(workspace, {"a.txt": b"one", "b.txt": b"two"})
    assert told(made)["a.txt"][0] == "failed"
    assert made.version and texts(made.version) == ["two"]
    monkeypatch.setattr(uploads, "extract", real)
    row = made.files.get(name="a.txt")
    assert row.may_retry and uploads.retry(row)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert made.version and made.version.number == 2
    assert texts(made.version) == ["two", "one"]
    assert not uploads.retry(made.files.get(name="b.txt"))


def test_what_a_dead_worker_left_is_begun_again(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    row = uploads.receive(made, "a.zip", io.BytesIO(zipped({"x.txt": b"one"})))
    UploadFile.objects.filter(pk=row.pk).update(state="extracting", attempts=1)
    UploadFile.objects.create(
        upload=made, archive=row, position=0, name="half.txt", size=1, state="ready", text=blobs.put(b"half")
    )
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert made.version and texts(made.version) == ["one"]
    assert set(told(made)) == {"a.zip", "x.txt"}


def test_file_that_kills_workers_is_given_up(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    row = uploads.receive(made, "a.txt", io.BytesIO(b"one"))
    UploadFile.objects.filter(pk=row.pk).update(state="extracting", attempts=3)
    uploads.close(made)
    uploads.process(made.pk)
    assert told(made)["a.txt"] == ("failed", "The worker died three times while reading it.")


def test_upload_under_work_is_left_to_its_worker(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    uploads.receive(made, "a.txt", io.BytesIO(b"one"))
    with Hold(Upload, made.pk) as lease:
        assert lease.held
        uploads.process(made.pk)
        assert told(made)["a.txt"][0] == "queued"
    uploads.process(made.pk)
    assert told(made)["a.txt"][0] == "ready"


def test_open_upload_takes_in_what_is_there_and_waits(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    uploads.announce(made, [("a.txt", 3), ("b.txt", 3)])
    a, b = made.files.all()
    uploads.receive(made, "a.txt", io.BytesIO(b"one"), a)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert told(made)["a.txt"][0] == "ready" and told(made)["b.txt"][0] == "uploading"
    assert made.finished_at is None
    uploads.close(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert made.finished_at is None  # b.txt was announced and has not come
    uploads.lose(b, "It vanished.")
    uploads.process(made.pk)
    made.refresh_from_db()
    assert made.version and texts(made.version) == ["one"]


def test_same_files_dropped_again_are_the_same_rows(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    first = uploads.announce(made, [("a.txt", 3), ("b.txt", 3)])
    again = uploads.announce(made, [("b.txt", 3), ("a.txt", 3), ("c.txt", 1)])
    assert {row.pk for row in first} < {row.pk for row in again}
    assert made.files.count() == 3


def test_cancelled_upload_keeps_what_is_ready(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    uploads.announce(made, [("late.txt", 3)])
    uploads.receive(made, "a.txt", io.BytesIO(b"one"))
    uploads.process(made.pk)
    uploads.cancel(made)
    uploads.process(made.pk)
    made.refresh_from_db()
    assert told(made)["late.txt"] == ("skipped", "Cancelled before it was taken in.")
    assert made.version and texts(made.version) == ["one"]


@pytest.mark.django_db(transaction=True)
def test_sweep_finds_an_upload_whose_wake_up_was_lost(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    uploads.receive(made, "a.txt", io.BytesIO(b"one"))
    uploads.close(made)
    assert ingest.sweep() == 1
    for thread in threading.enumerate():
        if thread.name == f"upload-{made.pk}":
            thread.join(20)
    made.refresh_from_db()
    assert made.version and texts(made.version) == ["one"]
    assert ingest.sweep() == 0


def test_sweep_closes_what_was_left_alone(workspace: Any) -> None:
    made = uploads.start(workspace, None)
    uploads.announce(made, [("a.txt", 3)])
    Upload.objects.update(created_at=timezone.now() - datetime.timedelta(days=2))
    Upload.objects.update(lease_expires_at=timezone.now() + datetime.timedelta(hours=1))  # no thread in this test
    uploads.sweep()
    assert told(made)["a.txt"] == ("failed", "It never arrived: the upload was left alone for a day.")


def test_context_of_one_document_is_its_text(workspace: Any) -> None:
    version = upload(workspace, {"a.txt": "Zwölf 𝕏\r\n".encode()}).version
    assert version
    value = ingest.context_of(version)
    assert value.python() == "Zwölf 𝕏\n"


def test_context_of_several_is_a_list_of_documents(workspace: Any) -> None:
    version = upload(workspace, {"a.md": "# Zwölf\n".encode(), "b.txt": "𝕏".encode()}).version
    assert version
    assert ingest.context_of(version).python() == [
        {"title": "Zwölf", "text": "# Zwölf\n", "name": "a.md", "meta": {"format": "md"}},
        {"title": "B", "text": "𝕏", "name": "b.txt", "meta": {"format": "txt"}},
    ]


def test_context_whose_blob_is_gone_says_so(workspace: Any) -> None:
    version = upload(workspace, {"a.txt": b"one"}).version
    assert version
    blobs.delete(version.text)
    with pytest.raises(ingest.ContextMissing, match="restore it"):
        ingest.context_of(version)


def test_folder_is_imported_with_its_paths(workspace: Any, tmp_path: Path) -> None:
    folder = tmp_path / "show"
    (folder / "s1").mkdir(parents=True)
    (folder / "s1" / "e1.txt").write_text("one")
    (folder / "e2.zip").write_bytes(zipped({"in/e3.txt": b"three"}))
    (folder / ".hidden.txt").write_text("x")
    (folder / "link.txt").symlink_to("/etc/hostname")
    imported = ingest.import_paths(workspace, make_user(), [folder], name="Show")
    assert {o.name: o.outcome for o in imported.outcomes} == {
        "show/.hidden.txt": "skipped",
        "show/link.txt": "skipped",
        "in/e3.txt": "ready",
        "show/s1/e1.txt": "ready",
    }
    assert imported.version.corpus.name == "Show"


def test_import_of_nothing_ready_is_refused_and_leaves_nothing(workspace: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ingest.IngestRefused, match=r"empty\.txt: The file is empty\.") as refused:
        ingest.import_paths(workspace, None, [tmp_path / "empty.txt"])
    assert refused.value.outcomes[0].outcome == "failed"
    assert not Upload.objects.exists() and not Corpus.objects.exists()
    with pytest.raises(ingest.IngestRefused, match="There is no such file"):
        ingest.import_paths(workspace, None, ["/nowhere/at/all.txt"])


def test_import_corpus_command_says_each_file_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from django.core.management import call_command

    (tmp_path / "a.txt").write_text("one\r\n", newline="")
    (tmp_path / "b.zip").write_bytes(zipped({"p/c.md": b"# C", "p/x.png": b"\x89PNG"}))
    call_command("import_corpus", str(tmp_path / "a.txt"), str(tmp_path / "b.zip"), "--name", "N", "--json")
    *files, corpus = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {f["name"]: f["outcome"] for f in files} == {"a.txt": "ready", "p/c.md": "ready", "p/x.png": "skipped"}
    assert set(files[0]) == {"name", "outcome", "reason", "document_chars", "format", "encoding"}
    assert files[0] | {"reason": ""} == {
        "name": "a.txt",
        "outcome": "ready",
        "reason": "",
        "document_chars": 4,
        "format": "txt",
        "encoding": "utf-8",
    }
    assert (corpus["corpus"], corpus["documents"], corpus["characters"]) == ("N", 2, 7)
    assert corpus["url"].startswith("http://127.0.0.1:")
    with pytest.raises(SystemExit):
        call_command("import_corpus", str(tmp_path / "none.txt"), "--json")


def test_hundreds_of_tiny_files_are_taken(workspace: Any) -> None:
    made = upload(
        workspace, {"a.zip": zipped({f"{n}.txt": b"%d" % n for n in range(400)})}
    )  # benchmarks/ingest.py has 10,000
    assert made.version and made.version.document_count == 400
    assert Document.objects.filter(version=made.version).last().name == "399.txt"  # type: ignore[union-attr]


@pytest.mark.real_data
def test_real_podcasts_are_all_ready(workspace: Any, real_data: Path) -> None:
    imported = ingest.import_paths(workspace, None, [real_data / "podcasts"])
    assert {o.outcome for o in imported.outcomes} == {"ready"}
    assert imported.version.document_count == 49
    dated = imported.version.documents.get(name="chaincode-podcast/2020-01-28-pieter-wuille-part1.md")
    assert (dated.title, dated.meta["date"], dated.meta["speakers"]) == (
        "Pieter Wuille (part 1 of 2)",
        "2020-01-28",
        ["Pieter Wuille"],
    )


# — files that are read in a jail —


def test_documents_of_every_kind_become_one_corpus(workspace: Any) -> None:
    files = {
        "a.pdf": make.pdf(["Page one.", "Page two."], title="Fog by pages"),
        "b.docx": make.docx(make.paragraph("Fog in Word.")),
        "c.epub": make.epub({"one": "<p>Fog in a book."}),
        "d.rtf": make.rtf("Fog in RTF."),
        "e.eml": make.mail("Fog in a mail", "Ten past two."),
        "f.html": b"<p>Fog on a page.",
        "g.txt": b"Fog.",
        "bad.pdf": b"%PDF-1.7 nothing follows",
    }
    made = upload(workspace, files, name="Fog")
    version = made.version
    assert version
    assert [d.format for d in version.documents.all()] == ["pdf", "docx", "epub", "rtf", "eml", "html", "txt"]
    assert told(made)["bad.pdf"] == ("failed", "The PDF is damaged or cut short: it cannot be opened.")
    first = version.documents.first()
    assert first and first.title == "Fog by pages" and first.meta["pages"] == 2
    assert json.loads(blobs.read(first.marks)) == {"kind": "page", "marks": [[0, 1], [11, 2]]}
    assert texts(version)[0] == "Page one.\n\nPage two.\n"
    assert blobs.read(first.original) == files["a.pdf"]


def test_long_names_and_right_to_left_ones_are_taken(workspace: Any) -> None:
    names = ["é" * 300 + ".pdf", "\u202eקובץ ערפל.pdf", "<script>alert(1)</script>.pdf"]
    made = upload(workspace, {name: make.pdf([f"Page {n}."]) for n, name in enumerate(names)})
    assert made.version and made.version.document_count == 3
    assert all("/script>.pdf" in n or n.endswith(".pdf") for n in made.files.values_list("name", flat=True))


def test_one_jail_serves_a_whole_upload(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Extraction] = []
    real = Extraction.start

    def start(*given: Any) -> Extraction:
        started.append(real(*given))
        return started[-1]

    monkeypatch.setattr(Extraction, "start", start)
    made = upload(workspace, {f"{n}.rtf": make.rtf(f"Fog {n}.") for n in range(30)} | {"a.txt": b"one"})
    assert made.version and made.version.document_count == 31
    assert len(started) == 1 and not started[0].alive
    upload(workspace, {f"{n}.txt": f"{n}".encode() for n in range(30)})
    assert len(started) == 1  # plain texts pay for none


def test_hostile_files_hold_up_no_other(workspace: Any, settings: Any) -> None:
    settings.EXTRACT_SECONDS = 1
    slow = make.epub({f"c{n}": f"<p>{n}</p>" + "<div>" * 60_000 for n in range(40)})
    made = upload(workspace, {"a-slow.epub": slow, "b.rtf": make.rtf("Fog."), "c.txt": b"one"})
    assert told(made)["a-slow.epub"][1].startswith("It could not be read within 1 seconds")
    assert made.version and texts(made.version) == ["Fog.\n", "one"]


def test_long_document_says_how_far_it_is(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    real = uploads.extract

    def extract(*given: Any, on_page: Any, **jail: Any) -> Any:
        def watched(page: int, of: int) -> None:
            on_page(page, of)
            if page in (1, of):  # until the thread that writes has said it
                words = f"age {page} of {of}."
                while not (said and said[-1].endswith(words)):
                    jail["look"]()
                    time.sleep(0.01)

        return real(*given, on_page=watched, **jail)

    tell = uploads.Intake._tell

    def listen(self: Any, reading: Any, now: float) -> None:
        tell(self, reading, now)
        said.extend(UploadFile.objects.exclude(reason="").values_list("reason", flat=True))

    monkeypatch.setattr(uploads, "extract", extract)
    monkeypatch.setattr(uploads.Intake, "_tell", listen)
    monkeypatch.setattr(uploads, "TELL_SECONDS", 0)
    monkeypatch.setattr(uploads, "LOOK_SECONDS", 0.01)
    pdf = make.pdf([f"Page {n}." for n in range(12)])
    upload(workspace, {"a.pdf": pdf})
    assert said[0] == "Page 1 of 12." and said[-1] == "Page 12 of 12."
    said.clear()
    made = upload(workspace, {"a.zip": zipped({"in/b.pdf": pdf})})
    assert said[-1] == "b.pdf: page 12 of 12."
    assert told(made)["a.zip"] == ("ready", "1 of 1 files in it are ready.")


def test_mailbox_becomes_a_document_a_message(workspace: Any) -> None:
    mails = [
        make.mail("The fog", "Ten past two.\n\nFrom here on, rain.\nFrom vane at 02:10 in 2024"),
        make.mail("Re: The fog", "", page="<p>Was it <b>two</b>?"),
        make.mail("The fog", "Ten past two.\n\nFrom here on, rain.\nFrom vane at 02:10 in 2024"),
        b"no mail at all",
    ]
    made = upload(workspace, {"harbour.mbox": make.mbox(mails)})
    assert made.version
    assert [d.title for d in made.version.documents.all()] == ["The fog", "Re: The fog"]
    assert [d.name for d in made.version.documents.all()] == ["message-00001.eml", "message-00002.eml"]
    assert "From here on, rain." in texts(made.version)[0]
    assert [state for state, _ in told(made).values()] == ["ready", "ready", "ready", "duplicate", "failed"]
    assert told(made)["harbour.mbox"][1] == "2 of 4 files in it are ready."


def test_file_that_is_no_mailbox_is_refused(workspace: Any) -> None:
    made = upload(workspace, {"a.mbox": b"words\nFrom here on\n"})
    assert told(made)["a.mbox"][1].startswith("It is no mailbox")


def test_mailbox_of_too_many_messages_is_refused_whole(workspace: Any, settings: Any) -> None:
    settings.UPLOAD_FILES = 5
    made = upload(workspace, {"a.mbox": make.mbox([make.mail(f"{n}", "x") for n in range(8)])})
    assert told(made)["a.mbox"] == (
        "failed",
        "It holds 6 files or more; an upload takes 5. Whoever runs this server can raise that limit.",
    )


def test_files_are_refused_and_kept_for_another_try_where_there_is_no_jail(
    workspace: Any, settings: Any, tmp_path: Path
) -> None:
    before, settings.SANDBOX_PREFIX = settings.SANDBOX_PREFIX, str(tmp_path / "nowhere")
    made = upload(workspace, {"a.pdf": make.pdf(["Page one."]), "b.txt": b"one"})
    row = made.files.get(name="a.pdf")
    assert row.state == "failed" and row.may_retry and row.blob
    assert "does not work" in row.reason and str(tmp_path) not in row.reason
    settings.SANDBOX_PREFIX = before
    assert uploads.retry(row)
    uploads.process(made.pk)
    row.refresh_from_db()
    assert row.state == "ready"
