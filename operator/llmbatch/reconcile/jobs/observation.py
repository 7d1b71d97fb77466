"""Observing a job: its batch as the provider last told of it, its input, and the deployments that could run it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from llmbatch.api import BatchFile, BatchJob
from llmbatch.api.batchfile import CopyState
from llmbatch.api.reasons import ConditionType
from llmbatch.domain.conditions import condition
from llmbatch.domain.errors import LLMBatchError
from llmbatch.domain.file.status import is_validated
from llmbatch.domain.job import status as jobstatus
from llmbatch.domain.job.record import annotated, shards
from llmbatch.domain.job.routing import Candidate
from llmbatch.domain.job.rules import model_of
from llmbatch.domain.job.steps import FileSeen
from llmbatch.domain.remote import BatchState, RemoteBatch, Tag
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key
from llmbatch.kube.client import Kube
from llmbatch.reconcile.abandonment import Abandonment
from llmbatch.reconcile.accounts.accounts import Accounts, NotListed
from llmbatch.reconcile.deployments.tenancy import Tenancy
from llmbatch.reconcile.files.inputs import form_of
from llmbatch.reconcile.files.recent import RecentFiles
from llmbatch.reconcile.index.index import Index, deployment_key, key_of, route_of
from llmbatch.reconcile.jobs.run import JobRun
from llmbatch.reconcile.jobs.submission import Submission

ADOPTABLE = frozenset({BatchState.VALIDATING, BatchState.IN_PROGRESS, BatchState.FINALIZING, BatchState.COMPLETED})

JUST_APPLIED = timedelta(seconds=1)
"""Files and jobs are applied together; a job this young is not worth a look at a file that was not validated yet."""


class Observation:
    """Sees all that a decision about a job needs; a provider is asked only whether it has a batch of an earlier job."""

    def __init__(
        self,
        kube: Kube,
        accounts: Accounts,
        index: Index,
        tenancy: Tenancy,
        submission: Submission,
        abandonment: Abandonment,
        clock: Clock,
        *,
        cluster: str,
        lag: timedelta,
    ) -> None:
        self._files = RecentFiles(kube, index)
        self._accounts = accounts
        self._index = index
        self._tenancy = tenancy
        self._submission = submission
        self._abandonment = abandonment
        self._clock = clock
        self._cluster = cluster
        self._lag = lag.total_seconds()

    async def observe(self, run: JobRun) -> None:
        """Take in everything that is known before the first step."""
        job = run.job
        for shard in shards(job):
            record = annotated(job, shard.index)
            batch_id, route = shard.batch_id or record.batch_id, record.deployment
            if shard.batch_id and shard.deployment:
                route = f"{shard.deployment.namespace}/{shard.deployment.name}"
            if record.pending and not shard.batch_id:
                run.see(shard.index, fresh=self._submission.is_fresh(job, shard.index))
            if batch_id and route and not job.status.phase.finished:
                self.see_batch(run, shard.index, route, batch_id, self._accounts.batch(route, batch_id))
        if job.metadata.deletion_timestamp is not None:
            run.observed = replace(run.observed, give_up_at=await self._abandonment.due(job))
        elif not job.status.phase.finished:
            await self.observe_input(run)

    def see_batch(self, run: JobRun, shard: int, route: str, batch_id: str, batch: RemoteBatch | None) -> None:
        """Take in what was last told of a shard's batch, or that the provider does not know it."""
        unknown_for = self._accounts.unknown_for(route, batch_id)
        if unknown_for is not None and self.is_lost(run.job, shard, unknown_for):
            run.see(shard, unknown=True)
        elif batch is not None:
            self._see(run, shard, batch)

    def _see(self, run: JobRun, shard: int, batch: RemoteBatch) -> None:
        run.see(shard, batch=batch, ours=self._is_ours(run.job, shard, batch), unknown=False)

    def is_lost(self, job: BatchJob, shard: int, unknown_for: float) -> bool:
        """Whether a 404 is an answer: shortly after a create it is a lag, and later a slip may last for minutes."""
        created = shards(job)[shard].submit_time
        age = (self._clock.now() - created).total_seconds() if created else unknown_for
        return min(age, unknown_for) >= self._lag

    def _is_ours(self, job: BatchJob, shard: int, batch: RemoteBatch) -> bool:
        """Whether a batch was made for this job: by its UID, or by its name and of its input where that UID is of no
        live job. What status says counts for a batch without a tag only."""
        known, meta = shards(job)[shard], job.metadata
        confirmed, tag = known.batch_id == batch.id, Tag.of(batch.metadata)
        if tag is None:
            return confirmed
        if tag.shard != shard:
            return False
        if tag.uid == meta.uid:
            return tag.attempt >= known.attempt
        same_name = (tag.cluster, tag.namespace, tag.name) == (self._cluster, meta.namespace, meta.name)
        if not same_name or self._index.is_live(tag.uid):
            return False
        copies = self._index.copies_of(key_of(job))
        # A copy may have been replaced since the batch was adopted.
        return confirmed or not copies or batch.input_file_id in copies

    async def observe_input(self, run: JobRun) -> None:
        """The file and the deployments; only a job without a batch needs them."""
        job = run.job
        if all(annotated(job, shard.index).batch_id for shard in shards(job)) and job.status.model_name:
            return
        key = Key(BatchFile.KIND, job.metadata.namespace, job.spec.input_file_ref.name)
        known = self._index.files.get(key)
        young = self._clock.now() - job.metadata.creation_timestamp < JUST_APPLIED
        if young and known is not None and known.valid is None and not known.deleting:
            # Applied together: the file's validation wakes the job, which says nothing until then.
            run.observed = replace(run.observed, file=FileSeen(valid=None))
            return
        file = await self._files.get(key)
        if file is None or _came_too_late(job, file):
            return
        seen = _file_seen(file)
        run.observed = replace(run.observed, file=seen)
        wanted = job.spec.target_model_name
        if seen.valid and (wanted in seen.models if wanted else len(seen.models) == 1):
            model = model_of(job, seen)
            run.job = jobstatus.expecting(job, model, seen)
            run.uploads = {
                copy.file_id: copy.upload_time
                for entry in file.status.deployments
                for copy in entry.files
                if copy.file_id and copy.upload_time
            }
            candidates = await self._candidates(run.job, file, model)
            run.observed = replace(run.observed, candidates=candidates)
            await self._observe_orphans(run)

    async def _candidates(self, job: BatchJob, file: BatchFile, model: str) -> tuple[Candidate, ...]:
        entries = {f"{entry.namespace}/{entry.name}": entry for entry in file.status.deployments}
        found = []
        for deployment in await self._tenancy.deployments_for([model], job.metadata.namespace):
            route = route_of(deployment)
            entry = entries.get(route)
            copy = entry.files[0].file_id if entry and entry.state is CopyState.PROCESSED and entry.files else None
            if entry is not None and entry.form != form_of(deployment):
                copy = None
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

    async def _observe_orphans(self, run: JobRun) -> None:
        """Batches that were made for this job's name by a job that is gone (deletionPolicy Retain, a restore), or for
        this job itself when its annotations were lost.

        A deployment whose account cannot say whether it has such a batch takes no work.
        """
        if annotated(run.job, 0).pending or annotated(run.job, 0).batch_id or run.job.status.attempts:
            return
        known = []
        for candidate in run.observed.candidates:
            try:
                batch = await self._orphan(run.job, candidate)
            except NotListed:
                run.unlisted = True
                known.append(replace(candidate, ready=False, asked=False))
                continue
            except LLMBatchError:
                known.append(replace(candidate, ready=False, asked=False))
                continue
            known.append(candidate)
            if batch is not None:
                run.see(0, orphan=(candidate.deployment, batch))
        run.observed = replace(run.observed, candidates=tuple(known))

    async def _orphan(self, job: BatchJob, candidate: Candidate) -> RemoteBatch | None:
        deployment = self._index.deployments.get(deployment_key(candidate.deployment))
        if deployment is None or candidate.file_id is None or not candidate.ready:
            return None
        batch = await self._accounts.stray(deployment, key_of(job))
        if batch is None or batch.input_file_id != candidate.file_id or batch.state not in ADOPTABLE:
            return None
        return batch if self._is_ours(job, 0, batch) else None


def _came_too_late(job: BatchJob, file: BatchFile) -> bool:
    """Whether the file was being deleted before the job was made, which therefore means another one of that name."""
    deleted = file.metadata.deletion_timestamp
    return deleted is not None and deleted < job.metadata.creation_timestamp


def _file_seen(file: BatchFile) -> FileSeen:
    """The file as a job needs it. One that is being deleted still serves: its deletion waits for its jobs."""
    validated = condition(file.status.conditions, ConditionType.VALIDATED)
    known = validated is not None and is_validated(file)
    valid = {"True": True, "False": False}.get(validated.status) if validated and known else None
    return FileSeen(
        valid=valid,
        message=validated.message if validated and not valid else "",
        models=file.spec.target_model_names,
        endpoint=file.status.endpoint,
        tokens=file.status.estimated_input_tokens or 0,
        requests=file.status.requests or 0,
        custom_id_digest=file.status.custom_id_digest,
    )
