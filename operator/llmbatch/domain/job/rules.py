"""The life of a job: what one reconcile must do next, decided from what was seen."""

from __future__ import annotations

from datetime import datetime, timedelta

from llmbatch.api.batchjob import BatchJob, Phase, Shard
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import QUOTA, sooner, spread
from llmbatch.domain.job.deletion import deleted
from llmbatch.domain.job.ending import ended
from llmbatch.domain.job.failures import enqueued_limit
from llmbatch.domain.job.record import ShardRecord, annotated, holds_finalizer, recorded, shards
from llmbatch.domain.job.routing import Eligible, NoRoute, eligible
from llmbatch.domain.job.steps import (
    Acknowledge,
    Adopt,
    AwaitQuota,
    Begin,
    CancelBatch,
    Create,
    DeleteJob,
    FileSeen,
    Finish,
    Idle,
    LookFor,
    Observed,
    Poll,
    Repair,
    ShardSeen,
    Step,
    Wait,
    Withdraw,
)
from llmbatch.domain.job.stopping import READ_AGAIN, cancelling, deadline, stop, unanswered
from llmbatch.domain.remote import BatchState

AUTH_GRACE = timedelta(minutes=10)
"""How long a create may be answered with 401 before the job fails."""

LOOK_AGAIN = timedelta(minutes=5)
"""How soon a job looks again for what it will be told of: thousands may wait for the same deployment."""
TOLD = frozenset({Reason.NO_HEADROOM, Reason.NO_READY_DEPLOYMENT})

FOLLOW_AGAIN = timedelta(minutes=15)
"""A job is woken when its account tells of a change to its batch, and looks this often all the same."""

# --- the decision -------------------------------------------------------------------------------------------------


def next_step(job: BatchJob, seen: Observed, now: datetime) -> Step:
    """What one reconcile of a job must do next. The first rule that speaks wins."""
    for rule in (deleted, repaired, finished, pending, running, ended):
        if step := rule(job, seen, now):
            return step
    return unsubmitted(job, seen, now)


def repaired(job: BatchJob, seen: Observed, now: datetime) -> Step | None:
    """Put back what a ``kubectl replace`` dropped and what was changed by hand."""
    for shard in shards(job):
        record = recorded(job, shard)
        if record.pending and record.deployment != record.pending.deployment:
            record = record.begun(record.pending)
        elif record.pending and record.batch_id:
            record = record.created(record.batch_id) if _is_current(record, seen, shard) else record
        has_record = record.pending is not None or record.batch_id is not None
        lost_finalizer = has_record and not holds_finalizer(job)
        if has_record and (lost_finalizer or record.differs(job.metadata.annotations, shard.index)):
            return Repair(shard.index, record)
    return None


def _is_current(record: ShardRecord, seen: Observed, shard: Shard) -> bool:
    # Both a pending create and an id: whichever write came last removed the other, so a person put one of them there.
    # The id is believed only when the provider shows our tag on it.
    known = seen.shards[shard.index]
    return known.batch is not None and known.ours and known.batch.id == record.batch_id


def finished(job: BatchJob, seen: Observed, now: datetime) -> Step | None:
    """A finished job does nothing but delete itself in time."""
    if not job.status.phase.finished:
        return None
    if job.status.observed_generation != job.metadata.generation:
        # kstatus, and so Argo CD, takes a status of an older generation for one that is not done.
        return Acknowledge()
    ttl, end = job.spec.ttl_seconds_after_finished, job.status.completion_time
    if ttl is None or end is None:
        return Idle()
    expiry = end + timedelta(seconds=ttl)
    return DeleteJob() if now >= expiry else Idle(until=expiry)


def pending(job: BatchJob, seen: Observed, now: datetime) -> Step | None:
    """A recorded create is carried out once; if its answer was lost, its batch is looked for."""
    for shard, known in zip(shards(job), seen.shards, strict=False):
        record = annotated(job, shard.index)
        if record.pending is None or shard.batch_id:
            continue
        held = stop(job, now) is not None or job.spec.suspend
        if known.fresh:
            return Withdraw(shard.index) if held else Create(shard.index, record.pending)
        if known.problem:
            left = f"the batch that may have been made on {record.pending.deployment}"
            return unanswered(job, Phase.SUBMITTING, known.problem, left, now)
        if known.lookup is None:
            return LookFor(shard.index, record.pending)
        if known.lookup.found:
            return Adopt(shard.index, record.pending.deployment, known.lookup.found)
        if known.lookup.absent:
            # Routed anew, for the record may be a forgery that names a deployment or a file of somebody else.
            return Withdraw(shard.index)
        return Wait(
            Phase.SUBMITTING,
            Reason.CREATING,
            f"the create on {record.pending.deployment} was not answered; its batch is looked for first",
            known.lookup.until,
        )
    return None


