"""BatchJob: one run of a file."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from llmbatch.api.base import (
    AGE,
    Conditions,
    LocalObjectReference,
    Model,
    ModelName,
    Name,
    NamespacedReference,
    ProviderID,
    Resource,
    Time,
    column,
    immutable,
    validations,
)
from llmbatch.api.batchfile import StoreURL

NEW_JOB = "make a new BatchJob with a new name"


class Phase(StrEnum):
    """Where a job is, in one word for people. Programs read the conditions."""

    PENDING = "Pending"
    SUSPENDED = "Suspended"
    SUBMITTING = "Submitting"
    VALIDATING = "Validating"
    IN_PROGRESS = "InProgress"
    FINALIZING = "Finalizing"
    COLLECTING = "Collecting"
    CANCELLING = "Cancelling"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.EXPIRED)


class ConfigMapOutput(Model):
    """Results into a ConfigMap, up to 1048576 bytes."""

    name: Name = Field(description="Name of the ConfigMap. It must not exist, or be this job's.")
    retain: bool = Field(default=True, description="Keep it after the job is deleted.")


class SecretOutput(Model):
    """Results into a Secret, up to 1048576 bytes."""

    name: Name = Field(description="Name of the Secret. It must not exist, or be this job's.")
    retain: bool = Field(default=True, description="Keep it after the job is deleted.")


class Output(Model):
    """Where results go. Exactly one of configMap, secret and url."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            {
                "rule": "(has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.url) ? 1 : 0) == 1",
                "message": "set exactly one output: configMap, secret or url",
            },
            {
                "rule": "!has(self.credentialsSecretRef) || has(self.url)",
                "message": "credentialsSecretRef goes with url",
            },
        )
    )

    config_map: ConfigMapOutput | None = Field(default=None, description="Into a ConfigMap.")
    secret: SecretOutput | None = Field(default=None, description="Into a Secret.")
    url: StoreURL | None = Field(default=None, description="Below this prefix in a bucket: s3://BUCKET/PREFIX.")
    credentials_secret_ref: LocalObjectReference | None = Field(
        default=None,
        description="A Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, optionally AWS_SESSION_TOKEN "
        "and AWS_ENDPOINT_URL. Needed, but for what the administrator opened with --ambient-credential-prefix.",
    )


