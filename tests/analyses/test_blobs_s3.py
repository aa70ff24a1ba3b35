"""Blobs in an object store: the real storage class and the real client, against a store in this process."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws
from storages.backends.s3 import S3Storage  # type: ignore[import-untyped]

from analyses import blobs


@pytest.fixture
def bucket(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    options = {"bucket_name": "texts", "location": "blobs", "region_name": "us-east-1", "file_overwrite": True}
    monkeypatch.setattr(blobs, "_sent", {})
    with mock_aws():
        made = boto3.resource("s3", region_name="us-east-1").create_bucket(Bucket="texts")
        settings.STORAGES = settings.STORAGES | {
            "blobs": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
        }
        yield made


def test_a_blob_goes_to_the_bucket_and_comes_back(bucket: Any) -> None:
    data = "Grüße ".encode() * 100_000
    sha = blobs.put(data)
    assert sha == hashlib.sha256(data).hexdigest()
    assert [thing.key for thing in bucket.objects.all()] == [f"blobs/{sha[:2]}/{sha[2:4]}/{sha}"]
    assert blobs.read(sha) == data and blobs.exists(sha)
    assert blobs.put(data) == sha and len(list(bucket.objects.all())) == 1


def test_a_blob_of_the_bucket_has_a_local_path_to_map(bucket: Any) -> None:
    sha = blobs.put(b"a corpus")
    assert blobs.path(sha).read_bytes() == b"a corpus"


def test_putting_again_writes_an_old_blob_again(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket marks nothing but writes: what somebody is about to name must not look old to whoever sweeps."""
    sha = blobs.put(b"let go, and put again")
    saved: list[str] = []
    save = S3Storage.save

    def noted(self: Any, name: str, *rest: Any) -> Any:
        saved.append(name)
        return save(self, name, *rest)

    monkeypatch.setattr(S3Storage, "save", noted)
    assert blobs.put(b"let go, and put again") == sha and saved == []  # it is young
    later(monkeypatch, 3_600)
    assert blobs.put(b"let go, and put again") == sha and len(saved) == 1
    assert len(list(bucket.objects.all())) == 1


def test_copies_that_nobody_uses_go(bucket: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = blobs.put(b"used each day"), blobs.put(b"used once")
    here = {sha: blobs.path(sha) for sha in (used, unused)}
    bucket.objects.filter(Prefix=f"blobs/{unused[:2]}").delete()  # as another host does
    later(monkeypatch, 90_000)
    os.utime(here[used], (blobs.time.time(), blobs.time.time()))
    blobs.put(b"another")
    assert here[used].exists() and not here[unused].exists()
    with pytest.raises(blobs.BlobMissing):
        blobs.read(unused)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """As if so much time had passed."""
    clocks = {name: getattr(time, name)() + seconds for name in ("time", "monotonic")}
    monkeypatch.setattr(blobs, "time", SimpleNamespace(**{name: lambda at=at: at for name, at in clocks.items()}))


def test_a_deleted_blob_is_gone_from_the_bucket(bucket: Any) -> None:
    sha = blobs.put(b"let go")
    blobs.delete(sha)
    assert not blobs.exists(sha) and not list(bucket.objects.all())
    with pytest.raises(blobs.BlobMissing):
        blobs.read(sha)
