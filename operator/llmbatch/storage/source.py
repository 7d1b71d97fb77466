"""Where the JSON lines of a BatchFile come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from llmbatch.api import batchfile
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import SourceNotFound, StorageError
from llmbatch.storage.ambient import Ambient
from llmbatch.storage.gate import NetworkPolicy
from llmbatch.storage.objects import Objects
from llmbatch.storage.s3 import READING, Bucket, Place

CHUNK_BYTES = 64 * 1024
"""Handed out at once: looking into this much of the shortest lines holds the loop for up to 30 ms."""
RANGE_BYTES = 4 * 1024 * 1024
"""Asked of a store at once: each request is short, whatever the size of the object and the pace of its reader."""


class Source(Protocol):
    """Lines that can be read from the beginning any number of times."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The raw bytes, in chunks of at most 64 KiB that end anywhere; closed by whoever does not read to the end.

        Raises SourceNotFound, SourceDenied, CredentialsError or StorageError.
        """
        ...


def source_for(
    spec: batchfile.Source, namespace: str, objects: Objects, networks: NetworkPolicy, ambient: Ambient
) -> Source:
    """The source that a BatchFile of this namespace names."""
    if spec.inline is not None:
        return Inline(spec.inline.encode())
    if (ref := spec.config_map_key_ref) is not None:
        return ConfigMapKey(objects, namespace, ref.name, ref.key)
    if (ref := spec.secret_key_ref) is not None:
        return SecretKey(objects, namespace, ref.name, ref.key)
    if spec.url is not None:
        place = Place.parse(spec.url, READING)
        own = ambient.way_to(place.bucket, place.key, namespace)
        ref = spec.credentials_secret_ref
        return S3Object(Bucket(place, ref, namespace, objects, networks, READING, ambient=own))
    raise StorageError("the source is empty; set inline, configMapKeyRef, secretKeyRef or url")


@dataclass(frozen=True, slots=True, repr=False)
class Inline:
    """Lines that stand in the BatchFile itself."""

    content: bytes

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See Source."""
        for chunk in _cut(self.content):
            yield chunk


@dataclass(frozen=True, slots=True)
class ConfigMapKey:
    """Lines under a key of a ConfigMap."""

    objects: Objects
    namespace: str
    name: str
    key: str

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See Source. Reasons: ConfigMapNotFound, ConfigMapKeyNotFound."""
        data = await self.objects.config_map(self.namespace, self.name)
        if data is None:
            raise SourceNotFound(f"ConfigMap {self.name} does not exist; create it", reason=Reason.CONFIG_MAP_NOT_FOUND)
        for chunk in _cut(_value(data, "ConfigMap", self.name, self.key, Reason.CONFIG_MAP_KEY_NOT_FOUND)):
            yield chunk


@dataclass(frozen=True, slots=True)
class SecretKey:
    """Lines under a key of a Secret."""

    objects: Objects
    namespace: str
    name: str
    key: str

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See Source. Reasons: SecretNotFound, SecretKeyNotFound."""
        data = await self.objects.secret(self.namespace, self.name)
        if data is None:
            raise SourceNotFound(f"Secret {self.name} does not exist; create it", reason=Reason.SECRET_NOT_FOUND)
        for chunk in _cut(_value(data, "Secret", self.name, self.key, Reason.SECRET_KEY_NOT_FOUND)):
            yield chunk


@dataclass(frozen=True, slots=True)
class S3Object:
    """Lines in an object of an S3 store, read in ranges of one version of it."""

    bucket: Bucket

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """See Source. A store that changes the object meanwhile is a StorageError; nothing of two versions is mixed."""
        key = self.bucket.place.key
        async with self.bucket.open() as bucket:
            version = await bucket.head(key)
            for start in range(0, version.size, RANGE_BYTES):
                content = await bucket.read(key, start, min(start + RANGE_BYTES, version.size), version)
                for chunk in _cut(content):
                    yield chunk


def _value(data: Mapping[str, bytes], kind: str, name: str, key: str, missing: Reason) -> bytes:
    if key not in data:
        raise SourceNotFound(f"{kind} {name} has no key {key}; add it", reason=missing)
    return data[key]


def _cut(content: bytes | memoryview) -> Iterator[bytes]:
    for start in range(0, len(content), CHUNK_BYTES):
        yield bytes(content[start : start + CHUNK_BYTES])
