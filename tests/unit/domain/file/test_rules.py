"""What one reconcile does with a file's copies, and what status then says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmbatch.api import BatchFile
from llmbatch.api.batchfile import BatchFileStatus, CopyState, FileDeployment
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition
from llmbatch.domain.errors import SourceNotFound
from llmbatch.domain.file import rules as lifecycle
from llmbatch.domain.file import status as filestatus
from llmbatch.domain.file.rules import FileSeen, Plan, Target
from llmbatch.domain.remote import FileState, RemoteFile
from llmbatch.domain.requests.validation import InputCheck, InputLimits

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EAST, WEST = "team/east", "team/west"
GONE = (Reason.CONFIG_MAP_NOT_FOUND, "ConfigMap requests does not exist; create it")
CHANGED = (Reason.SOURCE_CHANGED, "the source changed")


def a_file(*entries: FileDeployment, **status: Any) -> BatchFile:
    """A file that was validated, with these entries."""
    metadata = {"name": "f", "namespace": "team", "uid": "u", "generation": 3, "creationTimestamp": NOW}
    spec = {"targetModelNames": ["m"], "source": {"inline": "x"}}
    made = BatchFile.model_validate({"metadata": metadata, "spec": spec})
    values = {"requests": 10, "sha256": "a" * 64, "endpoint": "/v1/embeddings", "deployments": list(entries), **status}
    return made.model_copy(update={"status": BatchFileStatus(**values)})


def a_target(route: str = EAST, **changes: Any) -> Target:
    """A deployment that takes the file."""
    fields = {"model_name": "m", "form": "gpt /v1/", "limits": InputLimits(100, 1000), "size": 500, **changes}
    return Target(route, **fields)


def an_entry(state: CopyState, route: str = EAST, *, left: timedelta | None = None, **changes: Any) -> FileDeployment:
    """An entry with a copy, where a copy of its state exists; ``left`` is how long the copy still lives."""
    namespace, name = route.split("/")
    held = state in (CopyState.PROCESSED, CopyState.PROCESSING)
    copy = {
        "fileID": f"file-{name}",
        "state": state,
        "uploadTime": NOW - 700 * HOUR,
        "expiryTime": NOW + left if left is not None else None,
    }
    entry = {"namespace": namespace, "name": name, "modelName": "m", "form": "gpt /v1/", "state": state}
    return FileDeployment.model_validate({**entry, "files": [copy] if held else [], **changes})


def uploads(file: BatchFile, **seen: Any) -> tuple[str, ...]:
    """Where the file is to be uploaded to."""
    return lifecycle.plan(file, FileSeen(**{"targets": [a_target()], **seen}), NOW).upload


# --- plan -------------------------------------------------------------------------------------------------------------


def test_a_file_goes_to_every_deployment_that_has_no_entry():
    """Each deployment is taken by itself: new ones get the file, those that hold it are left alone."""
    file = a_file(an_entry(CopyState.PROCESSED, EAST))

    assert uploads(file, targets=[a_target(EAST), a_target(WEST)]) == (WEST,)


@pytest.mark.parametrize("state", [CopyState.PENDING, CopyState.UPLOADING])
def test_an_upload_that_a_crash_cut_off_begins_again(state):
    """An entry that says Uploading while nobody uploads is uploaded, and left alone while somebody does."""
    file = a_file(an_entry(state))

    assert uploads(file) == (EAST,)
    assert uploads(file, uploading=[EAST]) == ()


@pytest.mark.parametrize(("after", "wanted"), [(-1, (EAST,)), (0, (EAST,)), (1, ())])
def test_a_failed_upload_waits_for_its_time(after, wanted):
    """It is tried again when its own backoff is over."""
    retry = NOW + timedelta(seconds=after)

    assert uploads(a_file(an_entry(CopyState.FAILED, retryTime=retry))) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"unusable": GONE},
        {"limits": InputLimits(9, 1000)},
        {"limits": InputLimits(100, 499)},
        {"limits": InputLimits(100, 1000, frozenset({"/v1/responses"}))},
    ],
)
def test_nothing_is_sent_to_a_deployment_that_cannot_take_it(changes):
    """Not Ready, too many requests for it, or too many bytes."""
    assert uploads(a_file(), targets=[a_target(**changes)]) == ()


def test_a_copy_is_made_again_when_the_provider_lost_it():
    """A suspicion counts for the copy that it names, not for one that took its place."""
    file = a_file(an_entry(CopyState.PROCESSED))

    assert uploads(file, suspects={EAST: "file-east"}) == (EAST,)
    assert uploads(file, suspects={EAST: "file-before"}) == ()


@pytest.mark.parametrize(("left", "needed", "wanted"), [(47, True, (EAST,)), (49, True, ()), (47, False, ())])
def test_a_copy_that_ends_soon_is_made_again_when_a_job_needs_it(left, needed, wanted):
    """Under 48 hours are too few for a batch that may take 24; without a job nothing is sent for that."""
    assert uploads(a_file(an_entry(CopyState.PROCESSED, left=left * HOUR)), needed=needed) == wanted


def test_a_copy_that_was_never_to_live_long_is_not_made_again_for_ever():
    """With a time to live of a day, one half of it is enough."""
    assert lifecycle.lasts(NOW, NOW + 24 * HOUR, NOW + 11 * HOUR)
    assert not lifecycle.lasts(NOW, NOW + 24 * HOUR, NOW + 13 * HOUR)
    assert lifecycle.lasts(NOW, None, NOW + 9999 * HOUR)


def test_a_copy_in_another_form_is_made_again():
    """When the deployment stands for another model, the old copy would run on the wrong one."""
    assert uploads(a_file(an_entry(CopyState.PROCESSED, form="old-model /v1/"))) == (EAST,)


def test_without_the_source_nothing_is_uploaded_but_copies_are_still_followed():
    """A source that is gone keeps no copy from being processed."""
    file = a_file(an_entry(CopyState.PROCESSING, EAST))
    seen = FileSeen(targets=[a_target(EAST), a_target(WEST)], unreadable=GONE)

    assert lifecycle.plan(file, seen, NOW) == Plan(check=(EAST,))


def test_a_copy_on_a_deployment_that_vanished_is_dropped_when_no_batch_runs_there():
    """A batch still reads its input."""
    file = a_file(an_entry(CopyState.PROCESSED, WEST))

    assert lifecycle.plan(file, FileSeen(targets=[]), NOW) == Plan(drop=(WEST,))
    assert lifecycle.plan(file, FileSeen(targets=[], in_use=[WEST]), NOW) == Plan()


# --- when to look again -----------------------------------------------------------------------------------------------


def test_a_file_is_looked_at_again_when_something_is_due():
    """The earliest retry, check or clean-up counts; what wakes the file by itself does not."""
    retry = NOW + timedelta(seconds=1)
    failed = an_entry(CopyState.FAILED, EAST, retryTime=retry)
    seen = FileSeen(targets=[a_target(EAST), a_target(WEST)])

    assert lifecycle.next_look([failed, an_entry(CopyState.PROCESSING, WEST)], seen, [], NOW) == retry
    assert lifecycle.next_look([an_entry(CopyState.PROCESSED)], seen, [], NOW) is None
    assert lifecycle.next_look([an_entry(CopyState.PROCESSED, "team/old")], seen, [], NOW) == NOW + lifecycle.DROP_AGAIN


@pytest.mark.parametrize(("age", "wait"), [(0, 2), (20, 2), (100, 10), (300, 30), (9000, 30)])
def test_a_copy_that_stays_in_processing_is_asked_about_more_and_more_seldom(age, wait):
    """Every 2 seconds at first, every 30 for one that takes its time."""
    copy = {"fileID": "file-east", "state": "Processing", "uploadTime": NOW - timedelta(seconds=age)}
    entry = an_entry(CopyState.PROCESSING, files=[copy])

    assert lifecycle.next_look([entry], FileSeen(targets=[a_target()]), [], NOW) == NOW + timedelta(seconds=wait)


def test_a_retry_that_is_under_way_or_cannot_be_made_is_not_waited_for():
    """Its time is over and stays over: waiting for it would be a loop."""
    failed = an_entry(CopyState.FAILED, EAST, retryTime=NOW - HOUR)

    assert lifecycle.next_look([failed], FileSeen(targets=[a_target()]), [EAST], NOW) is None
    assert lifecycle.next_look([failed], FileSeen(targets=[a_target(unusable=GONE)]), [], NOW) is None


# --- entries ----------------------------------------------------------------------------------------------------------


def entry_of(file: BatchFile, seen: FileSeen, results: dict[str, FileDeployment] | None = None) -> FileDeployment:
    """The entry for the first deployment."""
    return lifecycle.entries(file, seen, results or {}, [], NOW)[0]


def test_what_was_just_learnt_takes_the_place_of_what_was_known():
    """A result is the new entry."""
    file, done = a_file(an_entry(CopyState.FAILED)), an_entry(CopyState.PROCESSED)

    assert entry_of(file, FileSeen(targets=[a_target()]), {EAST: done}) == done


def test_entries_say_why_nothing_is_uploaded():
    """Limits, a deployment that is not Ready and a source that cannot be read each have their own reason."""
    for seen, reason in (
        (FileSeen(targets=[a_target(limits=InputLimits(1))]), "LimitExceeded"),
        (FileSeen(targets=[a_target(unusable=(Reason.UNAUTHORIZED, "no"))]), "Unauthorized"),
        (FileSeen(targets=[a_target()], unreadable=GONE), "ConfigMapNotFound"),
    ):
        assert entry_of(a_file(), seen).reason == reason


def test_a_copy_whose_provider_does_not_answer_stays_known():
    """A deployment that is not Ready for a while keeps its entry."""
    held = an_entry(CopyState.PROCESSED)

    assert entry_of(a_file(held), FileSeen(targets=[a_target(unusable=GONE)])) == held


def test_a_lost_copy_that_cannot_be_made_again_is_not_offered_to_jobs():
    """It keeps its id, so that it is cleaned up, but is not Processed any more."""
    seen = FileSeen(targets=[a_target()], suspects={EAST: "file-east"}, unreadable=GONE)

    entry = entry_of(a_file(an_entry(CopyState.PROCESSED)), seen)

    assert (entry.state, entry.files[0].file_id) == (CopyState.FAILED, "file-east")


def test_a_copy_that_came_while_its_deployment_went_is_kept_in_mind():
    """Its entry stays until the copy is dropped."""
    done = an_entry(CopyState.PROCESSED, WEST)

    assert lifecycle.entries(a_file(), FileSeen(), {WEST: done}, [], NOW) == [done]
    assert lifecycle.entries(a_file(done), FileSeen(), {}, [WEST], NOW) == []


def test_failures_are_counted_and_waited_out_longer_each_time():
    """5 s, doubling; what the provider asked for is obeyed; the old copy's id is kept."""
    first = lifecycle.failed(a_target(), an_entry(CopyState.PROCESSED), Reason.PROVIDER_ERROR, "no", NOW)
    second = lifecycle.failed(a_target(), first, Reason.PROVIDER_ERROR, "no", NOW)
    asked = lifecycle.failed(a_target(), second, Reason.RATE_LIMITED, "no", NOW, wait=timedelta(minutes=5))

    assert [entry.failures for entry in (first, second, asked)] == [1, 2, 3]
    assert [entry.retry_time for entry in (first, second, asked)] == [
        NOW + timedelta(seconds=seconds) for seconds in (5, 10, 300)
    ]
    assert asked.files[0].file_id == "file-east"


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (FileState.PROCESSED, CopyState.PROCESSED),
        (FileState.PROCESSING, CopyState.PROCESSING),
        (FileState.ERROR, CopyState.FAILED),
    ],
)
def test_what_the_provider_says_of_a_copy_becomes_its_state(state, wanted):
    """After the upload and after each check alike; a copy in error is tried again."""
    remote = RemoteFile("file-1", "name", state, bytes=500, created_at=NOW, expires_at=NOW + 720 * HOUR)

    made = lifecycle.uploaded(a_target(), remote, 10, NOW)
    checked = lifecycle.checked(a_target(), an_entry(CopyState.PROCESSING), remote, NOW)

    for entry in (made, checked):
        assert entry.state is wanted
        assert entry.files[0].state is wanted
        assert (entry.retry_time is not None) == (wanted is CopyState.FAILED)
    assert made.form == "gpt /v1/"


