"""A job's status as a value: what each step leaves to be told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from llmbatch.api.base import NamespacedReference
from llmbatch.api.batchjob import Attempt, BatchJob, BatchJobStatus, CollectedOutput, Phase, RequestCounts, Shard
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.backoff import spread, whole
from llmbatch.domain.conditions import ConditionSet, condition
from llmbatch.domain.job.record import Pending, annotated, next_attempt, shards
from llmbatch.domain.job.rules import PHASES
from llmbatch.domain.job.steps import AwaitQuota, Close, FileSeen, Finish, Wait
from llmbatch.domain.remote import Counts, RemoteBatch, Tag
from llmbatch.domain.results.counting import Totals

KEPT_ATTEMPTS = 10
RUNNING = frozenset({Phase.VALIDATING, Phase.IN_PROGRESS, Phase.FINALIZING})


def reference(route: str) -> NamespacedReference:
    """``namespace/name`` as a reference."""
    namespace, name = route.split("/", 1)
    return NamespacedReference(namespace=namespace, name=name)


def with_status(job: BatchJob, **changes: Any) -> BatchJob:
    """The job with parts of its status replaced."""
    return job.model_copy(update={"status": job.status.model_copy(update=changes)})


def with_shard(job: BatchJob, index: int, **changes: Any) -> BatchJob:
    """The job with parts of one shard replaced; the first shard is mirrored at the top of status."""
    made = [shard.model_copy(update=changes) if shard.index == index else shard for shard in shards(job)]
    first = made[0]
    return with_status(
        job,
        shards=made,
        deployment=first.deployment,
        batch_id=first.batch_id,
        input_file_id=first.input_file_id,
        output_file_id=first.output_file_id,
        error_file_id=first.error_file_id,
    )


def submitted(job: BatchJob, index: int, route: str, batch: RemoteBatch, now: datetime, *, attempt: int) -> BatchJob:
    """The job after its batch was created or adopted.

    Who refused it is not forgotten: a batch that was taken may fail for want of room, and the wait goes on doubling.
    """
    job = with_shard(
        job,
        index,
        deployment=reference(route),
        batch_id=batch.id,
        input_file_id=batch.input_file_id,
        attempt=attempt,
        phase=Phase.VALIDATING,
        submit_time=batch.created_at or now.replace(microsecond=0),
        retry_time=None,
        unauthorized_since=None,
    )
    return with_status(job, start_time=job.status.start_time or now, last_poll_time=now)


def resubmitted(job: BatchJob, index: int, route: str, batch: RemoteBatch, now: datetime) -> BatchJob:
    """The job whose annotations name a batch that its status does not; the batch's tag says which attempt it is."""
    tag = Tag.of(batch.metadata)
    attempt = tag.attempt if tag and tag.uid == job.metadata.uid else 1
    return submitted(job, index, route, batch, now, attempt=attempt)


def expecting(job: BatchJob, model: str, file: FileSeen) -> BatchJob:
    """The job with the model it runs on, and how many requests of which ids its file has: such results are expected."""
    if job.status.request_counts is None and file.requests:
        job = with_status(job, request_counts=RequestCounts(total=file.requests), progress=f"0/{file.requests}")
    return with_status(job, model_name=model, custom_id_digest=file.custom_id_digest)


def in_doubt(job: BatchJob, index: int, pending: Pending) -> BatchJob:
    """The job while nobody knows whether its batch was made; annotations alone could be dropped."""
    return with_shard(
        job,
        index,
        deployment=reference(pending.deployment),
        input_file_id=pending.input_file_id,
        attempt=pending.attempt,
        phase=Phase.SUBMITTING,
    )


def records(status: BatchJobStatus, index: int) -> bool:
    """Whether a status says that a shard has a batch, or may have one."""
    return any(
        shard.index == index and (shard.batch_id is not None or shard.phase is Phase.SUBMITTING)
        for shard in status.shards
    )


