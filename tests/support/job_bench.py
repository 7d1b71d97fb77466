"""Jobs, reconciled in virtual time by the real reconciler, between a stored cluster and providers held in memory.

A process can be killed before or after each of its writes and calls, and another one started on what is stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

from llmbatch.api import BatchFile, BatchJob, ModelDeployment
from llmbatch.api.base import Resource, rfc3339
from llmbatch.domain.errors import BadAnswer, CredentialsError, NotFound, ProviderError
from llmbatch.domain.remote import BatchState, Counts, FileState, RemoteBatch, RemoteFile, UnreadableBatch
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.engine.workers import Requeue
from llmbatch.kube.client import Kube, NamespaceView
from llmbatch.kube.errors import Conflict, Gone
from llmbatch.providers import openai
from llmbatch.providers.protocol import AccountID
from llmbatch.reconcile.accounts.accounts import Accounts, AccountSettings
from llmbatch.reconcile.deployments.tenancy import Tenancy
from llmbatch.reconcile.files.inputs import form_of
from llmbatch.reconcile.index.index import Index, deployment_key, key_of
from llmbatch.reconcile.jobs.collection import Collection
from llmbatch.reconcile.jobs.observation import Observation
from llmbatch.reconcile.jobs.reconciler import JobReconciler
from llmbatch.reconcile.jobs.retrieval import Retrievals
from llmbatch.reconcile.jobs.submission import Submission
from llmbatch.reconcile.writer import Writer
from llmbatch.storage.sink import Sink
from support.virtual_time import VirtualClock

INTERVAL = 5.0
LAG = 600.0
NAMESPACE, MODEL, FILE, CLUSTER = "team", "gpt", "questions", "cluster"
RUN = Key("BatchJob", NAMESPACE, "run")


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Fate:
    """Counts what a process does to the world; at moment ``kill_at`` it dies. Each doing has a moment before and one
    after it."""

    kill_at: int | None = None
    moments: int = 0

    @asynccontextmanager
    async def doing(self) -> AsyncIterator[None]:
        """Something that lasts longer than the process."""
        self._pass()
        yield
        self._pass()

    def _pass(self) -> None:
        if self.moments == self.kill_at:
            raise Killed
        self.moments += 1


class Cluster:
    """The stored resources: what the Kubernetes client would read and write."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.fate = Fate()
        self.stored: dict[Key, Resource] = {}
        self.writes: list[tuple[str, Key]] = []
        self._version = 0

    def put(self, kind: type[Resource], name: str, spec: Any, *, namespace: str = NAMESPACE, **more: Any) -> Key:
        """Make a resource; ``more`` is metadata, and ``status``."""
        status = more.pop("status", {})
        meta = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "generation": 1, **more}
        meta.setdefault("creationTimestamp", rfc3339(self.clock.now()))
        key = Key(kind.KIND, namespace, name)
        self._store(key, kind.model_validate({"metadata": meta, "spec": spec, "status": status}))
        return key

    def edit(self, key: Key, **metadata: Any) -> None:
        """Change a resource's metadata by hand."""
        found = self.stored[key]
        self._store(key, found.model_copy(update={"metadata": found.metadata.model_copy(update=metadata)}))

    def _store(self, key: Key, resource: Resource) -> Resource:
        self._version += 1
        meta = resource.metadata.model_copy(update={"resource_version": str(self._version)})
        self.stored[key] = resource.model_copy(update={"metadata": meta})
        return self.stored[key]

    def _current(self, resource: Resource) -> tuple[Key, Resource]:
        key = key_of(resource)
        found = self.stored.get(key)
        if found is None or found.metadata.uid != resource.metadata.uid:
            raise Gone("it is not there")
        return key, found

    async def get(self, kind: type[Resource], namespace: str, name: str) -> Resource | None:
        return self.stored.get(Key(kind.KIND, namespace, name))

    async def namespace(self, name: str) -> NamespaceView:
        return NamespaceView({}, terminating=False)

    async def patch_metadata(
        self,
        resource: Resource,
        *,
        annotations: Mapping[str, str | None] = {},
        finalizers: Sequence[str] | None = None,
    ) -> Resource:
        async with self.fate.doing():
            key, found = self._current(resource)
            self._check_version(found, resource)
            kept = {**found.metadata.annotations, **annotations}
            changes: dict[str, Any] = {"annotations": {name: text for name, text in kept.items() if text is not None}}
            if finalizers is not None:
                changes["finalizers"] = [*finalizers]
            self.writes.append(("metadata", key))
            meta = found.metadata.model_copy(update=changes)
            stored = self._store(key, found.model_copy(update={"metadata": meta}))
            if meta.deletion_timestamp is not None and not meta.finalizers:
                del self.stored[key]
        return stored

    async def patch_status(
        self, resource: Resource, status: Mapping[str, Any], *, at_version: bool = False
    ) -> Resource:
        async with self.fate.doing():
            key, found = self._current(resource)
            if at_version:
                self._check_version(found, resource)
            self.writes.append(("status", key))
            kind = type(found)
            made = kind.model_validate({**found.model_dump(by_alias=True), "status": dict(status)})
            stored = self._store(key, made)
        return stored

    def _check_version(self, found: Resource, read: Resource) -> None:
        if found.metadata.resource_version != read.metadata.resource_version:
            raise Conflict("it changed")

    async def delete(self, resource: Resource) -> None:
        self.stored.pop(key_of(resource), None)


