"""Objects in a bucket, as the user may reach them: with the Secret that jobs use, or with their own environment."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from llmbatch.api.base import LocalObjectReference
from llmbatch.domain.errors import SourceNotFound
from llmbatch.kube.errors import Forbidden
from llmbatch.plugin.connection import Connection
from llmbatch.plugin.exits import Exit, Stop, say
from llmbatch.storage.s3 import PART_BYTES, READING, Bucket, Place
from llmbatch.storage.source import S3Object

PIECE_BYTES = 1024 * 1024
VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")


@dataclass(frozen=True, slots=True)
class OpenNetwork:
    """Any address: it is the user's own machine, and their own credentials."""

    async def resolve(self, host: str) -> Sequence[str]:
        """All addresses of a host. Raises OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def refusal(self, address: str) -> str | None:
        """Never refused."""
        return None


@dataclass(frozen=True, slots=True)
class Known:
    """Credentials that were read already, in place of a Secret to be read."""

    data: Mapping[str, bytes] = field(repr=False)

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """What is known, whatever the name."""
        return self.data


def place_of(url: str) -> Place:
    """What an s3://BUCKET/KEY URL names. Raises Stop."""
    try:
        return Place.parse(url.rstrip("/"), READING)
    except SourceNotFound:
        raise Stop(f"{url} is not of the form s3://BUCKET/KEY, without empty, . or .. parts", Exit.USAGE) from None


async def bucket_for(connection: Connection, place: Place, secret: str | None) -> Bucket:
    """The bucket with the credentials of a Secret if the user may read it, else with those of their environment; which
    of them is told. Raises Stop."""
    namespace = connection.namespace
    try:
        data = await connection.kube.secret(namespace, secret) if secret else None
    except Forbidden:
        data, why = None, f"you may not read Secret {secret}"
    else:
        why = f"there is no Secret {secret} in namespace {namespace}" if secret else "no Secret is named"
    if data is None:
        data = _environment(os.environ, why)
        name = "your environment"
        say(f"{place}: with the AWS_… credentials of your environment, since {why}")
    else:
        name = str(secret)
        say(f"{place}: with the credentials of Secret {name}")
    return Bucket(
        place, LocalObjectReference.model_construct(name=name), namespace, Known(data), OpenNetwork(), READING
    )


def _environment(environ: Mapping[str, str], why: str) -> dict[str, bytes]:
    """The user's variables in the form of a Secret. Raises Stop where one is missing."""
    given = {
        **{name: environ.get(name, "") for name in (*VARIABLES, "AWS_SESSION_TOKEN")},
        "AWS_ENDPOINT_URL": environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", ""),
    }
    given["AWS_REGION"] = given["AWS_REGION"] or environ.get("AWS_DEFAULT_REGION", "")
    if lacking := [name for name in VARIABLES if not given[name]]:
        raise Stop(
            f"{why}, and your environment lacks {', '.join(lacking)}; set them, as with:"
            ' eval "$(aws configure export-credentials --format env)"',
            Exit.FORBIDDEN,
        )
    return {name: value.encode() for name, value in given.items() if value}


async def upload(bucket: Bucket, content: BinaryIO, size: int) -> bool:
    """Write the object, in parts where it is large; False where one of this size is there already, since names carry
    the content's hash. Raises StorageError."""
    key = bucket.place.key
    async with bucket.open() as store:
        try:
            if (await store.head(key)).size == size:
                return False
        except SourceNotFound:
            pass  # also a bucket that is not there, which the write below tells
        if size <= PART_BYTES:
            await store.put(key, content.read())
        else:
            await store.put_parts(key, _pieces(content))
        return True


async def _pieces(content: BinaryIO) -> AsyncIterator[bytes]:
    while piece := content.read(PIECE_BYTES):
        yield piece


def chunks(bucket: Bucket) -> AsyncIterator[bytes]:
    """The object's content; SourceNotFound where there is none."""
    return S3Object(bucket).chunks()
