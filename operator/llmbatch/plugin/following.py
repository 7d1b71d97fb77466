"""Following a collection: what is there, then every change, over connections that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import ValidationError

from llmbatch.api.base import Resource
from llmbatch.kube.client import target_of
from llmbatch.kube.errors import Expired, KubeError, Overloaded, Unreachable
from llmbatch.kube.watch import watch
from llmbatch.plugin.connection import Connection

R = TypeVar("R", bound=Resource)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


class Change(NamedTuple, Generic[R]):
    """``put``: the resource is new or changed. ``gone``: it was deleted; the resource is as last seen. ``synced``:
    everything that there was has been told, again after each break; there is no resource."""

    type: Literal["put", "gone", "synced"]
    resource: R | None = None


async def follow(
    connection: Connection,
    kind: type[R],
    namespace: str | None,
    *,
    name: str | None = None,
    selector: str = "",
    on_break: Callable[[KubeError], None] = lambda error: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Change[R], None]:
    """All resources of a namespace (None: of all), or those that are named or selected, and then every change.

    A connection that breaks is made again for as long as it takes, with what changed meanwhile told then;
    ``on_break`` hears of each try that failed. The first list is tried once. Raises KubeError.
    """
    target = target_of(kind, namespace or "")
    query = {"labelSelector": selector} if selector else {}
    if name:
        query["fieldSelector"] = f"metadata.name={name}"
    known: dict[str, R] = {}
    version, synced, pause = "", False, FIRST_PAUSE
    while True:
        try:
            if not version:
                listed = await connection.stored_list(target, query)
                for change in _differences(known, _parsed(kind, listed["items"])):
                    yield change
                version, synced = listed["metadata"]["resourceVersion"], True
                yield Change("synced")
            async for event in watch(connection.api, target, version, query=query):
                version, pause = event.resource_version, FIRST_PAUSE
                for change in _told(known, kind, event.type, event.object):
                    yield change
        except Expired:
            version = ""
        except (Unreachable, Overloaded) as error:
            if not synced:
                raise
            on_break(error)
            pause = min(pause * 2, LONGEST_PAUSE)
        # Also after a watch that ended well: whatever stands in between may end each of them at once.
        await sleep(pause)


def _differences(known: dict[str, R], listed: dict[str, R]) -> list[Change[R]]:
    """What a list says beyond what is known; then it is known."""
    gone = [Change("gone", known[uid]) for uid in known.keys() - listed.keys()]
    put = [
        Change("put", resource)
        for uid, resource in listed.items()
        if uid not in known or known[uid].metadata.resource_version != resource.metadata.resource_version
    ]
    known.clear()
    known.update(listed)
    return [*gone, *put]


def _told(known: dict[str, R], kind: type[R], type_: str, item: Mapping[str, Any]) -> list[Change[R]]:
    changes = list[Change[R]]()
    if type_ != "BOOKMARK":
        for uid, resource in _parsed(kind, [item]).items():
            if type_ == "DELETED":
                known.pop(uid, None)
            else:
                known[uid] = resource
            changes.append(Change("gone" if type_ == "DELETED" else "put", resource))
    return changes


def _parsed(kind: type[R], items: list[Mapping[str, Any]]) -> dict[str, R]:
    """The resources by UID. One that cannot be read is left out: it does not hide the others."""
    found = dict[str, R]()
    for item in items:
        try:
            resource = kind.model_validate(item)
        except ValidationError:
            continue
        found[resource.metadata.uid] = resource
    return found
