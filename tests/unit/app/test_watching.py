"""From events to the index: nothing that is stored can keep the rest from being seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmbatch.api import BatchFile
from llmbatch.api.base import Resource
from llmbatch.app.liveness import Liveness
from llmbatch.app.watching import BEHIND_AFTER, RESYNC_EVERY, Watching
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
        return next((kind.model_validate(body) for body in self.bodies if body["metadata"]["name"] == name), None)


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


def a_change(draw: st.DrawFn, store: dict[str, int], version: int) -> tuple[str, int, bool]:
    """Make, change or delete one of three files; answers the event: name, version and whether it is gone."""
    name = draw(st.sampled_from(["a", "b", "c"]))
    gone = name in store and draw(st.booleans())
    if gone:
        del store[name]
    else:
        store[name] = version
    return name, version, gone


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, int], list[tuple[str, int, bool]]]:
    """What is stored in the end, and the events of it: some dropped, some twice, and in another order."""
    store: dict[str, int] = {}
    events = [a_change(draw, store, version) for version in range(1, draw(st.integers(1, 12)))]
    told = [event for event in events for _ in range(draw(st.sampled_from([0, 1, 1, 2])))]
    return store, draw(st.permutations(told))


@given(histories())
@settings(max_examples=60, deadline=None)
def test_whatever_a_watch_drops_doubles_or_reorders_is_right_after_a_resync(
    history: tuple[dict[str, int], list[tuple[str, int, bool]]],
):
    """What is stored is known or will be read, and what is not there is forgotten."""
    stored, told = history

    def body(name: str, version: int) -> dict[str, Any]:
        made = a_body(version)
        return {**made, "metadata": {**made["metadata"], "name": name, "uid": f"uid-{name}"}}

    async def run() -> tuple[set[str], set[str]]:
        bench = Bench(Store(*(body(name, version) for name, version in stored.items())))
        for name, version, gone in told:
            bench.watching.observe("BatchFile", body(name, version), gone)
        while bench.queue.depth:
            bench.queue.done(await bench.queue.get())
        bench.watching.listed.set()
        task = asyncio.create_task(bench.watching.keep_right())
        await settle()
        await bench.clock.advance(RESYNC_EVERY + BEHIND_AFTER + 1)
        task.cancel()
        late = {(await bench.queue.get()).name for _ in range(bench.queue.depth)}
        right = {key.name for key in bench.index.files if bench.index.version_of(key) == str(stored.get(key.name))}
        return {key.name for key in bench.index.files} - late, right

    known, right = asyncio.run(run())

    assert known <= right <= stored.keys()
