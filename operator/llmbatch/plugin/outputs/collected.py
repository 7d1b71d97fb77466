"""Where the results of a job are, and reading them from there without holding them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from llmbatch.api import BatchJob
from llmbatch.api.base import Condition, NamespacedReference
from llmbatch.api.names import LABEL_JOB_NAME, LABEL_JOB_UID
from llmbatch.api.reasons import ConditionType
from llmbatch.domain.conditions import condition
from llmbatch.domain.errors import NotFound, SourceNotFound
from llmbatch.kube.client import data_of
from llmbatch.kube.errors import Forbidden, Gone
from llmbatch.kube.outputs import LABEL_VALUE_MAX, OutputKind
from llmbatch.kube.transport import Target
from llmbatch.plugin.connection import CORE_PLURALS, Connection, Manifest
from llmbatch.plugin.exits import Exit, Stop, say
from llmbatch.plugin.outputs.bucket import bucket_for, chunks, place_of
from llmbatch.plugin.outputs.provider import provider_of
from llmbatch.storage.s3 import Bucket, Place
from llmbatch.storage.sink import ERRORS, OUTPUT, SUMMARY, File


class Results(Protocol):
    """The files of a job that has ended."""

    @property
    def place(self) -> str:
        """Where they are, for people."""
        ...

    def chunks(self, file: File) -> AsyncIterator[bytes]:
        """A file's bytes in pieces. Raises SourceNotFound where there is no such file."""
        ...


async def results_of(connection: Connection, name: str, job: BatchJob | None) -> Results:
    """The results of a job, or of one of that name that is gone and left them. Raises Stop."""
    return await _left_behind(connection, name) if job is None else await results_for(connection, job)


async def results_for(connection: Connection, job: BatchJob) -> Results:
    """The results of a job: where it put them, else at the provider. Raises Stop where it has none (yet)."""
    name, status = job.metadata.name, job.status
    if not status.phase.finished:
        so_far = f", {status.progress}" if status.progress else ""
        raise Stop(f"BatchJob {name} is not finished ({status.phase}{so_far}): kubectl llmbatch watch {name}")
    wanted = job.spec.output
    if status.output is None or wanted is None:
        return _at_provider(connection, job)
    if wanted.url is not None:
        credentials = wanted.credentials_secret_ref.name if wanted.credentials_secret_ref else None
        found = InBucket(await bucket_for(connection, place_of(wanted.url), credentials))
        if other := await other_job(found, job.metadata.uid):
            raise Stop(f"{found.place} has the results of {other}, not those of BatchJob {name}: both name that place")
        return found
    kind: OutputKind = "ConfigMap" if wanted.config_map else "Secret"
    place = wanted.config_map or wanted.secret
    assert place is not None
    try:
        stored = await connection.stored(Target("v1", CORE_PLURALS[kind], job.metadata.namespace, place.name))
    except Gone:
        raise Stop(f"{kind} {place.name}, which had the results of BatchJob {name}, is gone", Exit.NOT_FOUND) from None
    if (stored["metadata"].get("labels") or {}).get(LABEL_JOB_UID) != job.metadata.uid:
        raise Stop(f"{kind} {place.name} does not hold the results of BatchJob {name}: it was replaced")
    return InObject.of(kind, stored)


async def other_job(found: Results, uid: str) -> str | None:
    """Whose results these are by their summary, where they are not those of the job with that UID."""
    try:
        summary = orjson.loads(b"".join([chunk async for chunk in found.chunks(SUMMARY)]))
    except (SourceNotFound, orjson.JSONDecodeError):
        return None
    if not isinstance(summary, dict) or summary.get("uid") in (None, uid):
        return None
    return f"another BatchJob, {summary.get('job')}"


