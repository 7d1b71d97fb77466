"""kopf hands an event on and keeps nothing of it; a kopf that does this in another way is found here."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import kopf
from kopf._core.actions import lifecycles
from kopf._core.engines import indexing
from kopf._core.reactor import inventory, processing
from kopf._core.reactor.running import spawn_tasks

from llmbatch.handlers.informer import _settings
from llmbatch.handlers.lean import NoMemories

RESOURCE = kopf._cogs.structs.references.Resource("llmbatch.dev", "v1alpha1", "batchjobs", namespaced=True)  # type: ignore[attr-defined]


async def handled(body: dict[str, Any], memories: inventory.ResourceMemories) -> list[Any]:
    """What a handler is given when kopf processes one event with our settings."""
    registry, seen = kopf.OperatorRegistry(), list[Any]()

    @kopf.on.event("llmbatch.dev", "v1alpha1", "batchjobs", registry=registry)
    async def handle(event: Any, **_: Any) -> None:
        seen.append(event["object"])

    await processing.process_resource_event(
        lifecycle=lifecycles.all_at_once,
        indexers=indexing.OperatorIndexers(),
        registry=registry,
        settings=_settings(),
        memories=memories,
        memobase=kopf.Memo(),  # type: ignore[arg-type]
        resource=RESOURCE,
        raw_event={"type": "MODIFIED", "object": body},  # type: ignore[arg-type]
        event_queue=asyncio.Queue(),
    )
    return seen


class Uncopied(dict[str, Any]):
    """Part of an object that is never copied whole."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("kopf copies the object")


async def test_an_event_is_handed_on_as_it_came_and_nothing_is_kept():
    """No copy of it is made, and no record of its object stays."""
    memories = NoMemories()
    body = {
        "metadata": {"uid": "u", "name": "run", "namespace": "team", "annotations": Uncopied(a="1")},
        "spec": Uncopied(inputFileRef=Uncopied(name="questions")),
    }

    seen = await handled(body, memories)

    assert seen == [body]
    assert list(memories.iter_all_memories()) == []


async def test_kopf_takes_memories_and_storages():
    """They are where this operator puts them."""
    settings = kopf.OperatorSettings()

    assert "memories" in inspect.signature(spawn_tasks).parameters
    assert isinstance(settings.persistence.diffbase_storage, kopf.DiffBaseStorage)
    assert isinstance(settings.persistence.progress_storage, kopf.ProgressStorage)
