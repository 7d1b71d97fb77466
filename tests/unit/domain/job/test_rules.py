"""What a job does next: each rule of its life."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from llmbatch.api import names
from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import FAULT, QUOTA
from llmbatch.domain.job.ending import RESULTS_WITHIN, promised
from llmbatch.domain.job.record import ShardRecord
from llmbatch.domain.job.rules import AUTH_GRACE, LOOK_AGAIN, model_of, next_step
from llmbatch.domain.job.steps import (
    Acknowledge,
    Adopt,
    AwaitCleanUp,
    AwaitQuota,
    Begin,
    CancelBatch,
    Close,
    Collect,
    Create,
    DeleteJob,
    DeleteOutputs,
    Finish,
    Idle,
    LookFor,
    Lookup,
    Observed,
    Poll,
    Problem,
    Release,
    Repair,
    ShardSeen,
    Step,
    Wait,
    Withdraw,
)
from llmbatch.domain.job.stopping import ASKED_FOR, CANCELLED_WITHIN, READ_AGAIN, deadline
from llmbatch.domain.remote import Counts
from support.builders import (
    CREATED,
    FILE_ID,
    NOW,
    JobBuilder,
    a_batch,
    a_candidate,
    a_file,
    a_job,
    a_pending,
    observed,
    ready_to_run,
    totals,
)

EAST = "team/east"
AWAY = Problem(Reason.UNREACHABLE, "no answer")


def step(job: JobBuilder, seen: Observed | None = None) -> Step:
    """The next step of a job, now."""
    return next_step(job.build(), seen or observed(), NOW)


def seen_batch(state: str = "in_progress", **fields: Any) -> Observed:
    """The job's batch in a state."""
    return observed(ShardSeen(batch=a_batch(state, **fields)))


def waits(made: Step) -> tuple[Phase, Reason]:
    """Why it waits; fails where it does not."""
    assert isinstance(made, Wait), made
    return made.phase, made.reason


def ends(made: Step) -> tuple[Phase, Reason]:
    """How it ends; fails where it does not."""
    assert isinstance(made, Finish), made
    return made.phase, made.reason


# --- before there is a batch --------------------------------------------------------------------------------------


def test_a_job_waits_for_a_file_that_does_not_exist():
    """The file may come later; it is looked for again, and the job is not stalled."""
    made = step(a_job())

    assert waits(made) == (Phase.PENDING, Reason.INPUT_FILE_NOT_FOUND)
    assert isinstance(made, Wait)
    assert READ_AGAIN <= (made.until or NOW) - NOW <= READ_AGAIN * 1.5
    assert "questions" in made.message


def test_a_job_waits_for_a_file_that_was_not_validated():
    """Why the file could not be read is passed on."""
    made = step(a_job(), observed(file=a_file(valid=None, message="the Secret is missing")))

    assert waits(made) == (Phase.PENDING, Reason.INPUT_FILE_NOT_READY)
    assert isinstance(made, Wait)
    assert "the Secret is missing" in made.message


def test_a_job_waits_for_a_deployment_that_holds_its_file():
    """Without one it says which model or deployment it waits for."""
    assert waits(step(a_job(), observed(file=a_file()))) == (Phase.PENDING, Reason.DEPLOYMENT_NOT_FOUND)
    seen = ready_to_run(a_candidate(file_id=None))
    assert waits(step(a_job(), seen)) == (Phase.PENDING, Reason.INPUT_FILE_NOT_READY)


def test_what_it_waits_for_is_looked_at_again_by_the_deadline_at_the_latest():
    """A deadline that comes before the next look is when the job is looked at."""
    made = step(a_job(activeDeadlineSeconds=310), observed(file=a_file()))

    assert isinstance(made, Wait)
    assert made.until == NOW + timedelta(seconds=10)


@pytest.mark.parametrize(
    ("spec", "file", "reason"),
    [
        ({}, a_file(valid=False, message="line 1"), Reason.INPUT_FILE_INVALID),
        ({}, a_file(models=("a", "b")), Reason.TARGET_MODEL_AMBIGUOUS),
        ({"targetModelName": "other"}, a_file(), Reason.TARGET_MODEL_UNKNOWN),
        ({"endpoint": "/v1/embeddings"}, a_file(), Reason.ENDPOINT_MISMATCH),
    ],
)
def test_a_job_that_can_never_fit_its_file_fails(spec, file, reason):
    """Waiting would not help: it is terminal at once."""
    made = step(a_job(**spec), observed(file=file, candidates=(a_candidate(),)))

    assert ends(made) == (Phase.FAILED, reason)


def test_the_model_of_a_job_is_the_one_it_names_or_the_files_only_one():
    """targetModelName is needed only where the file has several."""
    assert model_of(a_job(targetModelName="b").build(), a_file(models=("a", "b"))) == "b"
    assert model_of(a_job().build(), a_file()) == "gpt"


