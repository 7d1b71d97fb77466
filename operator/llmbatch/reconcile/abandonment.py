"""Giving up a clean-up that cannot be done, so that a deletion does not hang for ever."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from llmbatch.api.base import Resource
from llmbatch.domain.errors import LLMBatchError
from llmbatch.engine.clock import Clock
from llmbatch.kube.client import Kube
from llmbatch.kube.events import Events

logger = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=10)
PATIENCE_IN_TERMINATING_NAMESPACE = timedelta(seconds=30)
"""A terminating namespace deletes its Secrets first, so the key may never come back."""


class Abandonment:
    """Says how long a clean-up is tried, and tells of what was left behind."""

    def __init__(self, kube: Kube, events: Events, clock: Clock, *, count: Callable[[], None]) -> None:
        self._kube = kube
        self._events = events
        self._clock = clock
        self._count = count

    async def due(self, resource: Resource) -> datetime:
        """When the clean-up of a resource that is being deleted has been tried for long enough.

        In a terminating namespace the time runs from the namespace's own deletion: the namespace controller looks
        after its contents seconds later, and the whole namespace is waited for.
        """
        since = resource.metadata.deletion_timestamp
        assert since is not None
        try:
            namespace = await self._kube.namespace(resource.metadata.namespace)
        except LLMBatchError:
            return since + PATIENCE
        if namespace is None or namespace.terminating:
            begun = namespace.deletion_time if namespace else None
            return (begun or since) + PATIENCE_IN_TERMINATING_NAMESPACE
        return since + PATIENCE

    async def is_due(self, resource: Resource) -> bool:
        """Whether it is."""
        return self._clock.now() >= await self.due(resource)

    async def tell(self, resource: Resource, left: str) -> None:
        """Say what was left behind: in the log, a metric and, where the namespace allows it, an Event."""
        meta = resource.metadata
        logger.warning(
            "clean-up of %s %s/%s given up, left behind: %s", resource.KIND, meta.namespace, meta.name, left
        )  # fmt: skip
        self._count()
        await self._events.record(resource, "Warning", "CleanupAbandoned", f"given up, left behind: {left}")