def withdrawn(job: BatchJob, index: int) -> BatchJob:
    """The job after a create turned out to have had no effect, or its batch to be another job's. What comes next is
    another attempt."""
    shard = shards(job)[index]
    if not records(job.status, index):
        return job
    return with_shard(
        job,
        index,
        deployment=None,
        batch_id=None,
        input_file_id=None,
        output_file_id=None,
        error_file_id=None,
        attempt=next_attempt(shard.attempt),
        phase=Phase.PENDING,
        request_counts=None,
        submit_time=None,
    )


def progressed(job: BatchJob, batches: Sequence[RemoteBatch | None], now: datetime) -> BatchJob:
    """The job with what the provider last told of its batches."""
    seen = [batch for batch in batches if batch is not None]
    if not seen:
        return job
    for index, batch in enumerate(batches):
        if batch is not None:
            job = with_shard(
                job,
                index,
                batch_id=batch.id,
                input_file_id=batch.input_file_id or shards(job)[index].input_file_id,
                output_file_id=batch.output_file_id,
                error_file_id=batch.error_file_id,
                phase=PHASES.get(batch.state, shards(job)[index].phase),
                request_counts=_counts([batch.counts]),
            )
    counts = _counts([batch.counts for batch in seen])
    # A provider that has not read its input yet counts nothing; the file's own number stays.
    known = job.status.request_counts.total if job.status.request_counts else 0
    counts = counts.model_copy(update={"total": max(known, counts.total)})
    done = counts.completed + counts.failed
    return with_status(job, request_counts=counts, progress=f"{done}/{counts.total}", last_poll_time=now)


def _counts(parts: Sequence[Counts]) -> RequestCounts:
    return RequestCounts(
        total=sum(part.total for part in parts),
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts),
    )


def collected(job: BatchJob, totals: Totals, output: CollectedOutput | None) -> BatchJob:
    """The job with its results counted, priced and delivered. The lines outrank the provider's own counts."""
    before = job.status.request_counts or RequestCounts()
    lines = totals.lines_ok + totals.lines_failed
    total = max(before.total, lines)
    counts = RequestCounts(total=total, completed=totals.lines_ok, failed=totals.lines_failed)
    return with_status(
        job,
        request_counts=counts,
        progress=f"{lines}/{total}",
        usage=totals.usage,
        cost=totals.cost,
        output=output,
    )


def closed(job: BatchJob, step: Close, now: datetime) -> BatchJob:
    """The job after an attempt failed; the next one begins on a clean record."""
    shard = shards(job)[step.shard]
    record = annotated(job, step.shard)
    route = record.deployment or ""
    if shard.deployment:
        route = f"{shard.deployment.namespace}/{shard.deployment.name}"
    job = record_attempt(job, step.shard, route, step.result, step.message, now)
    job = with_status(job, request_counts=None, progress=None)
    return with_shard(
        job,
        step.shard,
        deployment=None,
        batch_id=None,
        input_file_id=None,
        output_file_id=None,
        error_file_id=None,
        attempt=next_attempt(shard.attempt),
        failures=shard.failures + (1 if step.counted else 0),
        phase=Phase.PENDING,
        request_counts=None,
        submit_time=None,
        retry_time=_retry(job, shard, step.retry_after, now) if step.retry_after else None,
        refused_by=[*shard.refused_by, route][-64:] if step.refused else shard.refused_by,
    )


def record_attempt(job: BatchJob, index: int, route: str, result: Reason, message: str, now: datetime) -> BatchJob:
    """The job with one more attempt that ended badly; the last 10 are kept."""
    shard = shards(job)[index]
    attempt = Attempt(
        number=shard.attempt,
        shard=index,
        deployment=reference(route),
        batch_id=shard.batch_id,
        result=result.value,
        reason=message[:1024],
        time=now,
    )
    attempts = [*job.status.attempts, attempt][-KEPT_ATTEMPTS:]
    return with_status(job, attempts=attempts, attempt_count=(job.status.attempt_count or 0) + 1)