def test_a_job_with_all_it_needs_begins_its_first_attempt():
    """The candidates are those that can take it now."""
    made = step(a_job(), ready_to_run(a_candidate(), a_candidate("team/west", ready=False)))

    assert made == Begin(0, 1, (a_candidate(),))


def test_a_pinned_job_goes_to_its_deployment_and_no_other():
    """A pin that can't be honoured waits, whatever else is there."""
    pinned = a_job(deploymentRef={"namespace": "team", "name": "west"})

    assert waits(step(pinned, ready_to_run(a_candidate()))) == (Phase.PENDING, Reason.DEPLOYMENT_NOT_FOUND)
    west = a_candidate("team/west")
    assert step(pinned, ready_to_run(a_candidate(), west)) == Begin(0, 1, (west,))


def test_a_suspended_job_is_held_before_anything_else():
    """Nothing is looked up for it, and no time is set: resuming wakes it."""
    assert step(a_job(suspend=True), ready_to_run()) == Wait(
        Phase.SUSPENDED, Reason.SUSPENDED, "held by spec.suspend; set it to false to run the job"
    )


def test_a_job_that_is_cancelled_before_its_batch_ends_at_once():
    """Also where it is suspended."""
    assert ends(step(a_job(cancel=True, suspend=True), ready_to_run())) == (Phase.CANCELLED, Reason.CANCELLED)


def test_a_job_past_its_deadline_ends_without_a_batch():
    """activeDeadlineSeconds counts from creation."""
    assert ends(step(a_job(activeDeadlineSeconds=300), ready_to_run())) == (Phase.FAILED, Reason.DEADLINE_EXCEEDED)
    assert isinstance(step(a_job(activeDeadlineSeconds=301), ready_to_run()), Begin)


def test_suspended_time_moves_the_deadline():
    """What lies behind is in suspendedSeconds, what goes on began at suspendedTime."""
    held = a_job(activeDeadlineSeconds=300).with_status(
        suspendedSeconds=60, suspendedTime=(NOW - timedelta(seconds=30)).isoformat()
    )

    assert deadline(held.build(), NOW) == CREATED + timedelta(seconds=390)


def test_a_job_that_must_wait_for_its_next_attempt_waits():
    """The reason of the last attempt is told, and when the next one is."""
    later = NOW + timedelta(seconds=20)
    attempt = {"number": 1, "deployment": {"namespace": "team", "name": "east"}, "result": "BatchFailed"}
    job = (
        a_job().with_shard(attempt=2, retryTime=later.isoformat()).with_status(attempts=[{**attempt, "reason": "why"}])
    )

    made = step(job, ready_to_run())

    assert waits(made) == (Phase.PENDING, Reason.BATCH_FAILED)
    assert isinstance(made, Wait)
    assert made.until == later
    assert "why" in made.message


def test_a_job_that_every_deployment_refused_waits_for_quota():
    """One minute first, doubling: waits are counted, failures are not."""
    refused = a_job().with_shard(refusedBy=[EAST])

    first, third = step(refused, ready_to_run()), step(refused.with_shard(waits=2), ready_to_run())

    assert isinstance(first, AwaitQuota)
    assert isinstance(third, AwaitQuota)
    assert (first.retry_after, third.retry_after) == (QUOTA.wait(1), QUOTA.wait(3))


def test_a_job_that_one_deployment_refused_goes_to_another():
    """Moving is better than waiting."""
    west = a_candidate("team/west")

    assert step(a_job().with_shard(refusedBy=[EAST]), ready_to_run(a_candidate(), west)) == Begin(0, 1, (west,))


def test_a_job_without_headroom_anywhere_waits():
    """The limits of a deployment are told as the reason."""
    full = a_candidate(active=2, max_active=2)

    assert waits(step(a_job(), ready_to_run(full))) == (Phase.PENDING, Reason.NO_HEADROOM)


def test_what_a_job_is_told_of_it_seldom_looks_for():
    """Thousands may wait for headroom or a Ready deployment, and are woken by what happens to these. Nobody wakes a
    job when an account can say again whether it has a batch of that name."""
    waits_for = [a_candidate(active=2, max_active=2), a_candidate(ready=False), a_candidate(ready=False, asked=False)]

    made = [step(a_job(), ready_to_run(candidate)) for candidate in waits_for]

    assert [isinstance(one, Wait) and (one.until or NOW) >= NOW + LOOK_AGAIN for one in made] == [True, True, False]


def test_a_job_whose_creates_are_unauthorized_for_too_long_fails():
    """A key that is being rotated has its grace, and where it was mended meanwhile it is tried."""
    since = a_job().with_shard(unauthorizedSince=(NOW - AUTH_GRACE).isoformat())
    grace = a_job().with_shard(unauthorizedSince=(NOW - AUTH_GRACE + timedelta(seconds=1)).isoformat())
    refusing = ready_to_run(a_candidate(ready=False))

    assert ends(step(since, refusing)) == (Phase.FAILED, Reason.UNAUTHORIZED)
    assert isinstance(step(grace, refusing), Wait)
    assert isinstance(step(since, ready_to_run()), Begin)


