"""Conditions as values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import MESSAGE_LIMIT, ConditionSet, condition, holds

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
READY, STALLED = ConditionType.READY, ConditionType.STALLED


def ready(value: bool | None, *, reason: Reason = Reason.READY, at: datetime = NOW) -> ConditionSet:
    """A set with Ready alone."""
    return ConditionSet([], generation=1, now=at).set(READY, value, reason)


@pytest.mark.parametrize(("value", "status"), [(True, "True"), (False, "False"), (None, "Unknown")])
def test_a_condition_has_three_states(value, status):
    """None is Unknown."""
    (found,) = ready(value).list()

    assert found.status == status
    assert holds([found], READY) is (value is True)


def test_time_moves_only_with_the_status():
    """Another reason or message for the same status keeps the time; another status has the new one."""
    before = ready(True).list()

    same = ConditionSet(before, generation=2, now=LATER).set(READY, True, Reason.NOT_SHARED, "more").list()
    other = ConditionSet(before, generation=2, now=LATER).set(READY, False, Reason.UNAUTHORIZED).list()

    assert (same[0].last_transition_time, same[0].reason, same[0].message) == (NOW, "NotShared", "more")
    assert (same[0].observed_generation, other[0].last_transition_time) == (2, LATER)


def test_what_is_not_set_again_goes():
    """A condition that nobody sets any more is no condition; the rest is in a fixed order."""
    before = ready(True).set(STALLED, True, Reason.INVALID_INPUT).list()

    after = ConditionSet(before, generation=1, now=NOW).set(READY, True, Reason.READY).list()

    assert [found.type for found in before] == ["Ready", "Stalled"]
    assert condition(after, STALLED) is None
    assert not holds(after, STALLED)


def test_a_message_fits_what_the_api_server_takes():
    """What is longer is cut, and times have whole seconds, as they are stored."""
    (found,) = (
        ConditionSet([], generation=1, now=NOW.replace(microsecond=9)).set(READY, True, Reason.READY, "x" * 5000).list()
    )

    assert len(found.message) == MESSAGE_LIMIT
    assert found.last_transition_time == NOW
