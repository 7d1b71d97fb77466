"""What happened to a job comes in order, once, and with what it is about now at the end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from llmbatch.api.base import rfc3339
from llmbatch.plugin.jobs.timeline import Entry, of_event, timeline
from support.builders import CREATED, NOW, a_job


def told(type_: str, reason: str, message: str = "", *, status: str = "True", after: int = 0) -> dict[str, Any]:
    """A condition that changed so many seconds after noon."""
    time = rfc3339(NOW + timedelta(seconds=after))
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": time}


def an_event(reason: str, note: str, *, after: float = 0, **more: Any) -> dict[str, Any]:
    """An Event, so many seconds after noon."""
    time = (NOW + timedelta(seconds=after)).isoformat(timespec="microseconds")
    return {"metadata": {}, "eventTime": time, "reason": reason, "note": note, "type": "Normal", **more}


def briefly(entries: list[Entry]) -> list[tuple[str, str, str]]:
    """Entries without their times."""
    return [(entry.source, entry.what, entry.reason) for entry in entries]


FAILED_ATTEMPT = {
    "number": 1, "deployment": {"namespace": "team", "name": "east"}, "batchID": "batch_1", "result": "BatchFailed",
    "reason": "the service failed", "time": rfc3339(NOW + timedelta(seconds=20)),
}  # fmt: skip


def test_everything_is_in_order_of_time():
    """Creation, conditions, attempts and Events are one story."""
    conditions = [
        told("Routed", "Routed", "runs on east", after=30),
        told("Submitted", "Submitted", "batch batch_2", after=31),
        told("Reconciling", "Running", "12 of 64", after=1),
    ]
    job = a_job().with_status(conditions=conditions, attempts=[FAILED_ATTEMPT]).build()

    entries = timeline(job, [an_event("BatchCreated", "batch batch_1", after=10.5)])

    assert briefly(entries) == [
        ("job", "Created", ""),
        ("event", "BatchCreated", ""),
        ("attempt", "Attempt 1 ended", "BatchFailed"),
        ("condition", "Routed", "Routed"),
        ("condition", "Submitted", "Submitted"),
        ("condition", "Reconciling", "Running"),
    ]
    assert entries[0].time == CREATED
    assert entries[-1].time is None
    assert entries[2].message == "on team/east, batch batch_1: the service failed"


def test_conditions_that_say_the_same_are_one_entry():
    """The end of a job is told once, with the names of all conditions that tell it."""
    ended = [told(name, "BatchFailed", "the service failed") for name in ("Failed", "Finished", "Stalled")]

    entries = timeline(a_job().with_status(phase="Failed", conditions=ended).build(), [])

    assert briefly(entries)[1:] == [("condition", "Failed, Finished, Stalled", "BatchFailed")]
    assert entries[1].warning


def test_what_does_not_hold_is_no_news_but_a_suspension_that_is_over():
    """Conditions that are False tell of what has not happened."""
    conditions = [
        told("Finished", "Running", status="False"),
        told("Suspended", "Resumed", "no longer suspended", status="False"),
    ]

    assert briefly(timeline(a_job().with_status(conditions=conditions).build(), []))[1:] == [
        ("condition", "not Suspended", "Resumed")
    ]


def test_an_attempt_that_its_event_tells_too_is_told_once():
    """The record of an attempt says more than the Event about it."""
    job = a_job().with_status(attempts=[FAILED_ATTEMPT]).build()
    events = [an_event("AttemptFailed", "the service failed"), an_event("AttemptFailed", "another one, long ago")]

    assert [entry.source for entry in timeline(job, events)] == ["job", "event", "attempt"]


def test_an_event_that_was_repeated_counts_from_its_last_time():
    """Where Kubernetes folds Events into a series, the newest time is the one that matters."""
    later = rfc3339(NOW + timedelta(seconds=90))

    assert of_event(an_event("A", "b", series={"count": 3, "lastObservedTime": later})).time == NOW + timedelta(
        seconds=90
    )


def test_programs_get_each_entry_whole():
    """The structured form has every field; what is so now has no time."""
    running = told("Reconciling", "Running", "12 of 64")

    assert timeline(a_job().with_status(conditions=[running]).build(), [])[-1].data() == {
        "time": None,
        "source": "condition",
        "what": "Reconciling",
        "reason": "Running",
        "message": "12 of 64",
        "warning": False,
    }