def test_a_job_whose_account_may_not_make_batches_says_so():
    """A plan or a project that does not allow it is mended elsewhere than in the Secret."""
    attempt = {"number": 1, "deployment": {"namespace": "team", "name": "east"}, "result": "PermissionDenied"}
    attempt["reason"] = "its account may not do batches.create (403 not_available_for_plan)"
    long_since = a_job().with_shard(unauthorizedSince=(NOW - AUTH_GRACE).isoformat()).with_status(attempts=[attempt])

    made = step(long_since, ready_to_run(a_candidate(ready=False)))

    assert ends(made) == (Phase.FAILED, Reason.PERMISSION_DENIED)
    assert isinstance(made, Finish)
    assert "not_available_for_plan" in made.message
    assert "Secret" not in made.message


def refused_for_its_size(waits: int) -> JobBuilder:
    """A job that each of two deployments refused, naming its limit."""
    said = {"east": "Limit: 90,000 enqueued tokens", "west": "the configured limit of 20K"}
    attempts = [
        {"number": 1, "deployment": {"namespace": "team", "name": name}, "result": "QuotaExceeded", "reason": words}
        for name, words in said.items()
    ]
    refused = a_job(backoffLimit=2).with_shard(refusedBy=[EAST, "team/west"], waits=waits)
    return refused.with_status(attempts=attempts)


def sized(tokens: int) -> Observed:
    """Two deployments, and a file of so many tokens."""
    seen = ready_to_run(a_candidate(), a_candidate("team/west"))
    assert seen.file is not None
    return replace(seen, file=replace(seen.file, tokens=tokens))


def test_a_file_above_the_whole_enqueued_limit_does_not_wait_for_ever():
    """No wait makes room for it. What fits into one of the limits waits, however often."""
    made = step(refused_for_its_size(waits=2), sized(100_000))

    assert ends(made) == (Phase.FAILED, Reason.LIMIT_EXCEEDED)
    assert isinstance(made, Finish)
    assert "100000 tokens" in made.message
    assert "90000" in made.message
    assert isinstance(step(refused_for_its_size(waits=1), sized(100_000)), AwaitQuota)
    assert isinstance(step(refused_for_its_size(waits=50), sized(80_000)), AwaitQuota)


def test_a_job_that_waits_for_room_is_told_the_limit_that_it_is_above():
    """From the first wait on, not only at the end."""
    soon = (NOW + timedelta(minutes=5)).isoformat()
    waiting = refused_for_its_size(waits=1).with_shard(retryTime=soon)

    made = step(waiting, sized(100_000))

    assert waits(made) == (Phase.PENDING, Reason.QUOTA)
    assert isinstance(made, Wait)
    assert "takes 20000 enqueued tokens in all; divide the file" in made.message


def test_a_state_that_nobody_knows_is_told():
    """It may last, and somebody must be able to see why."""
    made = step(a_job().submitted(), observed(ShardSeen(batch=a_batch("in_progress", unknown_state="'paused'"))))

    assert waits(made) == (Phase.IN_PROGRESS, Reason.RUNNING)
    assert isinstance(made, Wait)
    assert "not known here, 'paused'" in made.message


def test_a_batch_of_an_earlier_job_of_that_name_is_adopted():
    """deletionPolicy Retain, or a restore: it is not made again."""
    batch = a_batch()

    assert step(a_job(), ready_to_run_with(orphan=(EAST, batch))) == Adopt(0, EAST, batch)


def ready_to_run_with(**shard: Any) -> Observed:
    """All it needs, and something known of the shard."""
    return replace(ready_to_run(), shards=(ShardSeen(**shard),))


# --- a create that was recorded -----------------------------------------------------------------------------------


def test_a_create_that_this_process_recorded_is_carried_out():
    """Nothing was sent yet, so it cannot be there."""
    assert step(a_job().create_pending(), observed(ShardSeen(fresh=True))) == Create(0, a_pending())


@pytest.mark.parametrize("spec", [{"suspend": True}, {"cancel": True}, {"activeDeadlineSeconds": 1}])
def test_a_create_that_was_not_sent_is_taken_back_where_the_job_is_held(spec):
    """Suspended, cancelled or late between the record and the create: nothing is made."""
    assert step(a_job(**spec).create_pending(), observed(ShardSeen(fresh=True))) == Withdraw(0)


def test_a_create_of_another_process_is_looked_for_first():
    """It may have been made just before that process ended."""
    assert step(a_job().create_pending(2)) == LookFor(0, a_pending(2))


def test_a_job_is_adopted_when_its_create_timed_out():
    """A batch whose create answered nothing is found by its tag and never made twice."""
    found = observed(ShardSeen(lookup=Lookup(found=a_batch(id="batch_7"))))

    assert step(a_job().create_pending(), found) == Adopt(0, EAST, a_batch(id="batch_7"))


