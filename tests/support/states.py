"""Every state that a job or a file can be in, as the API server stores it, told by the code that tells it in a cluster.

Health checks are shown against these: those of Argo CD and those of kstatus, and so of Flux.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from llmbatch.api import BatchFile, BatchJob
from llmbatch.api.base import Resource, rfc3339
from llmbatch.api.batchfile import BatchFileStatus, CopyState, FileDeployment
from llmbatch.api.batchjob import Phase
from llmbatch.api.crdgen import UNSEEN
from llmbatch.api.names import API_VERSION
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError, SourceDenied, SourceNotFound, StorageError
from llmbatch.domain.file import rules as lifecycle
from llmbatch.domain.file import status as filestatus
from llmbatch.domain.file.rules import Target
from llmbatch.domain.job import status as jobstatus
from llmbatch.domain.job.rules import denied, next_step
from llmbatch.domain.job.steps import (
    AwaitCleanUp,
    AwaitQuota,
    Close,
    Finish,
    Lookup,
    Observed,
    Problem,
    ShardSeen,
    Wait,
)
from llmbatch.domain.remote import Counts
from llmbatch.domain.requests.validation import InputCheck, InputLimits
from support.builders import (
    NOW,
    JobBuilder,
    a_batch,
    a_candidate,
    a_file,
    a_job,
    observed,
    ready_to_run,
    totals,
)
from support.cluster import Object

AWAY = Problem(Reason.UNREACHABLE, "no answer in time")


@dataclass(frozen=True)
class State:
    """One state, and what is to be made of it: the health of Argo CD and the status of kstatus."""

    name: str
    object: Object
    health: str
    kstatus: str


@dataclass(frozen=True)
class Verdict:
    """What both make of a group of states."""

    health: str
    kstatus: str

    def of(self, name: str, resource: Resource) -> State:
        """A state of this group."""
        kind = type(resource).KIND
        return State(f"{kind}: {name}", stored(resource), self.health, self.kstatus)


UNDER_WAY = Verdict("Progressing", "InProgress")
HELD = Verdict("Suspended", "InProgress")
WELL = Verdict("Healthy", "Current")
BROKEN = Verdict("Degraded", "Failed")
ENDED_ELSEWHERE = Verdict("Degraded", "Current")
"""Not Stalled, since nothing is left to be done; but it is not what Git asks for."""
GOING = Verdict("Progressing", "Terminating")


def stored(resource: Resource) -> Object:
    """A resource as the API server has it; a status that was never written is that of the CRD."""
    made = {"apiVersion": API_VERSION, "kind": type(resource).KIND, **resource.wire()}
    if "observedGeneration" not in made["status"]:
        made["status"] = UNSEEN
    return made


def every_state() -> list[State]:
    """All of them; their names are unique."""
    return [*job_states(), *file_states()]


# --- jobs -------------------------------------------------------------------------------------------------------------


def told(builder: JobBuilder, seen: Observed) -> BatchJob:
    """The job as one reconcile leaves it that saw this."""
    job = builder.build()
    step = next_step(job, seen, NOW)
    match step:
        case Close():
            return jobstatus.waiting(jobstatus.closed(job, step, NOW), Wait(Phase.PENDING, step.result, "again"), NOW)
        case AwaitQuota():
            again = jobstatus.awaiting_quota(job, step, NOW)
            return left_by(again, next_step(again, seen, NOW))
        case _:
            return left_by(job, step)


def left_by(job: BatchJob, step: object) -> BatchJob:
    """The job after a step that writes status."""
    match step:
        case Wait():
            return jobstatus.waiting(job, step, NOW)
        case Finish():
            return jobstatus.finished(job, step, NOW)
        case AwaitCleanUp():
            return jobstatus.deletion_waits(job, step.message, NOW)
    raise AssertionError(f"{step} leaves no status")


def batch(state: str, *, done: int = 0, errors: tuple[str, ...] = (), **seen: Any) -> Observed:
    """The job's batch in a state of the provider, with what was seen besides."""
    counts = Counts(3, done, 0)
    shard = ShardSeen(batch=a_batch(state, counts=counts, errors=errors, output_file_id="file-out" if done else None))
    return observed(shard, **seen)


def job_states() -> Iterator[State]:
    """Jobs, from their creation to their end and deletion."""
    yield UNDER_WAY.of("just created", a_job().build())
    yield from _waiting_jobs()
    yield from _running_jobs()
    yield from _jobs_that_ended_well()
    yield from _jobs_that_failed()
    yield from _changed_jobs()
    yield from _deleted_jobs()


