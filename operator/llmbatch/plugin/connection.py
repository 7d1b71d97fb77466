"""The user's way to the cluster: their kubeconfig, context and namespace."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from llmbatch import __version__
from llmbatch.api.base import Resource
from llmbatch.kube.client import Kube, resource_of, target_of
from llmbatch.kube.connect import connect_as_user
from llmbatch.kube.errors import Gone
from llmbatch.kube.transport import MERGE_PATCH, Api, Target
from llmbatch.plugin.exits import Exit, Stop
from llmbatch.plugin.options import Where

R = TypeVar("R", bound=Resource)
Manifest = Mapping[str, Any]
"""An object as JSON has it."""

USER_AGENT = f"kubectl-llmbatch/{__version__}"
FIELD_MANAGER = "kubectl-llmbatch"
CALL_SECONDS = 60.0
NAMED = 5
"""At most so many objects are named in a message."""
CORE_PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets"}


@dataclass(frozen=True)
class Connection:
    """An open way to the API server. All methods raise KubeError, which ``exits.run`` tells to the user.

    ``kube`` has the typed calls of the operator; those here take and give objects as they are stored.
    """

    api: Api
    kube: Kube
    namespace: str

    async def get(self, kind: type[R], name: str, namespace: str | None = None) -> R:
        """One of the three resources. Raises Stop where there is none of that name."""
        namespace = namespace or self.namespace
        found = await self.kube.get(kind, namespace, name)
        if found is None:
            raise missing(kind, namespace, name)
        return found

    async def stored(self, target: Target) -> Manifest:
        """Any object as it is stored. Raises Gone."""
        return orjson.loads(await self.api.call("get", target))

    async def stored_list(self, target: Target, query: Mapping[str, str | int] | None = None) -> Manifest:
        """A whole collection in one answer, with the ``metadata.resourceVersion`` that a watch goes on from."""
        return orjson.loads(await self.api.call("list", target, query=query))

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Make an object in the namespace that it names, else in the connection's; answers what was stored.

        A dry run is checked by the API server, quota included, and not stored. Raises AlreadyExists, Stop.
        """
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        target = self.collection_of(manifest)
        try:
            return orjson.loads(await self.api.call("create", target, query=query, body=orjson.dumps(manifest)))
        except Gone:
            raise Stop(
                f"there is no namespace {target.namespace}, or the cluster has no {target.plural}:"
                " is llmbatch-operator installed?",
                Exit.NOT_FOUND,
            ) from None

    async def patch(self, kind: type[R], name: str, patch: Manifest, namespace: str | None = None) -> R:
        """Merge a patch into one of the three resources. Raises Stop where there is none of that name."""
        namespace = namespace or self.namespace
        try:
            answer = await self.merge(target_of(kind, namespace, name), patch)
        except Gone:
            raise missing(kind, namespace, name) from None
        return resource_of(kind, answer)

    async def merge(self, target: Target, patch: Manifest) -> Manifest:
        """Merge a patch into any object."""
        query = {"fieldManager": FIELD_MANAGER}
        answer = await self.api.call("patch", target, query=query, body=orjson.dumps(patch), content_type=MERGE_PATCH)
        return orjson.loads(answer)

    def collection_of(self, manifest: Manifest) -> Target:
        """Where objects like this one live: a ConfigMap, a Secret, or one of the three resources."""
        kind, group = manifest["kind"], manifest["apiVersion"]
        namespace = manifest["metadata"].get("namespace") or self.namespace
        return Target(group, CORE_PLURALS.get(kind) or f"{kind.lower()}s", namespace)


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[Connection]:
    """The cluster that the user means. Raises NoConfiguration; the API server itself is not asked yet."""
    access = await connect_as_user(
        os.environ,
        kubeconfig=where.kubeconfig,
        context=where.context,
        user_agent=USER_AGENT,
        timeout_seconds=CALL_SECONDS,
    )
    try:
        yield Connection(access.api, Kube(access.api, guard=lambda: None), where.namespace or access.namespace)
    finally:
        await access.api.close()


def left_out(names: Iterable[str], what: str) -> str:
    """That objects are there which this version cannot read: ``2 jobs cannot be read by this version: a, b``."""
    found = sorted(set(names))
    more = f" and {len(found) - NAMED} others" if len(found) > NAMED else ""
    return (
        f"{len(found)} {what} cannot be read by version {__version__} of this plugin: {', '.join(found[:NAMED])}{more}"
    )


def missing(kind: type[Resource], namespace: str, name: str) -> Stop:
    """There is no object of that name."""
    return Stop(f"{kind.KIND} {name} does not exist in namespace {namespace}", Exit.NOT_FOUND)
