"""Reconciling BatchFiles: validate once, keep a copy on every deployment, clean up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from llmbatch.api import BatchFile, ModelDeployment, names
from llmbatch.api.batchfile import BatchFileStatus, CopyState, FileDeployment
from llmbatch.domain import file as lifecycle
from llmbatch.domain.errors import CredentialsError, LLMBatchError, SourceChanged, StorageError
from llmbatch.domain.lines import InputReport
from llmbatch.domain.translate import translated_size
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key
from llmbatch.engine.workers import Requeue
from llmbatch.kube.client import Kube
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.abandonment import Abandonment
from llmbatch.reconcile.index import Index, deployment_key, key_of, route_of
from llmbatch.reconcile.tenancy import Tenancy
from llmbatch.reconcile.uploads import Inputs, Uploads, largest, limits_of
from llmbatch.reconcile.writer import Writer

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that a reconcile waits for uploads, so that small files are told of in one write."""


class FileReconciler:
    """Keeps a file's copies and its status right."""

    def __init__(
        self,
        kube: Kube,
        writer: Writer,
        index: Index,
        inputs: Inputs,
        uploads: Uploads,
        tenancy: Tenancy,
        abandonment: Abandonment,
        clock: Clock,
        *,
        recheck: float,
    ) -> None:
        self._kube = kube
        self._writer = writer
        self._index = index
        self._inputs = inputs
        self._uploads = uploads
        self._tenancy = tenancy
        self._abandonment = abandonment
        self._clock = clock
        self._recheck = recheck
        self._met: set[str] = set()
        """Files whose first upload this process began itself: nothing of them was at a provider before."""

    async def reconcile(self, key: Key) -> Requeue | None:
        """One look at a file."""
        file = await self._kube.get(BatchFile, key.namespace, key.name)
        if file is None:
            return None
        self._index.put(file)
        if file.metadata.deletion_timestamp is not None:
            return await self._delete(file)
        if lifecycle.is_validated(file) and not lifecycle.is_valid(file):
            return None
        deployments = await self._tenancy.deployments_for(file.spec.target_model_names, key.namespace)
        try:
            report = await self._report(file, deployments)
        except SourceChanged:
            await self._write(file, lifecycle.changed(file, self._clock.now()))
            return None
        except (StorageError, CredentialsError) as error:
            if lifecycle.is_validated(file):
                logger.warning("%s cannot be read again: %s", key, error.message)
                return Requeue(self._recheck)
            await self._write(file, lifecycle.unread(file, error, self._clock.now()))
            return Requeue(self._recheck)
        if not report.valid:
            await self._write(file, lifecycle.invalid(file, report, self._clock.now()))
            return None
        return await self._keep_copies(file, report, deployments)

    async def _report(self, file: BatchFile, deployments: list[ModelDeployment]) -> InputReport:
        """What the input is; read only as long as something may have to be uploaded."""
        requests, size = largest(deployments)
        if not lifecycle.is_validated(file):
            self._inputs.forget(file.metadata.uid)
            return await self._inputs.report(file, max_requests=requests, max_bytes=size)
        copies = {lifecycle.route_of(entry): entry for entry in file.status.deployments}
        routes = {route_of(deployment) for deployment in deployments}
        settled = all(route in copies and copies[route].state is CopyState.PROCESSED for route in routes)
        if settled and not self._suspects(file) and not self._expires(file):
            return _from_status(file)
        return await self._inputs.report(file, max_requests=max(requests, file.status.requests or 0), max_bytes=1 << 62)

    async def _keep_copies(
        self, file: BatchFile, report: InputReport, deployments: list[ModelDeployment]
    ) -> Requeue | None:
        if names.FINALIZER not in file.metadata.finalizers:
            self._met.add(file.metadata.uid)
            finalizers = [*file.metadata.finalizers, names.FINALIZER]
            file = await self._writer.metadata(file, finalizers=finalizers)
        written = file
        file = lifecycle.with_report(file, report)
        by_route = {route_of(deployment): deployment for deployment in deployments}
        seen = self._seen(file, report, by_route)
        plan = lifecycle.plan(file, seen, self._clock.now())
        for target in seen.targets:
            if target.route in plan.upload:
                first = file.metadata.uid not in self._met
                self._uploads.start(file, by_route[target.route], target, look_first=first)
        checked, dropped = await asyncio.gather(
            self._check(file, by_route, plan.check), self._drop(file, plan.drop)
        )  # fmt: skip
        try:
            results = checked | await self._uploads.results(file, patience=PATIENCE)
        except SourceChanged:
            self._inputs.forget(file.metadata.uid)
            await self._write(written, lifecycle.changed(file, self._clock.now()))
            return None
        made = lifecycle.entries(file, seen, results, dropped)
        await self._write(written, lifecycle.summary(file, made, self._clock.now()))
        for route in results:
            self._index.suspects.pop((key_of(file), route), None)
        return self._again(file, made, plan)

    def _again(self, file: BatchFile, made: list[FileDeployment], plan: lifecycle.Plan) -> Requeue | None:
        now = self._clock.now()
        times = [entry.retry_time for entry in made if entry.retry_time]
        if any(entry.state is CopyState.PROCESSING for entry in made):
            times.append(now + lifecycle.PROCESSING_CHECK)
        if plan.drop:
            times.append(now + lifecycle.READ_AGAIN)
        wait = min(times, default=None)
        if wait is not None:
            return Requeue(max(0.1, (wait - now).total_seconds()))
        good = any(entry.state is CopyState.PROCESSED for entry in made)
        return None if good or self._uploads.under_way(file) else Requeue(self._recheck)

    def _seen(
        self, file: BatchFile, report: InputReport, deployments: dict[str, ModelDeployment]
    ) -> lifecycle.FileSeen:
        jobs = self._index.unfinished_jobs_of(key_of(file))
        return lifecycle.FileSeen(
            targets=[self._target(route, deployment, report) for route, deployment in deployments.items()],
            uploading=self._uploads.under_way(file),
            needed=any(job.batch_id is None for _, job in jobs),
            in_use={job.route for _, job in jobs if job.route},
            suspects=self._suspects(file),
        )

    def _target(self, route: str, deployment: ModelDeployment, report: InputReport) -> lifecycle.Target:
        requests, size = limits_of(deployment)
        target = target_of(deployment.spec)
        return lifecycle.Target(
            route=route,
            model_name=deployment.spec.model_name,
            max_requests=requests,
            max_bytes=size,
            size=translated_size(report, target.model, target.capabilities.url_prefix) if report.payload_bytes else 0,
            unusable=self._tenancy.unusable(deployment),
        )

    def _suspects(self, file: BatchFile) -> dict[str, str]:
        key = key_of(file)
        return {route: file_id for (other, route), file_id in self._index.suspects.items() if other == key}

    def _expires(self, file: BatchFile) -> bool:
        soon = self._clock.now() + lifecycle.LEFT_AT_LEAST
        return any(
            copy.expiry_time and copy.expiry_time < soon for entry in file.status.deployments for copy in entry.files
        )

    async def _check(
        self, file: BatchFile, deployments: dict[str, ModelDeployment], routes: Collection[str]
    ) -> dict[str, FileDeployment]:
        known = {lifecycle.route_of(entry): entry for entry in file.status.deployments}
        now = self._clock.now()
        entries = await asyncio.gather(
            *(self._uploads.check(deployments[route], known[route], now) for route in routes)
        )  # fmt: skip
        return dict(zip(routes, entries, strict=True))

    async def _drop(self, file: BatchFile, routes: Collection[str]) -> list[str]:
        """Delete the copies on deployments that no longer are the file's; answers those that are clean."""
        clean = []
        for route in routes:
            try:
                await self._delete_copy(file, route)
            except LLMBatchError as error:
                logger.warning("copy of %s on %s not deleted: %s", key_of(file), route, error.message)
            else:
                clean.append(route)
        return clean

    async def _delete_copy(self, file: BatchFile, route: str) -> None:
        deployment = self._index.deployments.get(deployment_key(route))
        if deployment is None:
            return
        known = next((entry for entry in file.status.deployments if lifecycle.route_of(entry) == route), None)
        await self._uploads.delete(file, deployment, known)

    async def _delete(self, file: BatchFile) -> Requeue | None:
        key = key_of(file)
        if names.FINALIZER not in file.metadata.finalizers:
            self._inputs.forget(file.metadata.uid)
            return None
        jobs = [job.name for job, _ in self._index.unfinished_jobs_of(key)]
        if jobs:
            await self._write(file, lifecycle.held(file, jobs, self._clock.now()))
            return Requeue(self._recheck)
        await self._uploads.abandon(file)
        if file.spec.deletion_policy == "Delete":
            routes = {lifecycle.route_of(entry) for entry in file.status.deployments}
            matching = await self._tenancy.deployments_for(file.spec.target_model_names, key.namespace)
            for deployment in matching:
                if self._uploads.may_exist(file, route_of(deployment)):
                    routes.add(route_of(deployment))
            left = set(routes) - set(await self._drop(file, sorted(routes)))
            if left and not await self._abandonment.is_due(file):
                return Requeue(2.0)
            if left:
                await self._abandonment.tell(file, f"copies of the file on {', '.join(sorted(left))}")
        finalizers = [finalizer for finalizer in file.metadata.finalizers if finalizer != names.FINALIZER]
        await self._writer.metadata(file, finalizers=finalizers)
        self._inputs.forget(file.metadata.uid)
        self._met.discard(file.metadata.uid)
        return None

    async def _write(self, file: BatchFile, status: BatchFileStatus) -> None:
        if status.wire() != file.status.wire():
            await self._writer.status(file, status.wire())


def _from_status(file: BatchFile) -> InputReport:
    """What status remembers of the report; enough where nothing is to be uploaded."""
    status = file.status
    return InputReport(
        requests=status.requests or 0,
        bytes=status.bytes or 0,
        sha256=status.sha256 or "",
        estimated_input_tokens=status.estimated_input_tokens or 0,
        endpoint=status.endpoint,
        model=None,
        errors=(),
        error_count=0,
        max_line_bytes=0,
    )
