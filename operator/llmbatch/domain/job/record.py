"""The record of a job's batches: where each is or may be, so that it survives crashes and restores.

It lives in annotations, a ``ShardRecord`` for each shard, and is mirrored in status. A status that names a batch wins
over annotations, which people copy, replace and forge; annotations win where status knows nothing, as after a restore.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from llmbatch.api import names
from llmbatch.api.base import MAX_ID_CHARACTERS, rfc3339
from llmbatch.api.batchjob import BatchJob, Phase, Shard

_LONGEST = 8192
"""Characters of a pending create: an id of 1,024, each of them written as an escape."""
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
class ShardRecord:
    """The annotations of one shard. ``deployment`` is ``namespace/name``."""

    deployment: str | None = None
    pending: Pending | None = None
    batch_id: str | None = None

    @staticmethod
    def read(annotations: Mapping[str, str], shard: int, *, created: datetime) -> ShardRecord:
        """Read the annotations of a job that was created at ``created``.

        People edit annotations. A route or an id that makes no sense counts as absent; a pending create that makes
        no sense counts as one for attempt 1 since the job's creation, so that a batch is looked for before one is made.
        """
        return _read_record(
            annotations.get(names.shard_annotation(names.ANNOTATION_DEPLOYMENT, shard)),
            annotations.get(names.shard_annotation(names.ANNOTATION_BATCH_ID, shard)),
            annotations.get(names.shard_annotation(names.ANNOTATION_CREATE_PENDING, shard)),
            created,
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

    def begun(self, pending: Pending) -> ShardRecord:
        """With a create under way."""
        return ShardRecord(deployment=pending.deployment, pending=pending)

    def created(self, batch_id: str) -> ShardRecord:
        """With the batch made."""
        return replace(self, pending=None, batch_id=batch_id)


def next_attempt(attempt: int) -> int:
    """The number of the next attempt; a number that somebody forged must not grow out of what can be read back."""
    return min(attempt + 1, MOST_ATTEMPTS)


def _is_route(text: str) -> bool:
    # As NamespacedReference has it: status must be able to hold the route.
    return isinstance(text, str) and len(text) <= 317 and _ROUTE.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _read_record(deployment: str | None, batch_id: str | None, pending: str | None, created: datetime) -> ShardRecord:
    # Every rule of a reconcile asks for it.
    route = deployment if deployment and _is_route(deployment) else None
    return ShardRecord(
        deployment=route,
        pending=_read_pending(pending, route, created) if pending is not None else None,
        batch_id=batch_id if batch_id and len(batch_id) <= MAX_ID_CHARACTERS and batch_id.isprintable() else None,
    )


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


def shards(job: BatchJob) -> list[Shard]:
    """The job's shards; one as long as inputs are not divided."""
    return list(job.status.shards) or [Shard(index=0)]


def annotated(job: BatchJob, shard: int) -> ShardRecord:
    """The annotations of one shard."""
    return ShardRecord.read(job.metadata.annotations, shard, created=job.metadata.creation_timestamp)


def credible(job: BatchJob, may_use: Callable[[str], bool]) -> BatchJob:
    """The job without the record of a shard that names a deployment which it may not use.

    Anybody can write such annotations, and they would spend the key, the headroom and the rate limits of another
    tenant. A route that status confirms is the operator's own, as after a namespace is no longer shared.
    """
    forged = list[str]()
    for shard in shards(job):
        record = annotated(job, shard.index)
        routes = {record.deployment, record.pending.deployment if record.pending else None} - {None, "", _route(shard)}
        if not all(may_use(route) for route in routes if route):
            forged += record.annotations(shard.index)
    if not forged:
        return job
    annotations = {name: value for name, value in job.metadata.annotations.items() if name not in forged}
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"annotations": annotations})})


def recorded(job: BatchJob, shard: Shard) -> ShardRecord:
    """Where a shard's batch is or may be: status where it knows, since people edit annotations, else these."""
    record = annotated(job, shard.index)
    route = _route(shard)
    if route is None:
        return record
    if shard.batch_id:
        return ShardRecord(deployment=route, batch_id=shard.batch_id)
    doubt = Pending(shard.attempt, route, job.metadata.creation_timestamp, shard.input_file_id)
    known = record.pending and (record.pending.attempt, record.pending.deployment) == (doubt.attempt, route)
    if shard.phase is Phase.SUBMITTING and not record.batch_id and not known:
        return ShardRecord().begun(doubt)
    return record


def _route(shard: Shard) -> str | None:
    return f"{shard.deployment.namespace}/{shard.deployment.name}" if shard.deployment else None


def holds_finalizer(job: BatchJob) -> bool:
    """Whether the job's deletion waits for the operator."""
    return names.FINALIZER in job.metadata.finalizers
