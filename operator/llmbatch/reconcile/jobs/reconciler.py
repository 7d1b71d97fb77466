"""Reconciling BatchJobs: observe, decide, act, and write the status once at the end."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from llmbatch.api import BatchJob
from llmbatch.api.batchjob import Phase
from llmbatch.domain.errors import LLMBatchError
from llmbatch.domain.job import status as jobstatus
from llmbatch.domain.job.record import annotated, holds_finalizer, recorded, shards
from llmbatch.domain.job.rules import READ_AGAIN, next_step
from llmbatch.domain.job.steps import (
    Acknowledge,
    Adopt,
    AwaitCleanUp,
    AwaitQuota,
    Begin,
    CancelBatch,
    Close,
    Collect,
    Create,
    DeleteJob,
    DeleteOutputs,
    Finish,
    Idle,
    LookFor,
    Observed,
    Poll,
    Problem,
    Release,
    Repair,
    ShardSeen,
    Step,
    Wait,
    Withdraw,
)
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key
from llmbatch.engine.workers import Requeue
from llmbatch.kube.client import Kube
from llmbatch.kube.errors import Conflict, Gone
from llmbatch.reconcile.abandonment import Abandonment
from llmbatch.reconcile.accounts.accounts import Accounts
from llmbatch.reconcile.index.index import Index
from llmbatch.reconcile.jobs.batch_calls import BatchCalls
from llmbatch.reconcile.jobs.collection import Collection
from llmbatch.reconcile.jobs.observation import Observation
from llmbatch.reconcile.jobs.run import JobRun
from llmbatch.reconcile.jobs.submission import Submission, Superseded
from llmbatch.reconcile.writer import Writer

logger = logging.getLogger(__name__)

MOST_STEPS = 40
"""A job never needs more in one go; a loop would be a mistake of ours."""


OVERTAKEN_AT_MOST = 5
"""How often in a row a job is decided upon anew without a pause."""


class Reporter(Protocol):
    """Tells of what happened to jobs: one log record, one Event, metrics."""

    async def submitted(self, job: BatchJob, shard: int) -> None:
        """A batch was created or adopted."""
        ...

    async def finished(self, job: BatchJob, step: Finish) -> None:
        """The job ended."""
        ...

    async def closed(self, job: BatchJob, step: Close) -> None:
        """An attempt failed and another one follows."""
        ...


class JobReconciler:
    """Leads a job from its creation to its end, one step after the other."""

    def __init__(
        self,
        kube: Kube,
        writer: Writer,
        accounts: Accounts,
        index: Index,
        observation: Observation,
        submission: Submission,
        collection: Collection,
        abandonment: Abandonment,
        reporter: Reporter,
        clock: Clock,
        *,
        settling: timedelta,
        retry_scale: float = 1.0,
    ) -> None:
        self._kube = kube
        self._writer = writer
        self._accounts = accounts
        self._index = index
        self._batch_calls = BatchCalls(accounts, index, observation)
        self._observation = observation
        self._submission = submission
        self._collection = collection
        self._abandonment = abandonment
        self._reporter = reporter
        self._clock = clock
        self._settling = settling
        self._retry_scale = retry_scale
        self._overtaken: Counter[Key] = Counter()

    async def reconcile(self, key: Key) -> Requeue | None:
        """One look at a job."""
        job = await self._kube.get(BatchJob, key.namespace, key.name)
        if job is None or job.metadata.deletion_timestamp is not None:
            await self._collection.abandon(key)
        if job is None:
            self._overtaken.pop(key, None)
            self._submission.forget_gone()
            return None
        self._index.put(job)
        job = self._index.credible(job)
        run = JobRun(job, job.status, Observed(shards=tuple(ShardSeen() for _ in shards(job))))
        try:
            await self._observation.observe(run)
            requeue = await self._steps(run)
        except (Superseded, Conflict):
            return self._overtake(key)
        except Gone:
            requeue = None
        except LLMBatchError:
            raise
        except Exception:
            if not await self._is_overdue(run.job):
                raise
            logger.exception("the clean-up of %s ended by a mistake of the operator's own", key)
            await self._release(run, Release(abandoned="the operator cannot clean up after it, see its log"))
            requeue = None
        self._overtaken.pop(key, None)
        return requeue

    def _overtake(self, key: Key) -> Requeue:
        """Somebody else wrote the job: decide anew at once, but not for ever at that pace."""
        self._overtaken[key] += 1
        if self._overtaken[key] > OVERTAKEN_AT_MOST:
            raise Overtaken(f"the job was changed by others {self._overtaken[key]} times in a row")
        return Requeue(0.05)

    async def _is_overdue(self, job: BatchJob) -> bool:
        """Whether the job is being deleted and its clean-up was tried for long enough."""
        if job.metadata.deletion_timestamp is None or not holds_finalizer(job):
            return False
        return self._clock.now() >= await self._abandonment.due(job)

    async def _steps(self, run: JobRun) -> Requeue | None:
        for _ in range(MOST_STEPS):
            now = self._clock.now()
            step = next_step(run.job, run.observed, now)
            done = await self._act(run, step, now)
            if isinstance(done, (Finish, Wait)):
                step, done = done, await self._act(run, done, now)
            if done is not None:
                return self._requeue(step, run)
        raise RuntimeError("a job took too many steps")

    def _requeue(self, step: Step, run: JobRun) -> Requeue | None:
        if run.unsettled:
            return Requeue(self._settling.total_seconds())
        if isinstance(step, Poll):
            return Requeue(READ_AGAIN.total_seconds())
        until = step.until if isinstance(step, (Wait, Idle, AwaitCleanUp)) else None
        if isinstance(step, Finish) and run.job.spec.ttl_seconds_after_finished is not None:
            return Requeue(float(run.job.spec.ttl_seconds_after_finished))
        if until is None:
            return None
        return Requeue(max(0.05, (until - self._clock.now()).total_seconds()))

    # --- act --------------------------------------------------------------------------------------------------

    async def _act(self, run: JobRun, step: Step, now: datetime) -> Finish | Wait | bool | None:
        """Carry out a step: None to go on, True when this reconcile is over, or the last step of this reconcile."""
        match step:
            case Wait():
                return await self._wait(run, step, now)
            case Finish():
                return await self._finish(run, step, now)
            case Idle():
                return True
            case Acknowledge():
                run.job = jobstatus.with_status(run.job, observed_generation=run.job.metadata.generation)
                return await self._write(run)
            case Poll():
                return await self._batch_calls.poll(run, step)
            case CancelBatch():
                return await self._batch_calls.cancel(run, step)
            case Begin():
                return await self._collection.unwritable(run.job, now) or await self._submission.begin(run, step)
            case Create():
                return await self._submission.create(run, step)
            case Adopt():
                return await self._submission.adopt(run, step)
            case LookFor():
                return await self._submission.look_for(run, step)
            case Withdraw():
                await self._submission.withdraw(run, step)
                # What it was observed with may be old, and nothing was asked of batches of earlier jobs.
                return await self._observation.observe_input(run)
            case Repair():
                return await self._submission.repair(run, step)
            case Collect():
                self._progress(run, now)
                return await self._collection.collect(run, step)
            case Close():
                return await self._close(run, step, now)
            case AwaitQuota():
                wait = timedelta(seconds=run.retry_after) if run.retry_after else step.retry_after * self._retry_scale
                run.job = jobstatus.awaiting_quota(run.job, replace(step, retry_after=wait), now)
                return None
            case DeleteOutputs():
                return await self._delete_outputs(run)
            case AwaitCleanUp():
                return await self._await_clean_up(run, step, now)
            case Release():
                return await self._release(run, step)
            case DeleteJob():
                await self._kube.delete(run.job)
                return True

    async def _close(self, run: JobRun, step: Close, now: datetime) -> None:
        """End an attempt: first in status, so that a crash never leaves an old batch as the current one."""
        record = annotated(run.job, step.shard)
        if step.input_lost and record.deployment:
            self._submission.suspect(run, record.deployment, shards(run.job)[step.shard].input_file_id)
        scaled = replace(step, retry_after=step.retry_after * self._retry_scale)
        run.job = jobstatus.closed(run.job, scaled, now)
        await self._reporter.closed(run.job, step)
        run.job = jobstatus.waiting(run.job, Wait(Phase.PENDING, step.result, step.message), now)
        await self._write(run)
        await self._submission.withdraw(run, Withdraw(step.shard))
        await self._observation.observe_input(run)

    async def _wait(self, run: JobRun, step: Wait, now: datetime) -> bool:
        if run.unlisted and step.phase is Phase.PENDING:
            return True
        self._progress(run, now)
        run.job = jobstatus.waiting(run.job, step, now)
        if step.phase is Phase.PENDING and not run.written.conditions and step.until is not None:
            # Files and jobs are applied together: what is missing is mostly there a moment later.
            run.unsettled = now - run.job.metadata.creation_timestamp < self._settling
            if run.unsettled:
                return True
        await self._write(run)
        await self._tell_submitted(run)
        return True

    async def _finish(self, run: JobRun, step: Finish, now: datetime) -> bool:
        self._progress(run, now)
        run.job = jobstatus.finished(run.job, step, now)
        await self._write(run)
        await self._tell_submitted(run)
        await self._reporter.finished(run.job, step)
        await self._collection.tidy(run)
        return True

    def _progress(self, run: JobRun, now: datetime) -> None:
        if run.observed.totals is None:
            batches = [seen.batch if seen.ours else None for seen in run.observed.shards]
            self._catch_up(run, now)
            if any(annotated(run.job, shard.index).batch_id for shard in shards(run.job)):
                run.job = jobstatus.progressed(run.job, batches, now)

    def _catch_up(self, run: JobRun, now: datetime) -> None:
        """Take up batches that only annotations know: the process ended before it wrote status, or status was lost."""
        for shard, seen in zip(shards(run.job), run.observed.shards, strict=False):
            route = annotated(run.job, shard.index).deployment
            if shard.batch_id is None and seen.batch is not None and seen.ours and route:
                run.job = jobstatus.resubmitted(run.job, shard.index, route, seen.batch, now)
                run.submitted_now.append(shard.index)

    async def _tell_submitted(self, run: JobRun) -> None:
        for shard in run.submitted_now:
            await self._reporter.submitted(run.job, shard)
        run.submitted_now.clear()

    async def _write(self, run: JobRun) -> None:
        interval = self._accounts.progress_interval
        if jobstatus.worth_writing(run.written, run.job.status, now=self._clock.now(), progress_interval=interval):
            await self._store(run)

    async def _store(self, run: JobRun) -> None:
        at_version = jobstatus.records_anew(run.written, run.job.status)
        run.job = await self._writer.status(run.job, run.job.status.wire(), at_version=at_version)
        run.written = run.job.status

    async def _delete_outputs(self, run: JobRun) -> None:
        batches = tuple(seen.batch for seen in run.observed.shards if seen.batch)
        try:
            await self._collection.delete_outputs(run.job, batches, cleaning_up=True)
        except LLMBatchError as error:
            problem = Problem(error.reason, error.message)
            for shard in shards(run.job):
                run.see(shard.index, problem=problem)
        else:
            for shard in shards(run.job):
                run.see(shard.index, cancel_accepted=True, problem=None)

    async def _await_clean_up(self, run: JobRun, step: AwaitCleanUp, now: datetime) -> bool:
        run.job = jobstatus.deletion_waits(run.job, step.message, now)
        if run.job.status != run.written:
            await self._store(run)
        return True

    async def _release(self, run: JobRun, step: Release) -> bool:
        if step.abandoned:
            await self._abandonment.tell(run.job, f"its batch or result files at the provider ({step.abandoned})")
        if run.job.spec.deletion_policy == "Retain":
            self._leave(run)
        await self._writer.release(run.job)
        return True

    def _leave(self, run: JobRun) -> None:
        """The job's batch stays, for the next job of its name."""
        meta, lookup = run.job.metadata, run.observed.shards[0].lookup
        record = recorded(run.job, shards(run.job)[0])
        batch_id = lookup.found.id if lookup and lookup.found else record.batch_id
        if record.deployment and batch_id:
            self._accounts.leave(record.deployment, meta.namespace, meta.name, batch_id)


class Overtaken(LLMBatchError):
    """Others write the job faster than it is decided upon; the queue tries again with backoff."""
