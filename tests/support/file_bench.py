"""Files, reconciled in virtual time by the real reconciler, between a stored cluster and accounts held in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from llmbatch.api import BatchFile, BatchJob, ModelDeployment
from llmbatch.domain.errors import CredentialsError, ProviderError
from llmbatch.domain.remote import FileState, RemoteFile
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.engine.workers import Requeue
from llmbatch.kube.client import Kube, NamespaceView
from llmbatch.kube.errors import KubeError
from llmbatch.kube.events import Events
from llmbatch.providers import openai
from llmbatch.providers.protocol import AccountID
from llmbatch.reconcile.abandonment import Abandonment
from llmbatch.reconcile.accounts.accounts import Accounts, AccountSettings
from llmbatch.reconcile.deployments.reconciler import DeploymentReconciler
from llmbatch.reconcile.deployments.tenancy import Tenancy
from llmbatch.reconcile.files.inputs import Inputs
from llmbatch.reconcile.files.reconciler import FileReconciler
from llmbatch.reconcile.files.uploads import Uploads, provider_name
from llmbatch.reconcile.index.index import Index
from llmbatch.reconcile.writer import Writer
from llmbatch.storage.source import Inline
from support.emulator import chat_lines
from support.job_bench import Cluster
from support.virtual_time import VirtualClock

HOME, SHARED, MODEL = "team", "models", "gpt"
QUESTIONS = Key(BatchFile.KIND, HOME, "questions")
RECHECK = 30.0


class Api(Cluster):
    """The stored cluster, with namespaces, Events, and calls that fail when they are told to."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.namespaces: dict[str, NamespaceView] = {}
        self.namespace_error: KubeError | None = None
        self.lost_writes: list[KubeError] = []
        """Raised by the next writes of a status, which have no effect."""
        self.events: list[str] = []

    async def namespace(self, name: str) -> NamespaceView:
        if self.namespace_error is not None:
            raise self.namespace_error
        return self.namespaces.get(name, NamespaceView({}, terminating=False))

    async def patch_status(self, resource: Any, status: Mapping[str, Any], *, at_version: bool = False) -> Any:
        if self.lost_writes:
            raise self.lost_writes.pop(0)
        return await super().patch_status(resource, status, at_version=at_version)

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        self.events.append(f"{event['regarding']['kind']} {event['reason']}: {event['note']}")


class FileAccount:
    """One account's files, in memory. ``error`` is what every call is answered with, where it is set."""

    def __init__(self, key: str) -> None:
        self.identity = AccountID("OpenAI", "https://api", "", "", key)
        self.capabilities = openai.CAPABILITIES
        self.files: dict[str, RemoteFile] = {}
        self.error: ProviderError | None = None
        self.uploads = 0
        self.listings = 0

    def hold(self, file_id: str, name: str, **fields: Any) -> None:
        """A file that is there already."""
        self.files[file_id] = RemoteFile(file_id, name, **{"state": FileState.PROCESSED, **fields})

    def _called(self) -> None:
        if self.error is not None:
            raise self.error

    async def upload(
        self, lines: AsyncIterator[bytes], *, name: str, ttl: timedelta | None, size: int | None = None
    ) -> RemoteFile:
        self._called()
        content = b"".join([piece async for piece in lines])
        self.uploads += 1
        self.hold(f"file-{self.uploads}", name, bytes=len(content))
        return self.files[f"file-{self.uploads}"]

    async def find_files(self, name: str) -> list[RemoteFile]:
        self._called()
        self.listings += 1
        return [file for file in self.files.values() if file.name == name]

    async def delete_file(self, file_id: str) -> None:
        self._called()
        self.files.pop(file_id, None)


