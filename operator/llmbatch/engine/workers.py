"""Workers: take keys from the queue and reconcile them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llmbatch.domain.errors import LLMBatchError
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key, QueueShutDown, WorkQueue

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Requeue:
    """Reconcile the same key again after so many seconds."""

    after: float


Handle = Callable[[Key], Awaitable[Requeue | None]]
Observer = Callable[[Key, float, BaseException | None], None]
"""Told of every run: the key, its seconds, and the error that it ended with."""


class Workers:
    """``n`` tasks that reconcile keys.

    An Exception of ``handle`` is logged by type (with its message only where it is one of ours) and the key runs
    again after its backoff. Any other BaseException (lost leadership) ends all runs at once and leaves ``run``.
    """

    def __init__(
        self,
        queue: WorkQueue,
        handle: Handle,
        n: int,
        *,
        clock: Clock,
        on_run: Observer = lambda key, seconds, error: None,
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._n = n
        self._clock = clock
        self._on_run = on_run
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Work until ``stop`` was called, or until cancelled, which cancels the runs under way too."""
        self._tasks = [asyncio.create_task(self._work(), name=f"worker-{index}") for index in range(self._n)]
        try:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await self._cancel()
        for task in done:
            if not task.cancelled():
                task.result()

    async def stop(self, seconds: float) -> None:
        """Take no more keys, wait at most ``seconds`` for the runs under way, then cancel them."""
        self._queue.shutdown()
        if not self._tasks:
            return
        runs = asyncio.ensure_future(asyncio.wait(self._tasks))
        patience = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait([runs, patience], return_when=asyncio.FIRST_COMPLETED)
        finally:
            runs.cancel()
            patience.cancel()
            await self._cancel()

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self) -> None:
        with contextlib.suppress(QueueShutDown):
            while True:
                key = await self._queue.get()
                try:
                    await self._reconcile(key)
                finally:
                    self._queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        started = self._clock.monotonic()
        failure: BaseException | None = None
        try:
            requeue = await self._handle(key)
        except asyncio.CancelledError as error:
            failure = error
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something inside the run was cancelled, not this worker: that is a failure like any other.
            self._retry(key, error)
        except Exception as error:
            failure = error
            self._retry(key, error)
        except BaseException as error:
            failure = error
            raise
        else:
            self._queue.forget(key)
            if requeue is not None:
                self._queue.add_after(key, requeue.after)
        finally:
            self._on_run(key, self._clock.monotonic() - started, failure)

    def _retry(self, key: Key, error: BaseException) -> None:
        delay = self._queue.add_rate_limited(key)
        fields = {"fields": key._asdict()}
        if isinstance(error, LLMBatchError):
            # Known and expected at times (an API server that restarts): where it happened is of no interest.
            logger.warning("%s failed, again in %.0f s: %s: %s", key, delay, type(error).__name__, error, extra=fields)
        else:
            logger.error(
                "%s failed, again in %.0f s: %s", key, delay, type(error).__name__, extra=fields, exc_info=error
            )
