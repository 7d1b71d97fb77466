"""The S3 that the tests of sources and sinks stand on."""

from __future__ import annotations

from support.moto import Bucket


def test_an_object_put_into_a_bucket_comes_back(bucket: Bucket):
    """obstore and moto's server understand each other."""
    bucket.put("in/requests.jsonl", b"{}\n")

    assert bucket.get("in/requests.jsonl") == b"{}\n"
    assert bucket.keys() == ["in/requests.jsonl"]