def test_a_create_that_surely_had_no_effect_is_taken_back():
    """What comes next is routed anew."""
    assert step(a_job().create_pending(), observed(ShardSeen(lookup=Lookup(absent=True)))) == Withdraw(0)


def test_a_create_in_doubt_waits_and_makes_nothing():
    """Neither found nor absent, or the account does not answer."""
    later = NOW + timedelta(seconds=30)
    doubt = observed(ShardSeen(lookup=Lookup(until=later)))

    made = step(a_job().create_pending(), doubt)

    assert waits(made) == (Phase.SUBMITTING, Reason.CREATING)
    assert isinstance(made, Wait)
    assert made.until == later
    away = step(a_job().create_pending(), observed(ShardSeen(problem=AWAY)))
    assert waits(away) == (Phase.SUBMITTING, Reason.UNREACHABLE)


# --- repairs ------------------------------------------------------------------------------------------------------


def test_annotations_that_a_replace_dropped_are_put_back_from_status():
    """Status survives a replace."""
    bare = replace(a_job().submitted(), annotations={})

    assert step(bare) == Repair(0, ShardRecord(deployment=EAST, batch_id="batch_1"))


def test_a_create_in_doubt_that_a_replace_dropped_is_put_back_from_status():
    """Status knows that a create was not answered; one that annotations know as well is theirs, with its time."""
    route = {"namespace": "team", "name": "east"}
    doubt = a_job().with_shard(phase="Submitting", deployment=route, attempt=2, inputFileID=FILE_ID)

    assert step(doubt) == Repair(0, ShardRecord().begun(a_pending(2)))
    assert step(doubt.create_pending(1)) == Repair(0, ShardRecord().begun(a_pending(2)))
    assert step(doubt.create_pending(2)) == LookFor(0, a_pending(2))
    assert step(doubt.annotated(ShardRecord(deployment=EAST, batch_id="batch_1"))) == Poll(0, EAST, "batch_1")
    assert isinstance(step(doubt.with_shard(phase="Pending"), ready_to_run()), Begin)


def test_a_finalizer_that_a_replace_dropped_is_put_back():
    """The deletion of a job with a batch must wait for the operator."""
    assert step(a_job().submitted().without_finalizer()) == Repair(0, ShardRecord(deployment=EAST, batch_id="batch_1"))


def test_of_a_pending_create_and_an_id_the_id_counts_only_where_the_provider_shows_our_tag():
    """Each write removes the other, so a person put one of them there."""
    both = a_job().annotated(ShardRecord(deployment=EAST, pending=a_pending(), batch_id="batch_1"))

    assert step(both, seen_batch()) == Repair(0, ShardRecord(deployment=EAST, batch_id="batch_1"))
    assert step(both) == LookFor(0, a_pending())
    assert step(both, observed(ShardSeen(batch=a_batch(), ours=False))) == LookFor(0, a_pending())
    assert step(both, seen_batch(id="batch_2")) == LookFor(0, a_pending())


def test_a_route_that_was_changed_by_hand_is_put_back():
    """The batch is where it was made."""
    moved = a_job().submitted()
    moved = replace(moved, annotations={**moved.annotations, names.ANNOTATION_DEPLOYMENT: "team/west"})

    assert step(moved) == Repair(0, ShardRecord(deployment=EAST, batch_id="batch_1"))


# --- a batch that runs --------------------------------------------------------------------------------------------


def test_a_batch_of_which_nothing_is_known_is_asked_for():
    """As after a restart."""
    assert step(a_job().submitted()) == Poll(0, EAST, "batch_1")


@pytest.mark.parametrize(
    ("state", "phase"),
    [("validating", Phase.VALIDATING), ("in_progress", Phase.IN_PROGRESS), ("finalizing", Phase.FINALIZING)],
)
def test_a_batch_that_runs_is_followed(state, phase):
    """The job's phase is the batch's state; the deadline is when it must be looked at."""
    made = step(a_job(activeDeadlineSeconds=600).submitted(), seen_batch(state))

    assert waits(made) == (phase, Reason.RUNNING)
    assert isinstance(made, Wait)
    assert made.until == CREATED + timedelta(seconds=600)


def test_a_batch_that_runs_goes_on_when_the_job_is_suspended():
    """suspend is for what was not submitted."""
    assert waits(step(a_job(suspend=True).submitted(), seen_batch())) == (Phase.IN_PROGRESS, Reason.RUNNING)


