"""A store that sends too much, or nothing at all, holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from llmbatch.api.base import LocalObjectReference
from llmbatch.domain.errors import OutputFailed, StorageError
from llmbatch.storage.s3 import READING, WRITING, Bucket, Failures, Patience, Place
from llmbatch.storage.sink import OUTPUT, S3Sink
from llmbatch.storage.source import S3Object
from support.stored_objects import Networks, StoredObjects

MIB = 1024 * 1024
SENT_AT_MOST = 100 * MIB


@dataclass
class Store:
    """A store on loopback that answers each request as it is told to."""

    answer: Callable[[Store, str, asyncio.StreamWriter], Awaitable[None]]
    port: int = 0
    sent: int = 0
    silent: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await self.answer(self, head.decode().split(" ")[0], writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_bucket(store: Store, failures: Failures, patience: Patience | None = None) -> AsyncIterator[Bucket]:
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    secret = {
        "AWS_ACCESS_KEY_ID": b"key",
        "AWS_SECRET_ACCESS_KEY": b"secret",
        "AWS_REGION": b"eu-central-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}".encode(),
    }
    objects = StoredObjects({("Secret", "team", "s3"): secret})
    place, ref = Place("bucket", "key"), LocalObjectReference(name="s3")
    yield Bucket(place, ref, "team", objects, Networks(), failures, patience or Patience())
    store.silent.set()
    server.close()


def head(size: int) -> bytes:
    """The answer to HEAD on an object of this size."""
    return (
        f'HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: "1"\r\n'
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: close\r\n\r\n"
    ).encode()


def part(announced: int) -> bytes:
    """The beginning of an answer to a request for the first four bytes."""
    return (
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/4\r\n"
        f'Content-Length: {announced}\r\nETag: "1"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n'
    ).encode()


async def test_a_range_is_not_read_beyond_its_end() -> None:
    """A store that answers four bytes with a hundred megabytes is left after the first of them."""

    async def flood(store: Store, method: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head(4) if method == "HEAD" else part(SENT_AT_MOST))
        while method == "GET" and store.sent < SENT_AT_MOST:
            writer.write(b"x" * MIB)
            await writer.drain()
            store.sent += MIB

    store = Store(flood)
    async with a_bucket(store, READING) as bucket:
        with pytest.raises(StorageError, match="changed while it was read"):
            [chunk async for chunk in S3Object(bucket).chunks()]

    assert store.sent < 30 * MIB


@pytest.mark.parametrize("silent", ["HEAD", "GET", "after the first byte"])
async def test_a_store_that_falls_silent_is_given_up(silent: str) -> None:
    """Wherever it stops, its reader is free again after a while, and told why."""

    async def stop(store: Store, method: str, writer: asyncio.StreamWriter) -> None:
        if method != silent:
            writer.write(head(4) if method == "HEAD" else part(4) + b"x")
            await writer.drain()
        if method != "HEAD" or method == silent:
            await store.silent.wait()

    async with a_bucket(Store(stop), READING, Patience(silence=0.1)) as bucket:
        with pytest.raises(StorageError, match="silent or too slow"):
            [chunk async for chunk in S3Object(bucket).chunks()]


@pytest.mark.parametrize("size", [1, 12 * MIB])
async def test_a_store_that_takes_nothing_is_given_up(size: int) -> None:
    """Results are not held for a store that never says that it has them, small or in parts."""

    async def stop(store: Store, method: str, writer: asyncio.StreamWriter) -> None:
        await store.silent.wait()

    async def collect(bucket: Bucket) -> None:
        async with S3Sink(bucket).open() as writer:
            for _ in range(-(-size // MIB)):
                await writer.write(OUTPUT, b"x" * min(size, MIB))
            await writer.commit()

    async with a_bucket(Store(stop), WRITING, Patience(write=0.1, finish=0.1, abort=0.1)) as bucket:
        with pytest.raises(OutputFailed, match="silent or too slow"):
            await collect(bucket)
