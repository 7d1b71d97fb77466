"""Metrics that are read from the state of the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from llmbatch.engine.clock import SystemClock
from llmbatch.engine.queue import WorkQueue
from llmbatch.observability.metrics import Metrics
from llmbatch.reconcile.index import Index

EVERY = 2.0


class Leading(Protocol):
    """Whether this process works."""

    @property
    def leading(self) -> bool: ...


class Reporting:
    """Keeps gauges right."""

    def __init__(self, metrics: Metrics, index: Index, queue: WorkQueue, election: Leading) -> None:
        self._metrics = metrics
        self._index = index
        self._queue = queue
        self._election = election

    async def run(self) -> None:
        """Until cancelled."""
        clock = SystemClock()
        while True:
            self._metrics.set_jobs(phases(self._index))
            self._metrics.queue_depth.set(self._queue.depth)
            self._metrics.leader.set(1 if self._election.leading else 0)
            await clock.sleep(EVERY)


def phases(index: Index) -> Mapping[str, int]:
    """Jobs by phase."""
    return {phase.value: count for phase, count in index.phases.items()}
