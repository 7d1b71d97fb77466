"""Secrets as credentials: read when they are used, kept for seconds, never listed or watched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError


class Secrets(Protocol):
    """Reads a Secret now."""

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None: ...


class Monotonic(Protocol):
    """Seconds that never go back."""

    def monotonic(self) -> float: ...


class _Kept(NamedTuple):
    read_at: float
    data: Mapping[str, bytes]


class SecretReader:
    """Reads Secrets by ``get``; each is kept ``max_age`` seconds, and readers at the same time share one get.

    Messages name the Secret and the key, never a value. A Secret that is missing or of no use is not remembered, so
    that it is seen as soon as it is mended.
    """

    def __init__(self, kube: Secrets, clock: Monotonic, *, max_age: float = 30.0) -> None:
        self._kube = kube
        self._clock = clock
        self._max_age = max_age
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._reads: dict[tuple[str, str], asyncio.Task[Mapping[str, bytes] | None]] = {}
        self._last_good: dict[tuple[str, str, str], str] = {}

    async def key(self, namespace: str, name: str, key: str) -> str:
        """One key's value, without the white space around it.

        Raises CredentialsError (SecretNotFound, SecretKeyNotFound, CredentialsInvalid), KubeError.
        """
        data = await self.mapping(namespace, name)
        value = usable(data[key]) if key in data else None
        if value is None:
            self._kept.pop((namespace, name), None)
        if key not in data:
            raise CredentialsError(
                f"Secret {namespace}/{name} has no key {key}; add it", reason=Reason.SECRET_KEY_NOT_FOUND
            )
        if value is None:
            raise CredentialsError(
                f"key {key} of Secret {namespace}/{name} must hold one line of visible ASCII characters; correct it",
                reason=Reason.CREDENTIALS_INVALID,
            )
        self._last_good[namespace, name, key] = value
        return value

    async def mapping(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """All keys of a Secret. Raises CredentialsError (SecretNotFound), KubeError."""
        self._drop_old()
        if kept := self._kept.get((namespace, name)):
            return kept.data
        data = await self._read(namespace, name)
        if data is None:
            raise CredentialsError(f"Secret {namespace}/{name} does not exist; make it", reason=Reason.SECRET_NOT_FOUND)
        return data

    def last_good(self, namespace: str, name: str, key: str) -> str | None:
        """The last value that could be used, for cleaning up after the Secret is gone. In memory only."""
        return self._last_good.get((namespace, name, key))

    def forget(self, namespace: str, name: str) -> None:
        """Read it again at the next use: a provider has refused the key."""
        self._kept.pop((namespace, name), None)
        self._reads.pop((namespace, name), None)  # one under way may have begun before the Secret was rotated

    def drop(self, namespace: str, name: str) -> None:
        """Nobody needs this Secret any more: forget its last good values too."""
        self.forget(namespace, name)
        for known in [known for known in self._last_good if known[:2] == (namespace, name)]:
            del self._last_good[known]

    async def _read(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        where = (namespace, name)
        read = self._reads.get(where)
        if read is None:
            read = asyncio.create_task(self._fetch(where), name="read-secret")
            read.add_done_callback(_seen)
            self._reads[where] = read
        # One reader that is cancelled must not take the others' answer with it.
        return await asyncio.shield(read)

    async def _fetch(self, where: tuple[str, str]) -> Mapping[str, bytes] | None:
        begun = self._clock.monotonic()
        try:
            data = await self._kube.secret(*where)
            if data is not None and self._reads.get(where) is asyncio.current_task():
                self._kept[where] = _Kept(begun, data)
            return data
        finally:
            if self._reads.get(where) is asyncio.current_task():
                del self._reads[where]

    def _drop_old(self) -> None:
        oldest = self._clock.monotonic() - self._max_age
        for where in [where for where, kept in self._kept.items() if kept.read_at <= oldest]:
            del self._kept[where]


def usable(value: bytes) -> str | None:
    """A credential that can go into a header, or None. Whatever is not visible ASCII could split one."""
    text = value.strip()
    return text.decode("ascii") if text and all(0x21 <= byte <= 0x7E for byte in text) else None


def _seen(read: asyncio.Task[Mapping[str, bytes] | None]) -> None:
    """Take the error of a read whose readers were all cancelled."""
    if not read.cancelled():
        read.exception()
