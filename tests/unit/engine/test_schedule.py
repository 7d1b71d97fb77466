"""The poll schedule."""

from __future__ import annotations

import random

import pytest

from llmbatch.domain.remote import BatchState
from llmbatch.engine.schedule import poll_interval

MINUTES, HOURS = 60.0, 3600.0


@pytest.mark.parametrize(
    ("base", "age", "state", "want"),
    [
        (30, 0, BatchState.VALIDATING, 30),
        (30, 59 * MINUTES, BatchState.IN_PROGRESS, 30),
        (30, 2 * HOURS, BatchState.IN_PROGRESS, 60),
        (30, 7 * HOURS, BatchState.IN_PROGRESS, 120),
        (120, 7 * HOURS, BatchState.IN_PROGRESS, 300),
        (600, 7 * HOURS, BatchState.IN_PROGRESS, 600),
        (30, 7 * HOURS, BatchState.FINALIZING, 30),
        (30, 7 * HOURS, BatchState.CANCELLING, 30),
    ],
)
def test_the_interval_fits_age_and_state(base: float, age: float, state: BatchState, want: float):
    """Old batches are asked about less, ending ones as often as young ones, never before and little after the table."""
    rng = random.Random(5)
    intervals = [poll_interval(base, age, state, rng) for _ in range(200)]

    assert all(want <= interval <= 1.1 * want for interval in intervals)
    assert max(intervals) - min(intervals) > 0.07 * want
