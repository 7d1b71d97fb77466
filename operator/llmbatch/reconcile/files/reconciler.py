"""Reconciling BatchFiles: validate once, keep a copy on every deployment, clean up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

from llmbatch.api import BatchFile, ModelDeployment, names
from llmbatch.api.batchfile import BatchFileStatus, CopyState, FileDeployment
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError, LLMBatchError, StorageError
from llmbatch.domain.file import rules as lifecycle
from llmbatch.domain.file import status as filestatus
from llmbatch.domain.requests.translation import translated_size
from llmbatch.domain.requests.validation import InputLimits, InputReport
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import Key
from llmbatch.engine.workers import Requeue
from llmbatch.kube.client import Kube
from llmbatch.kube.errors import KubeError
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.abandonment import Abandonment
from llmbatch.reconcile.deployments.tenancy import Tenancy
from llmbatch.reconcile.files.inputs import Inputs, form_of, limits_of, limits_of_any
from llmbatch.reconcile.files.uploads import Uploads
from llmbatch.reconcile.index.index import Index, deployment_key, key_of, route_of
from llmbatch.reconcile.writer import Writer

logger = logging.getLogger(__name__)

Deployments = Mapping[str, ModelDeployment]
"""By route."""
CHANGED_RECHECK = 10
"""How much more seldom a source that changed is read again: people put it back, and it may be large."""
CLEAN_UP_SECONDS = 15
"""What the clean-up of one deployment may take in one go, so that one that hangs keeps no worker."""
CLEAN_UP_AGAIN = 3.0
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
        if filestatus.is_validated(file) and not filestatus.is_valid(file):
            await self._write(file, filestatus.still_invalid(file, self._clock.now()))
            return None
        matching = await self._tenancy.deployments_for(file.spec.target_model_names, key.namespace)
        deployments = {route_of(deployment): deployment for deployment in matching}
        if filestatus.is_validated(file):
            return await self._keep_copies(await self._writer.claim(file), deployments)
        return await self._validate(file, deployments)

    async def _validate(self, file: BatchFile, deployments: Deployments) -> Requeue | None:
        """Read the whole input once; nothing is sent anywhere before."""
        self._inputs.forget(file.metadata.uid)
        try:
            report = await self._inputs.report(file, limits_of_any(list(deployments.values())))
        except (StorageError, CredentialsError) as error:
            await self._write(file, filestatus.unread(file, error, self._clock.now()))
            return Requeue(self._recheck)
        if not report.valid:
            await self._write(file, filestatus.invalid(file, report, self._clock.now()))
            return None
        if names.FINALIZER not in file.metadata.finalizers:
            self._met.add(file.metadata.uid)
        return await self._keep_copies(await self._writer.claim(file), deployments, report)

    async def _keep_copies(
        self, written: BatchFile, deployments: Deployments, report: InputReport | None = None
    ) -> Requeue | None:
        """``written`` is the file as stored, ``report`` what validation just found."""
        file = filestatus.with_report(written, report) if report else written
        seen, plan = await self._plan(file, deployments, report)
        targets = {target.route: target for target in seen.targets}
        for route in plan.upload:
            self._uploads.start(
                file,
                deployments[route],
                targets[route],
                look_first=file.metadata.uid not in self._met,
                in_use=partial(self._is_in_use, key_of(file), route),
            )
        for route in plan.check:
            self._uploads.check(file, deployments[route], targets[route])
        dropped = await self._drop(file, plan.drop)
        results = await self._uploads.results(file, patience=PATIENCE)
        made = lifecycle.entries(file, seen, results, dropped, self._clock.now())
        try:
            await self._write(written, filestatus.summary(file, made, self._clock.now()))
        except KubeError:
            # No status may tell of what was just uploaded: from now on copies are looked for by their names.
            self._met.discard(file.metadata.uid)
            raise
        for route in results:
            self._index.suspects.pop((key_of(file), route), None)
        return self._again(file, made, seen)

    async def _plan(
        self, file: BatchFile, deployments: Deployments, report: InputReport | None
    ) -> tuple[lifecycle.FileSeen, lifecycle.Plan]:
        """What is to be done; the source is read again only where something is to be uploaded."""
        seen = self._seen(file, report or _from_status(file), deployments)
        plan = lifecycle.plan(file, seen, self._clock.now())
        if report or not plan.upload:
            return seen, plan
        try:
            limits = InputLimits(file.status.requests or 0, file.status.bytes or 0, streams=True)
            report = await self._inputs.report(file, limits)
        except (StorageError, CredentialsError) as error:
            logger.warning("%s cannot be read again: %s", key_of(file), error.message)
            seen = replace(seen, unreadable=(error.reason, error.message))
        else:
            seen = self._seen(file, report, deployments)
        return seen, lifecycle.plan(file, seen, self._clock.now())

    def _again(self, file: BatchFile, made: list[FileDeployment], seen: lifecycle.FileSeen) -> Requeue | None:
        waits = list[float]()
        under_way, now = self._uploads.under_way(file), self._clock.now()
        if due := lifecycle.next_look(made, seen, under_way, now):
            waits.append((due - now).total_seconds())
        if seen.unreadable:
            waits.append(self._recheck * (CHANGED_RECHECK if seen.unreadable[0] is Reason.SOURCE_CHANGED else 1))
        good = any(entry.state is CopyState.PROCESSED for entry in made)
        if not good and not under_way:
            waits.append(self._recheck)
        return Requeue(max(0.1, min(waits))) if waits else None

    def _seen(self, file: BatchFile, report: InputReport, deployments: Deployments) -> lifecycle.FileSeen:
        jobs = self._index.unfinished_jobs_of(key_of(file))
        return lifecycle.FileSeen(
            targets=[self._target(route, deployment, report) for route, deployment in deployments.items()],
            uploading=self._uploads.under_way(file),
            needed=any(job.batch_id is None for _, job in jobs),
            in_use={job.route for _, job in jobs if job.route},
            suspects=self._suspects(file),
        )

    def _target(self, route: str, deployment: ModelDeployment, report: InputReport) -> lifecycle.Target:
        limits = limits_of(deployment)
        target = target_of(deployment.spec)
        return lifecycle.Target(
            route=route,
            model_name=deployment.spec.model_name,
            form=form_of(deployment),
            limits=limits,
            size=translated_size(report, target.model, target.capabilities.line_url) if report.payload_bytes else 0,
            unusable=self._tenancy.unusable(deployment),
        )

    def _suspects(self, file: BatchFile) -> dict[str, str]:
        key = key_of(file)
        return {route: file_id for (other, route), file_id in self._index.suspects.items() if other == key}

    async def _drop(self, file: BatchFile, routes: Collection[str]) -> list[str]:
        """Delete the copies on deployments that no longer are the file's; answers those that are clean."""
        done = await asyncio.gather(*(self._delete_copies(file, route) for route in routes))
        return [route for route, clean in zip(routes, done, strict=True) if clean]

    async def _delete_copies(self, file: BatchFile, route: str) -> bool:
        deployment = self._index.deployments.get(deployment_key(route))
        if deployment is None or not self._may_hold(file, route):
            return True
        look_first = file.metadata.uid not in self._met
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await self._uploads.delete(file, deployment, look_first=look_first)
        except TimeoutError:
            why = f"it takes more than {CLEAN_UP_SECONDS} s"
        except LLMBatchError as error:
            why = error.message
        else:
            return True
        logger.warning("copy of %s on %s not deleted: %s", key_of(file), route, why)
        return await self._is_given_up(file, deployment)

    async def _is_given_up(self, file: BatchFile, deployment: ModelDeployment) -> bool:
        """Whether a deployment that is being deleted has waited for this file's copies for long enough."""
        if deployment.metadata.deletion_timestamp is None or not await self._abandonment.is_due(deployment):
            return False
        meta = file.metadata
        await self._abandonment.tell(deployment, f"copies of BatchFile {meta.namespace}/{meta.name}")
        return True

    def _is_in_use(self, file: Key, route: str) -> bool:
        """Whether a batch of this file runs on a deployment."""
        return any(job.route == route for _, job in self._index.unfinished_jobs_of(file))

    def _may_hold(self, file: BatchFile, route: str) -> bool:
        """Whether a deployment may have a copy: one that is known, or that this or another process lost sight of."""
        known = any(
            copy.file_id
            for entry in file.status.deployments
            for copy in entry.files
            if lifecycle.route_of(entry) == route
        )
        return known or file.metadata.uid not in self._met or self._uploads.may_exist(file, route)

    async def _delete(self, file: BatchFile) -> Requeue | None:
        key = key_of(file)
        if names.FINALIZER not in file.metadata.finalizers:
            self._inputs.forget(file.metadata.uid)
            return None
        jobs = [job.name for job, view in self._index.unfinished_jobs_of(key) if view.uses(file)]
        if jobs:
            await self._write(file, filestatus.held(file, jobs, self._clock.now()))
            return Requeue(self._recheck)
        await self._uploads.abandon(file)
        if file.spec.deletion_policy == "Delete":
            routes = {lifecycle.route_of(entry) for entry in file.status.deployments}
            matching = await self._tenancy.deployments_for(file.spec.target_model_names, key.namespace)
            routes |= {route_of(deployment) for deployment in matching}
            left = routes - set(await self._drop(file, sorted(routes)))
            if left and not await self._abandonment.is_due(file):
                await self._write(file, filestatus.clinging(file, sorted(left), self._clock.now()))
                return Requeue(CLEAN_UP_AGAIN)
            if left:
                await self._abandonment.tell(file, f"copies of the file on {', '.join(sorted(left))}")
        await self._writer.release(file)
        self._inputs.forget(file.metadata.uid)
        self._uploads.forget(file)
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
        custom_id_digest=status.custom_id_digest,
    )
