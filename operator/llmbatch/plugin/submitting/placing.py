"""Making what was planned, in an order that a break at any point can be taken up by the same command again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO

from llmbatch.api import BatchFile, BatchJob
from llmbatch.api.base import wire_name
from llmbatch.api.batchfile import BatchFileSpec
from llmbatch.api.batchjob import BatchJobSpec
from llmbatch.api.names import API_VERSION
from llmbatch.domain.errors import LLMBatchError
from llmbatch.kube.client import resource_of, target_of
from llmbatch.kube.errors import AlreadyExists, Conflict, Forbidden, Gone
from llmbatch.kube.transport import Target
from llmbatch.plugin.connection import CORE_PLURALS, Connection, Manifest
from llmbatch.plugin.exits import Stop, code_of, say, tell
from llmbatch.plugin.outputs.bucket import bucket_for, place_of, upload
from llmbatch.plugin.submitting.manifests import Plan

BOUND = ("input_file_ref", "target_model_name", "deployment_ref", "endpoint", "metadata", "output", "completion_window")
"""Fields of a job that cannot change, by which it is told whether a job of this name is the one that is wanted."""
CHANGEABLE = ("active_deadline_seconds", "backoff_limit", "ttl_seconds_after_finished", "suspend", "cancel")
"""Fields that can change while the job has not ended, and that are not changed by submitting it again."""
TRIES = 3


@dataclass
class Placing:
    """Makes the objects of a plan, and tells of each as kubectl does: ``configmap/x created``, or ``unchanged``."""

    connection: Connection
    tell: TextIO
    made: list[str] = field(default_factory=list)

    async def place(self, plan: Plan, content: BinaryIO, size: int) -> BatchJob:
        """Make what is not there yet, and answer the job. Raises Stop, saying what was made by then."""
        try:
            await self._rehearse(plan)
            await self._content(plan, content, size)
            file = await self._file(plan)
            await self._own(plan, file)
            return await self._job(plan)
        except (LLMBatchError, Stop) as error:
            so_far = f"made so far: {', '.join(self.made)}" if self.made else "nothing was made"
            code = error.code if isinstance(error, Stop) else code_of(error)
            advice = "; run the same command again once that is mended, it goes on from there" if self.made else ""
            raise Stop(f"{error.message} ({so_far}{advice})", code) from None

    async def _rehearse(self, plan: Plan) -> None:
        """Have refused what will be refused, before anything is made."""
        for manifest in (plan.file, plan.job):
            with suppress(AlreadyExists):
                await self.connection.create(manifest, dry_run=True)
        with suppress(Gone):
            _refuse_another_run(plan, await self.connection.stored(self._target(plan.job)))

    async def _content(self, plan: Plan, content: BinaryIO, size: int) -> None:
        if plan.url:
            credentials = plan.file["spec"]["source"].get("credentialsSecretRef", {}).get("name")
            bucket = await bucket_for(self.connection, place_of(plan.url), credentials)
            content.seek(0)
            self._told(plan.url, new=await upload(bucket, content, size))
        if plan.data:
            stored, new = await self._ensured(plan.data)
            if stored.get("data") != plan.data["data"]:
                raise Stop(f"{title_of(plan.data)} exists with other content; delete it, or give the file another name")
            self._told(title_of(plan.data), new=new)

    async def _file(self, plan: Plan) -> BatchFile:
        stored, new = await self._ensured(plan.file)
        file = resource_of(BatchFile, stored)
        if _bound(file.spec) != _bound(BatchFileSpec.model_validate(plan.file["spec"])):
            raise Stop(f"{title_of(plan.file)} exists and is another file; delete it, or give the file another name")
        self._told(title_of(plan.file), new=new)
        return file

    async def _own(self, plan: Plan, file: BatchFile) -> None:
        """Let the content go with the file that it belongs to."""
        if plan.data is None:
            return
        reference = {"apiVersion": API_VERSION, "kind": BatchFile.KIND}
        reference |= {"name": file.metadata.name, "uid": file.metadata.uid}
        target = self._target(plan.data)
        for _ in range(TRIES):
            stored = (await self.connection.stored(target))["metadata"]
            if any(owner["uid"] == file.metadata.uid for owner in stored.get("ownerReferences") or ()):
                return
            owners = [*(stored.get("ownerReferences") or ()), reference]
            patch = {"resourceVersion": stored["resourceVersion"], "ownerReferences": owners}
            try:
                await self.connection.merge(target, {"metadata": patch})
            except Conflict:
                continue
            except Forbidden:
                say(f"note: {title_of(plan.data)} will outlive its BatchFile: you may not set its owner")
            return
        say(f"note: {title_of(plan.data)} will outlive its BatchFile: others change it all the time")

    async def _job(self, plan: Plan) -> BatchJob:
        stored, new = await self._ensured(plan.job)
        _refuse_another_run(plan, stored)
        self._told(title_of(plan.job), new=new)
        return resource_of(BatchJob, stored)

    async def _ensured(self, manifest: Manifest) -> tuple[Mapping[str, Any], bool]:
        """The object as stored, and whether it was made now."""
        for _ in range(TRIES):
            try:
                return await self.connection.create(manifest), True
            except AlreadyExists:
                pass
            try:
                stored = await self.connection.stored(self._target(manifest))
            except Gone:
                continue
            if stored["metadata"].get("deletionTimestamp"):
                raise Stop(f"{title_of(manifest)} is being deleted; wait until it is gone, and submit again")
            return stored, False
        raise Stop(f"{title_of(manifest)} comes and goes; see who else makes it")

    def _target(self, manifest: Manifest) -> Target:
        kind, meta = manifest["kind"], manifest["metadata"]
        namespace = meta.get("namespace") or self.connection.namespace
        for resource in (BatchFile, BatchJob):
            if kind == resource.KIND:
                return target_of(resource, namespace, meta["name"])
        return Target("v1", CORE_PLURALS[kind], namespace, meta["name"])

    def _told(self, title: str, *, new: bool) -> None:
        if new:
            self.made.append(title)
        tell(f"{title} {'created' if new else 'unchanged'}", self.tell)


def _bound(spec: BatchFileSpec) -> tuple[object, ...]:
    """What a file is bound to at its creation; the Secret for its URL may change."""
    return spec.target_model_names, spec.source.model_copy(update={"credentials_secret_ref": None})


def _refuse_another_run(plan: Plan, stored: Manifest) -> None:
    """Raise Stop where the job of this name is another one than is wanted, or goes on in another way."""
    job, wanted = resource_of(BatchJob, stored), BatchJobSpec.model_validate(plan.job["spec"])

    def other(fields: tuple[str, ...]) -> str:
        found = [field for field in fields if getattr(job.spec, field) != getattr(wanted, field)]
        return ", ".join(map(wire_name, found))

    before, name = f"{title_of(plan.job)} was submitted before with other settings", job.metadata.name
    if names := other(BOUND):
        raise Stop(f"{before} ({names}); choose another --name")
    if not job.status.phase.finished and (names := other(CHANGEABLE)):
        change = f"kubectl edit batchjob {name}; of suspend: kubectl llmbatch resume {name}, or suspend"
        raise Stop(f"{before} ({names}), and goes on with them; change them there ({change}), or choose another --name")


def title_of(manifest: Manifest) -> str:
    """As kubectl names an object: ``batchjob.llmbatch.dev/run-1``."""
    group = "" if manifest["apiVersion"] == "v1" else ".llmbatch.dev"
    return f"{manifest['kind'].lower()}{group}/{manifest['metadata']['name']}"
