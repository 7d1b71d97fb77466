"""What a reconcile of a job saw, and the steps it can take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import Reason
from llmbatch.domain.job.record import Pending, ShardRecord
from llmbatch.domain.job.routing import Candidate
from llmbatch.domain.remote import RemoteBatch
from llmbatch.domain.results.counting import Totals

# --- what was seen ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something could not be done just now."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class FileSeen:
    """The job's BatchFile. ``valid`` is None until it was validated."""

    valid: bool | None
    message: str = ""
    models: Sequence[str] = ()
    endpoint: str | None = None
    tokens: int = 0
    requests: int = 0
    custom_id_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """The search for a batch by its tag. Neither found nor absent: not sure yet, look again at ``until``."""

    found: RemoteBatch | None = None
    absent: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ShardSeen:
    """What is known of one shard's batch besides the job's own record."""

    fresh: bool = False
    """The pending create was recorded by this process, and nothing was sent yet."""
    lookup: Lookup | None = None
    batch: RemoteBatch | None = None
    ours: bool = True
    """Whether the batch's tag names this job."""
    unknown: bool = False
    """The provider does not know the batch, beyond any lag."""
    cancel_accepted: bool = False
    problem: Problem | None = None
    orphan: tuple[str, RemoteBatch] | None = None
    """A deployment and a batch there that was made for this job's name and belongs to no live job."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision about a job needs."""

    file: FileSeen | None = None
    candidates: Sequence[Candidate] = ()
    shards: Sequence[ShardSeen] = (ShardSeen(),)
    totals: Totals | None = None
    collect_problem: Problem | None = None
    collect_again: datetime | None = None
    """When results that could not be collected are tried again; None while that is under way."""
    output_problem: Problem | None = None
    """Results were counted and stay at the provider, since the sink will never take them."""

    give_up_at: datetime | None = None
    """When a deletion no longer waits for its clean-up."""


# --- what to do ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repair:
    """Put back the finalizer and what the annotations must say."""

    shard: int
    record: ShardRecord


@dataclass(frozen=True, slots=True)
class Begin:
    """Choose among the candidates and record the create, before the provider is asked."""

    shard: int
    attempt: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take back a create that surely had no effect; what comes next is routed anew."""

    shard: int


@dataclass(frozen=True, slots=True)
class Create:
    """Create the batch that was recorded."""

    shard: int
    pending: Pending


@dataclass(frozen=True, slots=True)
class LookFor:
    """Look for the batch of a create whose answer was lost."""

    shard: int
    pending: Pending


@dataclass(frozen=True, slots=True)
class Adopt:
    """Record a batch that was found."""

    shard: int
    deployment: str
    batch: RemoteBatch


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask for the batch."""

    shard: int
    deployment: str
    batch_id: str


@dataclass(frozen=True, slots=True)
class CancelBatch:
    """Cancel the batch at the provider."""

    shard: int
    deployment: str
    batch_id: str


@dataclass(frozen=True, slots=True)
class Collect:
    """Bring the results home and count them."""

    batches: tuple[RemoteBatch, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """End an attempt whose batch failed."""

    shard: int
    result: Reason
    message: str
    counted: bool
    refused: bool
    """Whether the deployment is to be passed over until the next wait."""
    input_lost: bool
    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class AwaitQuota:
    """All deployments refused: wait, then ask all of them again."""

    shard: int
    message: str
    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something wakes the job, or until ``until``."""

    phase: Phase
    reason: Reason
    message: str
    until: datetime | None = None
    stalled: bool = False
    """It has lasted so long that a person must look, though it is tried on."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The job has ended."""

    phase: Phase
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class DeleteOutputs:
    """Delete the provider's result files of a job that is being deleted."""


@dataclass(frozen=True, slots=True)
class Release:
    """Remove the finalizer. ``abandoned`` says what is left behind, where something is."""

    abandoned: str = ""


@dataclass(frozen=True, slots=True)
class AwaitCleanUp:
    """A deletion waits for something at the provider, which is tried again at ``until``."""

    message: str
    until: datetime


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Its time to live is over."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell that a change of the spec was seen, though it changes nothing any more."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing at all, not even a status to write; look again at ``until``."""

    until: datetime | None = None


Step = (
    Repair | Begin | Withdraw | Create | LookFor | Adopt | Poll | CancelBatch | Collect | Close | AwaitQuota
    | Wait | Finish | DeleteOutputs | AwaitCleanUp | Release | DeleteJob | Acknowledge | Idle
)  # fmt: skip