@pytest.mark.parametrize("spec", [{"cancel": True}, {"activeDeadlineSeconds": 1}])
def test_a_batch_that_runs_is_cancelled_when_the_job_must_end(spec):
    """Once: an accepted cancel is waited for."""
    job = a_job(**spec).submitted()

    assert step(job, seen_batch()) == CancelBatch(0, EAST, "batch_1")
    accepted = observed(ShardSeen(batch=a_batch(), cancel_accepted=True))
    assert waits(step(job, accepted)) == (Phase.CANCELLING, Reason.CANCELLING)
    assert waits(step(job, seen_batch("cancelling"))) == (Phase.CANCELLING, Reason.CANCELLING)


def test_a_cancel_that_failed_is_told_and_tried_again():
    """The provider was away."""
    made = step(a_job(cancel=True).submitted(), observed(ShardSeen(batch=a_batch(), problem=AWAY)))

    assert waits(made) == (Phase.CANCELLING, Reason.UNREACHABLE)
    assert isinstance(made, Wait)
    assert made.until == NOW + READ_AGAIN


def test_a_batch_that_the_provider_does_not_know_ends_the_job():
    """Never in a new create."""
    assert ends(step(a_job().submitted(), observed(ShardSeen(unknown=True)))) == (
        Phase.FAILED,
        Reason.BATCH_NOT_FOUND,
    )


def test_a_batch_that_is_not_ours_is_let_go():
    """The annotation was copied or forged."""
    job = a_job().annotated(ShardRecord(deployment=EAST, batch_id="batch_1"))

    assert step(job, observed(ShardSeen(batch=a_batch(), ours=False))) == Withdraw(0)


def test_a_provider_that_is_away_does_not_change_the_phase():
    """The batch runs on all the same."""
    job = a_job().submitted().with_status(phase="InProgress")

    assert waits(step(job, observed(ShardSeen(problem=AWAY)))) == (Phase.IN_PROGRESS, Reason.UNREACHABLE)


# --- a batch that ended -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["completed", "expired", "cancelled"])
def test_a_batch_that_ended_is_collected(state):
    """Whatever the end was."""
    assert step(a_job().submitted(), seen_batch(state)) == Collect((a_batch(state),))


def test_a_failed_batch_with_output_is_collected_too():
    """What was answered was paid for."""
    batch = a_batch("failed", output_file_id="file-out")

    assert step(a_job().submitted(), observed(ShardSeen(batch=batch))) == Collect((batch,))


def test_results_that_could_not_be_brought_home_are_waited_for():
    """The job is Collecting, with the reason."""
    seen = replace(seen_batch("completed"), collect_problem=AWAY)

    assert waits(step(a_job().submitted(), seen)) == (Phase.COLLECTING, Reason.UNREACHABLE)


def test_results_that_the_sink_will_never_take_end_the_job():
    """They were counted and stay at the provider."""
    problem = Problem(Reason.OUTPUT_TOO_LARGE, "use output.url")
    seen = replace(seen_batch("completed"), totals=totals(), output_problem=problem)

    assert step(a_job().submitted(), seen) == Finish(Phase.FAILED, Reason.OUTPUT_TOO_LARGE, "use output.url")


@pytest.mark.parametrize(
    ("state", "spec", "ok", "failed", "phase", "reason"),
    [
        ("completed", {}, 3, 0, Phase.SUCCEEDED, Reason.COMPLETED),
        ("completed", {}, 2, 1, Phase.SUCCEEDED, Reason.COMPLETED_WITH_FAILURES),
        ("completed", {}, 0, 3, Phase.FAILED, Reason.ALL_REQUESTS_FAILED),
        ("completed", {"cancel": True}, 3, 0, Phase.SUCCEEDED, Reason.COMPLETED),
        ("expired", {}, 1, 2, Phase.EXPIRED, Reason.EXPIRED),
        ("cancelled", {"cancel": True}, 1, 2, Phase.CANCELLED, Reason.CANCELLED),
        ("cancelled", {}, 1, 2, Phase.CANCELLED, Reason.CANCELLED),
        ("cancelled", {"activeDeadlineSeconds": 1}, 1, 2, Phase.FAILED, Reason.DEADLINE_EXCEEDED),
    ],
)
def test_the_lines_and_the_batchs_end_decide_how_the_job_ends(state, spec, ok, failed, phase, reason):
    """A batch that completed before its cancel succeeds; one that was cancelled ends for the reason it was."""
    seen = replace(seen_batch(state), totals=totals(ok, failed))

    assert ends(step(a_job(**spec).submitted(), seen)) == (phase, reason)


# --- results that are missing -------------------------------------------------------------------------------------


def collecting(since: timedelta) -> JobBuilder:
    """A job of 1000 requests whose results have been missing for so long."""
    told = a_job().submitted().with_status(requestCounts={"total": 1000})
    return told.with_status(phase="Collecting", unansweredSince=(NOW - since).isoformat())


def results(ok: int, **fields: Any) -> Observed:
    """A completed batch that says nothing of its counts, with so many results."""
    batch = a_batch("completed", counts=Counts(), **fields)
    return replace(observed(ShardSeen(batch=batch)), totals=totals(ok))


