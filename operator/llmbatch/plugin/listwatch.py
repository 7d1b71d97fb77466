"""Following a collection: what is there, then every change, over connections that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from llmbatch.api.base import Resource
from llmbatch.kube.client import resource_of, target_of
from llmbatch.kube.errors import Expired, KubeError, Overloaded, Unreachable, Unreadable
from llmbatch.kube.watch import watch
from llmbatch.plugin.connection import Connection

R = TypeVar("R", bound=Resource)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


class Change(NamedTuple, Generic[R]):
    """``put``: the resource is new or changed. ``gone``: it was deleted; the resource is as last seen. ``synced``:
    everything that there was has been told, again after each break; there is no resource."""

    type: Literal["put", "gone", "synced"]
    resource: R | None = None


def refuse(error: Unreadable) -> None:
    """For who follows one resource, and can tell nothing of it. Raises what it is given."""
    raise error


async def follow(
    connection: Connection,
    kind: type[R],
    namespace: str | None,
    *,
    name: str | None = None,
    selector: str = "",
    on_break: Callable[[KubeError], None] = lambda error: None,
    on_unreadable: Callable[[Unreadable], None] = refuse,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Change[R], None]:
    """All resources of a namespace (None: of all), or those that are named or selected, and then every change.

    A connection that breaks is made again for as long as it takes, with what changed meanwhile told then;
    ``on_break`` hears of each try that failed, and ``on_unreadable`` of each resource that this version cannot read,
    which is then as it was last known. The first list is tried once. Raises KubeError.
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
                for change in _differences(known, _parsed(kind, listed["items"], known, on_unreadable)):
                    yield change
                version, synced = listed["metadata"]["resourceVersion"], True
                yield Change("synced")
            async for event in watch(connection.api, target, version, query=query):
                version, pause = event.resource_version, FIRST_PAUSE
                for change in _told(known, kind, event.type, event.object, on_unreadable):
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


def _told(
    known: dict[str, R],
    kind: type[R],
    type_: str,
    item: Mapping[str, Any],
    on_unreadable: Callable[[Unreadable], None],
) -> list[Change[R]]:
    if type_ == "BOOKMARK":
        return []
    if type_ == "DELETED":
        last = known.pop(str(item.get("metadata", {}).get("uid")), None)
        with suppress(Unreadable):
            last = resource_of(kind, item)
        return [Change("gone", last)] if last else []
    found = _parsed(kind, [item], known, on_unreadable)
    news = [Change("put", resource) for uid, resource in found.items() if resource is not known.get(uid)]
    known.update(found)
    return news


def _parsed(
    kind: type[R],
    items: list[Mapping[str, Any]],
    known: Mapping[str, R],
    on_unreadable: Callable[[Unreadable], None],
) -> dict[str, R]:
    """The resources by UID. One that cannot be read does not hide the others, and is not gone."""
    found = dict[str, R]()
    for item in items:
        try:
            resource = resource_of(kind, item)
        except Unreadable as error:
            on_unreadable(error)
            if last := known.get(str(item.get("metadata", {}).get("uid"))):
                found[last.metadata.uid] = last
        else:
            found[resource.metadata.uid] = resource
    return found
