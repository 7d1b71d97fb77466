"""The record of a job's batches: where each is or may be.

It lives in annotations (``Trace``) and is mirrored in status. A status that names a batch wins over annotations, which
people copy, replace and forge; annotations win where status knows nothing, as after a restore.
"""

from __future__ import annotations

from llmbatch.api import names
from llmbatch.api.batchjob import BatchJob, Phase, Shard
from llmbatch.domain.trace import Pending, Trace


def shards(job: BatchJob) -> list[Shard]:
    """The job's shards; one as long as inputs are not divided."""
    return list(job.status.shards) or [Shard(index=0)]


def trace(job: BatchJob, shard: int) -> Trace:
    """The annotations of one shard."""
    return Trace.read(job.metadata.annotations, shard, created=job.metadata.creation_timestamp)


def recorded(job: BatchJob, shard: Shard) -> Trace:
    """Where a shard's batch is or may be: status where it knows, since people edit annotations, else these."""
    record = trace(job, shard.index)
    if shard.deployment is None:
        return record
    route = f"{shard.deployment.namespace}/{shard.deployment.name}"
    if shard.batch_id:
        return Trace(deployment=route, batch_id=shard.batch_id)
    doubt = Pending(shard.attempt, route, job.metadata.creation_timestamp, shard.input_file_id)
    known = record.pending and (record.pending.attempt, record.pending.deployment) == (doubt.attempt, route)
    if shard.phase is Phase.SUBMITTING and not record.batch_id and not known:
        return Trace().begun(doubt)
    return record


def holds_finalizer(job: BatchJob) -> bool:
    """Whether the job's deletion waits for the operator."""
    return names.FINALIZER in job.metadata.finalizers
