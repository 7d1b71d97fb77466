"""Exactly once: recording a create before the provider is asked, making it, and finding it when the answer was lost.

1. One patch with the resourceVersion sets the route and ``create-pending`` and removes ``batch-id``.
2. The batch is created with its tag, with no retry below. The answer to that patch is the job as it is now, so it is
   not read again.
3. One patch sets ``batch-id`` and removes ``create-pending``.

A process that finds a pending create that it did not record itself never creates at once: the batch is looked for by
its tag, and made only when it is surely absent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from llmbatch.api import BatchJob, ModelDeployment, names
from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import (
    LLMBatchError,
    NotFound,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unauthorized,
)
from llmbatch.domain.file.rules import lasts
from llmbatch.domain.job import status as jobstatus
from llmbatch.domain.job.record import Pending, ShardRecord, annotated, next_attempt, shards
from llmbatch.domain.job.routing import Candidate, WeightedChoice
from llmbatch.domain.job.rules import AUTH_GRACE, denied
from llmbatch.domain.job.steps import Adopt, Begin, Create, Finish, LookFor, Lookup, Problem, Repair, Withdraw
from llmbatch.domain.remote import RemoteBatch, Tag
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key
from llmbatch.kube.client import Kube
from llmbatch.kube.errors import Conflict, Gone
from llmbatch.reconcile.accounts.accounts import Accounts
from llmbatch.reconcile.index.index import Index, deployment_key
from llmbatch.reconcile.jobs.run import JobRun, tag_of
from llmbatch.reconcile.jobs.uncertain_creates import Attempt, UncertainCreate, UncertainCreates
from llmbatch.reconcile.writer import Writer

logger = logging.getLogger(__name__)

FRESH_COPY = timedelta(seconds=30)
"""A copy that was uploaded this recently need not be asked about before it is used."""
RECORD_TRIES = 20


class Superseded(Exception):
    """The job changed under way: this reconcile ends, the next one decides anew."""


class Submission:
    """Carries out the steps around a batch's creation."""

    def __init__(
        self,
        kube: Kube,
        writer: Writer,
        accounts: Accounts,
        index: Index,
        clock: Clock,
        *,
        cluster: str,
        certainty: timedelta,
        again: timedelta,
        wake: Callable[[Key], None],
    ) -> None:
        self._kube = kube
        self._writer = writer
        self._accounts = accounts
        self._index = index
        self._clock = clock
        self._cluster = cluster
        self._certainty = certainty.total_seconds()
        self._again = again
        self._wake = wake
        self._choice = WeightedChoice()
        self._fresh: set[tuple[str, int, Pending]] = set()
        self._uncertain = UncertainCreates()

    def is_fresh(self, job: BatchJob, shard: int) -> bool:
        """Whether this process recorded the pending create and has not sent it."""
        pending = annotated(job, shard).pending
        return pending is not None and (job.metadata.uid, shard, pending) in self._fresh

    def forget_gone(self) -> None:
        """A job is gone: keep nothing of those that are."""
        self._fresh = {fresh for fresh in self._fresh if self._index.is_live(fresh[0])}
        for gone in self._uncertain.forget(self._index.is_live):
            self._accounts.stop_seeking(gone.route, gone.uid, gone.shard, gone.number)

    async def begin(self, run: JobRun, step: Begin) -> None:
        """Choose, take up headroom, and record the create."""
        assert run.observed.file is not None
        model = run.job.status.model_name or ""
        # No await between the choice and the reservation: two workers must not fill the same headroom.
        chosen = self._choice.choose(model, self._with_room(run, step))
        self._index.reserve(run.key, chosen.deployment, run.observed.file.tokens)
        pending = Pending(step.attempt, chosen.deployment, self._now(), chosen.file_id)
        try:
            await self._record(run, step.shard, ShardRecord().begun(pending))
        except BaseException:
            self._index.release(run.key)
            raise
        self._fresh.add((run.job.metadata.uid, step.shard, pending))
        run.see(step.shard, fresh=True, lookup=None)

    def _with_room(self, run: JobRun, step: Begin) -> list[Candidate]:
        """The candidates that have headroom now: other jobs may have taken it since it was observed."""
        assert run.observed.file is not None
        found = []
        for candidate in step.candidates:
            active, enqueued = self._index.load(candidate.deployment)
            found.append(replace(candidate, active=active, enqueued=enqueued))
        roomy = [candidate for candidate in found if candidate.has_headroom(run.observed.file.tokens)]
        if not roomy:
            raise Superseded
        return roomy

    async def withdraw(self, run: JobRun, step: Withdraw) -> None:
        """Take back a create that had no effect, or an id that is not ours."""
        pending = annotated(run.job, step.shard).pending
        await self._record(run, step.shard, ShardRecord())
        self._settle(run.job, step.shard, pending)
        run.job = jobstatus.withdrawn(run.job, step.shard)
        if jobstatus.records(run.written, step.shard):
            # Status is believed before annotations: left there, it would be put back over the next record.
            await self._write(run)
        run.forget(step.shard)

    async def repair(self, run: JobRun, step: Repair) -> None:
        """Put back what the job's metadata must hold."""
        await self._record(run, step.shard, step.record)
        logger.warning("finalizer or annotations put back", extra={"fields": run.key._asdict()})

    async def create(self, run: JobRun, step: Create) -> Finish | None:
        """Create the batch; answers how the job ends where the provider will never take it."""
        deployment = self._index.deployments.get(deployment_key(step.pending.deployment))
        file_id = step.pending.input_file_id
        if deployment is None or file_id is None:
            await self.withdraw(run, Withdraw(step.shard))
            return None
        fresh = (run.job.metadata.uid, step.shard, step.pending)
        try:
            if not await self._copy_is_there(run, deployment, file_id):
                await self._lost_input(run, step)
                return None
        except LLMBatchError as error:
            return await self._not_created(run, step, error)
        endpoint = run.job.spec.endpoint or (run.observed.file.endpoint if run.observed.file else None) or ""
        # From here on the provider may know of the batch, whatever happens to this process.
        self._fresh.discard(fresh)
        run.see(step.shard, fresh=False)
        try:
            batch = await self._accounts.call(
                deployment,
                lambda provider: provider.create_batch(
                    input_file_id=file_id,
                    endpoint=provider.capabilities.batch_endpoint(endpoint),
                    completion_window=run.job.spec.completion_window,
                    metadata=self._metadata(run.job, step),
                ),
            )
        except LLMBatchError as error:
            if isinstance(error, ProviderError) and not error.certain:
                self._uncertain_create(run.job, step.shard, step.pending)
                message = f"the create on {step.pending.deployment} was not answered ({error.message})"
                logger.warning("%s", message, extra={"fields": run.key._asdict()})
                run.job = jobstatus.in_doubt(run.job, step.shard, step.pending)
                run.see(step.shard, lookup=Lookup(until=self._now() + self._again))
                return None
            return await self._not_created(run, step, error)
        await self.adopt(run, Adopt(step.shard, step.pending.deployment, batch))
        return None

    async def look_for(self, run: JobRun, step: LookFor) -> None:
        """Look for the batch of a create whose answer was lost."""
        pending = step.pending
        if not pending.deployment:
            # Garbage: what this operator writes names a deployment, and status would remember it.
            run.see(step.shard, lookup=Lookup(absent=True))
            return
        deployment = self._index.deployments.get(deployment_key(pending.deployment))
        run.job = jobstatus.in_doubt(run.job, step.shard, pending)
        if deployment is None:
            message = f"ModelDeployment {pending.deployment} is gone; its account may hold the job's batch"
            run.see(step.shard, problem=Problem(Reason.DEPLOYMENT_NOT_FOUND, message))
            return
        doubt = self._uncertain_create(run.job, step.shard, pending)
        tag = tag_of(run.job, self._cluster, step.shard, pending.attempt)
        deleting = run.job.metadata.deletion_timestamp is not None
        try:
            seen = await self._accounts.seek(
                deployment,
                tag,
                job=run.key,
                not_before=min(doubt.wanted_from(self._certainty), self._clock.monotonic()),
                cleaning_up=deleting,
            )
        except LLMBatchError as error:
            run.see(step.shard, problem=Problem(error.reason, error.message))
            return
        again = self._now() + self._again
        if seen is None:
            run.see(step.shard, lookup=Lookup(until=again))
            return
        if ours := _ours(seen.found, tag, pending):
            run.see(step.shard, lookup=Lookup(found=ours))
            return
        if seen.unreadable:
            message = (
                f"{pending.deployment} lists a batch that may be this job's, without an id to follow it by; none is"
                f" made meanwhile: look there for the metadata {names.TAG_UID} {tag.uid}"
            )
            run.see(step.shard, problem=Problem(Reason.PROVIDER_ERROR, message))
            return
        absent = doubt.is_absent(seen, self._certainty)
        run.see(step.shard, lookup=Lookup(absent=absent, until=None if absent else again))

    async def adopt(self, run: JobRun, step: Adopt) -> None:
        """Record the batch: from here on it is never made again."""
        uid, pending = run.job.metadata.uid, annotated(run.job, step.shard).pending
        for _ in range(RECORD_TRIES):
            try:
                await self._record(run, step.shard, ShardRecord(deployment=step.deployment, batch_id=step.batch.id))
                break
            except Conflict:
                # Somebody annotated the job meanwhile; the batch exists all the same.
                stored = await self._kube.get(BatchJob, run.key.namespace, run.key.name)
                if stored is None or stored.metadata.uid != uid:
                    await self._discard(run, step)
                    raise Superseded from None
                run.stored(stored)
            except Gone:
                await self._discard(run, step)
                raise
        else:
            raise Superseded
        self._settle(run.job, step.shard, pending)
        tag = Tag.of(step.batch.metadata)
        attempt = pending.attempt if pending else tag.attempt if tag and tag.uid == uid else 1
        run.job = jobstatus.submitted(run.job, step.shard, step.deployment, step.batch, self._now(), attempt=attempt)
        self._accounts.learn(step.deployment, step.batch)
        self._accounts.follow(step.deployment)
        run.see(step.shard, fresh=False, lookup=None, orphan=None, batch=step.batch, ours=True, unknown=False)
        run.submitted_now.append(step.shard)

    async def _discard(self, run: JobRun, step: Adopt) -> None:
        """The job went while its batch was made, which nobody would ever see: try to cancel it."""
        tag = Tag.of(step.batch.metadata)
        deployment = self._index.deployments.get(deployment_key(step.deployment))
        if run.job.spec.deletion_policy == "Retain" or deployment is None or tag is None:
            return
        if tag.uid != run.job.metadata.uid:
            return
        try:
            await self._accounts.call(
                deployment, lambda provider: provider.cancel_batch(step.batch.id), cleaning_up=True
            )
        except LLMBatchError as error:
            fields = {**run.key._asdict(), "deployment": step.deployment, "batch_id": step.batch.id}
            logger.warning("the batch of a job that is gone runs on: %s", error.message, extra={"fields": fields})

    # --- how --------------------------------------------------------------------------------------------------

    async def _record(self, run: JobRun, shard: int, record: ShardRecord) -> None:
        """One patch with the resourceVersion; raises Conflict where the job is not as it was read."""
        finalizers = run.job.metadata.finalizers
        has_record = record.pending is not None or record.batch_id is not None
        if has_record and names.FINALIZER not in finalizers and run.job.metadata.deletion_timestamp is None:
            finalizers = [*finalizers, names.FINALIZER]
        run.stored(await self._writer.metadata(run.job, annotations=record.annotations(shard), finalizers=finalizers))

    async def _write(self, run: JobRun) -> None:
        """The status in the middle of a reconcile; raises Conflict where the job is not as it was read."""
        run.job = await self._writer.status(run.job, run.job.status.wire(), at_version=True)
        run.written = run.job.status

    async def _copy_is_there(self, run: JobRun, deployment: ModelDeployment, file_id: str) -> bool:
        """Whether the provider still has the input for long enough: some accept a create without it, and fail later."""
        uploaded = run.uploads.get(file_id)
        if uploaded is not None and self._now() - uploaded < FRESH_COPY:
            return True
        try:
            copy = await self._accounts.call(deployment, lambda provider: provider.get_file(file_id))
        except NotFound:
            return False
        return lasts(copy.created_at, copy.expires_at, self._now())

    async def _lost_input(self, run: JobRun, step: Create) -> None:
        await self.withdraw(run, Withdraw(step.shard))
        self.suspect(run, step.pending.deployment, step.pending.input_file_id)

    def suspect(self, run: JobRun, route: str, file_id: str | None) -> None:
        """A deployment turned out not to hold the job's input any more: have it uploaded again."""
        file = self._index.jobs[run.key].file
        self._index.suspects[(file, route)] = file_id or ""
        logger.warning("the copy of %s on %s is gone or about to expire; it is uploaded again", file, route)
        self._wake(file)
        run.without_copy(route)

    async def _not_created(self, run: JobRun, step: Create, error: LLMBatchError) -> Finish | None:
        """The provider surely made nothing: take the record back, and decide whether and where to try again."""
        now, route = self._now(), step.pending.deployment
        await self.withdraw(run, Withdraw(step.shard))
        if isinstance(error, NotFound) or (isinstance(error, Refused) and error.code in _LOST):
            self.suspect(run, route, step.pending.input_file_id)
        job = jobstatus.record_attempt(run.job, step.shard, route, error.reason, error.message, now)
        shard = shards(job)[step.shard]
        changes: dict[str, object] = {"attempt": next_attempt(shard.attempt), "unauthorized_since": None}
        since = shard.unauthorized_since or now
        match error:
            case Unauthorized() | PermissionDenied() if now - since >= AUTH_GRACE:
                run.job = job
                return denied(job)
            case Refused():
                run.job = job
                return Finish(
                    Phase.FAILED,
                    Reason.BATCH_REFUSED,
                    f"{route} refused the batch: {error.message}; mend it in a new job",
                )
            case Unauthorized() | PermissionDenied():
                changes["unauthorized_since"] = since
                changes["refused_by"] = [*shard.refused_by, route][-64:]
            case RateLimited() | QuotaExceeded():
                changes["refused_by"] = [*shard.refused_by, route][-64:]
                run.retry_after = error.retry_after
            case _:
                changes["refused_by"] = [*shard.refused_by, route][-64:]
        run.job = jobstatus.with_shard(job, step.shard, **changes)
        return None

    def _metadata(self, job: BatchJob, step: Create) -> dict[str, str]:
        tag = tag_of(job, self._cluster, step.shard, step.pending.attempt)
        return {**job.spec.metadata, **tag.metadata()}

    def _uncertain_create(self, job: BatchJob, shard: int, pending: Pending) -> UncertainCreate:
        return self._uncertain.of(Attempt.of(job.metadata.uid, shard, pending), self._clock.monotonic())

    def _settle(self, job: BatchJob, shard: int, pending: Pending | None) -> None:
        if pending is None:
            return
        self._fresh.discard((job.metadata.uid, shard, pending))
        self._uncertain.settle(Attempt.of(job.metadata.uid, shard, pending))
        self._accounts.stop_seeking(pending.deployment, job.metadata.uid, shard, pending.attempt)

    def _now(self) -> datetime:
        return self._clock.now().replace(microsecond=0)


_UNKNOWN_TIME = datetime.max.replace(tzinfo=UTC)
_LOST = frozenset({"file_not_found", "input_file_not_found"})


def _ours(found: Sequence[RemoteBatch], tag: Tag, pending: Pending) -> RemoteBatch | None:
    """The batch of this very attempt: our tag and our input file; the oldest, if there are several."""
    matching = [
        batch
        for batch in found
        if Tag.of(batch.metadata) == tag and pending.input_file_id in (None, batch.input_file_id)
    ]
    return min(matching, key=lambda batch: (batch.created_at or _UNKNOWN_TIME, batch.id), default=None)
