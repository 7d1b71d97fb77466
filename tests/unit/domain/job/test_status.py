"""What a job's status says after each step, and when it is worth a write."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llmbatch.api import BatchJob
from llmbatch.api.base import NamespacedReference
from llmbatch.api.batchjob import BatchJobStatus, CollectedOutput, Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.conditions import why
from llmbatch.domain.job import status as jobstatus
from llmbatch.domain.job.record import ShardRecord
from llmbatch.domain.job.steps import AwaitQuota, Close, Finish, Wait
from llmbatch.domain.remote import Counts
from support.builders import CREATED, FILE_ID, NOW, a_batch, a_file, a_job, a_tag, totals

RUNNING = Wait(Phase.IN_PROGRESS, Reason.RUNNING, "batch batch_1 is in_progress on team/east")
HELD = Wait(Phase.SUSPENDED, Reason.SUSPENDED, "held")
MISSING = Wait(Phase.PENDING, Reason.INPUT_FILE_NOT_FOUND, "waits for BatchFile questions")
DONE = Finish(Phase.SUCCEEDED, Reason.COMPLETED, "3 requests answered")
EAST = NamespacedReference(namespace="team", name="east")


def told(job: BatchJob) -> dict[str, tuple[str, str]]:
    """The conditions: status and reason by type."""
    return {found.type: (found.status, found.reason) for found in job.status.conditions}


def test_a_job_that_waits_is_reconciling_for_that_reason():
    """Not stalled; Routed and Submitted are False for the same reason."""
    job = jobstatus.waiting(a_job().build(), MISSING, NOW)

    assert told(job) == {
        "Routed": ("False", "InputFileNotFound"),
        "Submitted": ("False", "InputFileNotFound"),
        "Finished": ("False", "InputFileNotFound"),
        "Reconciling": ("True", "InputFileNotFound"),
    }
    assert job.status.phase is Phase.PENDING
    assert job.status.observed_generation == 1


def test_a_job_that_runs_is_routed_and_submitted():
    """The conditions name deployment and batch."""
    job = jobstatus.waiting(a_job().submitted().build(), RUNNING, NOW)

    assert told(job)["Routed"] == ("True", "Routed")
    assert told(job)["Submitted"] == ("True", "Submitted")
    assert [found.message for found in job.status.conditions][:2] == [
        "runs on ModelDeployment team/east",
        "batch batch_1",
    ]


@pytest.mark.parametrize(
    ("phase", "conditions"),
    [
        (Phase.SUCCEEDED, {"Complete", "Finished"}),
        (Phase.FAILED, {"Failed", "Finished", "Stalled"}),
        (Phase.EXPIRED, {"Failed", "Finished", "Stalled"}),
        (Phase.CANCELLED, {"Failed", "Finished"}),
    ],
)
def test_the_conditions_of_the_end_are_those_of_its_phase(phase, conditions):
    """And nothing of the way there is left but Routed and Submitted."""
    before = jobstatus.waiting(a_job().submitted().build(), RUNNING, NOW)

    job = jobstatus.finished(before, Finish(phase, Reason.BATCH_FAILED, "why"), NOW)

    assert set(told(job)) == conditions | {"Routed", "Submitted"}
    assert all(status == "True" for status, _ in told(job).values())
    assert job.status.completion_time == NOW
    assert job.status.shards[0].phase is phase


def test_the_time_of_the_end_is_told_once():
    """A second writing does not move it."""
    first = jobstatus.finished(a_job().submitted().build(), DONE, NOW)

    again = jobstatus.finished(first, DONE, NOW + timedelta(hours=1))

    assert again.status.completion_time == NOW
    assert [found.last_transition_time for found in again.status.conditions] == [NOW] * 4


def test_a_batch_that_was_made_is_in_status():
    """Where, which, since when and from what; who refused it is remembered, for this batch may fail for quota too."""
    waited = a_job().with_shard(refusedBy=["team/west"], waits=2, retryTime=NOW.isoformat()).build()

    job = jobstatus.submitted(waited, 0, "team/east", a_batch(), NOW, attempt=3)

    shard = job.status.shards[0]
    assert (shard.deployment, shard.batch_id, shard.input_file_id, shard.attempt) == (EAST, "batch_1", FILE_ID, 3)
    assert (shard.refused_by, shard.waits) == (["team/west"], 2)
    assert (shard.retry_time, shard.submit_time) == (None, CREATED)
    assert (job.status.deployment, job.status.batch_id, job.status.start_time) == (EAST, "batch_1", NOW)


def test_a_batch_that_only_annotations_know_is_taken_up_with_the_attempt_of_its_tag():
    """The process ended before it wrote status; a batch of an earlier job of that name is attempt 1."""
    mine = a_batch(metadata=a_tag(4).metadata())
    other = a_batch(metadata={**a_tag(4).metadata(), "llmbatch-uid": "uid-0"})

    attempts = [
        jobstatus.resubmitted(a_job().build(), 0, "team/east", batch, NOW).status.shards[0].attempt
        for batch in (mine, other)
    ]

    assert attempts == [4, 1]


def test_progress_is_told_in_counts_and_for_the_table():
    """Done are the answered and the failed."""
    batch = a_batch(counts=Counts(10, 6, 1), output_file_id="file-out", error_file_id="file-err")

    job = jobstatus.progressed(a_job().submitted().build(), [batch], NOW)

    assert job.status.progress == "7/10"
    assert job.status.request_counts is not None
    assert (job.status.request_counts.completed, job.status.request_counts.failed) == (6, 1)
    assert (job.status.output_file_id, job.status.error_file_id) == ("file-out", "file-err")
    assert jobstatus.progressed(job, [None], NOW) == job


def test_the_files_requests_are_told_from_the_start_and_not_forgotten():
    """0 of 1000 before the provider counts anything; another attempt counts anew."""
    job = jobstatus.expecting(a_job().submitted().build(), "gpt", a_file(requests=1000, custom_id_digest="d"))
    assert job.status.custom_id_digest == "d"
    empty = jobstatus.progressed(job, [a_batch(counts=Counts())], NOW)
    step = Close(0, Reason.QUOTA, "no", counted=True, refused=True, input_lost=False, retry_after=timedelta(0))

    assert (job.status.progress, job.status.model_name) == ("0/1000", "gpt")
    assert empty.status.progress == "0/1000"
    assert empty.status.request_counts is not None
    assert empty.status.request_counts.total == 1000
    assert jobstatus.closed(empty, step, NOW).status.request_counts is None


def test_since_when_a_job_is_in_its_phase_is_told():
    """It stays while the phase stays, whatever the reason."""
    later = NOW + timedelta(minutes=5)
    first = jobstatus.waiting(a_job().submitted().build(), RUNNING, NOW)

    again = jobstatus.waiting(first, Wait(Phase.IN_PROGRESS, Reason.UNREACHABLE, "away"), later)
    after = jobstatus.waiting(again, Wait(Phase.COLLECTING, Reason.COLLECTING, "on their way"), later)

    assert [job.status.phase_time for job in (first, again, after)] == [NOW, NOW, later]


def test_since_when_a_provider_does_not_answer_to_a_cancel_is_told():
    """From the first look without an answer, until it answers."""
    away, asked = Wait(Phase.CANCELLING, Reason.UNREACHABLE, "away"), Wait(Phase.CANCELLING, Reason.CANCELLING, "waits")
    first = jobstatus.waiting(a_job(cancel=True).submitted().build(), away, NOW)

    later = jobstatus.waiting(first, away, NOW + timedelta(minutes=5))
    answered = jobstatus.waiting(later, asked, NOW + timedelta(minutes=6))

    assert [job.status.unanswered_since for job in (first, later, answered)] == [NOW, NOW, None]


def test_since_when_results_are_missing_outlasts_other_troubles_of_their_collection():
    """Not those of a phase before."""
    begun = jobstatus.waiting(
        a_job(cancel=True).submitted().build(), Wait(Phase.CANCELLING, Reason.UNREACHABLE, "away"), NOW
    )
    told = []
    for minutes, reason in ((1, Reason.COLLECTING), (2, Reason.RESULTS_INCOMPLETE), (3, Reason.OUTPUT_FAILED)):
        begun = jobstatus.waiting(begun, Wait(Phase.COLLECTING, reason, "again"), NOW + timedelta(minutes=minutes))
        told.append(begun.status.unanswered_since)

    assert told == [None, NOW + timedelta(minutes=2), NOW + timedelta(minutes=2)]


def test_a_job_that_has_stalled_is_told_in_place_of_reconciling():
    """kstatus takes the one for a failure, the other for work in progress."""
    step = Wait(Phase.COLLECTING, Reason.PROVIDER_ERROR, "again", stalled=True)
    job = jobstatus.waiting(a_job().submitted().build(), step, NOW)

    assert {"Stalled"} == {found.type for found in job.status.conditions} & {"Stalled", "Reconciling"}
    assert (told := why(job.status.conditions)) is not None
    assert told.reason == "ProviderError"


def test_a_route_that_somebody_wrote_is_not_told_as_routed():
    """Only one with a batch or a pending create is ours."""
    wished = a_job().annotated(ShardRecord(deployment="team/east")).build()

    assert told(jobstatus.waiting(wished, MISSING, NOW))["Routed"] == ("False", "InputFileNotFound")


def test_what_a_deletion_waits_for_is_said_once():
    """Besides all that the job's conditions said before."""
    before = jobstatus.waiting(a_job().submitted().build(), RUNNING, NOW)

    waits = jobstatus.deletion_waits(before, "no answer", NOW)

    assert told(waits) == {**told(before), "Reconciling": ("True", "DeletionWaits")}
    assert waits.status.conditions[-1].message == "no answer"
    assert jobstatus.deletion_waits(waits, "another", NOW) == waits


