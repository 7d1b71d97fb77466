"""The Kubernetes client: the three resources, and what they refer to."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import ValidationError

from llmbatch import __version__
from llmbatch.api.base import Resource
from llmbatch.api.names import API_VERSION
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.kube.errors import Conflict, Expired, Gone, Unreadable
from llmbatch.kube.outputs import OutputKind, check_output, write_output
from llmbatch.kube.transport import JSON_PATCH, MERGE_PATCH, Api, Target

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)
PAGE = 500
UNPROCESSABLE = 422
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Metadata(NamedTuple):
    """What a metadata-only list tells of an object."""

    namespace: str
    name: str
    uid: str
    resource_version: str


class NamespaceView(NamedTuple):
    """A namespace's labels, and whether it is being deleted."""

    labels: Mapping[str, str]
    terminating: bool
    deletion_time: datetime | None = None


class Kube:
    """What the operator asks of the API server. Nothing is retried here: that is the queue's.

    ``guard`` is called just before every write and raises when this process must not write any more. All methods
    raise KubeError.
    """

    def __init__(self, api: Api, guard: Callable[[], None]) -> None:
        self.api = api
        self._guard = guard

    # --- the three resources ----------------------------------------------------------------------------------

    async def get(self, kind: type[R], namespace: str, name: str) -> R | None:
        """The resource as stored now. Raises Unreadable where it does not fit its schema."""
        answer = await self._get(target_of(kind, namespace, name))
        return None if answer is None else parse(kind, answer)

    async def list(
        self,
        kind: type[R],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        limit: int = PAGE,
        on_unreadable: Callable[[Unreadable], None] = lambda error: logger.warning("%s", error),
    ) -> AsyncIterator[R]:
        """All resources of a namespace, or of all of them, a page at a time. One that cannot be read is told to
        ``on_unreadable`` and left out, so that it does not hide the others."""
        query = {"labelSelector": label_selector} if label_selector else {}
        async for item in self._pages(target_of(kind, namespace or ""), query, limit):
            try:
                resource = resource_of(kind, item)
            except Unreadable as error:
                on_unreadable(error)
            else:
                yield resource

    async def list_metadata(
        self, kind: type[Resource], namespace: str | None = None, *, limit: int = PAGE
    ) -> AsyncIterator[Metadata]:
        """Name, uid and version of all resources, at a fraction of what whole ones cost."""
        async for item in self._pages(target_of(kind, namespace or ""), {}, limit, accept=METADATA_ONLY):
            meta = item["metadata"]
            yield Metadata(meta.get("namespace", ""), meta["name"], meta["uid"], meta["resourceVersion"])

    async def patch_metadata(
        self,
        resource: R,
        *,
        annotations: Mapping[str, str | None] = {},
        finalizers: Sequence[str] | None = None,
    ) -> R:
        """Set annotations (None removes one) and finalizers, if the resource is still as it was read.

        Raises Conflict where it changed, Gone where it is not there any more.
        """
        meta = resource.metadata
        changes: dict[str, Any] = {"resourceVersion": meta.resource_version, "uid": meta.uid}
        if annotations:
            changes["annotations"] = dict(annotations)
        if finalizers is not None:
            changes["finalizers"] = [*finalizers]
        target = target_of(type(resource), meta.namespace, meta.name)
        answer = await self._write("patch", target, {"metadata": changes}, content_type=MERGE_PATCH)
        return parse(type(resource), answer)

    async def patch_status(self, resource: R, status: Mapping[str, Any], *, at_version: bool = False) -> R:
        """Replace the whole status, if this is still the same object; its version matters with ``at_version`` only.

        Raises Gone where another object has taken the name, or Conflict where the version matters and is another. A
        merge patch would ignore the uid on /status, so this is a JSON patch with tests.
        """
        meta = resource.metadata
        patch: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/uid", "value": meta.uid}]
        if at_version:
            patch.append({"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version})
        patch.append({"op": "add", "path": "/status", "value": status})
        target = target_of(type(resource), meta.namespace, meta.name, "status")
        try:
            answer = await self._write("patch", target, patch, content_type=JSON_PATCH)
        except Gone as error:
            # The answer does not say which test failed; whoever reads the object again sees.
            if at_version and error.status == UNPROCESSABLE:
                raise Conflict(error.message, status=error.status) from None
            raise
        return parse(type(resource), answer)

    async def delete(self, resource: Resource, *, background: bool = True) -> None:
        """Ask for the deletion of this very object; one that is gone already is well."""
        meta = resource.metadata
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background" if background else "Foreground",
            "preconditions": {"uid": meta.uid},
        }
        target = target_of(type(resource), meta.namespace, meta.name)
        try:
            await self._write("delete", target, options)
        except Gone:
            return

    # --- what they refer to -----------------------------------------------------------------------------------

    async def config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """A ConfigMap's keys, of ``data`` and ``binaryData``."""
        answer = await self._get(Target("v1", "configmaps", namespace, name))
        return None if answer is None else data_of("ConfigMap", orjson.loads(answer))

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """A Secret's keys."""
        answer = await self._get(Target("v1", "secrets", namespace, name))
        return None if answer is None else data_of("Secret", orjson.loads(answer))

    async def check_output(self, kind: OutputKind, namespace: str, name: str, *, owner: OutputOwner) -> None:
        """Raise OutputConflict where an object of that name exists and is not the owner's."""
        await check_output(self.api, kind, namespace, name, owner=owner)

    async def write_output(
        self,
        kind: OutputKind,
        namespace: str,
        name: str,
        data: Mapping[str, bytes],
        *,
        owner: OutputOwner,
        retain: bool,
    ) -> None:
        """Make a job's output, or replace what the same job made. Raises OutputConflict, OutputTooLarge,
        OutputDenied."""
        await write_output(self.api, self._guard, kind, namespace, name, data, owner=owner, retain=retain)

    async def namespace(self, name: str) -> NamespaceView | None:
        """A namespace. Raises Forbidden where the operator may not read any."""
        answer = await self._get(Target("v1", "namespaces", name=name))
        if answer is None:
            return None
        meta = orjson.loads(answer)["metadata"]
        deleted = meta.get("deletionTimestamp")
        return NamespaceView(
            meta.get("labels") or {}, deleted is not None, datetime.fromisoformat(deleted) if deleted else None
        )

    async def cluster_uid(self) -> str:
        """The UID of kube-system, which names a cluster. Raises Forbidden, Gone."""
        answer = await self.api.call("get", Target("v1", "namespaces", name="kube-system"))
        return orjson.loads(answer)["metadata"]["uid"]

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        """Make an Event of events.k8s.io/v1."""
        await self._write("create", Target("events.k8s.io/v1", "events", namespace), event)

    async def served(self) -> frozenset[str]:
        """The plurals that the API server serves of our group; empty before the CRDs are there."""
        try:
            answer = await self.api.call("get", f"/apis/{API_VERSION}")
        except Gone:
            return frozenset()
        return frozenset(entry["name"] for entry in orjson.loads(answer)["resources"] if "/" not in entry["name"])

    async def ping(self) -> None:
        """Ask for something that every account may have, to see that the API server answers."""
        await self.api.call("get", "/version")

    # --- how --------------------------------------------------------------------------------------------------

    async def _get(self, target: Target) -> bytes | None:
        try:
            # A collection answers a GET too; an empty name must not be mistaken for one.
            return await self.api.call("get", target) if target.name else None
        except Gone:
            return None

    async def _write(self, verb: str, target: Target, body: object, *, content_type: str = "application/json") -> bytes:
        content = orjson.dumps(body)
        self._guard()
        return await self.api.call(verb, target, body=content, content_type=content_type)

    async def _pages(
        self, target: Target, query: Mapping[str, str], limit: int, accept: str = "application/json"
    ) -> AsyncIterator[dict[str, Any]]:
        resume = ""
        while True:
            page = {**query, "limit": limit} | ({"continue": resume} if resume else {})
            try:
                answer = await self.api.call("list", target, query=page, accept=accept)
            except Expired as error:
                # The server offers to go on with newer data: what exists all the time is still listed once.
                if not error.resume or error.resume == resume:
                    raise
                resume = error.resume
                continue
            found = orjson.loads(answer)
            # A metadata-only list of nothing has null here (seen with kube-apiserver 1.36).
            for item in found["items"] or ():
                yield item
            resume = found["metadata"].get("continue", "")
            if not resume:
                return


def target_of(kind: type[Resource], namespace: str, name: str = "", subresource: str = "") -> Target:
    """Where a resource of ours lives."""
    return Target(API_VERSION, kind.PLURAL, namespace, name, subresource)


def parse(kind: type[R], answer: bytes) -> R:
    """A resource from the API server's JSON. Raises Unreadable, which names fields and no values."""
    try:
        return kind.model_validate_json(answer)
    except ValidationError as error:
        raise _unreadable(kind, orjson.loads(answer), error) from None


def resource_of(kind: type[R], stored: Mapping[str, Any]) -> R:
    """A resource from an object as it is stored. Raises Unreadable."""
    try:
        return kind.model_validate(stored)
    except ValidationError as error:
        raise _unreadable(kind, stored, error) from None


def data_of(kind: OutputKind, stored: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of a ConfigMap, of ``data`` and ``binaryData``, or of a Secret, as bytes."""
    if kind == "Secret":
        return _decoded(stored.get("data"))
    text = {key: value.encode() for key, value in (stored.get("data") or {}).items()}
    return text | _decoded(stored.get("binaryData"))


def _unreadable(kind: type[Resource], stored: Mapping[str, Any], error: ValidationError) -> Unreadable:
    # Locations and types only: the input of a validation error is the user's.
    places = [
        f"{'.'.join(str(part) for part in found['loc'])} ({found['type']})"
        for found in error.errors(include_url=False, include_context=False, include_input=False)[:5]
    ]
    meta = stored.get("metadata", {})
    where = f"{meta.get('namespace', '')}/{meta.get('name', '')}"
    made = Unreadable(f"{kind.KIND} {where} cannot be read by version {__version__}: {', '.join(places)}")
    made.name = str(meta.get("name", ""))
    return made


def _decoded(data: Mapping[str, str] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (data or {}).items()}
