"""From events to the index and the queue, and the check that nothing was missed on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError

from llmbatch.api import KINDS, BatchFile, BatchJob, ModelDeployment
from llmbatch.api.base import Resource
from llmbatch.app.liveness import Liveness
from llmbatch.domain.job.rules import next_step
from llmbatch.domain.job.steps import Idle, Observed
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.kube.client import Kube
from llmbatch.kube.errors import KubeError
from llmbatch.reconcile.index.index import Index
from llmbatch.reconcile.index.projections import FinishedJob, finished_job
from llmbatch.reconcile.writer import wake

logger = logging.getLogger(__name__)

RESYNC_EVERY = 600.0
BEHIND_AFTER = 60.0
CRD_WAIT = 2.0
BY_KIND: Mapping[str, type[Resource]] = {kind.KIND: kind for kind in KINDS}


class Watching:
    """Takes in events, and compares with the API server every 10 minutes: after a relist kopf tells nothing of what
    vanished meanwhile."""

    def __init__(
        self, kube: Kube, index: Index, queue: WorkQueue, clock: Clock, *, namespaces: Sequence[str], liveness: Liveness
    ) -> None:
        self._kube = kube
        self._index = index
        self._queue = queue
        self._clock = clock
        self._wake = partial(wake, queue, index)
        self._namespaces = namespaces
        self._liveness = liveness
        self.listed = asyncio.Event()
        """Set by the informer when it has handed on all that there was."""

    async def wait_for_crds(self) -> None:
        """Wait until the API server serves our kinds: kopf would never see those that come later."""
        wanted = {kind.PLURAL for kind in KINDS}
        told = False
        while True:
            try:
                missing = wanted - await self._kube.served()
            except KubeError as error:
                logger.warning("the API server does not answer: %s", error.message)
                missing = wanted
            if not missing:
                return
            if not told:
                logger.info("waiting for the CustomResourceDefinitions of %s", ", ".join(sorted(missing)))
                told = True
            await self._clock.sleep(CRD_WAIT)

    def observe(self, kind: str, body: Mapping[str, Any], gone: bool) -> None:
        """Take in one event."""
        meta = body["metadata"]
        key = Key(kind, meta["namespace"], meta["name"])
        if gone:
            self._gone(key, meta["resourceVersion"])
            return
        version = meta["resourceVersion"]
        if not self._is_newer(key, version):
            return  # what we wrote or read ourselves comes back as an event
        if self._queue.is_running(key):
            # Mostly the echo of a write that was not answered yet. Whatever else it is, the next run reads it.
            self._index.note(key, version)
            self._queue.add(key, version)
            return
        if kind == BatchJob.KIND and (ended := finished_job(key, body)) is not None:
            self._take_finished(key, version, ended)
            return
        try:
            resource = BY_KIND[kind].model_validate(body)
            self._wake(self._index.put(resource))
        except Exception as error:
            # Whatever a stored object holds: one that cannot be understood must not keep all others from being seen.
            self._index.note(key, meta["resourceVersion"])
            logger.warning("%s cannot be read, repair or delete it%s", key, _places(error))
            return
        self._enqueue(key, resource)

    def _take_finished(self, key: Key, version: str, ended: FinishedJob) -> None:
        """Most jobs are finished; a restart must not read and think about all of them again."""
        self._wake(self._index.put_finished(key, version, ended.job))
        if ended.expiry is not None:
            self._queue.add_after(key, (ended.expiry - self._clock.now()).total_seconds())

    def _enqueue(self, key: Key, resource: Resource) -> None:
        if isinstance(resource, BatchJob) and resource.status.phase.finished:
            step = next_step(resource, Observed(), self._clock.now())
            if isinstance(step, Idle):
                if step.until is not None:
                    self._queue.add_after(key, (step.until - self._clock.now()).total_seconds())
                return
        self._queue.add(key)

    def _is_newer(self, key: Key, version: str) -> bool:
        return int(self._index.version_of(key) or -1) < int(version)

    def _gone(self, key: Key, version: str = "") -> None:
        self._wake(self._index.remove(key, version))
        self._queue.discard(key)
        if key.kind == ModelDeployment.KIND:
            self._queue.add(key)

    # --- nothing missed ---------------------------------------------------------------------------------------

    async def keep_right(self) -> None:
        """Wait for the informer's first list, then compare every 10 minutes, until cancelled."""
        await self.listed.wait()
        self._liveness.listed = True
        while True:
            await self._clock.sleep(RESYNC_EVERY)
            try:
                await self._resync()
            except KubeError as error:
                logger.warning("resync failed: %s", error.message)

    async def _listed(self) -> dict[Key, str]:
        found = {}
        for kind in (ModelDeployment, BatchFile, BatchJob):
            for namespace in self._namespaces or [None]:
                async for item in self._kube.list_metadata(kind, namespace):
                    found[Key(kind.KIND, item.namespace, item.name)] = item.resource_version
        return found

    async def _resync(self) -> None:
        known = set(self._index.keys())
        listed = await self._listed()
        for key in known - listed.keys():
            # The list is some seconds old, and what was made meanwhile must not be taken for gone.
            if await self._kube.get(BY_KIND[key.kind], key.namespace, key.name) is None:
                logger.info("%s vanished unseen", key)
                self._gone(key)
        behind = [key for key, version in listed.items() if self._is_newer(key, version)]
        if not behind:
            self._liveness.times_behind = 0
            return
        await self._clock.sleep(BEHIND_AFTER)
        late = [key for key in behind if self._is_newer(key, listed[key])]
        self._liveness.times_behind = self._liveness.times_behind + 1 if late else 0
        for key in late:
            logger.warning("%s was behind for %d s", key, BEHIND_AFTER)
            self._queue.add(key)


def _places(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f" ({type(error).__name__})"
    return ": " + ", ".join(".".join(map(str, found["loc"])) for found in error.errors(include_input=False)[:5])
