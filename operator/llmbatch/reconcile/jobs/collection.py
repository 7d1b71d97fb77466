"""Collection: what becomes of a job's results, from before anything is spent until the provider need not keep them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from llmbatch.api import BatchJob, ModelDeployment
from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import sooner
from llmbatch.domain.errors import CredentialsError, LLMBatchError, NotFound, StorageError
from llmbatch.domain.job import status as jobstatus
from llmbatch.domain.job.ending import promised
from llmbatch.domain.job.record import recorded, shards
from llmbatch.domain.job.steps import Collect, Finish, Problem, Wait
from llmbatch.domain.job.stopping import READ_AGAIN, deadline
from llmbatch.domain.remote import RemoteBatch
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key
from llmbatch.reconcile.accounts.accounts import Accounts
from llmbatch.reconcile.index.index import Index, deployment_key
from llmbatch.reconcile.jobs.retrieval import NEVER, Later, Retrieval, Retrievals, Retrieved
from llmbatch.reconcile.jobs.run import JobRun
from llmbatch.storage.sink import Sink

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that a reconcile waits for results: the usual job ends in one write."""


class Collection:
    """Collects the results of jobs whose batches have ended."""

    def __init__(
        self,
        accounts: Accounts,
        index: Index,
        clock: Clock,
        retrievals: Retrievals,
        *,
        sink_of: Callable[[BatchJob], Sink | None],
    ) -> None:
        self._accounts = accounts
        self._index = index
        self._clock = clock
        self._retrievals = retrievals
        self._retrieval = Retrieval(accounts, clock, sink_of=sink_of)
        self._sink_of = sink_of

    async def collect(self, run: JobRun, step: Collect) -> Finish | None:
        """Have the results brought home, counted and priced; answers how the job ends where they are lost."""
        job, deployment = run.job, self._deployment(run.job)
        if deployment is None:
            message = "results not collected yet: the deployment that holds them does not exist"
            self._problem(run, Problem(Reason.DEPLOYMENT_NOT_FOUND, message), self._clock.now() + READ_AGAIN)
            return None
        try:
            found = await self._retrievals.take(
                job,
                lambda again: self._retrieval.retrieve(job, deployment, step.batches, again=again),
                patience=PATIENCE,
            )
        except NotFound:
            message = "the provider no longer has the result files; they were deleted there or have expired"
            return Finish(Phase.FAILED, Reason.RESULTS_LOST, message)
        match found:
            case Later(problem, again):
                self._problem(run, problem, again)
            case Retrieved():
                self._take(run, found)
        return None

    def _problem(self, run: JobRun, problem: Problem, again: datetime | None) -> None:
        run.observed = replace(run.observed, collect_problem=problem, collect_again=again)

    def _take(self, run: JobRun, found: Retrieved) -> None:
        for index, batch in enumerate(found.batches):
            run.see(index, batch=batch)
        run.job = jobstatus.progressed(run.job, found.batches, self._clock.now())
        if found.totals is None:
            return
        wanted = promised(run.job, found.batches)
        run.observed = replace(run.observed, totals=found.totals, output_problem=found.refusal)
        odd = found.totals.unreadable or found.totals.unmatched
        whole = 0 < wanted <= found.totals.lines and not odd
        run.verified = found.output is not None and whole
        run.job = jobstatus.collected(run.job, found.totals, found.output)

    async def unwritable(self, job: BatchJob, now: datetime) -> Finish | Wait | None:
        """Why the sink would not take the results, found before anything is spent; None where it seems well."""
        try:
            sink = self._sink_of(job)
            if sink is not None:
                await sink.check()
        except NEVER as error:
            return Finish(Phase.FAILED, error.reason, error.message)
        except (StorageError, CredentialsError) as error:
            message = f"the output cannot be written: {error.message}"
            return Wait(Phase.PENDING, error.reason, message, sooner(now + READ_AGAIN, deadline(job, now)))
        return None

    def _deployment(self, job: BatchJob) -> ModelDeployment | None:
        route = recorded(job, shards(job)[0]).deployment
        return self._index.deployments.get(deployment_key(route)) if route else None

    async def delete_outputs(self, job: BatchJob, batches: tuple[RemoteBatch, ...] = (), *, cleaning_up: bool) -> None:
        """Delete the provider's result files. Raises LLMBatchError, also where nobody knows any more where they are."""
        status, deployment = job.status, self._deployment(job)
        ids = {status.output_file_id, status.error_file_id}
        for batch in batches:
            ids |= {batch.output_file_id, batch.error_file_id}
        for file_id in sorted(filter(None, ids)):
            if deployment is None:
                message = "the deployment that holds the result files does not exist"
                raise LLMBatchError(message, reason=Reason.DEPLOYMENT_NOT_FOUND)
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

    async def abandon(self, key: Key) -> None:
        """The job goes: nothing is collected for it any more."""
        await self._retrievals.abandon(key)
