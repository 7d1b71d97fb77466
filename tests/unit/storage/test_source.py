"""Lines out of BatchFiles, ConfigMaps and Secrets."""

from __future__ import annotations

import pytest

from llmbatch.api import batchfile
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import SourceNotFound
from llmbatch.storage import Ambient, Source, source_for
from llmbatch.storage.source import CHUNK_BYTES
from support.stored_objects import Networks, StoredObjects

NAMESPACE = "team"
BIG = bytes(range(256)) * 4096
OBJECTS = StoredObjects(
    {
        ("ConfigMap", NAMESPACE, "lines"): {"a": b"one\n", "big": BIG, "empty": b""},
        ("Secret", NAMESPACE, "lines"): {"a": b"secret\n"},
        ("ConfigMap", "elsewhere", "theirs"): {"a": b"not ours"},
    }
)


def a_source(**spec: object) -> Source:
    return source_for(batchfile.Source.model_validate(spec), NAMESPACE, OBJECTS, Networks(), Ambient())


async def read(source: Source) -> list[bytes]:
    return [chunk async for chunk in source.chunks()]


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"inline": "grüße\n"}, "grüße\n".encode()),
        ({"configMapKeyRef": {"name": "lines", "key": "a"}}, b"one\n"),
        ({"configMapKeyRef": {"name": "lines", "key": "empty"}}, b""),
        ({"secretKeyRef": {"name": "lines", "key": "a"}}, b"secret\n"),
    ],
)
async def test_a_source_gives_the_same_bytes_each_time(spec: dict[str, object], want: bytes) -> None:
    """Lines are read twice, to validate and to upload, and both times from the beginning."""
    source = a_source(**spec)
    assert [b"".join(await read(source)) for _ in range(2)] == [want, want]


async def test_large_content_comes_in_bounded_chunks() -> None:
    """No chunk holds the event loop for long, and together they are the content."""
    chunks = await read(a_source(configMapKeyRef={"name": "lines", "key": "big"}))
    assert b"".join(chunks) == BIG
    assert max(map(len, chunks)) == CHUNK_BYTES


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "a"}}, Reason.CONFIG_MAP_NOT_FOUND),
        ({"configMapKeyRef": {"name": "lines", "key": "none"}}, Reason.CONFIG_MAP_KEY_NOT_FOUND),
        ({"configMapKeyRef": {"name": "theirs", "key": "a"}}, Reason.CONFIG_MAP_NOT_FOUND),
        ({"secretKeyRef": {"name": "none", "key": "a"}}, Reason.SECRET_NOT_FOUND),
        ({"secretKeyRef": {"name": "lines", "key": "none"}}, Reason.SECRET_KEY_NOT_FOUND),
    ],
)
async def test_what_is_missing_is_named(spec: dict[str, dict[str, str]], reason: Reason) -> None:
    """Each missing thing has a reason of its own, can come later, and is looked for in the own namespace only."""
    with pytest.raises(SourceNotFound) as caught:
        await read(a_source(**spec))
    assert (caught.value.reason, caught.value.retryable) == (reason, True)
    (ref,) = spec.values()
    missing = ref["key"] if "Key" in reason else ref["name"]
    assert missing in caught.value.message


@pytest.mark.parametrize(
    "url", ["https://example.com/x", "s3://b", "s3://bucket/a//b", "s3://bucket/../x", "s3://bucket/a/"]
)
async def test_a_url_that_names_no_object_is_refused(url: str) -> None:
    """A key that the client would silently change is never asked for."""
    with pytest.raises(SourceNotFound, match="s3://BUCKET/KEY"):
        a_source(url=url)


def test_the_content_does_not_show_in_the_representation() -> None:
    """Prompts stay out of logs and tracebacks."""
    assert "hello" not in repr(a_source(inline="hello"))