def test_the_lines_outrank_the_providers_counts():
    """Azure counts late; but what has no line is still part of the total."""
    before = jobstatus.progressed(a_job().submitted().build(), [a_batch(counts=Counts(5, 0, 0))], NOW)
    output = CollectedOutput(location="configmap/answers", bytes=10, lines=4)

    job = jobstatus.collected(before, totals(3, 1), output)

    counts = job.status.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (5, 3, 1)
    assert job.status.progress == "4/5"
    assert job.status.output == output


@pytest.mark.parametrize(("counted", "refused"), [(True, False), (False, True)])
def test_an_attempt_that_failed_leaves_a_clean_record_for_the_next(counted, refused):
    """It is kept in attempts; failures and refusals are counted where they should be."""
    step = Close(
        0, Reason.QUOTA, "no room", counted=counted, refused=refused, input_lost=False, retry_after=timedelta(9)
    )

    job = jobstatus.closed(a_job().submitted().build(), step, NOW)

    (attempt,), shard = job.status.attempts, job.status.shards[0]
    assert (attempt.number, attempt.batch_id, attempt.deployment, attempt.result) == (
        1,
        "batch_1",
        EAST,
        "QuotaExceeded",
    )
    assert (shard.attempt, shard.batch_id, shard.deployment, shard.input_file_id) == (2, None, None, None)
    assert shard.failures == (1 if counted else 0)
    assert shard.refused_by == (["team/east"] if refused else [])
    assert timedelta(9) <= (shard.retry_time or NOW) - NOW <= timedelta(9) * 1.1
    assert job.status.batch_id is None


