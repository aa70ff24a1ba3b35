"""The tus protocol, request by request: pieces, broken offsets, checksums, endings."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from django.test import Client

from analyses import blobs, tus
from analyses.models import Corpus, Upload, UploadFile
from tests.workspaces.cast import Cast, make_cast

pytestmark = pytest.mark.django_db

SAYS = {"Tus-Resumable": "1.0.0"}
PIECE = "application/offset+octet-stream"


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client(cast.ed)


@pytest.fixture
def url(client: Client, cast: Cast) -> str:
    return str(client.post(cast.url("corpora/new"), {"name": "Fog"}, headers={"X-Upload": "begin"}).json()["url"])


def create(client: Client, url: str, name: str, size: int) -> Any:
    given = {"Upload-Length": str(size), "Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}"}
    return client.post(f"{url}tus/", headers=SAYS | given)


def patch(client: Client, place: str, at: int, data: bytes, **headers: str) -> Any:
    given = SAYS | {"Upload-Offset": str(at)} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.patch(place, data, content_type=PIECE, headers=given)


def test_file_comes_in_pieces_and_becomes_a_document(client: Client, cast: Cast, url: str) -> None:
    made = create(client, url, "s1/Zwölf.txt", 11)
    assert made.status_code == 201 and "Upload-Expires" in made.headers
    place = made.headers["Location"]
    assert patch(client, place, 0, b"one two").headers["Upload-Offset"] == "7"
    head = client.head(place, headers=SAYS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"], head.headers["Cache-Control"]) == (
        "7",
        "11",
        "no-store",
    )
    assert UploadFile.objects.get().received == 7
    assert patch(client, place, 7, b" end").status_code == 204
    client.post(f"{url}close")
    latest = Corpus.objects.get().latest
    assert latest and blobs.read(latest.text) == b"one two end"
    assert latest.documents.get().name == "s1/Zwölf.txt"
    assert not list(blobs.workshop().iterdir())
    assert client.head(place, headers=SAYS).headers["Upload-Offset"] == "11"


def test_announced_file_is_a_resource_at_once(client: Client, url: str) -> None:
    told = json.dumps({"files": [{"name": "a.txt", "size": 3}]})
    (pk,) = client.post(f"{url}files", told, content_type="application/json").json()["ids"]
    assert client.head(f"{url}tus/{pk}", headers=SAYS).headers["Upload-Offset"] == "0"
    assert patch(client, f"{url}tus/{pk}", 0, b"one").status_code == 204
    assert UploadFile.objects.get().state == "ready"


def test_wrong_offset_keeps_what_is_there(client: Client, url: str) -> None:
    place = create(client, url, "a.txt", 9).headers["Location"]
    patch(client, place, 0, b"one")
    for at in (0, 2, 4, 9):
        assert patch(client, place, at, b"xyz").status_code == 409
    assert client.head(place, headers=SAYS).headers["Upload-Offset"] == "3"


def test_checksum_is_checked_before_anything_stays(client: Client, url: str) -> None:
    place = create(client, url, "a.txt", 6).headers["Location"]
    right = base64.b64encode(hashlib.sha256(b"one").digest()).decode()
    assert patch(client, place, 0, b"two", Upload_Checksum=f"sha256 {right}").status_code == 460
    assert client.head(place, headers=SAYS).headers["Upload-Offset"] == "0"
    assert patch(client, place, 0, b"one", Upload_Checksum=f"sha256 {right}").status_code == 204
    assert patch(client, place, 3, b"two", Upload_Checksum="crc32 AAAA").status_code == 400
    assert patch(client, place, 3, b"two", Upload_Checksum="sha1 !!").status_code == 400
    assert patch(client, place, 3, b"two").status_code == 204
    assert blobs.read(UploadFile.objects.get().blob) == b"onetwo"


def test_more_bytes_than_announced_are_refused(client: Client, url: str) -> None:
    place = create(client, url, "a.txt", 3).headers["Location"]
    assert patch(client, place, 0, b"four").status_code == 413
    assert client.head(place, headers=SAYS).headers["Upload-Offset"] == "0"


def test_hash_is_taken_again_where_another_process_received_the_first_pieces(client: Client, url: str) -> None:
    place = create(client, url, "a.txt", 6).headers["Location"]
    patch(client, place, 0, b"one")
    tus._digests.clear()
    patch(client, place, 3, b"two")
    row = UploadFile.objects.get()
    assert row.blob == hashlib.sha256(b"onetwo").hexdigest() and row.state == "ready"


def test_terminated_file_is_gone(client: Client, url: str) -> None:
    place = create(client, url, "a.txt", 6).headers["Location"]
    patch(client, place, 0, b"one")
    assert client.delete(place, headers=SAYS).status_code == 204
    assert UploadFile.objects.get().state == "failed"
    assert not list(blobs.workshop().iterdir())
    assert patch(client, place, 3, b"two").status_code == 410


def test_empty_file_is_whole_at_once(client: Client, url: str) -> None:
    create(client, url, "a.txt", 0)
    assert UploadFile.objects.get().reason == "The file is empty."


def test_what_is_no_tus_is_refused(client: Client, url: str, settings: Any) -> None:
    assert client.post(f"{url}tus/").status_code == 412
    assert client.post(f"{url}tus/", headers=SAYS).status_code == 400
    assert client.post(f"{url}tus/", headers=SAYS | {"Upload-Length": "-1"}).status_code == 400
    assert (
        client.post(f"{url}tus/", headers=SAYS | {"Upload-Length": "1", "Upload-Metadata": "filename !!"}).status_code
        == 400
    )
    settings.UPLOAD_BYTES = 10
    assert create(client, url, "a.txt", 11).status_code == 413
    place = create(client, url, "a.txt", 4).headers["Location"]
    assert (
        client.patch(place, b"four", content_type="text/plain", headers=SAYS | {"Upload-Offset": "0"}).status_code
        == 415
    )
    assert client.patch(place, b"four", content_type=PIECE, headers=SAYS).status_code == 400
    answer = client.options(place)
    assert answer.headers["Tus-Extension"] == "creation,termination,checksum,expiration"
    assert answer.headers["Tus-Max-Size"] == "10"


def test_only_who_may_ask_adds_pieces(client: Client, cast: Cast, url: str) -> None:
    place = create(client, url, "a.txt", 3).headers["Location"]
    assert patch(cast.client(cast.vera), place, 0, b"one").status_code == 403
    assert patch(cast.client(cast.oscar), place, 0, b"one").status_code == 404
    assert cast.client(cast.oscar).head(place, headers=SAYS).status_code == 404
    other = Upload.objects.create(workspace=cast.workspace)
    assert client.head(place.replace(url, other.get_absolute_url()), headers=SAYS).status_code == 404


def test_two_requests_at_once_do_not_mix(client: Client, url: str) -> None:
    place = create(client, url, "a.txt", 6).headers["Location"]
    with tus._locked(tus.place(UploadFile.objects.get())):
        assert patch(client, place, 0, b"one").status_code == 423


def test_leftovers_are_swept(client: Client, url: str) -> None:
    place = create(client, url, "a.txt", 6).headers["Location"]
    patch(client, place, 0, b"one")
    tus.sweep()
    assert len(list(blobs.workshop().iterdir())) == 1
    UploadFile.objects.update(state="failed")
    tus.sweep()
    assert not list(blobs.workshop().iterdir())
