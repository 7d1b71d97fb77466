"""Rates and times left come from the counts that a job's status tells."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llmbatch.api import BatchJob
from llmbatch.api.base import rfc3339
from llmbatch.plugin.jobs.progress import Pace, bar, left_text, rate_text, span_text
from support.builders import NOW, a_job


def counted(
    completed: int, after: float, *, batch: str = "batch_1", begun: float = 0, total: int = 1000, failed: int = 0
) -> BatchJob:
    """A running job whose counts were seen so many seconds after noon, when or after its batch was begun."""
    counts = {"total": total, "completed": completed, "failed": failed}
    seen = rfc3339(NOW + timedelta(seconds=after))
    job = a_job().submitted(batch).with_shard(submitTime=rfc3339(NOW + timedelta(seconds=begun)))
    return job.with_status(phase="InProgress", requestCounts=counts, lastPollTime=seen).build()


def paced(*jobs: BatchJob) -> Pace:
    """What is known after these were read."""
    pace = Pace()
    for job in jobs:
        pace.see(job)
    return pace


def test_the_first_count_gives_the_rate_since_the_start():
    """A watch that begins late knows the rate at once."""
    job = counted(100, after=50)

    assert paced(job).rate == 2.0
    assert paced(job).left(job) == timedelta(seconds=450)


def test_the_rate_is_that_of_the_last_minutes():
    """A batch that waited in the provider's line first is not slow for ever."""
    jobs = [counted(0, after=7200), counted(60, after=7500), counted(660, after=7800)]

    assert paced(*jobs).rate == 660 / 600


def test_failed_requests_are_done_too():
    """What has failed is not waited for."""
    job = counted(90, after=50, failed=10)

    assert paced(job).rate == 2.0


def test_the_same_count_twice_changes_nothing():
    """A status that is read again, or written for another reason, is no news of the rate."""
    job = counted(100, after=50)

    assert paced(job, job).rate == paced(job).rate


def test_another_batch_begins_anew():
    """After a failed attempt the old one's rate is forgotten."""
    assert paced(counted(900, after=50), counted(10, after=100, batch="batch_2", begun=80)).rate == 0.5


def test_a_job_that_was_not_submitted_has_no_rate_and_no_end():
    """Nothing is made up where nothing is known."""
    job = a_job().build()

    assert paced(job).rate is None
    assert paced(job).left(job) is None


def test_a_batch_that_answers_nothing_has_no_end():
    """A rate of nought gives no time left, and no error."""
    job = counted(0, after=50)

    assert paced(job).rate == 0
    assert paced(job).left(job) is None


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, "-"), (0, "0/s"), (0.004, "0.004/s"), (0.349, "0.35/s"), (4.21, "4.2/s"), (123.4, "123/s")],
)
def test_rates_are_short(rate: float | None, text: str):
    """A rate takes a few characters, whatever its size."""
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45, "45s"), (200, "3m20s"), (754, "12m"), (7500, "2h05m"), (356400, "4d3h"), (-5, "0s")],
)
def test_lengths_of_time_are_short(seconds: float, text: str):
    """A length of time is as exact as a person needs it."""
    assert span_text(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (-3, "soon"), (0, "soon"), (7, "10s"), (61, "1m10s"), (601, "11m")]
)
def test_the_time_left_goes_in_steps(seconds: float | None, text: str):
    """An estimate that changes every second is a flicker and no news."""
    assert left_text(None if seconds is None else timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("completed", "failed", "total", "drawn"),
    [
        (0, 0, 10, ".........."),
        (5, 0, 10, "#####....."),
        (999, 0, 1000, "#########."),
        (1000, 0, 1000, "##########"),
        (999, 1, 1000, "#########x"),
        (5, 5, 10, "#####xxxxx"),
        (0, 1, 1000, ".........."),
        (0, 0, 0, ".........."),
        (20, 0, 10, "##########"),
    ],
)
def test_a_bar_is_full_only_when_all_is_done(completed: int, failed: int, total: int, drawn: str):
    """A bar promises nothing, hides no failure and never breaks its frame."""
    assert "".join(bar(completed, failed, total, 10, ascii=True)) == drawn
    assert len("".join(bar(completed, failed, total, 10, ascii=False))) == 10
