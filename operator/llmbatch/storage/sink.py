"""Where the results of a BatchJob go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from llmbatch.api import batchjob
from llmbatch.domain.errors import OutputFailed, OutputTooLarge
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.storage.ambient import Ambient
from llmbatch.storage.gate import NetworkPolicy
from llmbatch.storage.objects import Objects, OutputKind
from llmbatch.storage.s3 import PART_BYTES, WRITING, Bucket, OpenBucket, Place, Version

File = Literal["output.jsonl", "errors.jsonl", "summary.json"]
OUTPUT: File = "output.jsonl"
ERRORS: File = "errors.jsonl"
SUMMARY: File = "summary.json"

MAX_OBJECT_BYTES = 1_048_576
"""Kubernetes: at most 1 MiB of data in a ConfigMap or Secret."""
PIECE_BYTES = 1024 * 1024


class Writer(Protocol):
    """Takes the files of one run; what is not committed is as if it had never been written."""

    async def write(self, file: File, chunk: bytes) -> None:
        """Add to a file. Raises OutputTooLarge, OutputDenied or OutputFailed as soon as that is known."""
        ...

    async def commit(self) -> int:
        """Make it all visible, verify it, and answer the bytes of all files. Files without a byte do not appear."""
        ...


class Sink(Protocol):
    """A place for results. Collecting twice into it leaves the same as collecting once."""

    @property
    def location(self) -> str:
        """Where it is, for people: ``configmap/NAME``, ``secret/NAME`` or ``s3://BUCKET/PREFIX``."""
        ...

    async def check(self) -> None:
        """Find what would make it fail before anything is spent: OutputConflict, or unusable credentials."""
        ...

    def open(self) -> AbstractAsyncContextManager[Writer]:
        """A writer; leaving the context without a commit leaves nothing half-made behind."""
        ...


def sink_for(
    output: batchjob.Output, owner: OutputOwner, objects: Objects, networks: NetworkPolicy, ambient: Ambient
) -> Sink:
    """The sink that a BatchJob names."""
    if (wanted := output.config_map) is not None:
        return ObjectSink("ConfigMap", wanted.name, wanted.retain, owner, objects)
    if (wanted := output.secret) is not None:
        return ObjectSink("Secret", wanted.name, wanted.retain, owner, objects)
    if output.url is not None:
        place = Place.parse(output.url.rstrip("/"), WRITING)
        own = ambient.way_to(place.bucket, f"{place.key}/{OUTPUT}", owner.namespace)
        ref = output.credentials_secret_ref
        return S3Sink(Bucket(place, ref, owner.namespace, objects, networks, WRITING, ambient=own))
    raise OutputFailed("the output is empty; set configMap, secret or url")


@dataclass(frozen=True, slots=True)
class ObjectSink:
    """A ConfigMap or Secret with a key for each file."""

    kind: OutputKind
    name: str
    retain: bool
    owner: OutputOwner
    objects: Objects

    @property
    def location(self) -> str:
        """See Sink."""
        return f"{self.kind.lower()}/{self.name}"

    async def check(self) -> None:
        """See Sink."""
        await self.objects.check_output(self.kind, self.owner.namespace, self.name, owner=self.owner)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Writer]:
        """See Sink. It is written whole in the commit, so there is nothing to undo."""
        yield _ObjectWriter(self)


class _ObjectWriter:
    def __init__(self, sink: ObjectSink) -> None:
        self._sink = sink
        self._files: dict[str, bytearray] = {}
        self._bytes = 0

    async def write(self, file: File, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > MAX_OBJECT_BYTES:
            self._files.clear()
            raise OutputTooLarge(
                f"the results exceed the {MAX_OBJECT_BYTES} bytes that a {self._sink.kind} holds; they are left at the"
                " provider: run the file again with output.url, e.g. s3://BUCKET/PREFIX"
            )
        if chunk:
            self._files.setdefault(file, bytearray()).extend(chunk)

    async def commit(self) -> int:
        sink = self._sink
        data = {file: bytes(content) for file, content in self._files.items()}
        await sink.objects.write_output(
            sink.kind, sink.owner.namespace, sink.name, data, owner=sink.owner, retain=sink.retain
        )
        return self._bytes


@dataclass(frozen=True, slots=True)
class S3Sink:
    """An object for each file, below a prefix."""

    bucket: Bucket

    @property
    def location(self) -> str:
        """See Sink."""
        return str(self.bucket.place)

    async def check(self) -> None:
        """See Sink. The store itself is not asked: only writing shows whether it can be written to."""
        await self.bucket.check()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Writer]:
        """See Sink. Parts of an upload that was not committed are given up."""
        async with self.bucket.open() as bucket:
            writer = _S3Writer(bucket, self.bucket.place.key)
            try:
                yield writer
            finally:
                await writer.abort()


