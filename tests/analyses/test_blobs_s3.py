"""Blobs in an object store: the real storage class and the real client, against a store in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws

from analyses import blobs


@pytest.fixture
def bucket(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    options = {"bucket_name": "texts", "location": "blobs", "region_name": "us-east-1", "file_overwrite": True}
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


def test_a_deleted_blob_is_gone_from_the_bucket(bucket: Any) -> None:
    sha = blobs.put(b"let go")
    blobs.delete(sha)
    assert not blobs.exists(sha) and not list(bucket.objects.all())
    with pytest.raises(blobs.BlobMissing):
        blobs.read(sha)