class FileBench:
    """One process, a cluster, and an account for each deployment, which has the name of its Secret and its key."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = Api(self.clock)
        self.given: dict[str, FileAccount] = {}
        self.secrets: set[str] = set()
        self.abandoned = 0
        self.restart()

    def restart(self) -> None:
        """Another process takes over, which knows nothing but what is stored."""
        shared = [SHARED]
        kube = cast(Kube, self.api)
        self.index = Index(shared_namespaces=shared)
        self.queue = WorkQueue(self.clock, jitter=random.Random(1))
        writer = Writer(kube, self.index, self.queue)
        self.accounts = Accounts(
            self,
            self,
            self.index,
            self.queue,
            self.clock,
            cluster="cluster",
            settings=AccountSettings(),
            rng=random.Random(1),
        )
        inputs = Inputs(lambda file: Inline((file.spec.source.inline or "").encode()))
        uploads = Uploads(self.accounts, inputs, self.queue, self.clock, at_once=8)
        tenancy = Tenancy(kube, self.index, self.clock, shared_namespaces=shared)
        events = Events(self.api, self.clock, instance="tests")
        abandonment = Abandonment(kube, events, self.clock, count=self._count)
        self.files = FileReconciler(
            kube, writer, self.index, inputs, uploads, tenancy, abandonment, self.clock, recheck=RECHECK
        )
        self.deployments = DeploymentReconciler(
            kube, writer, self.accounts, self.index, self.clock, shared_namespaces=shared, recheck=RECHECK
        )

    def _count(self) -> None:
        self.abandoned += 1

    # --- the world ----------------------------------------------------------------------------------------------------

    def deployment(self, name: str = "east", *, namespace: str = HOME, **spec: Any) -> FileAccount:
        """A Ready deployment on an account of its own."""
        block = {"baseURL": "https://api", "model": "m", "auth": {"secretKeyRef": {"name": name, "key": "k"}}}
        ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}
        ready["lastTransitionTime"] = self.clock.now().isoformat()
        self.secrets.add(name)
        spec = {"modelName": MODEL, "openAI": block, **spec}
        self.api.put(
            ModelDeployment,
            name,
            spec,
            namespace=namespace,
            status={"conditions": [ready]},
            finalizers=["llmbatch.dev/finalizer"],
        )
        return self.given.setdefault(name, FileAccount(name))

    def file(self, **metadata: Any) -> str:
        """A file of two lines; answers the name that its copy on `east` has."""
        spec = {"targetModelNames": [MODEL], "source": {"inline": chat_lines(2, model=MODEL).decode()}}
        self.api.put(BatchFile, QUESTIONS.name, spec, **metadata)
        return provider_name(self.stored().metadata.uid, f"{HOME}/east", 0)

    def job(self, *, batch_id: str, route: str = f"{HOME}/east") -> None:
        """A job of the file whose batch runs."""
        record = {"llmbatch.dev/deployment": route, "llmbatch.dev/batch-id": batch_id}
        self.api.put(BatchJob, "run", {"inputFileRef": {"name": QUESTIONS.name}}, annotations=record)

    def delete(self, key: Key) -> None:
        """Somebody asks for a deletion."""
        self.api.edit(key, deletion_timestamp=self.clock.now())

    def stored(self) -> BatchFile:
        """The file as stored."""
        return cast(BatchFile, self.api.stored[QUESTIONS])

    # --- secrets and clients ------------------------------------------------------------------------------------------

    async def key(self, namespace: str, name: str, key: str) -> str:
        if name not in self.secrets:
            raise CredentialsError(f"Secret {namespace}/{name} does not exist; make it")
        return name

    def forget(self, namespace: str, name: str) -> None: ...

    def bind(self, spec: Any, key: str) -> Any:
        return self.given[key]

    # --- the process --------------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key = QUESTIONS) -> Requeue | None:
        """One look at a file or a deployment, when all events have come in."""
        self.see()
        reconciler = self.files if key.kind == BatchFile.KIND else self.deployments
        return await reconciler.reconcile(key)

    def see(self, resources: Sequence[Any] | None = None) -> None:
        """Events come in."""
        for resource in list(self.api.stored.values()) if resources is None else resources:
            self.index.put(resource)