def awaiting_quota(job: BatchJob, step: AwaitQuota, now: datetime) -> BatchJob:
    """The job after every deployment refused it."""
    shard = shards(job)[step.shard]
    again = _retry(job, shard, step.retry_after, now)
    return with_shard(job, step.shard, refused_by=[], waits=(shard.waits or 0) + 1, retry_time=again)


def _retry(job: BatchJob, shard: Shard, wait: timedelta, now: datetime) -> datetime:
    """When the next attempt may begin: never before the wait is over, which a provider may have asked for."""
    return whole(now + spread(wait, job.metadata.uid, shard.attempt, shard.waits))


def waiting(job: BatchJob, step: Wait, now: datetime) -> BatchJob:
    """The job while it goes on."""
    since = _unanswered_since(job, step, now)
    job = _in_phase(_suspension(job, step.phase is Phase.SUSPENDED, now), step.phase, now)
    job = with_status(job, unanswered_since=since)
    first = annotated(job, 0)
    batch = shards(job)[0].batch_id
    unfinished = f"the job is {step.phase.value}"
    conditions = ConditionSet(job.status.conditions, generation=job.metadata.generation, now=now)
    if first.deployment and (first.pending or first.batch_id):
        conditions.set(ConditionType.ROUTED, True, Reason.ROUTED, f"runs on ModelDeployment {first.deployment}")
    else:
        conditions.set(ConditionType.ROUTED, False, step.reason, step.message)
    if batch:
        conditions.set(ConditionType.SUBMITTED, True, Reason.SUBMITTED, f"batch {batch}")
    else:
        conditions.set(ConditionType.SUBMITTED, False, step.reason, step.message)
    conditions.set(ConditionType.FINISHED, False, step.reason, unfinished)
    _suspended_condition(job, conditions, submitted=bool(first.pending or first.batch_id))
    going = ConditionType.STALLED if step.stalled else ConditionType.RECONCILING
    conditions.set(going, True, step.reason, step.message)
    return with_status(job, conditions=conditions.list(), observed_generation=job.metadata.generation)


def _unanswered_since(job: BatchJob, step: Wait, now: datetime) -> datetime | None:
    """Since when a cancel has no answer, or results are missing; other troubles do not end that."""
    known = job.status.unanswered_since if job.status.phase is step.phase else None
    if step.phase is Phase.CANCELLING and step.reason is not Reason.CANCELLING:
        return known or now.replace(microsecond=0)
    if step.phase is Phase.COLLECTING:
        return known or (now.replace(microsecond=0) if step.reason is Reason.RESULTS_INCOMPLETE else None)
    return None


def deletion_waits(job: BatchJob, message: str, now: datetime) -> BatchJob:
    """The job while its deletion waits; said once, for the clean-up is tried every few seconds."""
    told = condition(job.status.conditions, ConditionType.RECONCILING)
    if told is not None and told.reason == Reason.DELETION_WAITS.value:
        return job
    conditions = ConditionSet(job.status.conditions, generation=job.metadata.generation, now=now)
    conditions.set(ConditionType.RECONCILING, True, Reason.DELETION_WAITS, message)
    others = [found for found in job.status.conditions if found.type != ConditionType.RECONCILING]
    return with_status(
        job, conditions=[*others, *conditions.list()], observed_generation=job.metadata.generation
    )  # fmt: skip


def _in_phase(job: BatchJob, phase: Phase, now: datetime) -> BatchJob:
    since = job.status.phase_time if job.status.phase is phase else None
    return with_status(job, phase=phase, phase_time=since or now.replace(microsecond=0))


