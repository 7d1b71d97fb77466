"""When a watch is over, how it ends, and what it knows of time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from llmbatch.api import BatchJob
from llmbatch.api.base import rfc3339
from llmbatch.plugin.exits import Exit
from llmbatch.plugin.jobs.watched import Watched
from llmbatch.plugin.listwatch import Change
from support.builders import NOW, a_job

SYNCED = Change[BatchJob]("synced")


def put(name: str, phase: str = "InProgress", *, uid: str = "", **status: Any) -> Change[BatchJob]:
    """A job is new or changed."""
    if phase == "Succeeded":
        status["conditions"] = [
            {"type": "Complete", "status": "True", "reason": "Completed", "lastTransitionTime": rfc3339(NOW)}
        ]
    job = a_job().with_status(phase=phase, **status).build()
    meta = job.metadata.model_copy(update={"name": name, "uid": uid or f"uid-{name}"})
    return Change("put", job.model_copy(update={"metadata": meta}))


def gone(name: str, phase: str = "InProgress") -> Change[BatchJob]:
    """A job was deleted."""
    return Change("gone", put(name, phase).resource)


def after(*changes: Change[BatchJob], waiting_for: str = "") -> Watched:
    """What is known after these changes, when some jobs are waited for."""
    watched = Watched(frozenset(waiting_for.split()))
    for change in changes:
        watched.take(change, 0.0)
    return watched


@pytest.mark.parametrize(
    ("changes", "over", "code"),
    [
        ([put("a"), SYNCED], False, None),
        ([put("a", "Succeeded")], False, None),
        ([put("a", "Succeeded"), SYNCED], True, Exit.DONE),
        ([put("a", "Failed"), SYNCED], True, Exit.NO),
        ([put("a", "Cancelled"), SYNCED], True, Exit.NO),
        ([put("a"), SYNCED, gone("a")], True, Exit.NOT_FOUND),
        ([put("a", "Succeeded"), SYNCED, gone("a", "Succeeded")], True, Exit.DONE),
        ([put("a"), SYNCED, gone("a"), put("a", "Succeeded", uid="other")], True, Exit.DONE),
    ],
)
def test_a_watch_is_over_when_its_job_has_ended(changes: list[Change[BatchJob]], over: bool, code: Exit | None):
    """The exit code says how; a job that was deleted under way is not found, one that ended before has ended."""
    watched = after(*changes, waiting_for="a")

    assert watched.over is over
    assert not over or watched.exit is code


def test_all_named_jobs_must_end_and_others_do_not_matter():
    """A watch of two jobs waits for both, and a third that fails is none of its business."""
    some = [put("a", "Succeeded"), put("b"), put("c", "Failed"), SYNCED]

    assert not after(*some, waiting_for="a b").over
    assert after(*some, put("b", "Succeeded"), waiting_for="a b").exit is Exit.DONE
    assert after(*some, put("b", "Expired"), waiting_for="a b").exit is Exit.NO


def test_without_names_nothing_is_waited_for():
    """A watch of everything goes on: new jobs may come at any time."""
    assert not after(put("a", "Succeeded"), SYNCED).over


def test_a_job_that_was_never_there_is_known_once_all_were_told():
    """A name with a typing error is found at once, and not before the list is complete."""
    assert after(put("a"), waiting_for="a typo").absent == []
    assert after(put("a"), SYNCED, waiting_for="a typo").absent == ["typo"]


def test_the_time_left_goes_down_between_two_counts():
    """An estimate is as of the last count; what has passed since is taken off, also when other things change."""
    counts = {"total": 100, "completed": 50, "failed": 0}
    seen = {"requestCounts": counts, "startTime": rfc3339(NOW), "batchID": "batch_1"}
    running = put("a", **seen, lastPollTime=rfc3339(NOW + timedelta(seconds=50)))
    watched = Watched(frozenset())
    watched.take(running, at=1000.0)
    watched.take(put("a", **seen, lastPollTime=rfc3339(NOW + timedelta(seconds=50)), progress="50/100"), at=1010.0)

    assert [row.left for row in watched.rows(1020.0)] == [timedelta(seconds=30)]