@pytest.mark.parametrize(("since", "wait"), [(0, 10), (20, 20), (400, 200)])
def test_results_that_are_missing_are_looked_for_again(since, wait):
    """The file has 1000 requests: 900 answers of a completed batch are not all, whatever its counts say; the looks
    become fewer, and the last one is at the end of its patience."""
    made = step(collecting(timedelta(seconds=since)), results(900))

    assert waits(made) == (Phase.COLLECTING, Reason.RESULTS_INCOMPLETE)
    assert isinstance(made, Wait)
    assert "900 of 1000" in made.message
    assert made.until == NOW + timedelta(seconds=wait)


@pytest.mark.parametrize(("lines", "reason"), [(900, Reason.RESULTS_INCOMPLETE), (0, Reason.RESULTS_LOST)])
def test_results_that_stay_missing_are_no_success(lines, reason):
    """The job fails for a reason of its own, and says how many there are."""
    made = step(collecting(RESULTS_WITHIN), results(lines))

    assert ends(made) == (Phase.FAILED, reason)


def test_results_are_lost_only_after_they_were_missed_for_a_while():
    """A sink that was away for an hour is no reason to believe the first 404."""
    late = a_job().submitted().with_status(phase="Collecting", phaseTime=(NOW - timedelta(hours=1)).isoformat())

    assert waits(step(late, results(0))) == (Phase.COLLECTING, Reason.RESULTS_INCOMPLETE)


@pytest.mark.parametrize(
    ("hours", "reason", "stalled"),
    [
        (23, Reason.PROVIDER_ERROR, False),
        (24, Reason.PROVIDER_ERROR, True),
        (48, Reason.OUTPUT_DENIED, True),
        (48, Reason.COLLECTING, False),
    ],
)
def test_results_that_cannot_be_read_for_a_day_ask_for_a_person(hours: int, reason: Reason, stalled: bool):
    """It is tried on all the same, and the message says what to do."""
    late = a_job().submitted().with_status(phase="Collecting", phaseTime=(NOW - timedelta(hours=hours)).isoformat())
    again = NOW + timedelta(minutes=5)
    made = step(late, replace(results(0), totals=None, collect_problem=Problem(reason, "no"), collect_again=again))

    assert isinstance(made, Wait)
    assert (made.reason, made.stalled, made.until) == (reason, stalled, again)
    assert ("tried on" in made.message) == stalled


def test_a_batch_of_which_nobody_knows_the_requests_is_believed_but_not_when_it_is_empty():
    """No count anywhere: what is there is taken, nothing at all is looked for again."""
    job = a_job().submitted()

    assert ends(step(job, results(5))) == (Phase.SUCCEEDED, Reason.COMPLETED)
    assert waits(step(job, results(0))) == (Phase.COLLECTING, Reason.RESULTS_INCOMPLETE)


def test_of_a_cancelled_batch_the_answers_that_were_counted_must_be_there():
    """Its other requests have none."""
    cancelled = a_job(cancel=True).submitted().with_status(requestCounts={"total": 1000})
    seen = observed(ShardSeen(batch=a_batch("cancelled", counts=Counts(1000, 5, 0))))

    assert ends(step(cancelled, replace(seen, totals=totals(5)))) == (Phase.CANCELLED, Reason.CANCELLED)
    assert waits(step(cancelled, replace(seen, totals=totals(4)))) == (Phase.COLLECTING, Reason.RESULTS_INCOMPLETE)


def test_how_many_results_must_be_there_is_what_the_file_has_or_the_provider_counts():
    """The greater of the two; 0 where nobody knows."""
    job = a_job().with_status(requestCounts={"total": 10}).build()

    found = [promised(job, [a_batch("completed", counts=Counts(total))]) for total in (0, 12)]

    assert found == [10, 12]
    assert promised(a_job().build(), [a_batch("completed", counts=Counts())]) == 0


def test_a_failed_batch_with_answers_says_how_many():
    """They are in the output."""
    batch = a_batch("failed", output_file_id="file-out", errors=["server_error"])
    made = step(a_job().submitted(), replace(observed(ShardSeen(batch=batch)), totals=totals(2)))

    assert ends(made) == (Phase.FAILED, Reason.BATCH_FAILED)
    assert isinstance(made, Finish)
    assert "2 requests" in made.message


def test_a_batch_that_failed_for_its_input_ends_the_job():
    """The same input would fail again."""
    made = step(a_job().submitted(), seen_batch("failed", errors=["invalid_json_line"]))

    assert ends(made) == (Phase.FAILED, Reason.BATCH_FAILED)


def test_a_batch_that_the_service_failed_is_closed_and_counted():
    """The next attempt waits longer each time."""
    made = step(a_job().submitted().with_shard(failures=1), seen_batch("failed", errors=["server_error"]))

    assert isinstance(made, Close)
    assert (made.counted, made.refused, made.retry_after) == (True, False, FAULT.wait(2))