# --- status -----------------------------------------------------------------------------------------------------------


def said(status: BatchFileStatus) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition but Validated."""
    return {found.type: (found.status, found.reason) for found in status.conditions if found.type != "Validated"}


def test_a_file_that_is_everywhere_is_uploaded():
    """Ready and Uploaded, and nothing else."""
    status = filestatus.summary(a_file(), [an_entry(CopyState.PROCESSED)], NOW)

    assert said(status) == {"Ready": ("True", "Uploaded"), "Uploaded": ("True", "Uploaded")}
    assert status.observed_generation == 3


def test_a_file_that_is_somewhere_is_ready_and_not_reconciling():
    """Only Uploaded tells of the deployment that fails."""
    bad = lifecycle.failed(a_target(WEST), None, Reason.UNREACHABLE, "nobody there", NOW)

    status = filestatus.summary(a_file(), [an_entry(CopyState.PROCESSED), bad], NOW)

    assert said(status) == {"Ready": ("True", "Uploaded"), "Uploaded": ("False", "Unreachable")}
    uploaded = condition(status.conditions, ConditionType.UPLOADED)
    assert uploaded is not None
    assert uploaded.message == "1 of 2 deployments hold the file; team/west: nobody there"


def test_a_file_that_is_nowhere_is_reconciling():
    """With the reason of what fails, or that there is no deployment."""
    bad = lifecycle.failed(a_target(), None, Reason.UNREACHABLE, "nobody there", NOW)

    assert said(filestatus.summary(a_file(), [bad], NOW))["Reconciling"] == ("True", "Unreachable")
    assert said(filestatus.summary(a_file(), [], NOW))["Reconciling"] == ("True", "DeploymentNotFound")


def test_changed_content_is_stalled_and_good_copies_stay_ready():
    """Time does not heal it, so it is Stalled and not Reconciling."""
    bad = lifecycle.failed(a_target(WEST), None, *CHANGED, NOW)

    status = filestatus.summary(a_file(), [an_entry(CopyState.PROCESSED), bad], NOW)

    assert said(status) == {
        "Ready": ("True", "Uploaded"),
        "Uploaded": ("False", "SourceChanged"),
        "Stalled": ("True", "SourceChanged"),
    }
    assert said(filestatus.summary(a_file(), [bad], NOW))["Ready"] == ("False", "SourceChanged")


def test_a_refused_file_tells_the_first_error_and_binds_the_content():
    """Stalled, with the line, the number of further errors and the hash of what was read."""
    check = InputCheck(["m"])
    check.feed(b"[]\n{}\n")
    report = check.finish()

    status = filestatus.invalid(a_file(), report, NOW)

    assert said(status) == {"Ready": ("False", "InvalidInput"), "Stalled": ("True", "InvalidInput")}
    assert status.conditions[0].message.startswith("line 1: ")
    assert f"and {report.error_count - 1} more" in status.conditions[0].message
    assert status.sha256 == report.sha256
    refused = a_file().model_copy(update={"status": status})
    assert filestatus.is_validated(refused)
    assert not filestatus.is_valid(refused)


def test_a_source_that_cannot_be_read_is_reconciling_and_unknown():
    """Whether the content is valid is not known; nothing is bound."""
    error = SourceNotFound("no such ConfigMap", reason=Reason.CONFIG_MAP_NOT_FOUND)

    status = filestatus.unread(a_file(sha256=None), error, NOW)

    assert said(status)["Reconciling"] == ("True", "ConfigMapNotFound")
    validated = condition(status.conditions, ConditionType.VALIDATED)
    assert validated is not None
    assert validated.status == "Unknown"


def test_a_refused_file_takes_note_of_a_new_generation():
    """Whatever is changed of it, its conditions stay, for the present generation."""
    check = InputCheck(["m"])
    check.feed(b"[]\n")
    before = filestatus.invalid(a_file(), check.finish(), NOW)
    meta = a_file().metadata.model_copy(update={"generation": 4})

    after = filestatus.still_invalid(a_file().model_copy(update={"status": before, "metadata": meta}), NOW + HOUR)

    assert said(after) == said(before)
    assert after.observed_generation == 4
    assert {found.observed_generation for found in after.conditions} == {4}
    assert after.conditions[0].last_transition_time == before.conditions[0].last_transition_time


def test_a_deletion_that_waits_names_the_jobs():
    """The first five, and how many more; what else was said stays."""
    ready = filestatus.summary(a_file(), [an_entry(CopyState.PROCESSED)], NOW)
    file = a_file().model_copy(update={"status": ready.model_copy(update={"observed_generation": 2})})

    status = filestatus.held(file, [f"job-{number}" for number in range(7)], NOW)

    assert said(status)["Reconciling"] == ("True", "DeletionWaits")
    assert said(status)["Ready"] == ("True", "Uploaded")
    assert status.observed_generation == 3
    waits = condition(status.conditions, ConditionType.RECONCILING)
    assert waits is not None
    assert "job-4 and 2 more" in waits.message
