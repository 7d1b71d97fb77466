"""From events to the index: nothing that is stored can keep the rest from being seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from llmbatch.api import BatchFile
from llmbatch.api.base import Resource
from llmbatch.app.liveness import Liveness
from llmbatch.app.watching import RESYNC_EVERY, Watching
from llmbatch.engine.queue import Key, WorkQueue
from llmbatch.kube.client import Metadata
from llmbatch.reconcile.index.index import Index
from support.virtual_time import VirtualClock, settle

KEY = Key("BatchFile", "team", "questions")


def a_body(version: int = 7, **spec: Any) -> dict[str, Any]:
    """A BatchFile as the API server writes it."""
    return {
        "metadata": {
            "name": KEY.name,
            "namespace": KEY.namespace,
            "uid": "uid-1",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"targetModelNames": ["gpt"], "source": {"inline": "{}"}, **spec},
    }


class Store:
    """What the API server holds; ``listed`` is what a list shows, which may be older."""

    def __init__(self, *bodies: dict[str, Any]) -> None:
        self.bodies = list(bodies)
        self.listed = list(bodies)

    async def list_metadata(self, kind: type[Resource], namespace: str | None = None) -> AsyncIterator[Metadata]:
        for body in self.listed if kind is BatchFile else []:
            meta = body["metadata"]
            yield Metadata(meta["namespace"], meta["name"], meta["uid"], meta["resourceVersion"])

    async def get(self, kind: type[Resource], namespace: str, name: str) -> Resource | None:
        return next((kind.model_validate(body) for body in self.bodies), None)


class Bench:
    """A watching on a store, in virtual time."""

    def __init__(self, store: Store) -> None:
        self.clock = VirtualClock()
        self.index = Index()
        self.queue = WorkQueue(self.clock)
        liveness = Liveness(None, None, self.clock)  # type: ignore[arg-type]
        self.watching = Watching(
            store,  # type: ignore[arg-type]
            self.index,
            self.queue,
            self.clock,
            namespaces=(),
            liveness=liveness,
        )


async def test_one_resource_that_cannot_be_read_does_not_keep_the_operator_from_working():
    """It is left out until it can be read."""
    broken = a_body(source={"inline": 5})
    bench = Bench(Store(broken))
    bench.watching.observe("BatchFile", broken, False)

    assert not bench.index.files
    bench.watching.observe("BatchFile", a_body(8), False)
    assert KEY in bench.index.files


async def test_what_was_made_while_the_resync_listed_is_not_taken_for_gone():
    """A list is some seconds old when it has been read."""
    store = Store(a_body())
    bench = Bench(store)
    bench.watching.observe("BatchFile", a_body(), False)
    bench.watching.listed.set()
    task = asyncio.create_task(bench.watching.keep_right())
    await settle()

    store.listed = []
    await bench.clock.advance(RESYNC_EVERY + 1)

    assert KEY in bench.index.files
    task.cancel()


async def test_what_vanished_unseen_is_dropped():
    """After a relist nothing is told of what was deleted meanwhile; the resync finds it."""
    store = Store(a_body())
    bench = Bench(store)
    bench.watching.observe("BatchFile", a_body(), False)
    bench.watching.listed.set()
    task = asyncio.create_task(bench.watching.keep_right())
    await settle()

    store.listed, store.bodies = [], []
    await bench.clock.advance(RESYNC_EVERY + 1)

    assert not bench.index.files
    task.cancel()


async def test_an_event_of_what_is_under_way_is_left_to_the_next_run():
    """It is mostly the echo of a write; whatever it is, the resource is read by the run that it asks for."""
    bench = Bench(Store(a_body()))
    bench.watching.observe("BatchFile", a_body(), False)
    await bench.queue.get()

    bench.watching.observe("BatchFile", a_body(8, targetModelNames=["other"]), False)
    assert bench.index.version_of(KEY) == "8"
    assert bench.index.files[KEY].models == ("gpt",)
    bench.queue.done(KEY)

    assert await bench.queue.get() == KEY