def test_a_batch_that_failed_once_too_often_ends_the_job():
    """backoffLimit is how many may fail before."""
    job = a_job(backoffLimit=2).submitted().with_shard(failures=2)

    assert ends(step(job, seen_batch("failed"))) == (Phase.FAILED, Reason.BACKOFF_LIMIT_EXCEEDED)


def test_a_batch_that_failed_for_quota_moves_on_without_being_counted():
    """That deployment is passed over; backoffLimit 0 does not matter."""
    job = a_job(backoffLimit=0).submitted()

    made = step(job, seen_batch("failed", errors=["token_limit_exceeded"]))

    assert isinstance(made, Close)
    assert (made.result, made.counted, made.refused, made.retry_after) == (Reason.QUOTA, False, True, timedelta(0))


def test_a_batch_whose_input_was_lost_has_it_uploaded_again():
    """Counted, so that a file which no provider can read does not go round for ever."""
    made = step(a_job().submitted(), seen_batch("failed", errors=["invalid_input_file"]))

    assert isinstance(made, Close)
    assert made.input_lost
    assert made.counted


def test_a_batch_that_failed_while_the_job_was_to_end_is_not_made_again():
    """A cancel outranks another attempt."""
    assert ends(step(a_job(cancel=True).submitted(), seen_batch("failed"))) == (Phase.CANCELLED, Reason.CANCELLED)


# --- a provider that is away --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [a_batch(), None])
@pytest.mark.parametrize(
    ("spec", "end"),
    [
        ({"cancel": True}, (Phase.CANCELLED, Reason.CANCELLED)),
        ({"activeDeadlineSeconds": 1}, (Phase.FAILED, Reason.DEADLINE_EXCEEDED)),
    ],
)
def test_a_job_that_must_end_does_not_wait_for_ever_for_a_provider_that_is_away(spec, end, batch):
    """After ten minutes it ends, and says that the batch is left behind and may cost."""
    seen = observed(ShardSeen(batch=batch, problem=AWAY))

    def asked_for(since: timedelta) -> Step:
        stopping = a_job(**spec).submitted().with_status(phase="Cancelling", unansweredSince=(NOW - since).isoformat())
        return step(stopping, seen)

    assert waits(asked_for(ASKED_FOR - timedelta(seconds=1))) == (Phase.CANCELLING, Reason.UNREACHABLE)
    made = asked_for(ASKED_FOR)
    assert ends(made) == end
    assert isinstance(made, Finish)
    assert "batch_1 on team/east" in made.message
    assert "may still cost" in made.message


def test_the_time_in_which_a_provider_answered_does_not_count():
    """A cancel that was accepted may last long before the provider is away."""
    since = (NOW - timedelta(minutes=30)).isoformat()
    running = a_job(cancel=True).submitted().with_status(phase="Cancelling", phaseTime=since)

    assert waits(step(running, observed(ShardSeen(problem=AWAY)))) == (Phase.CANCELLING, Reason.UNREACHABLE)


def test_a_create_in_doubt_does_not_hold_a_job_that_must_end_for_ever():
    """The provider that may have the batch is away."""
    since = (NOW - ASKED_FOR).isoformat()
    doubt = a_job(cancel=True).create_pending().with_status(phase="Cancelling", unansweredSince=since)

    assert ends(step(doubt, observed(ShardSeen(problem=AWAY)))) == (Phase.CANCELLED, Reason.CANCELLED)


@pytest.mark.parametrize("seen", [seen_batch("cancelling"), observed(ShardSeen(batch=a_batch(), cancel_accepted=True))])
def test_an_accepted_cancel_is_waited_for_but_not_for_ever(seen):
    """Ten minutes are usual; what some providers do for hours is paid for and comes home."""
    cancelled = a_job(cancel=True).submitted()
    early = cancelled.with_status(phase="Cancelling", phaseTime=(NOW - timedelta(minutes=20)).isoformat())
    hours = cancelled.with_status(phase="Cancelling", phaseTime=(NOW - timedelta(hours=26)).isoformat())
    late = cancelled.with_status(phase="Cancelling", phaseTime=(NOW - CANCELLED_WITHIN).isoformat())

    made = step(early, seen)
    assert isinstance(step(hours, seen), Wait)

    assert isinstance(made, Wait)
    assert made.until == NOW + CANCELLED_WITHIN - timedelta(minutes=20)
    assert ends(step(late, seen)) == (Phase.CANCELLED, Reason.CANCELLED)


# --- a job that ended ---------------------------------------------------------------------------------------------


def test_a_finished_job_does_nothing():
    """Whatever its spec says later."""
    assert step(a_job(cancel=True).submitted().finished("Succeeded")) == Idle()


