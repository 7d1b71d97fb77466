"""Bringing results home: output and error files stream to the sink and are counted and priced in the same pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime

import orjson

from llmbatch.api import BatchJob, ModelDeployment
from llmbatch.api.batchjob import CollectedOutput, Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain import jobstatus
from llmbatch.domain.backoff import sooner
from llmbatch.domain.cost import PriceBook
from llmbatch.domain.errors import (
    CredentialsError,
    LLMBatchError,
    NotFound,
    OutputConflict,
    OutputTooLarge,
    ProviderError,
    StorageError,
)
from llmbatch.domain.job import READ_AGAIN, deadline
from llmbatch.domain.jobrecord import trace
from llmbatch.domain.remote import RemoteBatch
from llmbatch.domain.results import Tally, Totals
from llmbatch.domain.steps import Collect, Finish, Problem, Wait
from llmbatch.engine.clock import Clock
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.accounts import Accounts
from llmbatch.reconcile.index import Index, deployment_key
from llmbatch.reconcile.jobrun import JobRun
from llmbatch.storage.sink import ERRORS, OUTPUT, SUMMARY, File, Sink, Writer

logger = logging.getLogger(__name__)

NEVER = (OutputConflict, OutputTooLarge)
"""What a sink will answer again however often it is asked."""


class Collection:
    """Collects the results of jobs whose batches have ended."""

    def __init__(
        self, accounts: Accounts, index: Index, clock: Clock, *, sink_of: Callable[[BatchJob], Sink | None]
    ) -> None:
        self._accounts = accounts
        self._index = index
        self._clock = clock
        self._sink_of = sink_of

    async def collect(self, run: JobRun, step: Collect) -> Finish | None:
        """Collect, count and price; answers how the job ends where its results are lost."""
        deployment = self._deployment(run.job)
        if deployment is None:
            self._problem(run, Reason.DEPLOYMENT_NOT_FOUND, "the deployment that holds the results does not exist")
            return None
        sink = self._sink_of(run.job)
        try:
            try:
                totals, output = await self._bring(run.job, deployment, step.batches, sink)
            except NEVER as error:
                # Counted and priced all the same, and the results stay where they are.
                totals, output = await self._bring(run.job, deployment, step.batches, None)
                message = f"{error.message}; the results stay at the provider"
                run.observed = replace(run.observed, output_problem=Problem(error.reason, message))
        except NotFound:
            message = "the provider no longer has the result files; they were deleted there or have expired"
            return Finish(Phase.FAILED, Reason.RESULTS_LOST, message)
        except (ProviderError, StorageError, CredentialsError) as error:
            self._problem(run, error.reason, error.message)
            return None
        run.observed = replace(run.observed, totals=totals)
        run.verified = output is not None and totals.lines >= sum(batch.counts.total for batch in step.batches)
        run.job = jobstatus.collected(run.job, totals, output)
        return None

    async def unwritable(self, job: BatchJob, now: datetime) -> Finish | Wait | None:
        """Why the sink would not take the results, found before anything is spent; None where it seems well."""
        sink = self._sink_of(job)
        if sink is None:
            return None
        try:
            await sink.check()
        except NEVER as error:
            return Finish(Phase.FAILED, error.reason, error.message)
        except (StorageError, CredentialsError) as error:
            message = f"the output cannot be written: {error.message}"
            return Wait(Phase.PENDING, error.reason, message, sooner(now + READ_AGAIN, deadline(job, now)))
        return None

    def _problem(self, run: JobRun, reason: Reason, message: str) -> None:
        run.observed = replace(run.observed, collect_problem=Problem(reason, f"results not collected yet: {message}"))

    def _deployment(self, job: BatchJob) -> ModelDeployment | None:
        route = trace(job, 0).deployment
        return self._index.deployments.get(deployment_key(route)) if route else None

    async def _bring(
        self, job: BatchJob, deployment: ModelDeployment, batches: tuple[RemoteBatch, ...], sink: Sink | None
    ) -> tuple[Totals, CollectedOutput | None]:
        target = target_of(deployment.spec)
        prices = PriceBook(deployment.spec.pricing, target.price_provider, self._when(batches))  # type: ignore[arg-type]
        # A line for each request in both files, whatever the provider says of their number.
        tally = Tally(prices, max_lines=2 * target.capabilities.max_requests_per_file * len(batches))
        async with AsyncExitStack() as stack:
            writer = await stack.enter_async_context(sink.open()) if sink else None
            for batch in batches:
                await self._stream(deployment, batch.output_file_id, tally.feed_output, writer, OUTPUT)
                await self._stream(deployment, batch.error_file_id, tally.feed_errors, writer, ERRORS)
            totals = tally.finish()
            if writer is None or sink is None:
                return totals, None
            await writer.write(SUMMARY, _summary(job, batches, totals))
            written = await writer.commit()
            return totals, CollectedOutput(location=sink.location, bytes=written, lines=totals.lines)

    def _when(self, batches: tuple[RemoteBatch, ...]) -> datetime:
        return min((batch.created_at for batch in batches), default=self._clock.now())

    async def _stream(
        self,
        deployment: ModelDeployment,
        file_id: str | None,
        feed: Callable[[bytes], None],
        writer: Writer | None,
        file: File,
    ) -> None:
        if file_id is None:
            return
        _, provider = await self._accounts.open(deployment)
        async with provider.download(file_id) as chunks:
            async for chunk in _bounded(chunks):
                feed(chunk)
                if writer is not None:
                    await writer.write(file, chunk)

    async def delete_outputs(self, job: BatchJob, batches: tuple[RemoteBatch, ...] = (), *, cleaning_up: bool) -> None:
        """Delete the provider's result files. Raises ProviderError, CredentialsError."""
        deployment = self._deployment(job)
        if deployment is None:
            return
        status = job.status
        ids = {status.output_file_id, status.error_file_id}
        for batch in batches:
            ids |= {batch.output_file_id, batch.error_file_id}
        for file_id in sorted(filter(None, ids)):
            await self._accounts.call(
                deployment, lambda provider, id_=file_id: provider.delete_file(id_), cleaning_up=cleaning_up
            )

    async def tidy(self, run: JobRun) -> None:
        """After a verified collection: the provider's result files are not needed any more.

        What fails here is deleted with the job, or by the provider in time.
        """
        if run.verified and run.job.spec.deletion_policy == "Delete":
            try:
                await self.delete_outputs(run.job, cleaning_up=True)
            except LLMBatchError as error:
                logger.info("result files not deleted yet: %s", error.message, extra={"fields": run.key._asdict()})


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
        "deployment": trace(job, 0).deployment,
        "batches": [{"id": batch.id, "state": batch.state.value} for batch in batches],
        "requestCounts": {
            "total": max(totals.lines, sum(batch.counts.total for batch in batches)),
            "completed": totals.lines_ok,
            "failed": totals.lines_failed,
        },
        "usage": totals.usage.wire(),
        "cost": totals.cost.wire(),
    }
    return orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
