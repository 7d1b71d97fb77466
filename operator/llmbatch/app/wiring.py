"""Everything that reconciles, put together: the one place that knows all parts."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import timedelta

from llmbatch.api import BatchFile, BatchJob, ModelDeployment
from llmbatch.app.network import Network
from llmbatch.app.settings import Settings
from llmbatch.domain.networks import NetworkPolicy
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.engine.clock import TimerClock
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.engine.resolver import Resolver
from llmbatch.engine.workers import Requeue, Workers
from llmbatch.kube.client import Kube
from llmbatch.kube.events import Events
from llmbatch.kube.lease import identity_of
from llmbatch.kube.secrets import SecretReader
from llmbatch.observability.metrics import Metrics
from llmbatch.providers.registry import Providers
from llmbatch.providers.settings import Hooks, ProviderSettings, Timeouts
from llmbatch.reconcile.abandonment import Abandonment
from llmbatch.reconcile.accounts import account
from llmbatch.reconcile.accounts.account import AccountSettings
from llmbatch.reconcile.accounts.accounts import Accounts
from llmbatch.reconcile.deployments.reconciler import DeploymentReconciler
from llmbatch.reconcile.deployments.tenancy import Tenancy
from llmbatch.reconcile.files.inputs import Inputs
from llmbatch.reconcile.files.reconciler import FileReconciler
from llmbatch.reconcile.files.uploads import Uploads
from llmbatch.reconcile.index.index import Index
from llmbatch.reconcile.jobs.collection import Collection
from llmbatch.reconcile.jobs.observation import Observation
from llmbatch.reconcile.jobs.reconciler import JobReconciler
from llmbatch.reconcile.jobs.reporting import JobReporter
from llmbatch.reconcile.jobs.retrieval import Retrievals
from llmbatch.reconcile.jobs.submission import Submission
from llmbatch.reconcile.writer import Writer
from llmbatch.storage.ambient import Ambient
from llmbatch.storage.sink import Sink, sink_for
from llmbatch.storage.source import Source, source_for

LEASE_SECONDS = 15.0
SETTLING = timedelta(seconds=2)
"""A job this young is not told that its file is missing: they are applied together."""
RECHECK_SECONDS = 30.0
"""How soon a missing object is looked at again, at the latest."""


class Reconciling:
    """The reconcilers and what they share. ``guard`` is asked before every write and every call to a provider."""

    def __init__(
        self,
        settings: Settings,
        cluster: str,
        kube: Kube,
        index: Index,
        queue: WorkQueue,
        clock: TimerClock,
        metrics: Metrics,
        *,
        guard: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._kube = kube
        self._index = index
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._networks = Network(NetworkPolicy(settings.networks), Resolver(clock))
        self._ambient = Ambient(settings.ambient_credential_prefix, os.environ)
        self._providers = self._connect(guard)
        self._accounts = self._open_accounts()
        self._writer = Writer(kube, index, queue)
        self._events = Events(kube, clock, instance=identity_of(os.environ))
        shared = settings.shared_deployment_namespace
        self._tenancy = Tenancy(kube, index, clock, shared_namespaces=shared)
        self._abandonment = Abandonment(kube, self._events, clock, count=metrics.abandoned)
        self._inputs = Inputs(self._source_of, max_line_bytes=settings.max_line_bytes)
        self._uploads = Uploads(self._accounts, self._inputs, queue, clock, at_once=settings.uploads)
        self._retrievals = Retrievals(queue, clock)
        self._handlers = {
            ModelDeployment.KIND: self._deployments().reconcile,
            BatchFile.KIND: self._files().reconcile,
            BatchJob.KIND: self._jobs().reconcile,
            account.KIND: self._accounts.sweep,
        }
        metrics.expect_kinds(self._handlers)
        self.workers = Workers(queue, self._reconcile, 2 * settings.workers, clock=clock, on_run=metrics.reconciled)

    async def close(self) -> None:
        """End what runs beside the workers, and all connections to providers."""
        await self._uploads.close()
        await self._retrievals.close()
        await self._providers.aclose()

    async def _reconcile(self, key: Key) -> Requeue | None:
        return await self._handlers[key.kind](key)

    def _connect(self, guard: Callable[[], None]) -> Providers:
        return Providers(
            clock=self._clock,
            refusal=self._networks.refusal,
            resolve=self._networks.resolve,
            settings=ProviderSettings(timeouts=Timeouts(create=self._settings.create_timeout)),
            hooks=Hooks(guard, self._metrics.provider_request, self._metrics.uploaded_bytes),
        )

    def _open_accounts(self) -> Accounts:
        return Accounts(
            self._providers,
            SecretReader(self._kube, self._clock),
            self._index,
            self._queue,
            self._clock,
            cluster=self._cluster,
            settings=AccountSettings(self._settings.poll_interval, self._settings.probe_interval),
            rng=random.Random(),
        )

    def _source_of(self, file: BatchFile) -> Source:
        return source_for(file.spec.source, file.metadata.namespace, self._kube, self._networks, self._ambient)

    def _sink_of(self, job: BatchJob) -> Sink | None:
        owner = OutputOwner(job.metadata.name, job.metadata.namespace, job.metadata.uid)
        if (output := job.spec.output) is None:
            return None
        return sink_for(output, owner, self._kube, self._networks, self._ambient)

    @property
    def _recheck(self) -> float:
        return min(RECHECK_SECONDS, self._settings.probe_interval)

    def _deployments(self) -> DeploymentReconciler:
        return DeploymentReconciler(
            self._kube,
            self._writer,
            self._accounts,
            self._index,
            self._clock,
            shared_namespaces=self._settings.shared_deployment_namespace,
            recheck=self._recheck,
        )

    def _files(self) -> FileReconciler:
        return FileReconciler(
            self._kube,
            self._writer,
            self._index,
            self._inputs,
            self._uploads,
            self._tenancy,
            self._abandonment,
            self._clock,
            recheck=self._recheck,
        )

    def _submission(self) -> Submission:
        settings = self._settings
        # Without an election no former leader can still be at work.
        lease = LEASE_SECONDS if settings.leader_elect else 0.0
        return Submission(
            self._kube,
            self._writer,
            self._accounts,
            self._index,
            self._clock,
            cluster=self._cluster,
            certainty=timedelta(seconds=settings.create_timeout + lease + settings.create_grace),
            again=timedelta(seconds=settings.poll_interval),
            wake=self._queue.add,
        )

    def _jobs(self) -> JobReconciler:
        submission = self._submission()
        observation = Observation(
            self._kube,
            self._accounts,
            self._index,
            self._tenancy,
            submission,
            self._abandonment,
            self._clock,
            cluster=self._cluster,
            lag=timedelta(seconds=self._settings.not_found_grace),
        )
        return JobReconciler(
            self._kube,
            self._writer,
            self._accounts,
            self._index,
            observation,
            submission,
            Collection(self._accounts, self._index, self._clock, self._retrievals, sink_of=self._sink_of),
            self._abandonment,
            JobReporter(self._events, self._metrics, serves=self._index.serves),
            self._clock,
            settling=SETTLING,
            retry_scale=self._settings.retry_scale,
        )