def _waiting_jobs() -> Iterator[State]:
    pinned = a_job(deploymentRef={"namespace": "team", "name": "west"})
    with_output = a_job(output={"configMap": {"name": "answers"}}).build()
    for name, builder, seen in (
        ("its file is missing", a_job(), observed()),
        ("its file is not validated", a_job(), observed(file=a_file(valid=None))),
        ("no deployment serves its model", a_job(), observed(file=a_file())),
        ("its pin is missing", pinned, ready_to_run()),
        ("no deployment is Ready", a_job(), ready_to_run(a_candidate(ready=False))),
        ("its file is not uploaded", a_job(), ready_to_run(a_candidate(file_id=None))),
        ("no headroom", a_job(), ready_to_run(a_candidate(active=1, max_active=1))),
        ("every deployment refused it", a_job().with_shard(refusedBy=["team/east"]), ready_to_run()),
        ("its batch failed for quota", a_job().submitted(), batch("failed", errors=("token_limit_exceeded",))),
        ("its batch failed by the service", a_job().submitted(), batch("failed")),
        ("a create was not answered", a_job().create_pending(), observed(ShardSeen(lookup=Lookup(until=NOW)))),
        ("a create is in doubt and the provider away", a_job().create_pending(), observed(ShardSeen(problem=AWAY))),
    ):
        yield UNDER_WAY.of(name, told(builder, seen))
    for reason in (Reason.OUTPUT_DENIED, Reason.CREDENTIALS_INVALID, Reason.SECRET_NOT_FOUND):
        unwritten = Wait(Phase.PENDING, reason, "the output cannot be written")
        yield UNDER_WAY.of(f"its output has {reason.value}", left_by(with_output, unwritten))
    held = told(a_job(suspend=True), observed())
    yield HELD.of("suspended", held)
    resumed = a_job().with_status(conditions=[found.wire() for found in held.status.conditions])
    yield UNDER_WAY.of("resumed", told(resumed, observed()))


def _running_jobs() -> Iterator[State]:
    for name, builder, seen in (
        ("validating", a_job().submitted(), batch("validating")),
        ("in progress", a_job().submitted(), batch("in_progress", done=1)),
        ("finalizing", a_job().submitted(), batch("finalizing", done=3)),
        ("suspended too late", a_job(suspend=True).submitted(), batch("in_progress")),
        (
            "its provider is away",
            a_job().submitted().with_status(phase="InProgress"),
            observed(ShardSeen(problem=AWAY)),
        ),
        ("cancelling", a_job(cancel=True).submitted(), batch("cancelling")),
        ("its deadline passed", a_job(activeDeadlineSeconds=60).submitted(), batch("cancelling")),
        ("results incomplete at first", a_job().submitted(), batch("completed", done=3, totals=totals(2))),
    ):
        yield UNDER_WAY.of(name, told(builder, seen))
    for reason in (Reason.COLLECTING, Reason.OUTPUT_FAILED, Reason.RATE_LIMITED, Reason.DEPLOYMENT_NOT_FOUND):
        problem = Problem(reason, "tried again")
        seen = batch("completed", done=3, collect_problem=problem)
        yield UNDER_WAY.of(f"its collection has {reason.value}", told(a_job().submitted(), seen))


def _jobs_that_ended_well() -> Iterator[State]:
    run = a_job().submitted()
    cancelled = a_job(cancel=True)
    yield WELL.of("every request answered", told(run, batch("completed", done=3, totals=totals(3))))
    yield WELL.of("some requests failed", told(run, batch("completed", done=3, totals=totals(2, 1))))
    yield WELL.of("cancelled before it ran", told(cancelled, observed()))
    unreadable = batch("completed", done=3, totals=totals(2, 1, unreadable=1, failed_in=frozenset({"output"})))
    yield WELL.of("a result that nobody can read", told(run, unreadable))
    yield WELL.of("a result of no request", told(run, batch("completed", done=3, totals=totals(3, nameless=1))))
    yield WELL.of("cancelled while it ran", told(cancelled.submitted(), batch("cancelled", totals=totals(0))))
    hook = stored(told(cancelled, observed()))
    hook["metadata"]["annotations"] = {"argocd.argoproj.io/hook": "Sync"}
    yield State("BatchJob: a hook that was cancelled", hook, ENDED_ELSEWHERE.health, ENDED_ELSEWHERE.kstatus)
    yield ENDED_ELSEWHERE.of("cancelled at the provider", told(run, batch("cancelled", totals=totals(0))))