class BatchJobSpec(Model):
    """What the user asks for."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            immutable(
                "inputFileRef",
                "targetModelName",
                "deploymentRef",
                "endpoint",
                "completionWindow",
                "metadata",
                "output",
                advice=NEW_JOB,
            ),
            {"rule": "!oldSelf.cancel || self.cancel", "message": f"a cancel cannot be taken back; {NEW_JOB}"},
        )
    )

    input_file_ref: LocalObjectReference = Field(description="The BatchFile to run.")
    target_model_name: ModelName | None = Field(
        default=None, description="Which of the file's models to run on. Needed only when the file has several."
    )
    deployment_ref: NamespacedReference | None = Field(
        default=None, description="Run on this ModelDeployment and no other. A pinned job never moves."
    )
    endpoint: Annotated[str, Field(pattern=r"^/(api/)?v[0-9][a-z0-9]*/[a-z][a-z0-9_/-]*$", max_length=64)] | None = (
        Field(
            default=None,
            description="The API called for every line, e.g. /v1/chat/completions. Default: the lines' URL.",
        )
    )
    completion_window: Literal["24h"] = Field(
        default="24h", description="The provider's completion window. Only 24h exists."
    )
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=11)] = Field(
        default={},
        description="Sent as the batch's metadata: at most 11 entries, keys up to 64, values up to 512 characters.",
        json_schema_extra=validations(
            {
                "rule": "self.all(key, size(key) >= 1 && size(key) <= 64)",
                "message": "metadata keys have 1 to 64 characters",
            },
            {
                "rule": "self.all(key, !key.lowerAscii().startsWith('llmbatch'))",
                "message": "metadata keys that begin with llmbatch are reserved for the operator; choose another name",
            },
        ),
    )
    output: Output | None = Field(
        default=None,
        description="Where results go. Absent: they stay at the provider, counted and priced all the same.",
    )
    suspend: bool = Field(default=False, description="Hold a job that was not submitted. A running batch goes on.")
    cancel: bool = Field(default=False, description="Cancel the batch and collect what is done. Cannot be taken back.")
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        default=3,
        description="Batches that may fail by the provider's fault before the job does. Quota is never counted.",
    )
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = Field(
        default=None, description="Seconds from creation, suspended time not counted, after which the job is ended."
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=315_360_000)] | None = Field(
        default=None, description="Seconds after the end when the job deletes itself. Absent: never."
    )
    deletion_policy: Literal["Delete", "Retain"] = Field(
        default="Delete", description="Whether the provider's batch and result files go with the job."
    )


class RequestCounts(Model):
    """How far a batch is."""

    total: int = Field(default=0, description="Requests in the batch.")
    completed: int = Field(default=0, description="Answered.")
    failed: int = Field(default=0, description="Failed, expired or cancelled.")


class Usage(Model):
    """Tokens, added up from every line of the results."""

    input_tokens: int = Field(default=0, description="Input tokens, cached ones included.")
    cached_input_tokens: int = Field(default=0, description="Part of inputTokens that was cached.")
    output_tokens: int = Field(default=0, description="Output tokens, reasoning included.")
    reasoning_tokens: int = Field(default=0, description="Part of outputTokens that was reasoning.")
    total_tokens: int = Field(default=0, description="Input and output.")
    requests_without: int | None = Field(
        default=None, description="Answered requests of which the provider told no usage; absent where there are none."
    )


AMOUNT = r"^[0-9]{1,30}(\.[0-9]{1,9})?$"
"""USD as a number that can be added and shown: no sign, no exponent. Longer than any sum of lines can be."""


class Cost(Model):
    """What the results cost, at batch prices."""

    # In the schema alone: a stored amount that is none must not make the job unreadable to the operator.
    amount: str | None = Field(
        default=None,
        max_length=40,
        description="6 places. Absent when unknown; never 0 then.",
        json_schema_extra={"pattern": AMOUNT},
    )
    currency: Literal["USD"] = Field(default="USD", description="Always USD.")
    source: Literal["spec", "genai-prices", "unknown"] = Field(description="Where the prices come from.")
    reason: str | None = Field(default=None, max_length=64, description="Why the price is unknown, e.g. NoBatchPrice.")
    basis: str | None = Field(default=None, max_length=1024, description="Which prices were applied, in words.")


class CollectedOutput(Model):
    """Where the results are."""

    location: str = Field(max_length=2200, description="E.g. configmap/run-1-output or s3://bucket/prefix.")
    bytes: int = Field(description="Bytes written, all files together.")
    lines: int = Field(description="Result lines written, failed ones included.")


class Shard(Model):
    """One part of the input and its batch."""

    index: int = Field(description="Which part, from 0.")
    deployment: NamespacedReference | None = Field(default=None, description="The deployment it runs on.")
    batch_id: ProviderID | None = Field(default=None, description="The provider's batch.")
    input_file_id: ProviderID | None = Field(default=None, description="The provider's input file.")
    output_file_id: ProviderID | None = Field(default=None, description="The provider's output file.")
    error_file_id: ProviderID | None = Field(default=None, description="The provider's error file.")
    attempt: int = Field(default=1, description="Number of the current attempt, from 1.")
    failures: int = Field(default=0, description="Attempts that count against backoffLimit.")
    phase: Phase = Field(default=Phase.PENDING, description="Where this shard is.")
    request_counts: RequestCounts | None = Field(default=None, description="How far its batch is.")
    submit_time: Time | None = Field(default=None, description="When its batch was created.")
    retry_time: Time | None = Field(default=None, description="When the next attempt may begin.")
    unauthorized_since: Time | None = Field(default=None, description="Since when creates are refused for their key.")
    waits: int | None = Field(default=None, description="Waits for quota in a row.")
    refused_by: Annotated[list[Annotated[str, Field(max_length=320)]], Field(max_length=64)] = Field(
        default=[], description="Deployments that refused it since the last wait, as namespace/name."
    )


class Attempt(Model):
    """One batch that was tried and did not end the job well."""

    number: int = Field(description="From 1.")
    shard: int = Field(default=0, description="Which shard.")
    deployment: NamespacedReference = Field(description="Where.")
    batch_id: ProviderID | None = Field(default=None, description="The provider's batch, if there was one.")
    result: str = Field(max_length=64, description="How it ended.")
    reason: str = Field(default="", max_length=1024, description="Why, in the provider's words where they are safe.")
    time: Time | None = Field(default=None, description="When it ended.")


class BatchJobStatus(Model):
    """What the operator saw."""

    observed_generation: int | None = Field(default=None, description="The generation this status describes.")
    phase: Phase = Field(default=Phase.PENDING, description="Where the job is, in one word for people.")
    phase_time: Time | None = Field(default=None, description="Since when it is in this phase.")
    unanswered_since: Time | None = Field(
        default=None,
        description="Since when a cancel is not answered, or results are missing. Given up after 10 minutes.",
    )
    conditions: Conditions = Field(
        default=[], description="Routed, Submitted, Complete, Failed, Finished, Suspended, Reconciling, Stalled."
    )
    model_name: str | None = Field(default=None, max_length=253, description="The public model it runs on.")
    deployment: NamespacedReference | None = Field(default=None, description="The first shard's deployment.")
    batch_id: ProviderID | None = Field(default=None, description="The first shard's batch.")
    input_file_id: ProviderID | None = Field(default=None, description="The first shard's input file.")
    output_file_id: ProviderID | None = Field(default=None, description="The first shard's output file.")
    error_file_id: ProviderID | None = Field(default=None, description="The first shard's error file.")
    shards: Annotated[list[Shard], Field(max_length=512)] = Field(
        default=[],
        description="One entry a part of the input.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["index"]},
    )
    request_counts: RequestCounts | None = Field(default=None, description="How far the job is.")
    custom_id_digest: str | None = Field(
        default=None, max_length=32, description="Digest of the input's ids, from its BatchFile."
    )
    progress: str | None = Field(default=None, max_length=40, description="Done/total, for the table.")
    usage: Usage | None = Field(default=None, description="Tokens used.")
    cost: Cost | None = Field(default=None, description="What it cost.")
    output: CollectedOutput | None = Field(default=None, description="Where the results are.")
    attempts: Annotated[list[Attempt], Field(max_length=10)] = Field(
        default=[], description="The last 10 attempts that ended."
    )
    attempt_count: int | None = Field(default=None, description="All attempts so far.")
    suspended_time: Time | None = Field(default=None, description="Since when it is suspended.")
    suspended_seconds: int | None = Field(default=None, description="How long it was suspended before.")
    start_time: Time | None = Field(default=None, description="When the first batch was created.")
    completion_time: Time | None = Field(default=None, description="When the job ended.")
    last_poll_time: Time | None = Field(default=None, description="When the provider's batch was last seen to change.")


class BatchJob(Resource):
    """One run of a BatchFile on one of the deployments of a model."""

    KIND: ClassVar[str] = "BatchJob"
    PLURAL: ClassVar[str] = "batchjobs"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("bj",)
    COLUMNS: ClassVar = (
        column("Model", ".status.modelName"),
        column("Deployment", ".status.deployment.name"),
        column("Phase", ".status.phase"),
        column("Done/Total", ".status.progress"),
        column("Cost", ".status.cost.amount"),
        column("Batch", ".status.batchID", priority=1),
        column("Reason", ".status.conditions[?(@.type=='Finished')].reason", priority=1),
        AGE,
    )

    spec: BatchJobSpec = Field(description="What the user asks for.")
    status: BatchJobStatus = Field(default_factory=BatchJobStatus, description="What the operator saw.")
