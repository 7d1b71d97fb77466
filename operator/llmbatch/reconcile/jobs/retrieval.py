"""Retrieving results: output and error files stream to the sink and are counted and priced in the same pass.

This goes on beside the queue's workers, so that a provider or a sink that trickles holds up nobody else's job.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

import orjson

from llmbatch.api import BatchJob, ModelDeployment
from llmbatch.api.batchjob import CollectedOutput
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import COLLECTION
from llmbatch.domain.errors import BadAnswer, LLMBatchError, NotFound, OutputConflict, OutputTooLarge
from llmbatch.domain.job.ending import promised
from llmbatch.domain.job.record import annotated
from llmbatch.domain.job.steps import Problem
from llmbatch.domain.remote import BatchState, RemoteBatch
from llmbatch.domain.results.cost import PriceBook
from llmbatch.domain.results.counting import ResultCounter, Totals
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.accounts.accounts import Accounts
from llmbatch.reconcile.index.index import key_of, route_of
from llmbatch.storage.sink import ERRORS, OUTPUT, SUMMARY, File, Sink, Writer

NEVER = (OutputConflict, OutputTooLarge)
"""What a sink will answer again however often it is asked."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The batches as they are now, and their results; no totals where one of them turned out not to have ended."""

    batches: tuple[RemoteBatch, ...]
    totals: Totals | None = None
    output: CollectedOutput | None = None
    refusal: Problem | None = None
    """Why the sink will never take them."""


Work = Callable[[bool], Awaitable[Retrieved]]
"""Retrieves; told whether it was tried before."""


@dataclass(frozen=True, slots=True)
class Later:
    """The results are not there yet: still under way, or tried again at ``again``."""

    problem: Problem
    again: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Under:
    uid: str
    task: asyncio.Task[Retrieved]


@dataclass(frozen=True, slots=True)
class _Failed:
    times: int
    again: datetime
    problem: Problem