class Provider:
    """One account, in memory. ``lose`` is what happens to the next create: "request" or "answer" is lost."""

    def __init__(self, world: Cluster, key: str) -> None:
        self._world = world
        self.identity = AccountID("OpenAI", "https://api", "", "", key)
        self.capabilities = openai.CAPABILITIES
        self.held: dict[str, RemoteBatch] = {}
        self.unreadable: set[str] = set()
        """Batches of which no id can be had."""
        self.lose: list[str] = []
        self.refuse: list[ProviderError] = []
        self.error: ProviderError | None = None
        self.calls: list[tuple[str, str]] = []
        self.deleted: list[str] = []
        self.on_create: Callable[[], object] = lambda: None
        self.contents: dict[str, bytes] = {}
        self.trickles: asyncio.Event | None = None
        """While it is there and not set, downloads do not end."""

    def count(self, operation: str) -> int:
        """Calls of one operation."""
        return sum(name == operation for name, _ in self.calls)

    def become(self, batch_id: str, state: str, **fields: Any) -> None:
        """A batch goes on."""
        self.held[batch_id] = replace(self.held[batch_id], state=BatchState(state), **fields)

    def _called(self, operation: str, about: str = "") -> None:
        self.calls.append((operation, about))
        if self.error is not None:
            raise self.error

    async def create_batch(
        self, *, input_file_id: str, endpoint: str, completion_window: str, metadata: Mapping[str, str]
    ) -> RemoteBatch:
        async with self._world.fate.doing():
            self._called("create", input_file_id)
            if self.refuse:
                raise self.refuse.pop(0)
            lost = self.lose.pop(0) if self.lose else ""
            if lost == "request":
                raise ProviderError("no answer")
            batch_id = f"batch_{self.identity.key_digest}_{len(self.held) + 1}"
            self.on_create()
            self.held[batch_id] = RemoteBatch(
                batch_id,
                BatchState.IN_PROGRESS,
                self._world.clock.now(),
                input_file_id=input_file_id,
                counts=Counts(1),
                metadata=dict(metadata),
            )
            if lost == "answer":
                raise ProviderError("no answer")
        return self.held[batch_id]

    async def list_batches(self, *, page_size: int = 100) -> AsyncIterator[list[RemoteBatch | UnreadableBatch]]:
        self._called("list")
        yield [
            UnreadableBatch(batch.metadata) if batch.id in self.unreadable else batch for batch in self.held.values()
        ]

    async def get_batch(self, batch_id: str) -> RemoteBatch:
        self._called("get", batch_id)
        if batch_id in self.unreadable:
            raise BadAnswer("the provider's answer cannot be read as a batch")
        return self._held(batch_id)

    def _held(self, batch_id: str) -> RemoteBatch:
        if batch_id not in self.held:
            raise NotFound("no such batch", status=404)
        return self.held[batch_id]

    async def cancel_batch(self, batch_id: str) -> RemoteBatch:
        async with self._world.fate.doing():
            self._called("cancel", batch_id)
            if not self._held(batch_id).state.terminal:
                self.become(batch_id, "cancelling")
        return self.held[batch_id]

    async def get_file(self, file_id: str) -> RemoteFile:
        return RemoteFile(file_id, "", FileState.PROCESSED)

    @asynccontextmanager
    async def download(self, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self._called("download", file_id)
        if file_id not in self.contents:
            raise NotFound("no such file", status=404)

        async def chunks() -> AsyncIterator[bytes]:
            yield self.contents[file_id]
            if self.trickles is not None:
                await self.trickles.wait()

        yield chunks()

    async def delete_file(self, file_id: str) -> None:
        self.deleted.append(file_id)


class Quiet:
    """Tells nobody."""

    async def submitted(self, job: BatchJob, shard: int) -> None: ...

    async def finished(self, job: BatchJob, step: object) -> None: ...

    async def closed(self, job: BatchJob, step: object) -> None: ...


@dataclass
class GivenUp:
    """When a clean-up is given up, and what was."""

    after: timedelta = timedelta(minutes=10)
    told: list[str] = field(default_factory=list)

    async def due(self, resource: Resource) -> Any:
        assert resource.metadata.deletion_timestamp is not None
        return resource.metadata.deletion_timestamp + self.after

    async def tell(self, resource: Resource, left: str) -> None:
        self.told.append(left)


class Bench:
    """A cluster with deployments, a file that is on all of them, a job, and the process that reconciles it."""

    def __init__(self, *, shared: Sequence[str] = ()) -> None:
        self.clock = VirtualClock()
        self.cluster = Cluster(self.clock)
        self.providers: dict[str, Provider] = {}
        self.secrets: dict[str, str] = {}
        self.shared = frozenset(shared)
        self.given_up = GivenUp()
        self.sink: Sink | None = None
        self._processes = 0

    # --- the world --------------------------------------------------------------------------------------------

    def deployment(self, name: str, *, namespace: str = NAMESPACE, account: str = "", **spec: Any) -> Provider:
        """A Ready deployment on an account of its own, or on one that it shares."""
        block = {"baseURL": "https://api", "model": "m", "auth": {"secretKeyRef": {"name": name, "key": "k"}}}
        ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}
        ready["lastTransitionTime"] = rfc3339(self.clock.now())
        self.secrets[f"{namespace}/{name}"] = account or name
        self.cluster.put(
            ModelDeployment,
            name,
            {"modelName": MODEL, "openAI": block, **spec},
            namespace=namespace,
            status={"conditions": [ready]},
        )
        return self.provider(account or name)

    def provider(self, account: str) -> Provider:
        """An account."""
        return self.providers.setdefault(account, Provider(self.cluster, account))

    def file(self, *routes: str, namespace: str = NAMESPACE) -> None:
        """A valid file with a copy on each of these deployments."""
        entries = []
        for route in routes:
            home, name = route.split("/")
            copy = {"shard": 0, "fileID": f"file-{name}", "state": "Processed", "uploadTime": rfc3339(self.clock.now())}
            entry = {"namespace": home, "name": name, "modelName": MODEL, "state": "Processed", "files": [copy]}
            entry["form"] = form_of(cast(ModelDeployment, self.cluster.stored[deployment_key(route)]))
            entries.append(entry)
        validated = {"type": "Validated", "status": "True", "reason": "Valid", "message": ""}
        validated["lastTransitionTime"] = rfc3339(self.clock.now())
        status = {
            "conditions": [validated],
            "sha256": "0" * 64,
            "requests": 1,
            "estimatedInputTokens": 10,
            "endpoint": "/v1/chat/completions",
            "observedGeneration": 1,
            "deployments": entries,
        }
        spec = {"targetModelNames": [MODEL], "source": {"inline": "{}"}}
        self.cluster.put(BatchFile, FILE, spec, namespace=namespace, status=status)

    def job(self, name: str = "run", *, namespace: str = NAMESPACE, **fields: Any) -> Key:
        """A job; ``metadata`` and ``status`` are taken out of the fields, the rest is its spec."""
        metadata, status = fields.pop("metadata", {}), fields.pop("status", {})
        spec = {"inputFileRef": {"name": FILE}, **fields}
        return self.cluster.put(BatchJob, name, spec, namespace=namespace, status=status, **metadata)

    def stored(self, key: Key = RUN) -> BatchJob:
        """A job as stored."""
        return cast(BatchJob, self.cluster.stored[key])

    def batches(self) -> list[RemoteBatch]:
        """The batches of all accounts."""
        return [batch for provider in self.providers.values() for batch in provider.held.values()]

    def sink_of(self, job: BatchJob) -> Sink | None:
        """Where results go."""
        return self.sink

    # --- secrets and clients ----------------------------------------------------------------------------------

    async def key(self, namespace: str, name: str, key: str) -> str:
        if f"{namespace}/{name}" not in self.secrets:
            raise CredentialsError(f"Secret {namespace}/{name} does not exist; make it")
        return self.secrets[f"{namespace}/{name}"]

    def forget(self, namespace: str, name: str) -> None: ...

    def bind(self, spec: Any, key: str) -> Any:
        return self.provider(key)

    # --- the process ------------------------------------------------------------------------------------------

    def start(self, *, kill_at: int | None = None) -> Process:
        """Another process; whatever ran before is no more."""
        self.cluster.fate = Fate(kill_at)
        return Process(self)


