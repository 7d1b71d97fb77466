"""What happened to a job, in order: from its status, and from the Events that are still there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from llmbatch.api import BatchJob
from llmbatch.api.base import Condition, rfc3339
from llmbatch.api.batchjob import Attempt
from llmbatch.api.reasons import ConditionType

Source = Literal["job", "condition", "attempt", "event"]
ATTEMPT_FAILED = "AttemptFailed"
"""The Event that says what the attempt's own record says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, or with no time, that is so now."""

    time: datetime | None
    source: Source
    what: str
    reason: str
    message: str
    warning: bool = False

    def data(self) -> dict[str, Any]:
        """The entry for programs."""
        return {
            "time": rfc3339(self.time) if self.time else None,
            "source": self.source,
            "what": self.what,
            "reason": self.reason,
            "message": self.message,
            "warning": self.warning,
        }


def timeline(job: BatchJob, events: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """All that is known of a job, oldest first; what it is about now comes last."""
    attempts = [_of_attempt(attempt) for attempt in job.status.attempts]
    reasons = {attempt.reason for attempt in job.status.attempts}
    told = [
        entry
        for entry in map(of_event, events)
        if not (entry.what == ATTEMPT_FAILED and entry.message in reasons)
    ]  # fmt: skip
    entries = [_created(job), *attempts, *_of_conditions(job.status.conditions), *told]
    return sorted(entries, key=when)


def of_event(event: Mapping[str, Any]) -> Entry:
    """An Event of events.k8s.io/v1."""
    series = event.get("series") or {}
    time = series.get("lastObservedTime") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return Entry(
        _moment(time),
        "event",
        str(event.get("reason", "")),
        "",
        str(event.get("note", "")),
        warning=event.get("type") == "Warning",
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def when(entry: Entry) -> tuple[bool, datetime]:
    """For sorting: by time, and what is so now at the end."""
    return entry.time is None, entry.time or datetime.max.replace(tzinfo=UTC)


def _created(job: BatchJob) -> Entry:
    spec = job.spec
    pinned = f", pinned to {spec.deployment_ref.namespace}/{spec.deployment_ref.name}" if spec.deployment_ref else ""
    return Entry(
        job.metadata.creation_timestamp, "job", "Created", "", f"to run file {spec.input_file_ref.name}{pinned}"
    )


def _of_attempt(attempt: Attempt) -> Entry:
    place = f"{attempt.deployment.namespace}/{attempt.deployment.name}"
    shard = f" of shard {attempt.shard}" if attempt.shard else ""
    batch = f", batch {attempt.batch_id}" if attempt.batch_id else ""
    message = f"on {place}{batch}: {attempt.reason}" if attempt.reason else f"on {place}{batch}"
    return Entry(attempt.time, "attempt", f"Attempt {attempt.number}{shard} ended", attempt.result, message, True)


def _of_conditions(conditions: Sequence[Condition]) -> list[Entry]:
    """Those that hold, with those that say the same in one entry; of the others, only that a suspension is over."""
    merged: dict[tuple[datetime | None, str, str], list[str]] = {}
    for found in conditions:
        if found.status == "True":
            # Its time is when it began to hold; what it says is of now.
            time = None if found.type == ConditionType.RECONCILING else found.last_transition_time
            merged.setdefault((time, found.reason, found.message), []).append(found.type)
        elif found.type == ConditionType.SUSPENDED:
            merged[found.last_transition_time, found.reason, found.message] = ["not Suspended"]
    return [
        Entry(
            time, "condition", ", ".join(types), reason, message,
            warning=bool({ConditionType.FAILED.value, ConditionType.STALLED.value} & set(types)),
        )
        for (time, reason, message), types in merged.items()
    ]  # fmt: skip
