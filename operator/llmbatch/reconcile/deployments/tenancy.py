"""Which deployments a namespace may use, and whether each can take work now."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llmbatch.api import ModelDeployment
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition
from llmbatch.domain.file.matching import admits
from llmbatch.engine.clock import Clock
from llmbatch.kube.client import Kube
from llmbatch.kube.errors import Forbidden
from llmbatch.reconcile.index.index import Index

LABELS_AGE = 30.0
"""Seconds for which a namespace's labels are kept."""


class Tenancy:
    """Answers who may use what."""

    def __init__(self, kube: Kube, index: Index, clock: Clock, *, shared_namespaces: Collection[str]) -> None:
        self._kube = kube
        self._index = index
        self._clock = clock
        self._shared = shared_namespaces
        self._labels: dict[str, tuple[float, Mapping[str, str] | None]] = {}

    async def deployments_for(self, models: Collection[str], namespace: str) -> list[ModelDeployment]:
        """The deployments of some models that admit a namespace, those being deleted left out. Raises KubeError."""
        found = []
        for deployment in self._index.deployments_of(models):
            if deployment.metadata.deletion_timestamp is not None:
                continue
            selects = deployment.spec.allowed_namespaces.from_ == "Selector"
            labels = await self._labels_of(namespace) if selects else None
            if admits(deployment, namespace, shared_namespaces=self._shared, labels=labels):
                found.append(deployment)
        return found

    def unusable(self, deployment: ModelDeployment) -> tuple[Reason, str] | None:
        """Why a deployment cannot take new work just now."""
        if deployment.spec.suspend:
            return Reason.SUSPENDED, "the deployment is suspended"
        ready = condition(deployment.status.conditions, ConditionType.READY)
        if ready is None:
            return Reason.PROBING, "the deployment is being probed"
        if ready.status != "True":
            return Reason.of(ready.reason), f"the deployment is not Ready: {ready.message}"
        return None

    async def _labels_of(self, namespace: str) -> Mapping[str, str] | None:
        """None where they may not be read. Any other failure rises: it is no reason to shut a namespace out."""
        now = self._clock.monotonic()
        read_at, labels = self._labels.get(namespace, (float("-inf"), None))
        if now - read_at > LABELS_AGE:
            try:
                found = await self._kube.namespace(namespace)
            except Forbidden:
                found = None
            labels = found.labels if found else None
            self._labels[namespace] = (now, labels)
        return labels