class Process:
    """One process of the operator, as far as jobs and accounts go."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        clock, kube = bench.clock, cast(Kube, bench.cluster)
        self.index = Index(shared_namespaces=bench.shared)
        self.queue = WorkQueue(clock, jitter=random.Random(1))
        for resource in list(bench.cluster.stored.values()):
            self.index.put(resource)
        self.writer = Writer(kube, self.index, self.queue)
        self.accounts = Accounts(
            bench,
            bench,
            self.index,
            self.queue,
            clock,
            cluster=CLUSTER,
            settings=AccountSettings(INTERVAL, INTERVAL, LAG),
            rng=random.Random(1),
        )
        self.tenancy = Tenancy(kube, self.index, clock, shared_namespaces=bench.shared)
        self.submission = Submission(
            kube,
            self.writer,
            self.accounts,
            self.index,
            clock,
            cluster=CLUSTER,
            certainty=timedelta(seconds=20),
            again=timedelta(seconds=INTERVAL),
            wake=self.queue.add,
        )
        self.observation = Observation(
            kube,
            self.accounts,
            self.index,
            self.tenancy,
            self.submission,
            cast(Any, bench.given_up),
            clock,
            cluster=CLUSTER,
            lag=timedelta(seconds=LAG),
        )
        self.jobs = self._jobs(kube)

    def _jobs(self, kube: Kube) -> JobReconciler:
        clock = self._bench.clock
        retrievals = Retrievals(self.queue, clock)
        return JobReconciler(
            kube,
            self.writer,
            self.accounts,
            self.index,
            self.observation,
            self.submission,
            Collection(self.accounts, self.index, clock, retrievals, sink_of=self._bench.sink_of),
            cast(Any, self._bench.given_up),
            Quiet(),
            clock,
            settling=timedelta(0),
        )

    async def reconcile(self, key: Key = RUN) -> Requeue | None:
        """One look at a job."""
        for other in list(self._bench.cluster.stored.values()):
            self.index.put(other)
        for gone in [known for known in list(self.index.keys()) if known not in self._bench.cluster.stored]:
            self.index.remove(gone)
        return await self.jobs.reconcile(key)

    async def sweep(self) -> None:
        """Sweep all accounts that are due."""
        for account in [account.key for account in self.accounts._accounts.values()]:
            await self.accounts.sweep(account)

    async def round(self, key: Key = RUN) -> Requeue | None:
        """One look at a job, and a sweep."""
        again = await self.reconcile(key)
        await self.sweep()
        return again

    async def until(self, reached: Callable[[BatchJob | None], object], key: Key = RUN, *, rounds: int = 60) -> None:
        """Go on until the stored job is as wanted: look at it, sweep all accounts, let time pass."""
        for _ in range(rounds):
            if reached(cast("BatchJob | None", self._bench.cluster.stored.get(key))):
                return
            again = await self.round(key)
            self._bench.clock.step(min(again.after, INTERVAL) if again else INTERVAL)
        raise AssertionError(f"not reached: {self._bench.cluster.stored.get(key)!r}")

    async def running(self, key: Key = RUN) -> BatchJob:
        """The job once status names its batch."""
        await self.until(lambda job: job is not None and job.status.batch_id, key)
        return self._bench.stored(key)
