"""The record of a job's batches: where each is or may be.

It lives in annotations (``Trace``) and is mirrored in status. A status that names a batch wins over annotations, which
people copy, replace and forge; annotations win where status knows nothing, as after a restore.
"""

from __future__ import annotations

from collections.abc import Callable

from llmbatch.api import names
from llmbatch.api.batchjob import BatchJob, Phase, Shard
from llmbatch.domain.trace import Pending, Trace


def shards(job: BatchJob) -> list[Shard]:
    """The job's shards; one as long as inputs are not divided."""
    return list(job.status.shards) or [Shard(index=0)]


def trace(job: BatchJob, shard: int) -> Trace:
    """The annotations of one shard."""
    return Trace.read(job.metadata.annotations, shard, created=job.metadata.creation_timestamp)


def credible(job: BatchJob, may_use: Callable[[str], bool]) -> BatchJob:
    """The job without the record of a shard that names a deployment which it may not use.

    Anybody can write such annotations, and they would spend the key, the headroom and the rate limits of another
    tenant. A route that status confirms is the operator's own, as after a namespace is no longer shared.
    """
    forged = list[str]()
    for shard in shards(job):
        record = trace(job, shard.index)
        routes = {record.deployment, record.pending.deployment if record.pending else None} - {None, "", _route(shard)}
        if not all(may_use(route) for route in routes if route):
            forged += record.annotations(shard.index)
    if not forged:
        return job
    annotations = {name: value for name, value in job.metadata.annotations.items() if name not in forged}
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"annotations": annotations})})


def recorded(job: BatchJob, shard: Shard) -> Trace:
    """Where a shard's batch is or may be: status where it knows, since people edit annotations, else these."""
    record = trace(job, shard.index)
    route = _route(shard)
    if route is None:
        return record
    if shard.batch_id:
        return Trace(deployment=route, batch_id=shard.batch_id)
    doubt = Pending(shard.attempt, route, job.metadata.creation_timestamp, shard.input_file_id)
    known = record.pending and (record.pending.attempt, record.pending.deployment) == (doubt.attempt, route)
    if shard.phase is Phase.SUBMITTING and not record.batch_id and not known:
        return Trace().begun(doubt)
    return record


def _route(shard: Shard) -> str | None:
    return f"{shard.deployment.namespace}/{shard.deployment.name}" if shard.deployment else None


def holds_finalizer(job: BatchJob) -> bool:
    """Whether the job's deletion waits for the operator."""
    return names.FINALIZER in job.metadata.finalizers
