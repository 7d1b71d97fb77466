"""Writing a resource: the index learns of it at once, and whoever it concerns is woken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from llmbatch.api import names
from llmbatch.api.base import Resource
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.kube.client import Kube
from llmbatch.reconcile.index.index import Index, key_of

R = TypeVar("R", bound=Resource)


COUNTS_AFTER = 5.0
"""Seconds after which a deployment tells how many batches it has, when nothing but that changed."""


def wake(queue: WorkQueue, index: Index, keys: Iterable[Key]) -> None:
    """Have resources reconciled that something else's change concerns."""
    for key in keys:
        deployment = index.deployments.get(key)
        if deployment is not None and deployment.metadata.deletion_timestamp is None:
            queue.add_after(key, COUNTS_AFTER)
        else:
            queue.add(key)


class Writer:
    """Writes resources; raises KubeError."""

    def __init__(self, kube: Kube, index: Index, queue: WorkQueue) -> None:
        self._kube = kube
        self._index = index
        self._queue = queue

    async def metadata(
        self,
        resource: R,
        *,
        annotations: Mapping[str, str | None] = {},
        finalizers: Sequence[str] | None = None,
    ) -> R:
        """Annotations and finalizers, if the resource is still as it was read. Raises Conflict, Gone."""
        stored = await self._kube.patch_metadata(resource, annotations=annotations, finalizers=finalizers)
        self._spread(stored)
        return stored

    async def claim(self, resource: R) -> R:
        """The resource with the finalizer that holds it until all that was made for it is gone. Raises as metadata."""
        if names.FINALIZER in resource.metadata.finalizers:
            return resource
        return await self.metadata(resource, finalizers=[*resource.metadata.finalizers, names.FINALIZER])

    async def release(self, resource: R) -> R:
        """Let a resource that is being deleted go. Raises as metadata."""
        left = [finalizer for finalizer in resource.metadata.finalizers if finalizer != names.FINALIZER]
        return await self.metadata(resource, finalizers=left)

    async def status(self, resource: R, status: Mapping[str, Any], *, at_version: bool = False) -> R:
        """The whole status. Raises Gone, and with ``at_version`` Conflict where the resource is not as it was read."""
        stored = await self._kube.patch_status(resource, status, at_version=at_version)
        self._spread(stored)
        if _facts(stored) != _facts(resource):
            # Somebody changed it meanwhile; since the index has it now, the event will be passed over.
            self._queue.add(key_of(stored))
        return stored

    def _spread(self, stored: Resource) -> None:
        self._queue.answered(key_of(stored), stored.metadata.resource_version)
        wake(self._queue, self._index, self._index.put(stored))


def _facts(resource: Resource) -> tuple[object, ...]:
    """What decisions are made of besides status."""
    meta = resource.metadata
    return (meta.generation, meta.deletion_timestamp, meta.annotations, meta.finalizers)