def _jobs_that_failed() -> Iterator[State]:
    run = a_job().submitted()
    late = run.with_status(phase="Collecting", unansweredSince=rfc3339(NOW - timedelta(hours=1)))
    stuck = run.with_status(phase="Collecting", phaseTime=rfc3339(NOW - timedelta(days=2)))
    conflict = Problem(Reason.OUTPUT_CONFLICT, "ConfigMap answers exists")
    too_large = Problem(Reason.OUTPUT_TOO_LARGE, "use url")
    for name, builder, seen in (
        ("every request failed", run, batch("completed", totals=totals(0, 3))),
        ("its file is invalid", a_job(), observed(file=a_file(valid=False))),
        ("its file has two models", a_job(), observed(file=a_file(models=("a", "b")))),
        ("its model is not the file's", a_job(targetModelName="other"), observed(file=a_file())),
        ("its endpoint is not the lines'", a_job(endpoint="/v1/embeddings"), observed(file=a_file())),
        ("the provider refused the input", run, batch("failed", errors=("invalid_json_line",))),
        ("too many batches failed", a_job(backoffLimit=0).submitted(), batch("failed")),
        ("its batch is unknown", run, observed(ShardSeen(unknown=True))),
        ("its deadline passed before it ran", a_job(activeDeadlineSeconds=60), observed()),
        ("expired", run, batch("expired", done=1, totals=totals(1, 2))),
        ("its output exists", run, batch("completed", done=3, totals=totals(3), output_problem=conflict)),
        ("its output is too large", run, batch("completed", done=3, totals=totals(3), output_problem=too_large)),
        ("its results are incomplete", late, batch("completed", done=3, totals=totals(2))),
        ("its results cannot be read for days", stuck, batch("completed", done=3, collect_problem=AWAY)),
        ("its results are lost", late, batch("completed", totals=totals(0))),
    ):
        yield BROKEN.of(name, told(builder, seen))
    refused = Finish(Phase.FAILED, Reason.BATCH_REFUSED, "refused; mend the cause")
    yield BROKEN.of("its create was refused", left_by(a_job().build(), refused))
    yield BROKEN.of("its key was refused for long", left_by(a_job().build(), denied(a_job().build())))
    barred = {"number": 1, "deployment": {"namespace": "team", "name": "east"}, "result": "PermissionDenied"}
    job = a_job().with_status(attempts=[barred]).build()
    yield BROKEN.of("its account may not make batches", left_by(job, denied(job)))


def _changed_jobs() -> Iterator[State]:
    for name, job in (
        ("suspended, and not seen yet", told(a_job(), observed())),
        ("changed while it runs", told(a_job().submitted(), batch("in_progress"))),
        ("changed after its end", told(a_job().submitted(), batch("completed", done=3, totals=totals(3)))),
        ("changed after it failed", told(a_job(), observed(file=a_file(valid=False)))),
    ):
        changed = job.model_copy(update={"metadata": job.metadata.model_copy(update={"generation": 2})})
        yield UNDER_WAY.of(name, changed)
    failed = told(a_job(), observed(file=a_file(valid=False)))
    yield BROKEN.of("failed, and cancelled since", failed.model_copy(update={"spec": a_job(cancel=True).build().spec}))


def _deleted_jobs() -> Iterator[State]:
    run, later = a_job().submitted(), NOW + timedelta(minutes=10)
    yield GOING.of("deleted before it was seen", a_job().deleted().build())
    for name, job in (
        ("deleted while it runs", told(run, batch("in_progress"))),
        ("deleted after its end", told(run, batch("completed", done=3, totals=totals(3)))),
        ("deleted after it failed", told(a_job(), observed(file=a_file(valid=False)))),
        ("its deletion waits", told(run.deleted(), observed(ShardSeen(problem=AWAY), give_up_at=later))),
    ):
        metadata = job.metadata.model_copy(update={"deletion_timestamp": NOW})
        yield GOING.of(name, job.model_copy(update={"metadata": metadata}))


# --- files ------------------------------------------------------------------------------------------------------------

FIRST_SEEN = datetime(2026, 3, 1, tzinfo=UTC)


def input_file(*, generation: int = 1, deleted: bool = False, **status: Any) -> BatchFile:
    """A BatchFile as its author wrote it, with a part of its status."""
    metadata = {"name": "questions", "namespace": "team", "uid": "uid-2", "generation": generation}
    times = {"creationTimestamp": FIRST_SEEN} | ({"deletionTimestamp": NOW} if deleted else {})
    spec = {"targetModelNames": ["gpt"], "source": {"configMapKeyRef": {"name": "questions", "key": "lines"}}}
    made = BatchFile.model_validate({"metadata": metadata | times, "spec": spec})
    return made.model_copy(update={"status": BatchFileStatus(**status)})


def with_status(file: BatchFile, status: BatchFileStatus) -> BatchFile:
    """The file after a write of its status."""
    return file.model_copy(update={"status": status})