def test_a_finished_job_deletes_itself_when_its_time_is_over():
    """ttlSecondsAfterFinished counts from completionTime; 0 is at once."""
    job = a_job(ttlSecondsAfterFinished=60).submitted()

    assert step(job.finished("Failed", ago=timedelta(seconds=59))) == Idle(until=NOW + timedelta(seconds=1))
    assert step(job.finished("Failed", ago=timedelta(seconds=60))) == DeleteJob()
    assert step(a_job(ttlSecondsAfterFinished=0).finished("Failed")) == DeleteJob()


def test_a_change_after_the_end_is_acknowledged():
    """A status of an older generation would be taken for one that is not done."""
    changed = a_job().submitted().finished("Succeeded").with_status(observedGeneration=0)

    assert step(changed) == Acknowledge()


# --- deletion -----------------------------------------------------------------------------------------------------


def test_a_deleted_job_without_a_batch_is_released():
    """Nothing is left behind; without our finalizer there is nothing to do."""
    assert step(a_job().deleted()) == Release()
    assert step(a_job().deleted().without_finalizer()) == Idle()


def test_a_deleted_job_cancels_its_batch_and_needs_no_more_than_that_accepted():
    """A provider takes minutes to end a batch."""
    job = a_job().submitted().deleted()

    assert step(job) == Poll(0, EAST, "batch_1")
    assert step(job, seen_batch()) == CancelBatch(0, EAST, "batch_1")
    assert step(job, seen_batch("cancelling")) == Release()
    assert step(job, observed(ShardSeen(batch=a_batch(), cancel_accepted=True))) == Release()


def test_a_deleted_job_that_retains_leaves_everything():
    """Another job of that name may adopt it."""
    assert step(a_job(deletionPolicy="Retain").submitted().deleted(), seen_batch()) == Release()


def test_a_deleted_job_takes_its_results_at_the_provider_along():
    """Of a job that ended, and of a batch that ended under a job that did not."""
    done = a_job().submitted().finished("Succeeded").with_status(outputFileID="file-out").deleted()
    ended = observed(ShardSeen(batch=a_batch("completed", error_file_id="file-err")))

    assert step(done) == DeleteOutputs()
    assert step(a_job().submitted().deleted(), ended) == DeleteOutputs()
    assert step(a_job().submitted().finished("Failed").deleted()) == Release()


def test_a_deleted_job_waits_for_a_provider_that_is_away_and_then_gives_up():
    """Tried again in seconds, until its time is over; what is left behind is told."""
    job = a_job().submitted().deleted(ago=timedelta(minutes=1))
    away = observed(ShardSeen(problem=AWAY))

    patient = step(job, replace(away, give_up_at=NOW + timedelta(seconds=1)))

    assert patient == AwaitCleanUp("no answer", NOW + timedelta(seconds=1))
    assert step(job, replace(away, give_up_at=NOW)) == Release(abandoned="no answer")


def test_a_clean_up_is_tried_once_however_late_it_is():
    """The operator may have been away for as long as its patience lasts."""
    job = a_job().submitted().deleted(ago=timedelta(hours=1))

    assert step(job, replace(seen_batch(), give_up_at=CREATED)) == CancelBatch(0, EAST, "batch_1")


def test_a_deleted_job_in_doubt_looks_for_its_batch_first():
    """A create that was recorded may have been made; one that was never sent was not."""
    job = a_job().create_pending().deleted()

    assert step(job) == LookFor(0, a_pending())
    assert step(job, observed(ShardSeen(fresh=True))) == Release()
    assert step(job, observed(ShardSeen(lookup=Lookup(absent=True)))) == Release()
    found = observed(ShardSeen(lookup=Lookup(found=a_batch(id="batch_7"))))
    assert step(job, found) == CancelBatch(0, EAST, "batch_7")


def test_a_deleted_job_whose_annotations_were_dropped_cleans_up_what_status_knows():
    """A replace and a delete in one breath leave no batch running."""
    bare = replace(a_job().submitted().deleted(), annotations={})

    assert step(bare, seen_batch()) == CancelBatch(0, EAST, "batch_1")


@pytest.mark.parametrize("delivered", [False, True])
def test_a_finished_job_does_not_wait_for_a_deployment_that_is_gone(delivered):
    """Nothing runs, and nobody can be asked; what may be left is told, unless it was brought home and deleted."""
    output = {"output": {"location": "configmap/out", "bytes": 1, "lines": 1}} if delivered else {}
    job = a_job().submitted().finished("Succeeded").with_status(outputFileID="file-out", **output).deleted()
    gone = Problem(Reason.DEPLOYMENT_NOT_FOUND, "the deployment that holds the result files does not exist")

    assert step(job, observed(ShardSeen(problem=gone))) == Release(abandoned="" if delivered else gone.message)


def test_a_deleted_job_leaves_a_batch_alone_that_is_not_its_own():
    """A forged annotation must not cancel somebody else's batch."""
    job = a_job().annotated(ShardRecord(deployment=EAST, batch_id="batch_1")).deleted()

    assert step(job, observed(ShardSeen(batch=a_batch(), ours=False))) == Release()