def test_the_last_ten_attempts_are_kept_and_all_are_counted():
    """Status does not grow."""
    job = a_job().submitted().build()
    for _ in range(12):
        job = jobstatus.record_attempt(job, 0, "team/east", Reason.BATCH_FAILED, "x" * 2000, NOW)

    assert (len(job.status.attempts), job.status.attempt_count) == (10, 12)
    assert len(job.status.attempts[0].reason) == 1024


def test_a_wait_for_quota_asks_everybody_again():
    """The next wait is longer, for waits are counted."""
    refused = a_job().with_shard(refusedBy=["team/east"], waits=1).build()

    shard = jobstatus.awaiting_quota(refused, AwaitQuota(0, "no room", timedelta(minutes=2)), NOW).status.shards[0]

    assert (shard.refused_by, shard.waits) == ([], 2)
    assert timedelta(seconds=120) <= (shard.retry_time or NOW) - NOW <= timedelta(seconds=132)


def test_jobs_that_were_told_to_wait_as_long_do_not_come_back_in_the_same_second():
    """A tenth later at the most and never earlier; a resource holds whole seconds, so these are rounded up."""
    step, now = AwaitQuota(0, "no room", timedelta(minutes=10)), NOW + timedelta(milliseconds=700)
    jobs = [a_job().build() for _ in range(100)]
    told = [job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": str(at)})})
            for at, job in enumerate(jobs)]  # fmt: skip

    times = [jobstatus.awaiting_quota(job, step, now).status.shards[0].retry_time or now for job in told]

    assert len(set(times)) > 30
    assert all(timedelta(minutes=10) <= time - now <= timedelta(minutes=11, seconds=1) for time in times)
    assert all(time.microsecond == 0 for time in times)


