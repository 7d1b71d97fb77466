"""One reconcile of one job: the job with the status that will be written, and what was seen on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from llmbatch.api import BatchJob
from llmbatch.api.batchjob import BatchJobStatus
from llmbatch.domain.job.steps import Observed, ShardSeen
from llmbatch.domain.remote import Tag
from llmbatch.engine.queue import Key
from llmbatch.reconcile.index.index import key_of


@dataclass
class JobRun:
    """Changes as the steps are taken. ``job`` carries the status to be written, ``written`` is the stored one."""

    job: BatchJob
    written: BatchJobStatus
    observed: Observed
    uploads: Mapping[str, datetime] = field(default_factory=dict)
    """When the copies of the input were uploaded, by file id."""
    verified: bool = False
    """Whether every result the provider counted was brought home."""
    retry_after: float | None = None
    """What a provider asked to wait, in seconds."""
    unsettled: bool = False
    """The job is so young that what it waits for is not worth a write yet."""
    unlisted: bool = False
    """An account is being listed for the first time; the job is woken at once when it is known what is there."""
    submitted_now: list[int] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """The job's key."""
        return key_of(self.job)

    def see(self, shard: int, **changes: object) -> None:
        """Learn something about one shard."""
        seen = list(self.observed.shards)
        seen[shard] = replace(seen[shard], **changes)  # type: ignore[arg-type]
        self.observed = replace(self.observed, shards=tuple(seen))

    def forget(self, shard: int) -> None:
        """Begin again with one shard."""
        seen = list(self.observed.shards)
        seen[shard] = ShardSeen()
        self.observed = replace(self.observed, shards=tuple(seen))

    def stored(self, job: BatchJob) -> None:
        """Take in what the API server stored; the status to be written stays."""
        self.written = job.status
        self.job = job.model_copy(update={"status": self.job.status})

    def without_copy(self, route: str) -> None:
        """A deployment turned out not to hold the input any more."""
        candidates = tuple(
            replace(candidate, file_id=None, file_error="uploaded again")
            if candidate.deployment == route
            else candidate
            for candidate in self.observed.candidates
        )
        self.observed = replace(self.observed, candidates=candidates)


def tag_of(job: BatchJob, cluster: str, shard: int, attempt: int) -> Tag:
    """The tag of one attempt of a job."""
    meta = job.metadata
    return Tag(cluster, meta.namespace, meta.name, meta.uid, shard, attempt)
