"""Asking an account about many batches at once, and telling the jobs that they concern."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set
from datetime import timedelta

from llmbatch.domain.errors import BadAnswer, NotFound
from llmbatch.domain.remote import BatchState, RemoteBatch, Tag, UnreadableBatch
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.providers.protocol import BatchProvider
from llmbatch.reconcile.accounts.account import Account, Told

SINGLE_GETS_AT_ONCE = 4
_IN_PROGRESS = frozenset({BatchState.VALIDATING, BatchState.IN_PROGRESS, BatchState.FINALIZING})

Running = Mapping[str, Set[Key]]
"""The jobs of the batches that are followed, by batch id. There are several where a job was copied or forged."""


class Listing:
    """Lists accounts.

    ``telling`` is how often the mere progress of a running batch is worth a reconcile; ``is_recorded`` says whether a
    batch is known to be that of the living job with a UID.
    """

    def __init__(
        self,
        queue: WorkQueue,
        clock: Clock,
        *,
        cluster: str,
        telling: timedelta,
        is_recorded: Callable[[str, str], bool],
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._cluster = cluster
        self._telling = telling.total_seconds()
        self._is_recorded = is_recorded

    async def run(self, account: Account, provider: BatchProvider, running: Running, *, complete: bool) -> None:
        """Learn of all running batches: by pages while that is cheaper, the rest one by one. Raises ProviderError.

        A complete listing reads every page, whatever it costs.
        """
        began = self._clock.monotonic()
        unseen, pages = set(running), 0
        async for page in provider.list_batches():
            pages += 1
            for batch in page:
                if isinstance(batch, UnreadableBatch):
                    self._see_unreadable(account, batch, began)
                    continue
                unseen.discard(batch.id)
                self._see(account, batch, running)
            # As many pages as single calls would be needed for what is left; the rest is asked for one by one.
            if not complete and (not unseen or pages >= len(running)):
                break
        else:
            account.listed_from = began
        account.keep_only(running.keys())
        await self._ask_all(account, provider, unseen, running)

    async def _ask_all(self, account: Account, provider: BatchProvider, unseen: Set[str], running: Running) -> None:
        limit = asyncio.Semaphore(SINGLE_GETS_AT_ONCE)

        async def ask(batch_id: str) -> None:
            async with limit:
                await self._ask(account, provider, batch_id, running)

        try:
            async with asyncio.TaskGroup() as group:
                for batch_id in unseen:
                    group.create_task(ask(batch_id))
        except BaseExceptionGroup as errors:
            # The first one stands for all: the others were cancelled, or failed for the same reason.
            raise errors.exceptions[0] from None

    async def _ask(self, account: Account, provider: BatchProvider, batch_id: str, running: Running) -> None:
        try:
            self._see(account, await provider.get_batch(batch_id), running)
        except NotFound:
            account.missing.setdefault(batch_id, self._clock.monotonic())
            self._wake(running[batch_id])
        except BadAnswer:
            # It concerns this batch alone, whose job asks for itself and tells what it gets.
            account.batches.pop(batch_id, None)
            self._wake(running[batch_id])

    def _see(self, account: Account, batch: RemoteBatch, running: Running) -> None:
        tag = Tag.of(batch.metadata)
        if batch.id in running:
            account.batches[batch.id] = batch
            account.missing.pop(batch.id, None)
            if self._is_worth_telling(account.told.get(batch.id), batch):
                account.told[batch.id] = Told(self._clock.monotonic(), batch)
                self._wake(running[batch.id])
        if tag is not None and tag.cluster == self._cluster:
            stray = batch.id not in running and not self._is_recorded(tag.uid, batch.id)
            account.see_tagged(tag, batch, stray=stray)

    def _see_unreadable(self, account: Account, batch: UnreadableBatch, began: float) -> None:
        tag = Tag.of(batch.metadata)
        if tag is None or tag.cluster == self._cluster:
            account.see_unreadable(tag, began)

    def _wake(self, jobs: Set[Key]) -> None:
        for job in jobs:
            self._queue.add(job)

    def _is_worth_telling(self, told: Told | None, batch: RemoteBatch) -> bool:
        """Whether a job is woken. Mere progress that is held back now is told by a later listing."""
        if told is None or told.batch == batch:
            return told is None
        return _matters(told.batch, batch) or self._clock.monotonic() - told.at >= self._telling


def _matters(before: RemoteBatch, batch: RemoteBatch) -> bool:
    """Whether a change is more than progress, which is told now and then."""
    return batch.state.terminal or (batch.state is not before.state and batch.state not in _IN_PROGRESS)