class _S3Writer:
    def __init__(self, bucket: OpenBucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._uploads: dict[str, _Upload] = {}

    async def write(self, file: File, chunk: bytes) -> None:
        if not chunk:
            return
        if file not in self._uploads:
            self._uploads[file] = _Upload(self._bucket, f"{self._prefix}/{file}")
        await self._uploads[file].write(chunk)

    async def commit(self) -> int:
        return sum([await upload.commit() for upload in self._uploads.values()])

    async def abort(self) -> None:
        await asyncio.gather(*(upload.abort() for upload in self._uploads.values()))


class _Aborted(Exception):
    """Ends an upload's stream so that the store is told to forget its parts."""


class _Upload:
    """One object on its way: in one request when it is small, else streamed in parts with at most a few in memory."""

    def __init__(self, bucket: OpenBucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._buffer = bytearray()
        self._bytes = 0
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._aborted = asyncio.Event()
        self._task: asyncio.Task[str | None] | None = None

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        self._bytes += len(chunk)
        if self._task is None and len(self._buffer) > PART_BYTES:
            self._task = asyncio.create_task(self._bucket.put_parts(self._key, self._stream()))
        if self._task is not None and len(self._buffer) >= PIECE_BYTES:
            await self._hand_over(self._task)

    async def commit(self) -> int:
        """Finish, and compare what the store now has with what was written."""
        if self._task is None:
            written = await self._bucket.put(self._key, bytes(self._buffer))
        else:
            await self._hand_over(self._task)
            await self._give(None, self._task)
            if not (await asyncio.wait({self._task}, timeout=self._bucket.patience.finish))[0]:
                raise self._bucket.too_slow()
            written = Version(self._bytes, self._task.result())
        found = await self._bucket.head(self._key)
        if found.size != written.size or (written.tag and found.tag and found.tag != written.tag):
            raise OutputFailed(
                f"{self._bucket.place}: {self._key} is not what was written; another writer may use this prefix"
            )
        return self._bytes

    async def abort(self) -> None:
        """Give up what is under way; does nothing once it was committed."""
        if self._task is None:
            return
        self._aborted.set()
        await asyncio.wait({self._task}, timeout=self._bucket.patience.abort)
        if not self._task.cancel() and not self._task.cancelled():
            self._task.exception()  # asked for, or asyncio complains of an error that nobody saw

    async def _hand_over(self, task: asyncio.Task[str | None]) -> None:
        if self._buffer:
            piece = bytes(self._buffer)
            self._buffer.clear()
            await self._give(piece, task)

    async def _give(self, piece: bytes | None, task: asyncio.Task[str | None]) -> None:
        giving = asyncio.ensure_future(self._pieces.put(piece))
        try:
            seconds = self._bucket.patience.write
            done, _ = await asyncio.wait({giving, task}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            giving.cancel()
        if task.done():
            task.result()
        if not done:
            raise self._bucket.too_slow()

    async def _stream(self) -> AsyncIterator[bytes]:
        aborted = asyncio.ensure_future(self._aborted.wait())
        try:
            while True:
                taking = asyncio.ensure_future(self._pieces.get())
                await asyncio.wait({taking, aborted}, return_when=asyncio.FIRST_COMPLETED)
                if aborted.done():
                    taking.cancel()
                    raise _Aborted
                piece = taking.result()
                if piece is None:
                    return
                yield piece
        finally:
            aborted.cancel()
