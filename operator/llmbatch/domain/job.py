"""The life of a job: what one reconcile must do next, decided from what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from llmbatch.api.batchjob import BatchJob, Phase, Shard
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import FAULT, QUOTA, sooner
from llmbatch.domain.deletion import deleted
from llmbatch.domain.failures import Fault, classify
from llmbatch.domain.jobrecord import holds_finalizer, recorded, shards, trace
from llmbatch.domain.remote import BatchState, RemoteBatch
from llmbatch.domain.results import Totals
from llmbatch.domain.routing import Eligible, NoRoute, eligible
from llmbatch.domain.steps import (
    Acknowledge,
    Adopt,
    AwaitQuota,
    Begin,
    CancelBatch,
    Close,
    Collect,
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
from llmbatch.domain.trace import Trace

AUTH_GRACE = timedelta(minutes=10)
"""How long a create may be answered with 401 before the job fails."""
READ_AGAIN = timedelta(seconds=30)
"""How soon a missing object is looked at again when nothing wakes the job first."""

# --- the decision -------------------------------------------------------------------------------------------------


def next_step(job: BatchJob, seen: Observed, now: datetime) -> Step:
    """What one reconcile of a job must do next. The first rule that speaks wins."""
    for rule in (deleted, repaired, finished, pending, running, ended):
        if step := rule(job, seen, now):
            return step
    return unsubmitted(job, seen, now)


def deadline(job: BatchJob, now: datetime) -> datetime | None:
    """When the job must end: activeDeadlineSeconds from creation, suspended time not counted."""
    if job.spec.active_deadline_seconds is None:
        return None
    suspended = timedelta(seconds=job.status.suspended_seconds or 0)
    if job.status.suspended_time is not None:
        suspended += max(timedelta(0), now - job.status.suspended_time)
    return job.metadata.creation_timestamp + timedelta(seconds=job.spec.active_deadline_seconds) + suspended


def stop(job: BatchJob, now: datetime) -> Finish | None:
    """How the job ends if it must be ended before its batch does."""
    if job.spec.cancel:
        return Finish(Phase.CANCELLED, Reason.CANCELLED, "cancelled by spec.cancel")
    limit = deadline(job, now)
    if limit is not None and now >= limit:
        return Finish(
            Phase.FAILED,
            Reason.DEADLINE_EXCEEDED,
            f"not finished within activeDeadlineSeconds ({job.spec.active_deadline_seconds}); "
            "make a new job with a longer deadline",
        )
    return None


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


def _is_current(record: Trace, seen: Observed, shard: Shard) -> bool:
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
        record = trace(job, shard.index)
        if record.pending is None or shard.batch_id:
            continue
        held = stop(job, now) is not None or job.spec.suspend
        if known.fresh:
            return Withdraw(shard.index) if held else Create(shard.index, record.pending)
        if known.problem:
            return Wait(Phase.SUBMITTING, known.problem.reason, known.problem.message, now + READ_AGAIN)
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
        record = trace(job, shard.index)
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
            phase = job.status.phase if job.status.shards else Phase.SUBMITTING
            if known.problem:
                return Wait(phase, known.problem.reason, known.problem.message, now + READ_AGAIN)
            return Poll(shard.index, record.deployment, record.batch_id)
        if not known.ours:
            return Withdraw(shard.index)
        if not known.batch.state.terminal:
            return _follow(job, shard, record, known, now)
    return None


def _follow(job: BatchJob, shard: Shard, record: Trace, known: ShardSeen, now: datetime) -> Step:
    assert known.batch is not None
    assert record.deployment is not None
    halt = stop(job, now)
    cancelling = known.batch.state is BatchState.CANCELLING or known.cancel_accepted
    if halt and not cancelling and known.problem is None:
        return CancelBatch(shard.index, record.deployment, known.batch.id)
    if halt and not cancelling and known.problem is not None:
        return Wait(Phase.CANCELLING, known.problem.reason, known.problem.message, now + READ_AGAIN)
    if cancelling:
        return Wait(Phase.CANCELLING, Reason.CANCELLING, f"waits for {record.deployment} to end the batch")
    return Wait(
        PHASES[known.batch.state],
        Reason.RUNNING,
        f"batch {known.batch.id} is {known.batch.state.value} on {record.deployment}",
        deadline(job, now),
    )


def ended(job: BatchJob, seen: Observed, now: datetime) -> Step | None:
    """A batch that ended is collected; one that failed is sorted by whose fault it was."""
    batches = [known.batch for known in seen.shards if known.batch is not None]
    if not batches or any(trace(job, shard.index).batch_id is None for shard in shards(job)):
        return None
    for shard, batch in zip(shards(job), batches, strict=False):
        if batch.state is BatchState.FAILED and not batch.output_file_id:
            return _failed(job, shard, batch, now)
    if seen.collect_problem:
        return Wait(Phase.COLLECTING, seen.collect_problem.reason, seen.collect_problem.message)
    if seen.totals is None:
        return Collect(tuple(batches))
    if seen.output_problem:
        return Finish(Phase.FAILED, seen.output_problem.reason, seen.output_problem.message)
    return _outcome(job, batches, seen.totals, now)


def _failed(job: BatchJob, shard: Shard, batch: RemoteBatch, now: datetime) -> Step:
    verdict = classify(batch.errors)
    if halt := stop(job, now):
        return halt
    if verdict.fault is Fault.INPUT:
        return Finish(Phase.FAILED, Reason.BATCH_FAILED, verdict.message)
    counted = verdict.fault is not Fault.QUOTA
    if counted and shard.failures >= job.spec.backoff_limit:
        return Finish(
            Phase.FAILED,
            Reason.BACKOFF_LIMIT_EXCEEDED,
            f"{verdict.message}; {shard.failures + 1} batches failed and backoffLimit is {job.spec.backoff_limit}",
        )
    quota = verdict.fault is Fault.QUOTA
    return Close(
        shard.index,
        Reason.QUOTA if quota else Reason.BATCH_FAILED,
        verdict.message,
        counted=counted,
        refused=quota,
        input_lost=verdict.fault is Fault.INPUT_LOST,
        retry_after=FAULT.wait(shard.failures + 1) if verdict.fault is Fault.SERVICE else timedelta(0),
    )


def _outcome(job: BatchJob, batches: Sequence[RemoteBatch], totals: Totals, now: datetime) -> Finish:
    done, failed = totals.lines_ok, totals.lines_failed
    states = {batch.state for batch in batches}
    if BatchState.FAILED in states:
        message = next(classify(batch.errors).message for batch in batches if batch.state is BatchState.FAILED)
        return Finish(Phase.FAILED, Reason.BATCH_FAILED, f"{message}; {done} requests were answered before")
    if BatchState.EXPIRED in states:
        return Finish(
            Phase.EXPIRED,
            Reason.EXPIRED,
            f"the completion window ended with {done} requests answered and {failed} not; "
            "run those of errors.jsonl again in a new BatchFile",
        )
    if BatchState.CANCELLED in states:
        halt = stop(job, now)
        how = halt.message if halt else "the batch was cancelled at the provider"
        message = f"{how}; {done} requests were answered before"
        return Finish(halt.phase if halt else Phase.CANCELLED, halt.reason if halt else Reason.CANCELLED, message)
    if not totals.lines:
        message = "the provider says that the batch is completed, but it gives no results; look there for its files"
        return Finish(Phase.FAILED, Reason.RESULTS_LOST, message)
    if failed and not done:
        return Finish(
            Phase.FAILED, Reason.ALL_REQUESTS_FAILED, f"all {failed} requests failed; see why in errors.jsonl"
        )
    if failed:
        message = f"{done} requests answered, {failed} failed; see why in errors.jsonl"
        return Finish(Phase.SUCCEEDED, Reason.COMPLETED_WITH_FAILURES, message)
    return Finish(Phase.SUCCEEDED, Reason.COMPLETED, f"{done} requests answered")


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
        if shard.unauthorized_since and now - shard.unauthorized_since >= AUTH_GRACE:
            return Finish(
                Phase.FAILED,
                Reason.UNAUTHORIZED,
                f"every create was refused for {AUTH_GRACE.seconds // 60} minutes; mend the key of the deployment's "
                "Secret and make a new job",
            )
        if shard.retry_time and now < shard.retry_time:
            return Wait(
                Phase.PENDING, *_why_waiting(job, shard), sooner(shard.retry_time, deadline(job, now))
            )  # fmt: skip
        return _route(job, shard, seen, now)
    raise AssertionError("a job has at least one shard")


def _input(job: BatchJob, file: FileSeen | None, now: datetime) -> Step | None:
    name = job.spec.input_file_ref.name
    again = sooner(now + READ_AGAIN, deadline(job, now))
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
            return AwaitQuota(shard.index, message, QUOTA.wait((shard.waits or 0) + 1))
        case NoRoute(reason, message):
            return Wait(Phase.PENDING, reason, message, sooner(now + READ_AGAIN, deadline(job, now)))


def _why_waiting(job: BatchJob, shard: Shard) -> tuple[Reason, str]:
    again = f"tried again at {shard.retry_time:%H:%M:%S} UTC"
    if not job.status.attempts:
        return Reason.BACKOFF, again
    last = job.status.attempts[-1]
    return Reason.of(last.result), f"{last.reason}; {again}"
