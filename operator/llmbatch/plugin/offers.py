"""Which deployments a namespace may use, as far as one can tell without the operator's flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llmbatch.api import ModelDeployment
from llmbatch.api.modeldeployment import Limits
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition
from llmbatch.domain.file.matching import admits

Access = Literal["own", "shared", "unclear"]


@dataclass(frozen=True, slots=True)
class Offer:
    """A deployment that a namespace may use; ``unclear`` where only the operator knows."""

    deployment: ModelDeployment
    access: Access

    @property
    def ready(self) -> bool | None:
        """Whether it can take work now; None before it was first looked at."""
        found = condition(self.deployment.status.conditions, ConditionType.READY)
        return None if found is None or found.status == "Unknown" else found.status == "True"

    @property
    def reason(self) -> str:
        """Why it is ready or not, in one word. That it is not shared with others does not matter to its own."""
        found = condition(self.deployment.status.conditions, ConditionType.READY)
        return Reason.PROBING if found is None else Reason.READY if found.reason == Reason.NOT_SHARED else found.reason

    @property
    def message(self) -> str:
        """The same for people."""
        found = condition(self.deployment.status.conditions, ConditionType.READY)
        return found.message if found else ""

    def data(self) -> dict[str, Any]:
        """The offer for programs."""
        meta, spec, status = self.deployment.metadata, self.deployment.spec, self.deployment.status
        return {
            "namespace": meta.namespace,
            "name": meta.name,
            "access": self.access,
            "provider": provider_of(self.deployment),
            "ready": self.ready,
            "reason": self.reason,
            "message": self.message,
            "suspended": spec.suspend,
            "weight": spec.weight,
            "activeBatches": status.active_batches,
            "enqueuedTokens": status.enqueued_tokens,
            "limits": spec.limits.wire(),
        }


def offers(
    deployments: Iterable[ModelDeployment], namespace: str, labels: Mapping[str, str] | None
) -> dict[str, list[Offer]]:
    """By public model name, the deployments that ``namespace`` may use. ``labels`` are the namespace's, None where they
    may not be read."""
    listed = list(deployments)
    found: dict[str, list[Offer]] = {}
    for deployment in sorted(listed, key=lambda one: (one.spec.model_name, one.metadata.namespace, one.metadata.name)):
        if access := _access(deployment, namespace, labels, listed):
            found.setdefault(deployment.spec.model_name, []).append(Offer(deployment, access))
    return found


def _access(
    deployment: ModelDeployment, namespace: str, labels: Mapping[str, str] | None, listed: list[ModelDeployment]
) -> Access | None:
    home = deployment.metadata.namespace
    if home == namespace:
        return "own"
    shared = _is_shared(home, listed)
    if shared is False:
        return None
    unread = labels is None and deployment.spec.allowed_namespaces.from_ == "Selector"
    if not unread and not admits(deployment, namespace, shared_namespaces={home}, labels=labels):
        return None
    return "shared" if shared and not unread else "unclear"


def _is_shared(home: str, listed: Iterable[ModelDeployment]) -> bool | None:
    """Whether the administrator shares a namespace, which its Ready deployments that admit others tell."""
    for deployment in listed:
        if deployment.metadata.namespace != home or deployment.spec.allowed_namespaces.from_ == "Same":
            continue
        found = condition(deployment.status.conditions, ConditionType.READY)
        if found is not None and found.status == "True":
            return found.reason != Reason.NOT_SHARED
    return None


def provider_of(deployment: ModelDeployment) -> str:
    """The provider's kind."""
    return deployment.status.provider or ("OpenAI" if deployment.spec.open_ai else "AzureOpenAI")


def limits_text(limits: Limits) -> str:
    """The limits that the platform team has set, in words; a dash where the provider's own hold."""
    parts = [
        f"{limits.max_requests_per_file:,} requests" if limits.max_requests_per_file else "",
        f"{limits.max_file_bytes} a file" if limits.max_file_bytes else "",
        f"{limits.max_enqueued_tokens:,} tokens" if limits.max_enqueued_tokens else "",
    ]
    return ", ".join(part for part in parts if part) or "-"
