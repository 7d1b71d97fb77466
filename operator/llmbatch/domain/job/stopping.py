"""Ending a job before its batch does: why, and for how long the provider is asked to."""

from __future__ import annotations

from datetime import datetime, timedelta

from llmbatch.api.batchjob import BatchJob, Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.job.steps import Finish, Problem, Wait

READ_AGAIN = timedelta(seconds=30)
"""How soon something that was not to be had is looked at again when nothing wakes the job first."""
ASKED_FOR = timedelta(minutes=10)
"""How long a provider that does not answer is asked to cancel a batch."""
CANCELLED_WITHIN = timedelta(days=2)
"""How long an accepted cancel is waited for. Azure OpenAI: cancelling lasts up to 10 minutes. Others take hours,
and what was answered meanwhile is paid for and comes home; beyond the longest window nothing more can come."""


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


def time_in(job: BatchJob, phase: Phase, now: datetime) -> timedelta:
    """How long the job has been in a phase; nothing where it is in another one."""
    if job.status.phase is not phase or job.status.phase_time is None:
        return timedelta(0)
    return max(timedelta(0), now - job.status.phase_time)


def unanswered(job: BatchJob, phase: Phase, problem: Problem, left: str, now: datetime) -> Wait | Finish:
    """A provider that does not answer is asked again; a job that must end is ended without it after a while.

    ``left`` names what then stays at the provider.
    """
    halt = stop(job, now)
    if halt is None:
        return Wait(phase, problem.reason, problem.message, now + READ_AGAIN)
    since = job.status.unanswered_since
    if since is not None and now - since >= ASKED_FOR:
        return _left_behind(halt, f"{left} could not be cancelled ({problem.message})")
    return Wait(Phase.CANCELLING, problem.reason, problem.message, now + READ_AGAIN)


def cancelling(job: BatchJob, route: str, batch_id: str, now: datetime) -> Wait | Finish:
    """An accepted cancel is waited for, but not for ever."""
    left = CANCELLED_WITHIN - time_in(job, Phase.CANCELLING, now)
    halt = stop(job, now)
    if halt is not None and left <= timedelta(0):
        return _left_behind(halt, f"batch {batch_id} on {route} was not seen to end after its cancel was accepted")
    again = now + max(left, READ_AGAIN) if halt else None
    return Wait(Phase.CANCELLING, Reason.CANCELLING, f"waits for {route} to end the batch", again)


def _left_behind(halt: Finish, what: str) -> Finish:
    message = f"{halt.message}; {what}: it is left behind at the provider and may still cost, look there"
    return Finish(halt.phase, halt.reason, message)