def finished(job: BatchJob, step: Finish, now: datetime) -> BatchJob:
    """The job when it has ended."""
    job = _in_phase(_suspension(job, False, now), step.phase, now)
    shard = shards(job)[0]
    succeeded = step.phase is Phase.SUCCEEDED
    conditions = ConditionSet(job.status.conditions, generation=job.metadata.generation, now=now)
    if shard.deployment:
        route = f"{shard.deployment.namespace}/{shard.deployment.name}"
        conditions.set(ConditionType.ROUTED, True, Reason.ROUTED, f"ran on ModelDeployment {route}")
    if shard.batch_id:
        conditions.set(ConditionType.SUBMITTED, True, Reason.SUBMITTED, f"batch {shard.batch_id}")
    if succeeded:
        conditions.set(ConditionType.COMPLETE, True, step.reason, step.message)
    else:
        conditions.set(ConditionType.FAILED, True, step.reason, step.message)
    conditions.set(ConditionType.FINISHED, True, step.reason, step.message)
    if not succeeded and step.phase is not Phase.CANCELLED:
        conditions.set(ConditionType.STALLED, True, step.reason, step.message)
    if shard.batch_id or job.status.shards:
        job = with_shard(job, 0, phase=step.phase, retry_time=None, waits=None)
    return with_status(
        job,
        conditions=conditions.list(),
        observed_generation=job.metadata.generation,
        completion_time=job.status.completion_time or now,
    )


def _suspension(job: BatchJob, suspended: bool, now: datetime) -> BatchJob:
    since = job.status.suspended_time
    if suspended and since is None:
        return with_status(job, suspended_time=now)
    if not suspended and since is not None:
        before = timedelta(seconds=job.status.suspended_seconds or 0)
        total = before + max(timedelta(0), now - since)
        return with_status(job, suspended_time=None, suspended_seconds=int(total.total_seconds()))
    return job


def _suspended_condition(job: BatchJob, conditions: ConditionSet, *, submitted: bool) -> None:
    if job.spec.suspend and submitted:
        message = "spec.suspend came after the batch was made; it goes on at the provider (spec.cancel ends it)"
        conditions.set(ConditionType.SUSPENDED, False, Reason.RUNS_ON, message)
    elif job.spec.suspend:
        conditions.set(ConditionType.SUSPENDED, True, Reason.SUSPENDED, "set spec.suspend to false to run the job")
    elif any(found.type == ConditionType.SUSPENDED for found in job.status.conditions):
        conditions.set(ConditionType.SUSPENDED, False, Reason.RESUMED, "no longer suspended")


def worth_writing(
    before: BatchJobStatus, after: BatchJobStatus, *, now: datetime, progress_interval: timedelta
) -> bool:
    """Whether the new status must be written.

    Mere progress of a running batch is told at most once every ``progress_interval``; all else at once.
    """
    if before == after.model_copy(update={"last_poll_time": before.last_poll_time}):
        return False
    if before.phase not in RUNNING or after.phase not in RUNNING or before.last_poll_time is None:
        return True
    if now - before.last_poll_time >= progress_interval:
        return True
    return _essence(before.wire()) != _essence(after.wire())


def _essence(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what changes while a batch makes progress."""
    kept = {key: value for key, value in status.items() if key not in _PROGRESS_FIELDS}
    kept["conditions"] = [
        {**found, "reason": None, "message": None}
        if found["type"] in (ConditionType.RECONCILING, ConditionType.FINISHED)
        else found
        for found in status.get("conditions", ())
    ]
    kept["shards"] = [
        {key: value for key, value in shard.items() if key not in _PROGRESS_FIELDS}
        for shard in status.get("shards", ())
    ]
    return kept


def records_anew(before: BatchJobStatus, after: BatchJobStatus) -> bool:
    """Whether a status says anything else of where batches are or may be, which only the newest reader may say."""
    return _record(before) != _record(after)


def _record(status: BatchJobStatus) -> list[tuple[object, ...]]:
    return [
        (shard.deployment, shard.batch_id, shard.attempt, shard.phase is Phase.SUBMITTING) for shard in status.shards
    ]


_PROGRESS_FIELDS = frozenset(
    {"phase", "phaseTime", "requestCounts", "progress", "lastPollTime", "outputFileID", "errorFileID"}
)