PHASES = {
    BatchState.VALIDATING: Phase.VALIDATING,
    BatchState.IN_PROGRESS: Phase.IN_PROGRESS,
    BatchState.FINALIZING: Phase.FINALIZING,
    BatchState.CANCELLING: Phase.CANCELLING,
}


def running(job: BatchJob, seen: Observed, now: datetime) -> Step | None:
    """A batch that runs is followed where it runs, and cancelled when the job must stop."""
    for shard, known in zip(shards(job), seen.shards, strict=False):
        record = annotated(job, shard.index)
        if record.batch_id is None or record.deployment is None:
            continue
        if known.unknown:
            return Finish(
                Phase.FAILED,
                Reason.BATCH_NOT_FOUND,
                f"{record.deployment} does not know batch {record.batch_id}; it was deleted there or the annotation is "
                f"wrong; make a new job",
            )
        if known.batch is None:
            if known.problem:
                phase = job.status.phase if shard.batch_id else Phase.SUBMITTING
                left = f"batch {record.batch_id} on {record.deployment}"
                return unanswered(job, phase, known.problem, left, now)
            return Poll(shard.index, record.deployment, record.batch_id)
        if not known.ours:
            return Withdraw(shard.index)
        if not known.batch.state.terminal:
            return _follow(job, shard, record, known, now)
    return None


def _follow(job: BatchJob, shard: Shard, record: ShardRecord, known: ShardSeen, now: datetime) -> Step:
    assert known.batch is not None
    assert record.deployment is not None
    route, batch = record.deployment, known.batch
    if batch.state is BatchState.CANCELLING or known.cancel_accepted:
        return cancelling(job, route, batch.id, now)
    if stop(job, now):
        if known.problem is None:
            return CancelBatch(shard.index, route, batch.id)
        return unanswered(job, Phase.CANCELLING, known.problem, f"batch {batch.id} on {route}", now)
    state = batch.state.value
    if batch.unknown_state:
        state = f"in a state that is not known here, {batch.unknown_state}, and counts as {state}"
    return Wait(
        PHASES[batch.state],
        Reason.RUNNING,
        f"batch {batch.id} is {state} on {route}",
        sooner(now + FOLLOW_AGAIN, deadline(job, now)),
    )


def unsubmitted(job: BatchJob, seen: Observed, now: datetime) -> Step:
    """A job without a batch waits for all it needs, in any order of creation, and is then routed."""
    if halt := stop(job, now):
        return halt
    if job.spec.suspend:
        return Wait(Phase.SUSPENDED, Reason.SUSPENDED, "held by spec.suspend; set it to false to run the job")
    if step := _input(job, seen.file, now):
        return step
    for shard, known in zip(shards(job), seen.shards, strict=False):
        if known.orphan:
            return Adopt(shard.index, *known.orphan)

        if shard.retry_time and now < shard.retry_time:
            return Wait(
                Phase.PENDING, *_why_waiting(job, shard, seen.file), sooner(shard.retry_time, deadline(job, now))
            )  # fmt: skip
        return _route(job, shard, seen, now)
    raise AssertionError("a job has at least one shard")


def _input(job: BatchJob, file: FileSeen | None, now: datetime) -> Step | None:
    name = job.spec.input_file_ref.name
    again = _again(job, READ_AGAIN, now)
    if file is None:
        return Wait(Phase.PENDING, Reason.INPUT_FILE_NOT_FOUND, f"waits for BatchFile {name}: it does not exist", again)
    if file.valid is False:
        return Finish(
            Phase.FAILED,
            Reason.INPUT_FILE_INVALID,
            f"BatchFile {name} is invalid: {file.message}; see its status.errors, mend it under a new name",
        )
    if file.valid is None:
        message = f"waits for BatchFile {name} to be validated" + (f": {file.message}" if file.message else "")
        return Wait(Phase.PENDING, Reason.INPUT_FILE_NOT_READY, message, again)
    wanted = job.spec.target_model_name
    if wanted is None and len(file.models) > 1:
        return Finish(
            Phase.FAILED,
            Reason.TARGET_MODEL_AMBIGUOUS,
            f"BatchFile {name} has {len(file.models)} models; name one in spec.targetModelName of a new job",
        )
    if wanted is not None and wanted not in file.models:
        return Finish(
            Phase.FAILED,
            Reason.TARGET_MODEL_UNKNOWN,
            f"BatchFile {name} does not target model {wanted}; name one of its targetModelNames in a new job",
        )
    if job.spec.endpoint and file.endpoint and job.spec.endpoint != file.endpoint:
        return Finish(
            Phase.FAILED,
            Reason.ENDPOINT_MISMATCH,
            f"spec.endpoint is {job.spec.endpoint} but the lines' URL is {file.endpoint}; make a new job without it",
        )
    return None