def test_suspended_time_is_added_up():
    """From the first look at a suspended job to the first look after; it goes on where it was held again."""
    held = jobstatus.waiting(a_job(suspend=True).with_status(suspendedSeconds=5).build(), HELD, NOW)
    still = jobstatus.waiting(held, HELD, NOW + timedelta(seconds=10))
    resumed = jobstatus.waiting(still, MISSING, NOW + timedelta(seconds=30))

    assert told(held)["Suspended"] == ("True", "Suspended")
    assert still.status.suspended_time == NOW
    assert resumed.status.suspended_time is None
    assert resumed.status.suspended_seconds == 35


def test_a_job_that_was_resumed_says_so():
    """The condition stays, as False."""
    held = jobstatus.waiting(a_job(suspend=True).build(), HELD, NOW)
    resumed = jobstatus.with_status(a_job().build(), conditions=held.status.conditions)

    assert told(jobstatus.waiting(resumed, MISSING, NOW))["Suspended"] == ("False", "Resumed")


def test_a_batch_that_goes_on_in_spite_of_suspend_says_so():
    """It is not suspended, and the reason is RunsOn."""
    job = jobstatus.waiting(a_job(suspend=True).submitted().build(), RUNNING, NOW)

    assert told(job)["Suspended"] == ("False", "RunsOn")


# --- worth a write ------------------------------------------------------------------------------------------------


def is_worth(before: BatchJobStatus, after: BatchJobStatus, *, later: float = 0.0) -> bool:
    """Whether it is written some seconds later, where progress is told every 30 s."""
    return jobstatus.worth_writing(
        before, after, now=NOW + timedelta(seconds=later), progress_interval=timedelta(seconds=30)
    )


def running(done: int, step: Wait = RUNNING, *, later: float = 0.0) -> BatchJobStatus:
    """The status of a job whose batch has answered so many."""
    before = jobstatus.waiting(a_job().submitted().build(), RUNNING, NOW)
    now, batch = NOW + timedelta(seconds=later), a_batch(counts=Counts(10, done, 0))
    return jobstatus.waiting(jobstatus.progressed(before, [batch], now), step, now).status


def test_the_same_status_is_not_written():
    """Not even where only the time of the last look differs."""
    assert not is_worth(running(1), running(1))
    assert not is_worth(running(1), running(1, later=300), later=300)


def test_mere_progress_is_written_now_and_then():
    """Within the interval it is not, after it it is."""
    assert not is_worth(running(1), running(2, later=29), later=29)
    assert is_worth(running(1), running(2, later=30), later=30)


def test_a_running_batchs_next_state_is_mere_progress():
    """validating, in_progress and finalizing follow each other within seconds."""
    finalizing = Wait(Phase.FINALIZING, Reason.RUNNING, "batch batch_1 is finalizing on team/east")

    assert not is_worth(running(1), running(1, finalizing))


def test_anything_else_is_written_at_once():
    """Cancelling, suspension, the end."""
    cancelling = Wait(Phase.CANCELLING, Reason.CANCELLING, "waits")
    suspended = jobstatus.waiting(a_job(suspend=True).submitted().build(), RUNNING, NOW).status

    assert is_worth(running(1), running(1, cancelling))
    assert is_worth(running(1), suspended)
    assert is_worth(BatchJobStatus(), running(0))
