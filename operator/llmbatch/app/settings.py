"""The operator's settings. Each is a flag of ``run`` and an environment variable."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import Field, IPvAnyNetwork, PlainValidator, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from llmbatch.domain.ambient import AmbientPrefix
from llmbatch.domain.requests.validation import MAX_LINE_BYTES


class Settings(BaseSettings):
    """Read from ``LLMBATCH_…``; flags win. Lists are separated by commas. Times are in seconds.

    The descriptions are the help of the command line, which adds the default where it is not empty.
    """

    model_config = SettingsConfigDict(env_prefix="LLMBATCH_", frozen=True)

    namespace: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Work in this namespace only; repeatable. Default: all."
    )
    shared_deployment_namespace: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="ModelDeployments of this namespace may admit other namespaces; repeatable."
    )
    allow_network: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        (), description="A private network (CIDR) that endpoints and stores may lead to; repeatable."
    )
    ambient_credential_prefix: Annotated[
        tuple[Annotated[AmbientPrefix, PlainValidator(AmbientPrefix.parse)], ...], NoDecode
    ] = Field(
        (),
        description="Below this s3://BUCKET/PREFIX/ the operator's own credentials serve tenants without a Secret; a"
        " part {namespace} stands for theirs; repeatable.",
    )
    metrics_address: str = Field(":8080", description="Where /metrics is served; without a host on all addresses.")
    health_address: str = Field(
        ":8081", description="Where /healthz and /readyz are served; without a host on all addresses."
    )
    log_format: Literal["json", "text"] = Field("json", description="json or text.")
    log_level: Literal["debug", "info", "warning"] = Field("info", description="debug, info or warning.")
    leader_elect: bool = Field(True, description="Work only while holding the Lease.")
    lease_namespace: str = Field("", description="Where the Lease is. Default: the pod's namespace.")
    lease_name: str = Field("llmbatch-operator", description="The Lease's name.")
    cluster_id: str = Field("", description="Names this cluster in batches. Default: the UID of kube-system.")
    poll_interval: float = Field(30.0, ge=0.2, le=3600, description="Seconds between looks at running batches.")
    probe_interval: float = Field(30.0, ge=0.2, le=3600, description="Seconds between looks at idle accounts.")
    create_timeout: float = Field(60.0, ge=1, le=600, description="Seconds for one create of a batch.")
    create_grace: float = Field(60.0, ge=0, le=3600, description="Seconds added before a lost create is repeated.")
    not_found_grace: float = Field(600.0, ge=1, le=86_400, description="Seconds for which a 404 on a batch is a lag.")
    retry_scale: float = Field(1.0, gt=0, le=10, description="Multiplies the waits between attempts.")
    workers: int = Field(16, ge=1, le=256, description="Reconciles at a time; namespaces take turns.")
    max_line_bytes: int = Field(
        MAX_LINE_BYTES,
        ge=64 * 1024,
        le=256 * 1024 * 1024,
        description="Bytes of one request; 12 MiB take up to 50 ms to check.",
    )
    uploads: int = Field(8, ge=1, le=64, description="Uploads to one deployment at a time.")

    @field_validator(
        "namespace", "shared_deployment_namespace", "allow_network", "ambient_credential_prefix", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The allowed networks."""
        return self.allow_network  # type: ignore[return-value]
