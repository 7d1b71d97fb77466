"""What the operator asks of a provider, and how it tells one account from another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from llmbatch.domain.remote import Capabilities, RemoteBatch, RemoteFile, UnreadableBatch


@dataclass(frozen=True, slots=True)
class AccountID:
    """One account: deployments that share it see each other's batches and share its rate limits.

    ``key_digest`` is a keyed digest that means nothing outside this process; the key itself is never in here.
    """

    provider: str
    endpoint: str
    organization: str
    project: str
    key_digest: str


class Clock(Protocol):
    """The time, passed in."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let others work for this long."""
        ...


class BatchProvider(Protocol):
    """A provider's files and batches as one account sees them.

    Every method raises the errors of `domain.errors` and no others, apart from what ``lines`` or the guard raise.
    Reads, deletes and cancels are repeated a little where that can help; uploads and creates never are.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this provider can and cannot do."""
        ...

    @property
    def identity(self) -> AccountID:
        """The account whose files and batches these are."""
        ...

    async def upload(
        self, lines: AsyncIterator[bytes], *, name: str, ttl: timedelta | None, size: int | None = None
    ) -> RemoteFile:
        """Stream an input file; ``size`` in bytes, where known, is announced to the provider.

        ``ttl`` is brought into the provider's range; None asks for none. Never repeated: after an error that is not
        ``certain``, look for ``name``.
        """
        ...

    async def get_file(self, file_id: str) -> RemoteFile:
        """One file; NotFound where it is gone."""
        ...

    def list_files(self) -> AsyncIterator[RemoteFile]:
        """All batch input files of the account: complete, or an error."""
        ...

    async def find_files(self, name: str) -> list[RemoteFile]:
        """The batch input files of exactly this name."""
        ...

    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is not there is fine."""
        ...

    def download(self, file_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A file's content in pieces of any size; one that ends too early raises NoAnswer."""
        ...

    async def create_batch(
        self, *, input_file_id: str, endpoint: str, completion_window: str, metadata: Mapping[str, str]
    ) -> RemoteBatch:
        """Create a batch, once. After an error that is not ``certain`` the batch may exist."""
        ...

    async def get_batch(self, batch_id: str) -> RemoteBatch:
        """One batch; NotFound where the provider does not know it (yet)."""
        ...

    def list_batches(self, *, page_size: int = 100) -> AsyncIterator[list[RemoteBatch | UnreadableBatch]]:
        """All batches of the account by pages: complete, or an error, never silently short.

        One of ours that cannot be read is there as such; others' may be left out.
        """
        ...

    async def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Ask for a batch to end; one that has ended already is returned as it is."""
        ...

    async def probe(self) -> None:
        """Raise what stands in the way of using the account, found by one free call."""
        ...