def model_of(job: BatchJob, file: FileSeen) -> str:
    """The public model that the job runs on."""
    return job.spec.target_model_name or file.models[0]


def _route(job: BatchJob, shard: Shard, seen: Observed, now: datetime) -> Step:
    assert seen.file is not None
    pin = job.spec.deployment_ref
    found = eligible(
        seen.candidates,
        model=model_of(job, seen.file),
        tokens=seen.file.tokens,
        pin=f"{pin.namespace}/{pin.name}" if pin else None,
        refused_by=shard.refused_by,
    )
    match found:
        case Eligible(candidates):
            return Begin(shard.index, shard.attempt, candidates)
        case NoRoute(reason=Reason.QUOTA, message=message):
            limit = _too_small_for(job, shard, seen.file.tokens)
            if limit and (shard.waits or 0) >= job.spec.backoff_limit:
                return Finish(Phase.FAILED, Reason.LIMIT_EXCEEDED, _too_large(seen.file.tokens, limit))
            return AwaitQuota(shard.index, message, QUOTA.wait((shard.waits or 0) + 1))
        case NoRoute(reason=Reason.NO_READY_DEPLOYMENT) if _unauthorized_for_long(shard, now):
            return denied(job)
        case NoRoute(reason, message):
            told = reason in TOLD and all(candidate.asked for candidate in seen.candidates)
            return Wait(Phase.PENDING, reason, message, _again(job, LOOK_AGAIN if told else READ_AGAIN, now))


def _again(job: BatchJob, wait: timedelta, now: datetime) -> datetime:
    return sooner(now + spread(wait, job.metadata.uid, share=0.5), deadline(job, now))


def denied(job: BatchJob) -> Finish:
    """How a job ends whose creates were refused for too long, for the key or for what the account may do."""
    last = job.status.attempts[-1] if job.status.attempts else None
    reason = Reason.of(last.result) if last else Reason.UNAUTHORIZED
    advice = "mend the key of the deployment's Secret"
    if reason is Reason.PERMISSION_DENIED:
        advice = "have the account's owner allow it, or use another deployment"
    grace = AUTH_GRACE.seconds // 60
    why = f" ({last.reason})" if last else ""
    message = f"every create was refused for {grace} minutes{why}; {advice}, and make a new job"
    return Finish(Phase.FAILED, reason, message)


def _too_small_for(job: BatchJob, shard: Shard, tokens: int) -> int | None:
    """The highest limit of enqueued tokens of the deployments that refused the job, where the file is above all of
    them: no wait makes room for it."""
    limits = [
        enqueued_limit(
            attempt.reason
            for attempt in job.status.attempts
            if f"{attempt.deployment.namespace}/{attempt.deployment.name}" == route
        )
        for route in shard.refused_by
    ]
    known = [limit for limit in limits if limit is not None and limit < tokens]
    return max(known) if known and len(known) == len(limits) else None


def _too_large(tokens: int, limit: int) -> str:
    return (
        f"the file has about {tokens} tokens, but the provider takes {limit} enqueued tokens in all; divide the file, "
        "or have the limit raised, and make a new job"
    )


def _unauthorized_for_long(shard: Shard, now: datetime) -> bool:
    return shard.unauthorized_since is not None and now - shard.unauthorized_since >= AUTH_GRACE


def _why_waiting(job: BatchJob, shard: Shard, file: FileSeen | None) -> tuple[Reason, str]:
    again = f"tried again at {shard.retry_time:%H:%M:%S} UTC"
    if not job.status.attempts:
        return Reason.BACKOFF, again
    last = job.status.attempts[-1]
    limit, tokens = enqueued_limit([last.reason]), file.tokens if file else 0
    why = _too_large(tokens, limit) if limit is not None and limit < tokens else last.reason
    return Reason.of(last.result), f"{why}; {again}"
