"""BatchFile: requests as JSON lines, uploaded once for any number of jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from llmbatch.api.base import (
    AGE,
    Conditions,
    Duration,
    KeyReference,
    LocalObjectReference,
    Model,
    ModelName,
    Name,
    Namespace,
    ProviderID,
    Resource,
    Time,
    column,
    immutable,
    validations,
)

NEW_FILE = "content and targets are bound at creation, make a new BatchFile with a new name"

StoreURL = Annotated[
    str,
    Field(
        min_length=6,
        max_length=2048,
        json_schema_extra=validations(
            {
                "rule": "self.startsWith('s3://')",
                "message": "only s3://BUCKET/KEY is supported in this version; gs, az and https URLs are not yet",
            },
            {
                "rule": "!self.startsWith('s3://') || self.matches('^s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]/[^?#]+$')",
                "message": "an s3 URL has the form s3://BUCKET/KEY, without a query",
            },
        ),
    ),
]


class Source(Model):
    """Where the requests are. Exactly one of inline, configMapKeyRef, secretKeyRef and url."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            {
                "rule": "(has(self.inline) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0)"
                " + (has(self.secretKeyRef) ? 1 : 0) + (has(self.url) ? 1 : 0) == 1",
                "message": "set exactly one source: inline, configMapKeyRef, secretKeyRef or url",
            },
            {
                "rule": "!has(self.credentialsSecretRef) || has(self.url)",
                "message": "credentialsSecretRef goes with url",
            },
            immutable("inline", "configMapKeyRef", "secretKeyRef", "url", advice=NEW_FILE),
        )
    )

    inline: Annotated[str, Field(min_length=1, max_length=131_072)] | None = Field(
        default=None, description="The lines themselves, up to 131072 characters."
    )
    config_map_key_ref: KeyReference | None = Field(
        default=None, description="A ConfigMap key (data or binaryData) that holds the lines."
    )
    secret_key_ref: KeyReference | None = Field(default=None, description="A Secret key that holds the lines.")
    url: StoreURL | None = Field(default=None, description="An object that holds the lines: s3://BUCKET/KEY.")
    credentials_secret_ref: LocalObjectReference | None = Field(
        default=None,
        description="A Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, optionally AWS_SESSION_TOKEN "
        "and AWS_ENDPOINT_URL. Needed, but for what the administrator opened with --ambient-credential-prefix.",
    )


class BatchFileSpec(Model):
    """What the user asks for."""

    model_config = ConfigDict(
        json_schema_extra=validations(immutable("targetModelNames", "providerFileTTL", advice=NEW_FILE))
    )

    target_model_names: Annotated[
        list[ModelName],
        Field(min_length=1, max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(description="Public model names. The file goes to every deployment of all of them that admits it.")
    source: Source = Field(description="Where the requests are.")
    provider_file_ttl: Duration = Field(
        default="720h", description="How long the provider may keep its copies; brought into the provider's own range."
    )
    deletion_policy: Literal["Delete", "Retain"] = Field(
        default="Delete", description="What happens to the provider's copies when this file is deleted."
    )


class FileError(Model):
    """One reason why the input was refused. Never any content."""

    line: int | None = Field(default=None, description="Line number, from 1. Absent: the whole file.")
    code: str = Field(max_length=64, description="What is wrong, for programs.")
    key: str | None = Field(default=None, max_length=64, description="The key that is wrong.")
    message: str = Field(max_length=512, description="What is wrong and what to do, for people.")


class CopyState(StrEnum):
    """The state of a copy at a provider."""

    PENDING = "Pending"
    UPLOADING = "Uploading"
    PROCESSING = "Processing"
    PROCESSED = "Processed"
    FAILED = "Failed"


class ProviderFile(Model):
    """One file at a provider."""

    shard: int = Field(default=0, description="Which part of the input, from 0.")
    file_id: ProviderID | None = Field(default=None, description="The provider's id.")
    state: CopyState = Field(description="Pending, Uploading, Processing, Processed or Failed.")
    requests: int | None = Field(default=None, description="Requests in this file.")
    bytes: int | None = Field(default=None, description="Size as uploaded.")
    upload_time: Time | None = Field(default=None, description="When the upload ended.")
    expiry_time: Time | None = Field(default=None, description="When the provider deletes it.")


class FileDeployment(Model):
    """The copies on one deployment."""

    namespace: Namespace = Field(description="Namespace of the ModelDeployment.")
    name: Name = Field(description="Name of the ModelDeployment.")
    model_name: str = Field(max_length=253, description="The public model name it serves.")
    form: str | None = Field(
        default=None,
        max_length=512,
        description="What the lines were translated to: the provider's model, and how its URLs begin. "
        "When the deployment changes it, the copies are made again.",
    )
    state: CopyState = Field(description="Processed once every shard is.")
    reason: str | None = Field(default=None, max_length=64, description="Why it is not processed, for programs.")
    error: str | None = Field(default=None, max_length=1024, description="Why it is not processed, for people.")
    failures: int | None = Field(default=None, description="Failed uploads since the last success.")
    retry_time: Time | None = Field(default=None, description="When the upload is tried again.")
    files: Annotated[list[ProviderFile], Field(max_length=512)] = Field(default=[], description="One entry a shard.")


class BatchFileStatus(Model):
    """What the operator saw."""

    observed_generation: int | None = Field(default=None, description="The generation this status describes.")
    conditions: Conditions = Field(default=[], description="Validated, Ready, Uploaded, Reconciling, Stalled.")
    requests: int | None = Field(default=None, description="Requests in the input.")
    bytes: int | None = Field(default=None, description="Size of the input.")
    sha256: str | None = Field(default=None, max_length=64, description="Hash of the input; it binds the content.")
    estimated_input_tokens: int | None = Field(default=None, description="Bytes of the bodies / 4.")
    endpoint: str | None = Field(default=None, max_length=64, description="The lines' URL, with /v1.")
    custom_id_digest: str | None = Field(
        default=None, max_length=32, description="Digest of the lines' ids; results whose ids have another are told."
    )
    errors: Annotated[list[FileError], Field(max_length=20)] = Field(default=[], description="The first 20 errors.")
    deployments: Annotated[list[FileDeployment], Field(max_length=256)] = Field(
        default=[],
        description="The copies, an entry a deployment.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["namespace", "name"]},
    )


class BatchFile(Resource):
    """Requests as JSON lines. One upload serves any number of jobs."""

    KIND: ClassVar[str] = "BatchFile"
    PLURAL: ClassVar[str] = "batchfiles"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("bf",)
    COLUMNS: ClassVar = (
        column("Models", ".spec.targetModelNames"),
        column("Requests", ".status.requests", "integer"),
        column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        column("Reason", ".status.conditions[?(@.type=='Ready')].reason", priority=1),
        AGE,
    )

    spec: BatchFileSpec = Field(description="What the user asks for.")
    status: BatchFileStatus = Field(default_factory=BatchFileStatus, description="What the operator saw.")
