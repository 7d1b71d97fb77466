"""S3 and what speaks like it, with the credentials of a tenant's Secret.

The operator's own are used only without a Secret, where the administrator lets them be (``ambient``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from llmbatch.api.base import LocalObjectReference
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import (
    CredentialsError,
    OutputDenied,
    OutputFailed,
    SourceDenied,
    SourceNotFound,
    StorageError,
)
from llmbatch.storage.credentials import REQUIRED, Credentials, connect, invalid
from llmbatch.storage.gate import Gate, NetworkPolicy, NotAllowed, Target
from llmbatch.storage.objects import Secrets

if TYPE_CHECKING:
    from obstore import GetOptions

PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 takes; 10,000 of them make 50 GB."""
PARTS_AT_ONCE = 2
PIECE_BYTES = 64 * 1024

_URL = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/([^?#]+)")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that are waited for a store: whoever waits holds places that others need."""

    silence: float = 30.0
    """Until the next bytes of what is read."""
    range: float = 60.0
    """For all of a range, of a few MiB."""
    write: float = 60.0
    """For one small object, or until the next piece of a large one is taken."""
    finish: float = 120.0
    """For the parts that are under way at the end of a large object."""
    abort: float = 10.0
    """For the store to forget the parts of an object that was given up."""


@dataclass(frozen=True, slots=True)
class Failures:
    """Which errors of our tree tell of a failing store: those of a source, or those of a sink."""

    missing: type[StorageError]
    denied: type[StorageError]
    failed: type[StorageError]


READING = Failures(SourceNotFound, SourceDenied, StorageError)
WRITING = Failures(OutputFailed, OutputDenied, OutputFailed)


@dataclass(frozen=True, slots=True)
class Place:
    """An object, or what several of them begin with."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str, failures: Failures) -> Place:
        """The place that an ``s3://BUCKET/KEY`` URL names; another URL is told as something missing."""
        found = _URL.fullmatch(url)
        # The client takes these parts out, and would then use another object than the one that was named.
        if not found or {"", ".", ".."} & set(found[2].split("/")):
            raise failures.missing(
                "the url has the form s3://BUCKET/KEY, without an empty, . or .. part in the key; make a new resource"
            )
        return cls(found[1], found[2])

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class OwnWay(Protocol):
    """Opens a bucket with the operator's own credentials."""

    def store(self) -> S3Store:
        """The bucket. Raises CredentialsError (CredentialsInvalid)."""
        ...

    def tell(self, error: Exception) -> None:
        """Let the administrator know of a failure."""
        ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket as a tenant may use it: whose Secret, which networks, and how its failures are told."""

    place: Place
    credentials: LocalObjectReference | None
    namespace: str
    secrets: Secrets
    networks: NetworkPolicy
    failures: Failures
    patience: Patience = Patience()
    ambient: OwnWay | None = None
    """There where the administrator lets that be; used without a Secret only."""

    async def check(self) -> None:
        """Whether the Secret is usable and the endpoint allowed, without asking the store.

        Raises CredentialsError, or StorageError with the reason EndpointNotAllowed.
        """
        if self._own is None:
            await self._usable_credentials()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OpenBucket]:
        """The bucket, ready for use. Raises as ``check`` does."""
        if self._own is not None:
            yield OpenBucket(self._own.store(), self.place, self.failures, self._own, self.patience)
            return
        credentials = await self._usable_credentials()
        async with Gate(Target.of(credentials.endpoint), self.networks) as gate:
            yield OpenBucket(self._connect(credentials, gate), self.place, self.failures, gate, self.patience)

    def _connect(self, credentials: Credentials, gate: Gate) -> S3Store:
        try:
            return connect(self.place.bucket, credentials, gate.url)
        except (BaseError, ValueError):
            raise self.failures.failed(
                f"{self.place}: the operator's own AWS_… variables keep it from using any store; ask the administrator"
                " to correct them"
            ) from None

    @property
    def _own(self) -> OwnWay | None:
        return self.ambient if self.credentials is None else None

    async def _usable_credentials(self) -> Credentials:
        credentials = await self._credentials()
        try:
            await Target.of(credentials.endpoint).addresses(self.networks)
        except NotAllowed as refused:
            raise _not_allowed(self.place, str(refused)) from None
        except (OSError, UnicodeError):
            raise self.failures.failed(
                f"{self.place}: the host of the endpoint cannot be found; check AWS_ENDPOINT_URL and AWS_REGION"
            ) from None
        return credentials

    async def _credentials(self) -> Credentials:
        if self.credentials is None:
            raise invalid(
                f"{self.place}: an s3:// URL needs credentialsSecretRef, a Secret in this namespace with"
                f" {', '.join(REQUIRED)}; or the administrator allows its prefix with --ambient-credential-prefix"
            )
        name = self.credentials.name
        secret = await self.secrets.secret(self.namespace, name)
        if secret is None:
            raise CredentialsError(f"Secret {name} does not exist; create it", reason=Reason.SECRET_NOT_FOUND)
        return Credentials.of(secret, name)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object: its size in bytes, and its entity tag where the store gives one."""

    size: int
    tag: str | None


@dataclass(frozen=True, slots=True)
class OpenBucket:
    """The objects of a bucket while it is open. Every failure of the store is told in our own tree."""

    store: S3Store = field(repr=False)
    place: Place
    failures: Failures
    way: Gate | OwnWay = field(repr=False)
    """The gate that a tenant's credentials lead through, or the way to the operator's own store."""
    patience: Patience

    async def head(self, key: str) -> Version:
        """The version that is there now."""
        async with self._told(self.patience.silence):
            meta = await obstore.head_async(self.store, key)
        return Version(meta["size"], meta["e_tag"])

    async def read(self, key: str, start: int, end: int, version: Version) -> memoryview:
        """The bytes from ``start`` up to ``end`` of that version; StorageError where it is another one by now."""
        options: GetOptions = {"range": (start, end)}
        if version.tag:
            options["if_match"] = version.tag
        content = bytearray()
        async with self._told(self.patience.silence) as limit:
            clock = asyncio.get_running_loop().time
            last = clock() + self.patience.range
            try:
                result = await obstore.get_async(self.store, key, options=options)
                async for piece in result.stream(min_chunk_size=PIECE_BYTES):
                    content += memoryview(piece)
                    if len(content) > end - start:
                        # A store that sends more than it was asked for is not read on.
                        break
                    limit.reschedule(min(clock() + self.patience.silence, last))
            except PreconditionError:
                content.clear()
        if len(content) != end - start:
            raise self.failures.failed(f"{self.place}: the object changed while it was read; it is read again")
        return memoryview(content)

    async def put(self, key: str, content: bytes) -> Version:
        """Write a small object in one request."""
        async with self._told(self.patience.write):
            result = await obstore.put_async(self.store, key, content, use_multipart=False)
        return Version(len(content), result["e_tag"])

    async def put_parts(self, key: str, content: AsyncIterator[bytes]) -> str | None:
        """Write an object in parts of 5 MiB, and answer its tag; if ``content`` raises, the parts are given up."""
        async with self._told(None):
            result = await obstore.put_async(
                self.store, key, content, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        return result["e_tag"]

    def too_slow(self) -> StorageError:
        """What is told of a store that is not waited for any longer."""
        return self._unusable("the store is silent or too slow", TimeoutError())

    @asynccontextmanager
    async def _told(self, seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
        # The client's own messages hold the store's answer, and that can hold keys: none of them is passed on.
        try:
            async with asyncio.timeout(seconds) as limit:
                yield limit
        except TimeoutError:
            raise self.too_slow() from None
        except (BaseError, FileNotFoundError, ValueError) as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> StorageError:
        if isinstance(self.way, Gate) and self.way.refusal:
            return _not_allowed(self.place, self.way.refusal)
        if isinstance(error, FileNotFoundError):
            return self.failures.missing(f"{self.place}: no such bucket or object{_code(error)}")
        if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
            whose = "the credentials" if isinstance(self.way, Gate) else "the operator's own credentials"
            return self.failures.denied(
                f"{self.place}: the store refused {whose}{_code(error)}; check the key and its permissions"
            )
        return self._unusable(f"the store cannot be used just now{_code(error)}", error)

    def _unusable(self, what: str, error: Exception) -> StorageError:
        if isinstance(self.way, Gate):
            return self.failures.failed(f"{self.place}: {what}; it is tried again")
        self.way.tell(error)
        return self.failures.failed(
            f"{self.place}: {what} with the operator's own credentials; it is tried again, ask the administrator if it"
            " stays so"
        )


def _not_allowed(place: Place, why: str) -> StorageError:
    return StorageError(
        f"{place}: AWS_ENDPOINT_URL leads to an address that is not allowed ({why}); use a public endpoint, or ask the"
        " administrator to allow the network",
        reason=Reason.ENDPOINT_NOT_ALLOWED,
    )


def _code(error: Exception) -> str:
    """The store's error code, e.g. NoSuchBucket, in brackets; nothing where it gave none."""
    found = _CODE.search(str(error))
    return f" ({found[1]})" if found else ""
