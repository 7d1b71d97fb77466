"""What is done about a job, and what a person is told, depends on how far the job is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmbatch.api import BatchJob
from llmbatch.plugin.commands.control import Decision, cancelling, resuming, suspending
from support.builders import a_job

WAITS = a_job().with_status(phase="Pending").build()
RUNS = a_job().submitted().with_status(phase="InProgress").build()
SUSPENDED = a_job(suspend=True).with_status(phase="Suspended").build()
ENDED = a_job().finished("Succeeded").build()
CANCELLED = a_job(cancel=True).finished("Cancelled").build()


@pytest.mark.parametrize(
    ("decide", "job", "spec", "refused"),
    [
        (cancelling, WAITS, {"cancel": True}, False),
        (cancelling, RUNS, {"cancel": True}, False),
        (cancelling, a_job(cancel=True).with_status(phase="Cancelling").build(), None, False),
        (cancelling, CANCELLED, None, False),
        (cancelling, ENDED, None, True),
        (suspending, WAITS, {"suspend": True}, False),
        (suspending, RUNS, {"suspend": True}, False),
        (suspending, SUSPENDED, None, False),
        (suspending, ENDED, None, True),
        (resuming, SUSPENDED, {"suspend": False}, False),
        (resuming, RUNS, None, False),
        (resuming, ENDED, None, True),
    ],
)
def test_a_job_is_changed_only_where_that_does_something(
    decide: Callable[[BatchJob], Decision], job: BatchJob, spec: dict[str, bool] | None, refused: bool
):
    """Asking twice is well; asking something of a job that has ended is refused."""
    assert decide(job)[::2] == (spec, refused)


def test_a_person_is_told_what_will_happen():
    """Nobody learns by surprise that a batch goes on, or where its results are."""
    assert "batch batch_1 runs already and goes on" in suspending(RUNS).told
    assert "left at the provider" in cancelling(RUNS).told
    collected = a_job(output={"configMap": {"name": "answers"}}).submitted().with_status(phase="InProgress").build()
    assert "what is done by then is collected" in cancelling(collected).told