async def _left_behind(connection: Connection, name: str) -> Results:
    """The newest ConfigMap that a job of this name left in the namespace."""
    if len(name) > LABEL_VALUE_MAX:
        raise Stop(
            f"BatchJob {name} does not exist in namespace {connection.namespace}; if it left results, they bear no"
            f" label of so long a name: kubectl get configmap {name}-output",
            Exit.NOT_FOUND,
        )
    target = Target("v1", CORE_PLURALS["ConfigMap"], connection.namespace)
    try:
        listed = await connection.stored_list(target, {"labelSelector": f"{LABEL_JOB_NAME}={name}"})
    except Forbidden:
        listed = {"items": ()}
    newest = max(listed["items"], key=lambda item: item["metadata"]["creationTimestamp"], default=None)
    if newest is None:
        raise Stop(f"BatchJob {name} does not exist in namespace {connection.namespace}", Exit.NOT_FOUND)
    say(f"note: BatchJob {name} is gone; it left ConfigMap {newest['metadata']['name']}")
    return InObject.of("ConfigMap", newest)


@dataclass(frozen=True, slots=True, repr=False)
class InObject:
    """Keys of a ConfigMap or Secret."""

    place: str
    data: Mapping[str, bytes]

    @classmethod
    def of(cls, kind: OutputKind, stored: Manifest) -> InObject:
        """The data of an object as it is stored."""
        return cls(f"{kind.lower()}/{stored['metadata']['name']}", data_of(kind, stored))

    async def chunks(self, file: File) -> AsyncIterator[bytes]:
        """See Results."""
        if file not in self.data:
            raise SourceNotFound(f"{self.place} has no {file}")
        yield self.data[file]


@dataclass(frozen=True, slots=True)
class InBucket:
    """Objects below a prefix."""

    bucket: Bucket

    @property
    def place(self) -> str:
        """See Results."""
        return str(self.bucket.place)

    async def chunks(self, file: File) -> AsyncIterator[bytes]:
        """See Results."""
        prefix = self.bucket.place
        async for chunk in chunks(replace(self.bucket, place=Place(prefix.bucket, f"{prefix.key}/{file}"))):
            yield chunk


@dataclass(frozen=True, slots=True)
class AtProvider:
    """Result files that the provider still has; several where the input was divided."""

    connection: Connection
    route: NamespacedReference
    files: Mapping[File, Sequence[str]]
    summary: Mapping[str, Any]

    @property
    def place(self) -> str:
        """See Results."""
        return f"the provider of ModelDeployment {self.route.namespace}/{self.route.name}"

    async def chunks(self, file: File) -> AsyncIterator[bytes]:
        """See Results. Also raises Stop where the user may not use the key."""
        if file == SUMMARY:
            yield orjson.dumps(self.summary, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            return
        if not self.files[file]:
            raise SourceNotFound(f"{self.place} has no {file} of this job")
        async with provider_of(self.connection, self.route) as provider:
            for file_id in self.files[file]:
                last = b"\n"
                try:
                    async with provider.download(file_id) as pieces:
                        async for piece in pieces:
                            last = piece or last
                            yield piece
                except NotFound:
                    raise Stop(f"{self.place} has deleted {file} of this job", Exit.NOT_FOUND) from None
                if not last.endswith(b"\n"):
                    yield b"\n"


def failure_of(job: BatchJob) -> Condition | None:
    """Why the job failed, None where it did not."""
    found = condition(job.status.conditions, ConditionType.FAILED)
    return found if found and found.status == "True" else None


def _at_provider(connection: Connection, job: BatchJob) -> AtProvider:
    status = job.status
    shards = status.shards
    output = [shard.output_file_id for shard in shards if shard.output_file_id]
    errors = [shard.error_file_id for shard in shards if shard.error_file_id]
    if status.deployment is None or not (output or errors):
        failure = failure_of(job)
        why = f"it {status.phase} ({failure.reason}): {failure.message}" if failure else "the provider gave none"
        raise Stop(f"BatchJob {job.metadata.name} has no results; {why}")
    summary = {
        "job": f"{job.metadata.namespace}/{job.metadata.name}",
        "uid": job.metadata.uid,
        "model": status.model_name,
        "deployment": f"{status.deployment.namespace}/{status.deployment.name}",
        "batches": [{"id": shard.batch_id, "state": shard.phase.value} for shard in shards if shard.batch_id],
        "requestCounts": status.request_counts.wire() if status.request_counts else None,
        "usage": status.usage.wire() if status.usage else None,
        "cost": status.cost.wire() if status.cost else None,
    }
    return AtProvider(connection, status.deployment, {OUTPUT: output, ERRORS: errors}, summary)