def copy(state: CopyState, name: str = "east") -> FileDeployment:
    """The entry of one deployment."""
    files = [{"fileID": f"file-{name}", "state": state}]
    entry = {"namespace": "team", "name": name, "modelName": "gpt", "state": state, "files": files}
    return FileDeployment.model_validate(entry)


def failed_copy(reason: Reason, name: str = "west") -> FileDeployment:
    """The entry of a deployment that has no copy, and why."""
    target = Target(f"team/{name}", "gpt", "gpt /v1/", InputLimits(100, 1000), 500)
    return lifecycle.failed(target, None, reason, "tried again", NOW)


def with_copies(*copies: FileDeployment) -> BatchFile:
    """A valid file with these copies."""
    valid = input_file(requests=3, sha256="a" * 64)
    return with_status(valid, filestatus.summary(valid, copies, NOW))


def refused_file() -> BatchFile:
    """A file that broke a rule."""
    check = InputCheck(["gpt"])
    check.feed(b"[]\n")
    return with_status(input_file(), filestatus.invalid(input_file(), check.finish(), NOW))


def file_states() -> Iterator[State]:
    """Files, from their creation to their deletion."""
    yield UNDER_WAY.of("just created", input_file())
    yield from _unread_files()
    yield from _valid_files()
    yield BROKEN.of("invalid", refused_file())
    changed = refused_file().model_copy(update={"metadata": input_file(generation=2).metadata})
    yield UNDER_WAY.of("invalid, and changed since", changed)
    seen = with_status(changed, filestatus.still_invalid(changed, NOW))
    yield BROKEN.of("invalid, and the change was seen", seen)
    yield from _deleted_files()


def _unread_files() -> Iterator[State]:
    for error in (
        SourceNotFound("create it", reason=Reason.CONFIG_MAP_NOT_FOUND),
        SourceNotFound("add it", reason=Reason.CONFIG_MAP_KEY_NOT_FOUND),
        SourceNotFound("create it", reason=Reason.SECRET_NOT_FOUND),
        SourceNotFound("add it", reason=Reason.SECRET_KEY_NOT_FOUND),
        SourceNotFound("put it there"),
        SourceDenied("mend the Secret"),
        StorageError("no answer"),
        CredentialsError("mend the Secret", reason=Reason.CREDENTIALS_INVALID),
    ):
        unread = with_status(input_file(), filestatus.unread(input_file(), error, NOW))
        yield UNDER_WAY.of(f"unread for {error.reason.value}", unread)


def _valid_files() -> Iterator[State]:
    ready, nowhere = copy(CopyState.PROCESSED), failed_copy(Reason.UPLOAD_FAILED)
    yield UNDER_WAY.of("no deployment", with_copies())
    yield UNDER_WAY.of("on its way", with_copies(copy(CopyState.UPLOADING)))
    yield UNDER_WAY.of("processed by the provider", with_copies(copy(CopyState.PROCESSING)))
    yield WELL.of("everywhere", with_copies(ready, copy(CopyState.PROCESSED, "west")))
    yield WELL.of("on one, on its way to another", with_copies(ready, copy(CopyState.UPLOADING, "west")))
    yield WELL.of("on one, failing on another", with_copies(ready, nowhere))
    changed = failed_copy(Reason.SOURCE_CHANGED)
    yield BROKEN.of("its content changed", with_copies(changed))
    yield BROKEN.of("its content changed after one upload", with_copies(ready, changed))
    for reason in (
        Reason.UPLOAD_FAILED,
        Reason.LIMIT_EXCEEDED,
        Reason.UNAUTHORIZED,
        Reason.UNREACHABLE,
        Reason.PROVIDER_ERROR,
        Reason.ENDPOINT_NOT_ALLOWED,
        Reason.SUSPENDED,
    ):
        yield UNDER_WAY.of(f"nowhere for {reason.value}", with_copies(failed_copy(reason)))


def _deleted_files() -> Iterator[State]:
    yield GOING.of("deleted before it was seen", input_file(deleted=True))
    for name, file in (("ready", with_copies(copy(CopyState.PROCESSED))), ("invalid", refused_file())):
        deleted = file.model_copy(update={"metadata": input_file(deleted=True).metadata})
        yield GOING.of(f"deleted while {name}", deleted)
        yield GOING.of(f"deleted while {name}, held", with_status(deleted, filestatus.held(deleted, ["run-1"], NOW)))
        clinging = filestatus.clinging(deleted, ["team/east"], NOW)
        yield GOING.of(f"deleted while {name}, clinging", with_status(deleted, clinging))
