"""The deletion of a job: what must be cleaned up at the provider before it may go."""

from __future__ import annotations

from datetime import datetime, timedelta

from llmbatch.api.batchjob import BatchJob, Phase, Shard
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import sooner
from llmbatch.domain.job.record import Pending, holds_finalizer, recorded, shards
from llmbatch.domain.job.steps import (
    AwaitCleanUp,
    CancelBatch,
    DeleteOutputs,
    Idle,
    LookFor,
    Observed,
    Poll,
    Release,
    ShardSeen,
    Step,
    Wait,
)
from llmbatch.domain.remote import BatchState, RemoteBatch

CLEAN_UP_AGAIN = timedelta(seconds=3)
"""How soon a clean-up is tried again that holds up a deletion."""


def deleted(job: BatchJob, seen: Observed, now: datetime) -> Step | None:
    """Deletion needs the cancel accepted, not ended; what can't be reached is given up after a while."""
    if job.metadata.deletion_timestamp is None:
        return None
    if not holds_finalizer(job):
        return Idle()
    for shard, known in zip(shards(job), seen.shards, strict=False):
        step = _cleanup(job, shard, known)
        if step is None:
            continue
        if not isinstance(step, Wait):
            return step
        if seen.give_up_at is None or now < seen.give_up_at:
            return AwaitCleanUp(step.message, sooner(step.until or now + CLEAN_UP_AGAIN, seen.give_up_at))
        return Release(abandoned=step.message or "the provider did not answer in time")
    return Release()


def _cleanup(job: BatchJob, shard: Shard, known: ShardSeen) -> Step | None:
    record = recorded(job, shard)
    route, batch_id = record.deployment, record.batch_id
    batch = known.batch
    if record.pending and not batch_id:
        if known.fresh or (known.lookup and known.lookup.absent):
            return None
        batch = known.lookup.found if known.lookup else None
        if batch is None:
            return _look(shard, record.pending, known)
        route, batch_id = record.pending.deployment, batch.id
    if job.spec.deletion_policy == "Retain":
        return None
    if not batch_id or not route or known.unknown or not known.ours:
        return None
    if known.problem and known.problem.reason is Reason.DEPLOYMENT_NOT_FOUND and job.status.phase.finished:
        # Nothing runs any more, and nobody can be asked. What was delivered was most likely deleted there then.
        return None if job.status.output else Release(abandoned=known.problem.message)
    if known.problem:
        return Wait(Phase.CANCELLING, known.problem.reason, known.problem.message)
    if job.status.phase.finished or (batch is not None and batch.state.terminal):
        return None if known.cancel_accepted or not _may_have_outputs(job, batch) else DeleteOutputs()
    if known.cancel_accepted or (batch is not None and batch.state is BatchState.CANCELLING):
        return None
    if batch is None:
        return Poll(shard.index, route, batch_id)
    return CancelBatch(shard.index, route, batch_id)


def _look(shard: Shard, pending: Pending, known: ShardSeen) -> Step:
    """A batch that may have been made is looked for, to be cancelled or to be left to the next job of this name."""
    if known.problem:
        return Wait(Phase.CANCELLING, known.problem.reason, known.problem.message)
    if known.lookup:
        message = "it is not sure yet whether its batch was made"
        return Wait(Phase.CANCELLING, Reason.CREATING, message, known.lookup.until)
    return LookFor(shard.index, pending)


def _may_have_outputs(job: BatchJob, batch: RemoteBatch | None) -> bool:
    known = batch or job.status
    return bool(known.output_file_id or known.error_file_id)
