"""The operator's settings: every flag, with an environment variable for each."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import Field, IPvAnyNetwork, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Read from ``LLMBATCH_…``; flags win. Lists are separated by commas. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="LLMBATCH_", frozen=True)

    namespace: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Namespaces to work in; none: all of them."
    )  # fmt: skip
    shared_deployment_namespace: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Namespaces whose deployments may admit other namespaces."
    )
    allow_network: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        (), description="Private networks (CIDR) that endpoints and URLs may lead to."
    )
    metrics_address: str = Field("0.0.0.0:8080", description="Where /metrics is served.")
    health_address: str = Field("0.0.0.0:8081", description="Where /healthz and /readyz are served.")
    log_format: Literal["json", "text"] = Field("json", description="How the log is written.")
    log_level: Literal["debug", "info", "warning"] = Field("info", description="What is logged of our own.")
    leader_elect: bool = Field(True, description="Work only while holding the Lease.")
    lease_namespace: str = Field("", description="Where the Lease is; empty: the pod's namespace.")
    lease_name: str = Field("llmbatch-operator", description="The Lease's name.")
    cluster_id: str = Field("", description="Names this cluster in batch metadata; empty: the UID of kube-system.")
    poll_interval: float = Field(30.0, ge=0.2, le=3600, description="Between two looks at an account with batches.")
    probe_interval: float = Field(30.0, ge=0.2, le=3600, description="Between two looks at an account without.")
    create_timeout: float = Field(60.0, ge=1, le=600, description="For one create at a provider.")
    create_grace: float = Field(60.0, ge=0, le=3600, description="Added to the time-outs before a create is repeated.")
    not_found_grace: float = Field(600.0, ge=1, le=86_400, description="How long a provider's 404 on a batch is a lag.")
    retry_scale: float = Field(1.0, gt=0, le=10, description="Multiplies the waits between attempts.")
    workers: int = Field(16, ge=1, le=256, description="Reconciles at a time.")
    uploads: int = Field(8, ge=1, le=64, description="Uploads to one deployment at a time.")

    @field_validator("namespace", "shared_deployment_namespace", "allow_network", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The allowed networks."""
        return self.allow_network  # type: ignore[return-value]