class Retrievals:
    """The retrievals under way. They outlive a reconcile; a job's key is queued when its own has ended.

    At most ``at_once`` run, and ``at_once_in_namespace`` for one namespace.
    """

    def __init__(self, queue: WorkQueue, clock: Clock, *, at_once: int = 16, at_once_in_namespace: int = 4) -> None:
        self._queue = queue
        self._clock = clock
        self._all = asyncio.Semaphore(at_once)
        self._at_once_in_namespace = at_once_in_namespace
        self._limits: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._under_way: dict[Key, _Under] = {}
        self._failed: dict[Key, _Failed] = {}
        self._awaited: set[Key] = set()

    async def take(self, job: BatchJob, work: Work, *, patience: float) -> Retrieved | Later:
        """What was retrieved, after waiting a moment for what will be there soon; ``work`` begins where none is.

        After a failure it begins again only when its backoff is over. Raises NotFound where the results are gone.
        """
        key, now = key_of(job), self._clock.now()
        failed = self._failed.get(key)
        if failed is not None and now < failed.again:
            return Later(failed.problem, failed.again)
        if key in self._under_way and self._under_way[key].uid != job.metadata.uid:
            await self.abandon(key)
        if key not in self._under_way:
            self._begin(key, job.metadata.uid, work)
        task = self._under_way[key].task
        self._awaited.add(key)
        try:
            await asyncio.wait({task}, timeout=patience)
        finally:
            self._awaited.discard(key)
        if not task.done():
            return Later(Problem(Reason.COLLECTING, "the batch has ended; its results are on their way"))
        del self._under_way[key]
        try:
            retrieved = task.result()
        except NotFound:
            self._failed.pop(key, None)
            raise
        except LLMBatchError as error:
            return self._later(key, error)
        self._failed.pop(key, None)
        return retrieved

    def _begin(self, key: Key, uid: str, work: Work) -> None:
        task = asyncio.create_task(self._within_limits(key, work), name="retrieval")
        self._under_way[key] = _Under(uid, task)

        def ended(_: object) -> None:
            if key not in self._awaited:
                self._queue.add(key)

        task.add_done_callback(ended)

    async def _within_limits(self, key: Key, work: Work) -> Retrieved:
        limit = self._limits.setdefault(key.namespace, asyncio.Semaphore(self._at_once_in_namespace))
        # The namespace's own limit first: who waits for that must not hold a place that others could take.
        async with limit, self._all:
            return await work(key in self._failed)

    def _later(self, key: Key, error: LLMBatchError) -> Later:
        times = self._failed[key].times + 1 if key in self._failed else 1
        asked = timedelta(seconds=getattr(error, "retry_after", None) or 0.0)
        again = self._clock.now() + max(COLLECTION.wait(times), asked)
        problem = Problem(error.reason, f"results not collected yet: {error.message}")
        self._failed[key] = _Failed(times, again, problem)
        return Later(problem, again)

    async def abandon(self, key: Key) -> None:
        """The job goes: end its retrieval, which leaves nothing half-made."""
        self._failed.pop(key, None)
        under_way = self._under_way.pop(key, None)
        if under_way is not None:
            under_way.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await under_way.task

    async def close(self) -> None:
        """The process ends."""
        tasks = [under_way.task for under_way in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_nothing(batches: tuple[RemoteBatch, ...], totals: Totals) -> bool:
    """Whether a failed batch left no result: another attempt may follow, whose output this must not look like."""
    return not totals.lines and any(batch.state is BatchState.FAILED for batch in batches)


def _is_accounted_for(batch: RemoteBatch) -> bool:
    """Whether a batch is told of in full: it completed, every request is counted, and the files of both kinds are
    named. Nothing of it can change then."""
    counts = batch.counts
    return (
        batch.state is BatchState.COMPLETED
        and 0 < counts.total == counts.completed + counts.failed
        and (batch.output_file_id is not None or counts.completed == 0)
        and (batch.error_file_id is not None or counts.failed == 0)
    )


class Retrieval:
    """Retrieves the results of one job."""

    def __init__(self, accounts: Accounts, clock: Clock, *, sink_of: Callable[[BatchJob], Sink | None]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._sink_of = sink_of

    async def retrieve(
        self, job: BatchJob, deployment: ModelDeployment, batches: tuple[RemoteBatch, ...], *, again: bool = False
    ) -> Retrieved:
        """Read again the batches that a listing may have shown before their files were named, and bring home
        what they have. Raises LLMBatchError.

        After a failure (``again``) the sink is asked first: all that is read for one that is denied is in vain.
        """
        batches = tuple([await self._as_it_is(deployment, batch) for batch in batches])
        if not all(batch.state.terminal for batch in batches):
            return Retrieved(batches)
        try:
            sink = self._sink_of(job)
            if sink is not None and again:
                await sink.check()
            totals, output = await self._bring(job, deployment, batches, sink)
        except NEVER as error:
            # Counted and priced all the same, and the results stay where they are.
            totals, _ = await self._bring(job, deployment, batches, None)
            refusal = Problem(error.reason, f"{error.message}; the results stay at the provider")
            return Retrieved(batches, totals, refusal=refusal)
        return Retrieved(batches, totals, output)

    async def _as_it_is(self, deployment: ModelDeployment, batch: RemoteBatch) -> RemoteBatch:
        if _is_accounted_for(batch):
            return batch
        try:
            found = await self._accounts.call(deployment, lambda provider: provider.get_batch(batch.id))
        except NotFound:
            return batch  # its files may still be there
        self._accounts.learn(route_of(deployment), found)
        return found

    async def _bring(
        self, job: BatchJob, deployment: ModelDeployment, batches: tuple[RemoteBatch, ...], sink: Sink | None
    ) -> tuple[Totals, CollectedOutput | None]:
        target = target_of(deployment.spec)
        prices = PriceBook(deployment.spec.pricing, target.price_provider, self._when(batches))  # type: ignore[arg-type]
        # A line for each request in both files, whatever the provider says of their number.
        most = 2 * target.capabilities.max_requests_per_file * len(batches)
        counter = ResultCounter(prices, max_lines=most)
        async with AsyncExitStack() as stack:
            writer = await stack.enter_async_context(sink.open()) if sink else None
            await self._read(deployment, batches, counter, writer)
            totals = counter.finish()
            if totals.unreadable:
                again = ResultCounter(prices, max_lines=most)
                await self._read(deployment, batches, again, None)
                if again.digest != counter.digest:
                    raise BadAnswer("the result files differ from one reading to the next; they are read again")
            totals = await self._matched(job, deployment, batches, counter, totals)
            if writer is None or sink is None or _is_nothing(batches, totals):
                return totals, None
            await writer.write(SUMMARY, _summary(job, batches, totals))
            written = await writer.commit()
            return totals, CollectedOutput(location=sink.location, bytes=written, lines=totals.lines)

    async def _matched(
        self,
        job: BatchJob,
        deployment: ModelDeployment,
        batches: tuple[RemoteBatch, ...],
        counter: ResultCounter,
        totals: Totals,
    ) -> Totals:
        """The totals with the number of results that are of no request; the input is read for it only where the ids
        are not those of the file."""
        known = job.status.request_counts.total if job.status.request_counts else 0
        if not totals.is_suspicious(job.status.custom_id_digest, known):
            return totals
        try:
            _, provider = await self._accounts.open(deployment)
            for batch in batches:
                async with provider.download(batch.input_file_id or "") as chunks:
                    async for chunk in _bounded(chunks):
                        counter.feed_input(chunk)
            return replace(totals, foreign=counter.foreign())
        except (LLMBatchError, ValueError):
            # Results do not wait for an input that is gone.
            return replace(totals, foreign=None)

    async def _read(
        self,
        deployment: ModelDeployment,
        batches: tuple[RemoteBatch, ...],
        counter: ResultCounter,
        writer: Writer | None,
    ) -> None:
        for batch in batches:
            await self._stream(deployment, batch.output_file_id, counter.feed_output, writer, OUTPUT)
            await self._stream(deployment, batch.error_file_id, counter.feed_errors, writer, ERRORS)

    def _when(self, batches: tuple[RemoteBatch, ...]) -> datetime:
        return min((batch.created_at for batch in batches if batch.created_at), default=self._clock.now())

    async def _stream(
        self,
        deployment: ModelDeployment,
        file_id: str | None,
        feed: Callable[[bytes], None],
        writer: Writer | None,
        file: File,
    ) -> None:
        """A file that is not there is as an empty one: whether results are missing is for the other one to say."""
        if file_id is None:
            return
        _, provider = await self._accounts.open(deployment)
        with contextlib.suppress(NotFound):
            async with provider.download(file_id) as chunks:
                async for chunk in _bounded(chunks):
                    feed(chunk)
                    if writer is not None:
                        await writer.write(file, chunk)


async def _bounded(chunks: AsyncIterator[bytes], limit: int = 16_384) -> AsyncIterator[bytes]:
    """The same bytes in pieces that do not hold the event loop for long."""
    async for chunk in chunks:
        for start in range(0, len(chunk), limit):
            yield chunk[start : start + limit]
            await asyncio.sleep(0)


def _summary(job: BatchJob, batches: tuple[RemoteBatch, ...], totals: Totals) -> bytes:
    made = {
        "job": f"{job.metadata.namespace}/{job.metadata.name}",
        "uid": job.metadata.uid,
        "model": job.status.model_name,
        "deployment": annotated(job, 0).deployment,
        "batches": [{"id": batch.id, "state": batch.state.value} for batch in batches],
        "requestCounts": {
            "total": max(totals.lines, promised(job, batches)),
            "completed": totals.lines_ok,
            "failed": totals.lines_failed,
        },
        "usage": totals.usage.wire(),
        "cost": totals.cost.wire(),
    }
    return orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
