"""Builds jobs, batches and what was seen of them; a test names only what matters to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from llmbatch.api import BatchJob, names
from llmbatch.api.base import rfc3339
from llmbatch.domain.job.record import Pending, ShardRecord
from llmbatch.domain.job.routing import Candidate
from llmbatch.domain.job.steps import FileSeen, Observed, ShardSeen
from llmbatch.domain.remote import BatchError, BatchState, Counts, RemoteBatch, Tag
from llmbatch.domain.results.counting import Totals

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CREATED = NOW - timedelta(minutes=5)
NAMESPACE, NAME, UID, CLUSTER = "team", "run-1", "uid-1", "cluster-1"
FILE_ID = "file-1"


@dataclass(frozen=True)
class JobBuilder:
    """A BatchJob in the making; each method answers another builder."""

    spec: dict[str, Any] = field(default_factory=lambda: {"inputFileRef": {"name": "questions"}})
    status: dict[str, Any] = field(default_factory=dict)
    shard: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = (names.FINALIZER,)
    deleted_at: datetime | None = None

    def with_spec(self, **spec: Any) -> JobBuilder:
        """Parts of its spec, named as in YAML."""
        return replace(self, spec={**self.spec, **spec})

    def with_status(self, **status: Any) -> JobBuilder:
        """Parts of its status, named as in YAML."""
        return replace(self, status={**self.status, **status})

    def with_shard(self, **shard: Any) -> JobBuilder:
        """Parts of its one shard, named as in YAML."""
        return replace(self, shard={"index": 0, **self.shard, **shard})

    def annotated(self, record: ShardRecord) -> JobBuilder:
        """What its annotations say, and nothing else."""
        return replace(self, annotations={key: value for key, value in record.annotations(0).items() if value})

    def create_pending(self, attempt: int = 1, *, on: str = "team/east") -> JobBuilder:
        """A create is under way, or its answer was lost."""
        return self.annotated(ShardRecord().begun(a_pending(attempt, on=on)))

    def submitted(self, batch_id: str = "batch_1", *, on: str = "team/east", attempt: int = 1) -> JobBuilder:
        """Its batch was made: annotations and status say so."""
        namespace, name = on.split("/")
        told = self.annotated(ShardRecord(deployment=on, batch_id=batch_id))
        route = {"namespace": namespace, "name": name}
        return told.with_shard(deployment=route, batchID=batch_id, attempt=attempt, inputFileID=FILE_ID).with_status(
            batchID=batch_id, deployment=route
        )

    def finished(self, phase: str, *, ago: timedelta = timedelta(0)) -> JobBuilder:
        """It ended."""
        return self.with_status(phase=phase, completionTime=rfc3339(NOW - ago), observedGeneration=1)

    def deleted(self, *, ago: timedelta = timedelta(0)) -> JobBuilder:
        """Somebody asked for its deletion."""
        return replace(self, deleted_at=NOW - ago)

    def without_finalizer(self) -> JobBuilder:
        """A `replace` dropped it, or it never had one."""
        return replace(self, finalizers=())

    def build(self) -> BatchJob:
        """The job."""
        metadata: dict[str, Any] = {
            "name": NAME,
            "namespace": NAMESPACE,
            "uid": UID,
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": rfc3339(CREATED),
            "annotations": self.annotations,
            "finalizers": list(self.finalizers),
        }
        if self.deleted_at:
            metadata["deletionTimestamp"] = rfc3339(self.deleted_at)
        status = {**self.status, **({"shards": [self.shard]} if self.shard else {})}
        return BatchJob.model_validate({"metadata": metadata, "spec": self.spec, "status": status})


def a_job(**spec: Any) -> JobBuilder:
    """A job that was just created."""
    return JobBuilder().with_spec(**spec)


def a_pending(attempt: int = 1, *, on: str = "team/east") -> Pending:
    """A create that was recorded."""
    return Pending(attempt, on, CREATED, FILE_ID)


def a_tag(attempt: int = 1) -> Tag:
    """The tag of the job's attempt."""
    return Tag(CLUSTER, NAMESPACE, NAME, UID, 0, attempt)


def a_batch(
    state: str = "in_progress", *, id: str = "batch_1", errors: Sequence[str] = (), **fields: Any
) -> RemoteBatch:
    """A batch of the job's first attempt; `errors` are codes."""
    made = {"created_at": CREATED, "input_file_id": FILE_ID, "counts": Counts(3), "metadata": a_tag().metadata()}
    return RemoteBatch(
        id=id, state=BatchState(state), errors=tuple(BatchError(code) for code in errors), **{**made, **fields}
    )


def a_file(**fields: Any) -> FileSeen:
    """A valid file of one model."""
    return FileSeen(**{"valid": True, "models": ("gpt",), "endpoint": "/v1/chat/completions", "tokens": 10, **fields})


def a_candidate(route: str = "team/east", **fields: Any) -> Candidate:
    """A Ready deployment that holds the file."""
    return Candidate(**{"deployment": route, "file_id": FILE_ID, **fields})


def observed(shard: ShardSeen | None = None, **fields: Any) -> Observed:
    """What was seen, of a job of one shard."""
    return Observed(shards=(shard or ShardSeen(),), **fields)


def ready_to_run(*candidates: Candidate, **fields: Any) -> Observed:
    """A valid file and deployments that hold it."""
    return observed(file=a_file(), candidates=candidates or (a_candidate(),), **fields)


def totals(ok: int = 3, failed: int = 0, **fields: Any) -> Totals:
    """Results by number."""
    return Totals(lines_ok=ok, lines_failed=failed, **fields)
