"""Reconciling BatchJobs: observe, decide, act, and write the status once at the end."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from llmbatch.api import BatchFile, BatchJob, names
from llmbatch.api.batchfile import CopyState
from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain import jobstatus
from llmbatch.domain.conditions import condition
from llmbatch.domain.errors import LLMBatchError, NotFound
from llmbatch.domain.file import is_validated
from llmbatch.domain.job import model_of, next_step, shards, trace
from llmbatch.domain.remote import BatchState, RemoteBatch, Tag
from llmbatch.domain.routing import Candidate
from llmbatch.domain.steps import (
    Adopt,
    AwaitQuota,
    Begin,
    CancelBatch,
    Close,
    Collect,
    Create,
    DeleteJob,
    DeleteOutputs,
    FileSeen,
    Finish,
    Idle,
    LookFor,
    Observed,
    Poll,
    Problem,
    Release,
    Renew,
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
from llmbatch.reconcile.accounts import Accounts
from llmbatch.reconcile.collection import Collection
from llmbatch.reconcile.index import Index, deployment_key, key_of, route_of
from llmbatch.reconcile.jobrun import JobRun
from llmbatch.reconcile.submission import Submission, Superseded
from llmbatch.reconcile.tenancy import Tenancy
from llmbatch.reconcile.writer import Writer

logger = logging.getLogger(__name__)

MOST_STEPS = 40
"""A job never needs more in one go; a loop would be a mistake of ours."""
ADOPTABLE = frozenset({BatchState.VALIDATING, BatchState.IN_PROGRESS, BatchState.FINALIZING, BatchState.COMPLETED})


class Telling(Protocol):
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
        tenancy: Tenancy,
        submission: Submission,
        collection: Collection,
        abandonment: Abandonment,
        telling: Telling,
        clock: Clock,
        *,
        cluster: str,
        lag: timedelta,
        settling: timedelta,
        retry_scale: float = 1.0,
    ) -> None:
        self._kube = kube
        self._writer = writer
        self._accounts = accounts
        self._index = index
        self._tenancy = tenancy
        self._submission = submission
        self._collection = collection
        self._abandonment = abandonment
        self._telling = telling
        self._clock = clock
        self._cluster = cluster
        self._lag = lag.total_seconds()
        self._settling = settling
        self._retry_scale = retry_scale

    async def reconcile(self, key: Key) -> Requeue | None:
        """One look at a job."""
        job = await self._kube.get(BatchJob, key.namespace, key.name)
        if job is None:
            return None
        self._index.put(job)
        run = JobRun(job, job.status, Observed(shards=tuple(ShardSeen() for _ in shards(job))))
        try:
            await self._observe(run)
            return await self._steps(run)
        except (Superseded, Conflict):
            return Requeue(0.05)
        except Gone:
            return None
        finally:
            if job.metadata.deletion_timestamp and names.FINALIZER not in run.job.metadata.finalizers:
                self._submission.forget(job.metadata.uid)

    async def _steps(self, run: JobRun) -> Requeue | None:
        for _ in range(MOST_STEPS):
            now = self._clock.now()
            step = next_step(run.job, run.observed, now)
            done = await self._act(run, step, now)
            if isinstance(done, Finish):
                step, done = done, await self._act(run, done, now)
            if done is not None:
                return self._requeue(step, run)
        raise RuntimeError("a job took too many steps")

    def _requeue(self, step: Step, run: JobRun) -> Requeue | None:
        if run.unsettled:
            return Requeue(self._settling.total_seconds())
        until = step.until if isinstance(step, (Wait, Idle)) else None
        if isinstance(step, Wait) and step.phase is Phase.COLLECTING:
            raise Unfinished(step.message)
        if isinstance(step, Finish) and run.job.spec.ttl_seconds_after_finished is not None:
            return Requeue(float(run.job.spec.ttl_seconds_after_finished))
        if until is None:
            return None
        return Requeue(max(0.05, (until - self._clock.now()).total_seconds()))

    # --- observe ----------------------------------------------------------------------------------------------

    async def _observe(self, run: JobRun) -> None:
        job = run.job
        for shard in shards(job):
            record = trace(job, shard.index)
            batch_id, route = shard.batch_id or record.batch_id, record.deployment
            if shard.batch_id and shard.deployment:
                route = f"{shard.deployment.namespace}/{shard.deployment.name}"
            if record.pending and not shard.batch_id:
                run.see(shard.index, fresh=self._submission.is_fresh(job, shard.index))
            if batch_id and route and not job.status.phase.finished:
                self._see_batch(run, shard.index, route, batch_id, self._accounts.batch(route, batch_id))
        if job.metadata.deletion_timestamp is not None:
            patience = await self._abandonment.patience(job.metadata.namespace)
            run.observed = replace(run.observed, give_up_after=patience)
        elif not job.status.phase.finished:
            await self._observe_input(run)

    def _see_batch(self, run: JobRun, shard: int, route: str, batch_id: str, batch: RemoteBatch | None) -> None:
        if batch is None:
            unknown_for = self._accounts.unknown_for(route, batch_id)
            if unknown_for is not None:
                run.see(shard, unknown=self._is_lost(run.job, shard, unknown_for))
            return
        run.see(shard, batch=batch, ours=self._is_ours(run.job, shard, batch), unknown=False)

    def _is_lost(self, job: BatchJob, shard: int, unknown_for: float) -> bool:
        """Whether a 404 is an answer: shortly after a create it is a lag."""
        created = shards(job)[shard].submit_time
        age = (self._clock.now() - created).total_seconds() if created else unknown_for
        return age >= self._lag and unknown_for >= min(self._lag, 5.0)

    def _is_ours(self, job: BatchJob, shard: int, batch: RemoteBatch) -> bool:
        """Whether a batch was made for this job: by its UID, or by its name where that UID is of no live job."""
        known = shards(job)[shard]
        if known.batch_id == batch.id:
            return True
        tag, meta = Tag.of(batch.metadata), job.metadata
        if tag is None or tag.shard != shard:
            return False
        if tag.uid == meta.uid:
            return tag.attempt >= known.attempt
        same_name = (tag.cluster, tag.namespace, tag.name) == (self._cluster, meta.namespace, meta.name)
        return same_name and not self._index.is_live(tag.uid)

    async def _observe_input(self, run: JobRun) -> None:
        """The file and the deployments; only a job without a batch needs them."""
        job = run.job
        if all(trace(job, shard.index).batch_id for shard in shards(job)) and job.status.model_name:
            return
        file = await self._kube.get(BatchFile, job.metadata.namespace, job.spec.input_file_ref.name)
        if file is None or file.metadata.deletion_timestamp is not None:
            return
        invalid = condition(file.status.conditions, ConditionType.VALIDATED)
        valid = None if not is_validated(file) or invalid is None else invalid.status == "True"
        seen = FileSeen(
            valid=valid,
            message=invalid.message if invalid and not valid else "",
            models=file.spec.target_model_names,
            endpoint=file.status.endpoint,
            tokens=file.status.estimated_input_tokens or 0,
        )
        run.observed = replace(run.observed, file=seen)
        wanted = job.spec.target_model_name
        if valid and (wanted in file.spec.target_model_names if wanted else len(file.spec.target_model_names) == 1):
            model = model_of(job, seen)
            run.job = jobstatus.with_status(job, model_name=model)
            run.uploads = {
                copy.file_id: copy.upload_time
                for entry in file.status.deployments
                for copy in entry.files
                if copy.file_id and copy.upload_time
            }
            candidates = await self._candidates(run.job, file, model)
            run.observed = replace(run.observed, candidates=candidates)
            self._observe_orphans(run, candidates)

    async def _candidates(self, job: BatchJob, file: BatchFile, model: str) -> tuple[Candidate, ...]:
        entries = {f"{entry.namespace}/{entry.name}": entry for entry in file.status.deployments}
        found = []
        for deployment in await self._tenancy.deployments_for([model], job.metadata.namespace):
            route = route_of(deployment)
            entry = entries.get(route)
            copy = entry.files[0].file_id if entry and entry.state is CopyState.PROCESSED and entry.files else None
            if copy is not None and self._index.suspects.get((key_of(file), route)) == copy:
                copy = None
            active, enqueued = self._index.load(route)
            found.append(
                Candidate(
                    deployment=route,
                    weight=deployment.spec.weight,
                    ready=self._tenancy.unusable(deployment) is None,
                    suspended=deployment.spec.suspend,
                    file_id=copy,
                    file_error=entry.error or "" if entry else "",
                    active=active,
                    enqueued=enqueued,
                    max_active=deployment.spec.limits.max_active_batches,
                    max_enqueued=deployment.spec.limits.max_enqueued_tokens,
                )
            )
        return tuple(found)

    def _observe_orphans(self, run: JobRun, candidates: tuple[Candidate, ...]) -> None:
        """Batches that were made for this job's name by a job that is gone (deletionPolicy Retain, a restore), or for
        this job itself when its annotations were lost."""
        meta = run.job.metadata
        if trace(run.job, 0).pending or trace(run.job, 0).batch_id or run.job.status.attempts:
            return
        for candidate in candidates:
            for batch in self._accounts.strays(candidate.deployment, meta.namespace, meta.name):
                fits = batch.input_file_id == candidate.file_id and batch.state in ADOPTABLE
                if fits and candidate.file_id and self._is_ours(run.job, 0, batch):
                    run.see(0, orphan=(candidate.deployment, batch))
                    return

    # --- act --------------------------------------------------------------------------------------------------

    async def _act(self, run: JobRun, step: Step, now: datetime) -> Finish | bool | None:
        """Carry out a step: None to go on, True when this reconcile is over, Finish when the job is."""
        match step:
            case Wait():
                return await self._wait(run, step, now)
            case Finish():
                return await self._finish(run, step, now)
            case Idle():
                return True
            case Poll():
                return await self._poll(run, step)
            case CancelBatch():
                return await self._cancel(run, step)
            case Begin():
                return await self._submission.begin(run, step)
            case Create():
                return await self._submission.create(run, step)
            case Adopt():
                return await self._submission.adopt(run, step)
            case LookFor():
                return await self._submission.look_for(run, step)
            case Renew():
                return await self._submission.renew(run, step)
            case Withdraw():
                return await self._submission.withdraw(run, step)
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
            case Release():
                return await self._release(run, step)
            case DeleteJob():
                await self._kube.delete(run.job)
                return True

    async def _poll(self, run: JobRun, step: Poll) -> None:
        deployment = self._index.deployments.get(deployment_key(step.deployment))
        if deployment is None:
            message = f"ModelDeployment {step.deployment} does not exist; the batch cannot be followed"
            run.see(step.shard, problem=Problem(Reason.DEPLOYMENT_NOT_FOUND, message))
            return
        deleting = run.job.metadata.deletion_timestamp is not None
        try:
            batch = await self._accounts.call(
                deployment, lambda provider: provider.get_batch(step.batch_id), cleaning_up=deleting
            )
        except NotFound as error:
            self._accounts.missed(step.deployment, step.batch_id)
            unknown_for = self._accounts.unknown_for(step.deployment, step.batch_id) or 0.0
            lost = self._is_lost(run.job, step.shard, unknown_for)
            run.see(step.shard, unknown=lost, problem=None if lost else Problem(error.reason, _LAG))
        except LLMBatchError as error:
            run.see(step.shard, problem=Problem(error.reason, error.message))
        else:
            self._accounts.learn(step.deployment, batch)
            self._accounts.follow(step.deployment)
            self._see_batch(run, step.shard, step.deployment, step.batch_id, batch)

    async def _cancel(self, run: JobRun, step: CancelBatch) -> None:
        deployment = self._index.deployments.get(deployment_key(step.deployment))
        if deployment is None:
            run.see(
                step.shard,
                problem=Problem(Reason.DEPLOYMENT_NOT_FOUND, f"ModelDeployment {step.deployment} does not exist"),
            )
            return
        deleting = run.job.metadata.deletion_timestamp is not None
        try:
            batch = await self._accounts.call(
                deployment, lambda provider: provider.cancel_batch(step.batch_id), cleaning_up=deleting
            )
        except NotFound:
            run.see(step.shard, cancel_accepted=deleting, problem=None)
            if not deleting:
                run.see(step.shard, problem=Problem(Reason.BATCH_NOT_FOUND, _LAG))
        except LLMBatchError as error:
            run.see(step.shard, problem=Problem(error.reason, error.message))
        else:
            self._accounts.learn(step.deployment, batch)
            run.see(step.shard, batch=batch, cancel_accepted=not batch.state.terminal)

    async def _close(self, run: JobRun, step: Close, now: datetime) -> None:
        """End an attempt: first in status, so that a crash never leaves an old batch as the current one."""
        record = trace(run.job, step.shard)
        if step.input_lost and record.deployment:
            file_id = shards(run.job)[step.shard].input_file_id or ""
            file = self._index.jobs[run.key].file
            self._index.suspects[(file, record.deployment)] = file_id
            run.without_copy(record.deployment)
            self._tenancy.wake(file)
        scaled = replace(step, retry_after=step.retry_after * self._retry_scale)
        run.job = jobstatus.closed(run.job, scaled, now)
        await self._telling.closed(run.job, step)
        run.job = jobstatus.waiting(run.job, Wait(Phase.PENDING, step.result, step.message), now)
        await self._write(run)
        await self._submission.withdraw(run, Withdraw(step.shard))
        await self._observe_input(run)

    async def _wait(self, run: JobRun, step: Wait, now: datetime) -> bool:
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
        self._progress(run, now, final=True)
        run.job = jobstatus.finished(run.job, step, now)
        await self._write(run)
        await self._tell_submitted(run)
        await self._telling.finished(run.job, step)
        await self._collection.tidy(run)
        return True

    def _progress(self, run: JobRun, now: datetime, *, final: bool = False) -> None:
        if run.observed.totals is None or not final:
            batches = [seen.batch if seen.ours else None for seen in run.observed.shards]
            if any(trace(run.job, shard.index).batch_id for shard in shards(run.job)):
                run.job = jobstatus.progressed(run.job, batches, now)

    async def _tell_submitted(self, run: JobRun) -> None:
        for shard in run.submitted_now:
            await self._telling.submitted(run.job, shard)
        run.submitted_now.clear()

    async def _write(self, run: JobRun) -> None:
        interval = self._accounts.progress_interval
        if jobstatus.worth_writing(run.written, run.job.status, now=self._clock.now(), progress_interval=interval):
            run.job = await self._writer.status(run.job, run.job.status.wire())
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

    async def _release(self, run: JobRun, step: Release) -> bool:
        if step.abandoned:
            await self._abandonment.tell(run.job, f"its batch or result files at the provider ({step.abandoned})")
        left = [finalizer for finalizer in run.job.metadata.finalizers if finalizer != names.FINALIZER]
        await self._writer.metadata(run.job, finalizers=left)
        return True


class Unfinished(LLMBatchError):
    """Results could not be brought home just now; the queue tries again with backoff."""


_LAG = "the provider does not know the batch yet"
