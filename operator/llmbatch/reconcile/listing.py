"""Asking an account about many batches at once, and telling the jobs that they concern."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from llmbatch.domain.errors import NotFound
from llmbatch.domain.remote import BatchState, RemoteBatch, Tag
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.reconcile.account import Account, Told

SINGLE_GETS_AT_ONCE = 4
_IN_PROGRESS = frozenset({BatchState.VALIDATING, BatchState.IN_PROGRESS, BatchState.FINALIZING})

Running = Mapping[str, Key]
"""The jobs of the batches that are followed, by batch id."""


class Listing:
    """Lists accounts. ``telling`` is how often the mere progress of a running batch is worth a reconcile."""

    def __init__(self, queue: WorkQueue, clock: Clock, *, cluster: str, telling: timedelta) -> None:
        self._queue = queue
        self._clock = clock
        self._cluster = cluster
        self._telling = telling.total_seconds()

    async def run(self, account: Account, running: Running, *, complete: bool) -> None:
        """Learn of all running batches: by pages while that is cheaper, the rest one by one. Raises ProviderError.

        A complete listing reads every page, whatever it costs.
        """
        began = self._clock.monotonic()
        unseen, pages = set(running), 0
        async for page in account.provider.list_batches():
            pages += 1
            for batch in page:
                unseen.discard(batch.id)
                self._see(account, batch, running)
            # As many pages as single calls would be needed for what is left; the rest is asked for one by one.
            if not complete and (not unseen or pages >= len(running)):
                break
        else:
            account.listed_from = began
        for stale in account.batches.keys() - running.keys():
            account.batches.pop(stale)
            account.told.pop(stale, None)
        limit = asyncio.Semaphore(SINGLE_GETS_AT_ONCE)

        async def ask(batch_id: str) -> None:
            async with limit:
                await self._ask(account, batch_id, running)

        await asyncio.gather(*(ask(batch_id) for batch_id in unseen))

    async def _ask(self, account: Account, batch_id: str, running: Running) -> None:
        try:
            self._see(account, await account.provider.get_batch(batch_id), running)
        except NotFound:
            account.missing.setdefault(batch_id, self._clock.monotonic())
            self._queue.add(running[batch_id])

    def _see(self, account: Account, batch: RemoteBatch, running: Running) -> None:
        tag = Tag.of(batch.metadata)
        if batch.id in running:
            account.batches[batch.id] = batch
            account.missing.pop(batch.id, None)
            if self._is_worth_telling(account.told.get(batch.id), batch):
                account.told[batch.id] = Told(self._clock.monotonic(), batch)
                self._queue.add(running[batch.id])
        elif tag is not None and tag.cluster == self._cluster:
            account.see_tagged(tag, batch)

    def _is_worth_telling(self, told: Told | None, batch: RemoteBatch) -> bool:
        """Whether a job is woken. Mere progress that is held back now is told by a later listing."""
        if told is None or told.batch == batch:
            return told is None
        return _matters(told.batch, batch) or self._clock.monotonic() - told.at >= self._telling


def _matters(before: RemoteBatch, batch: RemoteBatch) -> bool:
    """Whether a change is more than progress, which is told now and then."""
    return batch.state.terminal or (batch.state is not before.state and batch.state not in _IN_PROGRESS)
