"""What a job's annotations say of one shard: the record that survives crashes and restores."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from llmbatch.api import names
from llmbatch.api.base import rfc3339

_LONGEST = 1024
MOST_ATTEMPTS = 1_000_000
_ROUTE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Pending:
    """A create that is under way or whose answer was lost."""

    attempt: int
    deployment: str
    time: datetime
    input_file_id: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The annotations of one shard. ``deployment`` is ``namespace/name``."""

    deployment: str | None = None
    pending: Pending | None = None
    batch_id: str | None = None

    @staticmethod
    def read(annotations: Mapping[str, str], shard: int, *, created: datetime) -> Trace:
        """Read the annotations of a job that was created at ``created``.

        People edit annotations. A route or an id that makes no sense counts as absent; a pending create that makes
        no sense counts as one for attempt 1 since the job's creation, so that a batch is looked for before one is made.
        """
        deployment = annotations.get(names.shard_annotation(names.ANNOTATION_DEPLOYMENT, shard))
        batch_id = annotations.get(names.shard_annotation(names.ANNOTATION_BATCH_ID, shard))
        pending = annotations.get(names.shard_annotation(names.ANNOTATION_CREATE_PENDING, shard))
        route = deployment if deployment and _is_route(deployment) else None
        return Trace(
            deployment=route,
            pending=_read_pending(pending, route, created) if pending is not None else None,
            batch_id=batch_id if batch_id and len(batch_id) <= 256 and batch_id.isprintable() else None,
        )

    def annotations(self, shard: int) -> dict[str, str | None]:
        """The annotations to write; None removes one."""
        pending = None
        if self.pending:
            fields = {
                "attempt": self.pending.attempt,
                "deployment": self.pending.deployment,
                "time": rfc3339(self.pending.time),
            }
            if self.pending.input_file_id:
                fields["inputFileID"] = self.pending.input_file_id
            pending = json.dumps(fields, separators=(",", ":"))
        return {
            names.shard_annotation(names.ANNOTATION_DEPLOYMENT, shard): self.deployment,
            names.shard_annotation(names.ANNOTATION_CREATE_PENDING, shard): pending,
            names.shard_annotation(names.ANNOTATION_BATCH_ID, shard): self.batch_id,
        }

    def differs(self, annotations: Mapping[str, str], shard: int) -> bool:
        """Whether these annotations say anything else."""
        return any(annotations.get(name) != value for name, value in self.annotations(shard).items())

    def begun(self, pending: Pending) -> Trace:
        """With a create under way."""
        return Trace(deployment=pending.deployment, pending=pending)

    def created(self, batch_id: str) -> Trace:
        """With the batch made."""
        return replace(self, pending=None, batch_id=batch_id)


def following(attempt: int) -> int:
    """The number of the next attempt; a number that somebody forged must not grow out of what can be read back."""
    return min(attempt + 1, MOST_ATTEMPTS)


def _is_route(text: str) -> bool:
    # As NamespacedReference has it: status must be able to hold the route.
    return isinstance(text, str) and len(text) <= 317 and _ROUTE.fullmatch(text) is not None


def _read_pending(text: str, route: str | None, created: datetime) -> Pending:
    try:
        if len(text) > _LONGEST:
            raise ValueError
        fields = json.loads(text)
        attempt, deployment = fields["attempt"], fields["deployment"]
        time = datetime.fromisoformat(fields["time"])
        file_id = fields.get("inputFileID")
        if (
            type(attempt) is not int
            or not 1 <= attempt <= MOST_ATTEMPTS
            or not _is_route(deployment)
            or time.tzinfo is None
        ):
            raise ValueError
        return Pending(attempt, deployment, time.astimezone(UTC), file_id if isinstance(file_id, str) else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return Pending(1, route or "", created)
