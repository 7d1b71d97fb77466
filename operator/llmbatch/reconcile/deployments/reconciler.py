"""Reconciling ModelDeployments: is it ready, how much runs there, may it go."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from llmbatch.api import ModelDeployment, names
from llmbatch.api.modeldeployment import ModelDeploymentStatus
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import ConditionSet
from llmbatch.domain.errors import LLMBatchError
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key
from llmbatch.engine.workers import Requeue
from llmbatch.kube.client import Kube
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.accounts.accounts import Account, Accounts
from llmbatch.reconcile.index.index import Index, route_of
from llmbatch.reconcile.writer import Writer

logger = logging.getLogger(__name__)

COUNTS_EVERY = timedelta(seconds=10)
"""Mere counts of batches are written at most this often."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the deployment can take work, and why. ``ready`` is None before it was first asked."""

    ready: bool | None
    reason: Reason
    message: str


class DeploymentReconciler:
    """Keeps a deployment's Ready condition and its counts right, and its deletion waiting for its batches."""

    def __init__(
        self,
        kube: Kube,
        writer: Writer,
        accounts: Accounts,
        index: Index,
        clock: Clock,
        *,
        shared_namespaces: Collection[str],
        recheck: float,
    ) -> None:
        self._kube = kube
        self._writer = writer
        self._accounts = accounts
        self._index = index
        self._clock = clock
        self._shared = shared_namespaces
        self._recheck = recheck

    async def reconcile(self, key: Key) -> Requeue | None:
        """One look at a deployment."""
        deployment = await self._kube.get(ModelDeployment, key.namespace, key.name)
        if deployment is None:
            self._accounts.forget(f"{key.namespace}/{key.name}")
            return None
        self._index.put(deployment)
        if deployment.metadata.deletion_timestamp is not None:
            return await self._delete(deployment)
        deployment = await self._writer.claim(deployment)
        health, account = await self._health(deployment)
        if health.ready is None:
            return Requeue(self._recheck)
        late = await self._write(deployment, self._status(deployment, health, account))
        if late is not None:
            return Requeue(late)
        return Requeue(self._recheck) if not health.ready or self._index.depends_on(deployment) else None

    async def _health(self, deployment: ModelDeployment) -> tuple[Health, Account | None]:
        try:
            account, _ = await self._accounts.examine(deployment)
        except LLMBatchError as error:
            return Health(False, error.reason, error.message), None
        stale = account.probed_at is None or self._index.depends_on(deployment) or account.error is not None
        if stale:
            self._accounts.probe(account)
        if deployment.spec.suspend:
            return Health(
                False, Reason.SUSPENDED, "drained by spec.suspend: no new work, running work goes on"
            ), account
        if account.error is not None:
            return Health(False, account.error.reason, account.error.message), account
        if account.probed_at is None:
            return Health(None, Reason.PROBING, ""), account
        home = deployment.metadata.namespace
        if deployment.spec.allowed_namespaces.from_ != "Same" and home not in self._shared:
            message = (
                f"ready for namespace {home} only: allowedNamespaces has no effect unless the administrator shares "
                "this namespace (--shared-deployment-namespace)"
            )
            return Health(True, Reason.NOT_SHARED, message), account
        return Health(True, Reason.READY, "the provider answers"), account

    def _status(self, deployment: ModelDeployment, health: Health, account: Account | None) -> ModelDeploymentStatus:
        conditions = ConditionSet(
            deployment.status.conditions, generation=deployment.metadata.generation, now=self._clock.now()
        )
        conditions.set(ConditionType.READY, health.ready, health.reason, health.message)
        if not health.ready and health.reason is not Reason.SUSPENDED:
            conditions.set(ConditionType.RECONCILING, True, health.reason, health.message)
        active, tokens = self._index.load(route_of(deployment))
        return ModelDeploymentStatus(
            observed_generation=deployment.metadata.generation,
            conditions=conditions.list(),
            provider=target_of(deployment.spec).label,
            active_batches=active,
            enqueued_tokens=tokens,
            last_probe_time=account.probed_at if account and account.probed_at else deployment.status.last_probe_time,
        )

    async def _write(self, deployment: ModelDeployment, status: ModelDeploymentStatus) -> float | None:
        """Write what differs; answers the seconds after which counts alone may be written."""
        before, after = deployment.status, status
        if before.model_copy(update={"last_probe_time": None}) == after.model_copy(update={"last_probe_time": None}):
            return None
        told = {"active_batches", "enqueued_tokens", "last_probe_time"}
        if before.model_dump(exclude=told) == after.model_dump(exclude=told) and before.last_probe_time is not None:
            since = self._clock.now() - before.last_probe_time
            wait = min(COUNTS_EVERY, timedelta(seconds=self._recheck)) - since
            if wait > timedelta(0):
                return wait.total_seconds()
        await self._writer.status(deployment, status.wire())
        return None

    async def _delete(self, deployment: ModelDeployment) -> Requeue | None:
        route = route_of(deployment)
        if names.FINALIZER not in deployment.metadata.finalizers:
            return None
        jobs, files = self._index.running_on(route), self._index.files_on(route)
        if jobs or files:
            first = [str(key) for key in [*(job for job, _ in jobs), *files]][:5]
            message = f"deletion waits for {len(jobs)} running jobs and {len(files)} file copies: {', '.join(first)}"
            conditions = ConditionSet(
                deployment.status.conditions, generation=deployment.metadata.generation, now=self._clock.now()
            )
            conditions.set(ConditionType.READY, False, Reason.DELETION_WAITS, message)
            conditions.set(ConditionType.RECONCILING, True, Reason.DELETION_WAITS, message)
            status = deployment.status.model_copy(
                update={"conditions": conditions.list(), "observed_generation": deployment.metadata.generation}
            )
            if status != deployment.status:
                await self._writer.status(deployment, status.wire())
            return Requeue(self._recheck)
        await self._writer.release(deployment)
        self._accounts.forget(route)
        return None
