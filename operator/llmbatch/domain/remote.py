"""What providers tell of their files and batches, in one form for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from llmbatch.api import names
from llmbatch.domain.requests.endpoint import path_of


class FileState(StrEnum):
    """A provider's file: only a processed one can be run."""

    PROCESSING = "Processing"
    PROCESSED = "Processed"
    ERROR = "Error"


class BatchState(StrEnum):
    """A provider's batch, as OpenAI names its states."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the batch will not change any more."""
        return self in (BatchState.COMPLETED, BatchState.FAILED, BatchState.EXPIRED, BatchState.CANCELLED)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at a provider. ``error`` is the provider's reason where it could not process it, ``unknown_state`` its
    word for a state that nobody here knows."""

    id: str
    name: str
    state: FileState
    bytes: int = 0
    created_at: datetime | None = None
    expires_at: datetime | None = None
    error: str = ""
    unknown_state: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class BatchError:
    """One error of a failed batch: the provider's code, its words, and the input line where it has one."""

    code: str
    message: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch at a provider. Absent ids are None, whatever the provider writes in their place; ``unknown_state`` is its
    word for a state that nobody here knows."""

    id: str
    state: BatchState
    created_at: datetime | None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    counts: Counts = Counts()
    metadata: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[BatchError, ...] = ()
    unknown_state: str = ""


@dataclass(frozen=True, slots=True)
class UnreadableBatch:
    """A listed batch that may be ours, without an id to follow it by; ``metadata`` as far as it can be read."""

    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tag:
    """Names the one attempt that a batch was made for; it is written into the batch's metadata."""

    cluster: str
    namespace: str
    name: str
    uid: str
    shard: int
    attempt: int

    def metadata(self) -> dict[str, str]:
        """Five entries, all of them strings (Azure refuses other types)."""
        return {
            names.TAG_CLUSTER: self.cluster,
            names.TAG_JOB: f"{self.namespace}/{self.name}",
            names.TAG_UID: self.uid,
            names.TAG_SHARD: str(self.shard),
            names.TAG_ATTEMPT: str(self.attempt),
        }

    @staticmethod
    def of(metadata: Mapping[str, str]) -> Tag | None:
        """The tag in a batch's metadata, or None where there is none or it is not ours."""
        try:
            namespace, name = metadata[names.TAG_JOB].split("/")
            return Tag(
                cluster=metadata[names.TAG_CLUSTER],
                namespace=namespace,
                name=name,
                uid=metadata[names.TAG_UID],
                shard=int(metadata[names.TAG_SHARD]),
                attempt=int(metadata[names.TAG_ATTEMPT]),
            )
        except (KeyError, ValueError, AttributeError):
            return None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can and cannot do, so that nothing above asks which provider it is."""

    max_requests_per_file: int
    max_file_bytes: int
    url_prefix: str
    """What the line's URL and the batch's endpoint begin with: ``/v1`` or nothing."""
    endpoints: frozenset[str] | None
    """Those that it has batches for, with ``/v1``; None: whatever the API behind its URL takes."""
    max_embedding_inputs: int | None
    """In a file of embeddings; None: unbounded."""
    streams: bool
    """Whether a line may ask for a stream."""
    min_file_ttl: timedelta
    max_file_ttl: timedelta
    line_urls: Mapping[str, str] = field(default_factory=dict)
    """Lines' URLs that are written otherwise than by the prefix, by endpoint."""
    batch_endpoints: Mapping[str, str] = field(default_factory=dict)
    """What a batch is created with where that is not its lines' URL, by endpoint."""

    def line_url(self, endpoint: str) -> str:
        """An endpoint as this provider has it in lines."""
        return self.line_urls.get(endpoint) or path_of(endpoint, self.url_prefix)

    def batch_endpoint(self, endpoint: str) -> str:
        """An endpoint as this provider has it in creates."""
        return self.batch_endpoints.get(endpoint) or self.line_url(endpoint)
