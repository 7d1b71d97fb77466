"""Secrets as credentials: read when they are used, kept for seconds, never listed or watched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError

LONGEST = 8192
"""Characters of a credential: more does not fit the header that servers take."""


class Secrets(Protocol):
    """Reads a Secret now."""

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None: ...


class Monotonic(Protocol):
    """Seconds that never go back."""

    def monotonic(self) -> float: ...


class Where(NamedTuple):
    """One key of one Secret."""

    namespace: str
    name: str
    key: str


class _Kept(NamedTuple):
    read_at: float
    value: str


class SecretReader:
    """Reads keys of Secrets by ``get``; each is kept ``max_age`` seconds, and readers at the same time share one get.

    Of a Secret nothing is kept but the keys that were asked for. Messages name the Secret and the key, never a value.
    One that is missing or of no use is not remembered, so that it is seen as soon as it is mended.
    """

    def __init__(self, kube: Secrets, clock: Monotonic, *, max_age: float = 30.0) -> None:
        self._kube = kube
        self._clock = clock
        self._max_age = max_age
        self._kept: dict[Where, _Kept] = {}
        self._reads: dict[Where, asyncio.Task[str]] = {}

    async def key(self, namespace: str, name: str, key: str) -> str:
        """One key's value, without the white space around it.

        Raises CredentialsError (SecretNotFound, SecretKeyNotFound, CredentialsInvalid), KubeError.
        """
        self._drop_old()
        where = Where(namespace, name, key)
        if kept := self._kept.get(where):
            return kept.value
        read = self._reads.get(where)
        if read is None:
            read = asyncio.create_task(self._read(where), name="read-secret")
            read.add_done_callback(_seen)
            self._reads[where] = read
        # One reader that is cancelled must not take the others' answer with it.
        return await asyncio.shield(read)

    def forget(self, namespace: str, name: str) -> None:
        """Read it again at the next use: a provider has refused the key."""
        for table in (self._kept, self._reads):  # a read under way may have begun before the Secret was rotated
            for where in [where for where in table if where[:2] == (namespace, name)]:
                del table[where]

    async def _read(self, where: Where) -> str:
        begun = self._clock.monotonic()
        try:
            value = _value(await self._kube.secret(where.namespace, where.name), where)
            if self._reads.get(where) is asyncio.current_task():
                self._kept[where] = _Kept(begun, value)
            return value
        finally:
            if self._reads.get(where) is asyncio.current_task():
                del self._reads[where]

    def _drop_old(self) -> None:
        oldest = self._clock.monotonic() - self._max_age
        for where in [where for where, kept in self._kept.items() if kept.read_at <= oldest]:
            del self._kept[where]


def _value(data: Mapping[str, bytes] | None, where: Where) -> str:
    secret = f"Secret {where.namespace}/{where.name}"
    if data is None:
        raise CredentialsError(f"{secret} does not exist; make it", reason=Reason.SECRET_NOT_FOUND)
    if where.key not in data:
        raise CredentialsError(f"{secret} has no key {where.key}; add it", reason=Reason.SECRET_KEY_NOT_FOUND)
    value = usable(data[where.key])
    if value is None:
        raise CredentialsError(
            f"key {where.key} of {secret} must hold one line of at most {LONGEST} visible ASCII characters; correct it",
            reason=Reason.CREDENTIALS_INVALID,
        )
    return value


def usable(value: bytes) -> str | None:
    """A credential that can go into a header, or None. Whatever is not visible ASCII could split one."""
    text = value.strip()
    visible = 0 < len(text) <= LONGEST and all(0x21 <= byte <= 0x7E for byte in text)
    return text.decode("ascii") if visible else None


def _seen(read: asyncio.Task[str]) -> None:
    """Take the error of a read whose readers were all cancelled."""
    if not read.cancelled():
        read.exception()
