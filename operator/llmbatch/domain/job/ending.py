"""The end of a job: its batches have ended, their results are collected, and what they are decides how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from llmbatch.api.batchjob import BatchJob, Phase, Shard
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import FAULT
from llmbatch.domain.job.failures import Fault, classify
from llmbatch.domain.job.record import annotated, shards
from llmbatch.domain.job.steps import Close, Collect, Finish, Observed, Problem, Step, Wait
from llmbatch.domain.job.stopping import stop, time_in
from llmbatch.domain.remote import BatchState, RemoteBatch
from llmbatch.domain.results.counting import Totals

RESULTS_WITHIN = timedelta(minutes=10)
"""How long results that a completed batch must have are looked for."""
FIRST_LOOK_AGAIN = timedelta(seconds=10)
STALLED_AFTER = timedelta(days=1)
"""How long results that cannot be read are tried before a person is asked to look."""


def ended(job: BatchJob, seen: Observed, now: datetime) -> Step | None:
    """A batch that ended is collected; one that failed is sorted by whose fault it was."""
    batches = [known.batch for known in seen.shards if known.batch is not None]
    if not batches or any(annotated(job, shard.index).batch_id is None for shard in shards(job)):
        return None
    for shard, batch in zip(shards(job), batches, strict=False):
        if batch.state is BatchState.FAILED and (not _has_files(batch) or _is_empty(seen.totals)):
            return _failed(job, shard, batch, now)
    if seen.collect_problem:
        return _not_collected(job, seen.collect_problem, seen.collect_again, now)
    if seen.totals is None:
        return Collect(tuple(batches))
    if seen.output_problem:
        return Finish(Phase.FAILED, seen.output_problem.reason, seen.output_problem.message)
    return _missing(job, batches, seen.totals, now) or _outcome(job, batches, seen.totals, now)


def _not_collected(job: BatchJob, problem: Problem, again: datetime | None, now: datetime) -> Wait:
    if problem.reason is Reason.COLLECTING or time_in(job, Phase.COLLECTING, now) < STALLED_AFTER:
        return Wait(Phase.COLLECTING, problem.reason, problem.message, again)
    advice = "it is tried on, but has been for over a day: mend what this names, or fetch the files where they are"
    message = f"{problem.message}; {advice}; deleting the job gives them up"
    return Wait(Phase.COLLECTING, problem.reason, message, again, stalled=True)


def _has_files(batch: RemoteBatch) -> bool:
    return batch.output_file_id is not None or batch.error_file_id is not None


def _is_empty(totals: Totals | None) -> bool:
    """Whether results were looked for and none are there: a failed batch may name files that hold nothing (Azure)."""
    return totals is not None and not totals.lines


def promised(job: BatchJob, batches: Sequence[RemoteBatch]) -> int:
    """How many results must be there; 0 where nobody knows.

    A completed batch has one for each request of the file; of others, those that the provider counted as answered.
    """
    if any(batch.state is not BatchState.COMPLETED for batch in batches):
        return sum(batch.counts.completed for batch in batches)
    known = job.status.request_counts.total if job.status.request_counts else 0
    return max(known, sum(batch.counts.total for batch in batches))


def _missing(job: BatchJob, batches: Sequence[RemoteBatch], totals: Totals, now: datetime) -> Wait | None:
    """Results that a provider does not give at once are read again, ever more seldom; none at all are not believed."""
    wanted = promised(job, batches)
    if totals.lines >= wanted and (totals.lines or not _completed(batches)):
        return None
    since = job.status.unanswered_since if job.status.phase is Phase.COLLECTING else None
    waited = max(timedelta(0), now - since) if since else timedelta(0)
    left = RESULTS_WITHIN - waited
    if left <= timedelta(0):
        return None
    message = f"{_of(totals, wanted)} are there, though the batch has ended; they are read again"
    return Wait(Phase.COLLECTING, Reason.RESULTS_INCOMPLETE, message, now + min(left, max(waited, FIRST_LOOK_AGAIN)))


def _completed(batches: Sequence[RemoteBatch]) -> bool:
    return all(batch.state is BatchState.COMPLETED for batch in batches)


def _of(totals: Totals, wanted: int) -> str:
    return f"{totals.lines} of {wanted} results" if wanted else f"{totals.lines} results"


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
            f"run those of {_where(totals)} again in a new BatchFile{_oddities(totals)}",
        )
    if BatchState.CANCELLED in states:
        halt = stop(job, now)
        how = halt.message if halt else "the batch was cancelled at the provider"
        message = f"{how}; {done} requests were answered before"
        return Finish(halt.phase if halt else Phase.CANCELLED, halt.reason if halt else Reason.CANCELLED, message)
    return _completion(job, batches, totals)


def _completion(job: BatchJob, batches: Sequence[RemoteBatch], totals: Totals) -> Finish:
    done, failed, wanted = totals.lines_ok, totals.lines_failed, promised(job, batches)
    if not totals.lines:
        message = "the provider says that the batch is completed, but it gives no results; look there for its files"
        return Finish(Phase.FAILED, Reason.RESULTS_LOST, message)
    if totals.lines < wanted:
        message = (
            f"the provider completed the batch but gives only {_of(totals, wanted)}; nothing was deleted there: "
            "look there for the rest, or run what is missing in a new BatchFile"
        )
        return Finish(Phase.FAILED, Reason.RESULTS_INCOMPLETE, message)
    where, more = _where(totals), _oddities(totals)
    if failed and not done:
        message = f"all {failed} requests failed; see why in {where}{more}"
        return Finish(Phase.FAILED, Reason.ALL_REQUESTS_FAILED, message)
    if totals.unreadable:
        message = f"{done} requests answered, {failed} failed, see {where}{more}"
        return Finish(Phase.SUCCEEDED, Reason.COMPLETED_WITH_UNREADABLE_RESULTS, message)
    if totals.unmatched:
        message = f"{done} requests answered, {failed} failed{more}"
        return Finish(Phase.SUCCEEDED, Reason.COMPLETED_WITH_UNMATCHED_RESULTS, message)
    if failed:
        message = f"{done} requests answered, {failed} failed; see why in {where}{more}"
        return Finish(Phase.SUCCEEDED, Reason.COMPLETED_WITH_FAILURES, message)
    return Finish(Phase.SUCCEEDED, Reason.COMPLETED, f"{done} requests answered{more}")


def _where(totals: Totals) -> str:
    """The files that say why requests failed: some providers put refused requests among the answers."""
    files = {"error": "errors.jsonl", "output": "output.jsonl"}
    return " and ".join(files[name] for name in files if name in totals.failed_in) or "errors.jsonl"


def _oddities(totals: Totals) -> str:
    """What else there is to say of the lines."""
    said = ""
    if totals.unreadable:
        said += (
            f"; {totals.unreadable} lines cannot be read by anybody: they are in the output as they came, and the"
            " provider's files were kept"
        )
    if totals.unmatched:
        least = "at least " if totals.foreign is None else ""
        said += (
            f"; {least}{totals.unmatched} results cannot be matched to a request: they have no custom_id, or one that"
            " is not of the file; they are in the output, and the provider's files were kept"
        )
    if totals.repeated:
        said += f"; {totals.repeated} lines repeat a request that has a result, and were counted once"
    return said
