"""Events, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from llmbatch.api.base import LocalObjectReference, ObjectMeta
from llmbatch.api.batchjob import BatchJob, BatchJobSpec
from llmbatch.kube.errors import Forbidden
from llmbatch.kube.events import Events, shortened
from llmbatch.kube.lease import LeadershipLost
from support.virtual_time import VirtualClock


class MemoryEvents:
    """Events that were made; ``failure`` is raised instead."""

    def __init__(self) -> None:
        self.made: list[Mapping[str, Any]] = []
        self.failure: BaseException | None = None

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        if self.failure:
            raise self.failure
        assert namespace == event["metadata"]["namespace"] == event["regarding"]["namespace"]
        self.made.append(event)


def a_job(name: str = "run-1", uid: str = "u-1") -> BatchJob:
    meta = ObjectMeta(name=name, namespace="team", uid=uid, creation_timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    return BatchJob(metadata=meta, spec=BatchJobSpec(input_file_ref=LocalObjectReference(name="f")))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def kube() -> MemoryEvents:
    return MemoryEvents()


@pytest.fixture
def events(kube: MemoryEvents, clock: VirtualClock) -> Events:
    return Events(kube, clock, instance="pod-1")


async def test_an_event_says_what_happened_to_which_object(events: Events, kube: MemoryEvents):
    """What kubectl describe shows is all there."""
    await events.record(a_job(), "Normal", "BatchCreated", "batch_1 on default/east")

    [event] = kube.made
    assert (event["type"], event["reason"], event["note"]) == ("Normal", "BatchCreated", "batch_1 on default/east")
    assert (event["regarding"]["kind"], event["regarding"]["uid"]) == ("BatchJob", "u-1")
    assert (event["reportingController"], event["reportingInstance"]) == ("llmbatch-operator", "pod-1")


async def test_the_same_is_told_again_only_after_ten_minutes(events: Events, kube: MemoryEvents, clock: VirtualClock):
    """A job that waits for the same reason for a day does not flood its namespace."""
    for _ in range(100):
        await events.record(a_job(), "Warning", "SecretNotFound", "Secret team/s does not exist")
        await clock.advance(6.25)
    assert len(kube.made) == 2

    await events.record(a_job(uid="u-2"), "Warning", "SecretNotFound", "Secret team/s does not exist")

    assert len(kube.made) == 3


async def test_one_object_has_ten_events_at_once_and_then_one_a_minute(
    events: Events, kube: MemoryEvents, clock: VirtualClock
):
    """Messages that always differ do not flood either, and other objects are not held up by them."""
    for n in range(50):
        await events.record(a_job(), "Warning", "Backoff", f"attempt {n}")
    assert len(kube.made) == 10
    await events.record(a_job("other", "u-2"), "Warning", "Backoff", "attempt 1")
    assert len(kube.made) == 11
    await clock.advance(60)

    for n in range(50, 60):
        await events.record(a_job(), "Warning", "Backoff", f"attempt {n}")

    assert len(kube.made) == 12


async def test_a_refused_event_fails_nobody_and_lost_leadership_does(events: Events, kube: MemoryEvents):
    """Events are a courtesy; the guard is not."""
    kube.failure = Forbidden("create events team: Forbidden")
    await events.record(a_job(), "Normal", "BatchCreated", "one")
    kube.failure = LeadershipLost("lost")

    with pytest.raises(LeadershipLost):
        await events.record(a_job(), "Normal", "BatchCreated", "two")


async def test_memory_is_bounded(events: Events, kube: MemoryEvents):
    """What is remembered of objects does not grow with their number."""
    for n in range(10_000):
        await events.record(a_job(uid=f"u-{n}"), "Normal", "BatchCreated", "batch")

    assert len(kube.made) == 10_000
    assert max(len(events._told), len(events._tokens)) <= 4096


def test_a_note_fits_into_1024_bytes_without_a_broken_character():
    """The API server counts bytes."""
    assert shortened("short") == "short"
    note = shortened("ж" * 2000)
    assert len(note.encode()) <= 1024
    assert note.endswith("ж…")
    assert len((plain := shortened("a" * 1025)).encode()) == 1024
    assert plain.endswith("a…")
