"""Watching a collection, for as long as one connection holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, NamedTuple

import orjson

from llmbatch.kube.errors import InvalidObject, error_of
from llmbatch.kube.transport import Api, Target

SERVER_SECONDS = 280
"""How long the API server is asked to keep a watch; shorter than what proxies in between allow."""
SILENCE_SECONDS = 90.0
"""Bookmarks come about once a minute; so long without one is a connection that nobody has ended."""

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


class WatchEvent(NamedTuple):
    """One change; of a BOOKMARK the object is nothing but kind and resourceVersion."""

    type: EventType
    object: Mapping[str, Any]

    @property
    def resource_version(self) -> str:
        """Where a watch goes on behind this event."""
        return self.object["metadata"]["resourceVersion"]


async def watch(
    api: Api, target: Target, resource_version: str, *, query: Mapping[str, str] | None = None
) -> AsyncIterator[WatchEvent]:
    """The changes behind a resourceVersion, until the API server ends the watch, which it does every few minutes.

    Raises Expired where that version is too old (list again), and KubeError.
    """
    asked = {
        **(query or {}),
        "watch": 1,
        "allowWatchBookmarks": "true",
        "resourceVersion": resource_version,
        "timeoutSeconds": SERVER_SECONDS,
    }
    async with api.lines(target, query=asked, silence_seconds=SILENCE_SECONDS) as lines:
        async for line in lines:
            yield _event(line, target)


def _event(line: bytes, target: Target) -> WatchEvent:
    try:
        told = orjson.loads(line)
        kind, found = told["type"], told["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise InvalidObject(f"watch {target}: the API server sent something that is no event") from None
    if kind == "ERROR":
        raise error_of(f"watch {target}", int(found.get("code") or 500), orjson.dumps(found))
    return WatchEvent(kind, found)
