"""kopf's watch reaches our handlers, and nothing else of kopf's is in between; a kopf that differs is found here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import kopf
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kopf._cogs.clients import watching
from kopf._cogs.structs.references import Resource
from kopf._core.reactor import orchestration, queueing

from llmbatch.handlers.lean import AT_ONCE, KOPFS_WATCHER, let_go, session

JOBS = Resource("llmbatch.dev", "v1alpha1", "batchjobs", namespaced=True)


def an_event(kind: str | None, name: str) -> dict[str, Any]:
    """As kopf's watch tells it; None: it was there when the watch began."""
    return {"type": kind, "object": {"metadata": {"name": name}}}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """kopf is as it was when a test ends."""
    watch, watcher = watching.infinite_watch, queueing.watcher
    yield
    watching.infinite_watch, queueing.watcher = watch, watcher


async def handed_on(*events: Any, fails_at: str = "") -> list[Any]:
    """What our handler is told when kopf's watch tells of these events, and where its list was done."""
    registry, seen = kopf.OperatorRegistry(), list[Any]()

    @kopf.on.event("llmbatch.dev", "v1alpha1", "batchjobs", registry=registry)
    async def handle(event: Any, **_: Any) -> None:
        if event["object"]["metadata"]["name"] == fails_at:
            raise ValueError("of our own")
        seen.append((event["type"], event["object"]["metadata"]["name"]))

    @kopf.on.event("llmbatch.dev", "v1alpha1", "batchfiles", registry=registry)
    async def handle_another(**_: Any) -> None:
        raise AssertionError("this is another resource's")

    async def watch(**_: Any) -> AsyncIterator[Any]:
        for event in events:
            yield event

    watching.infinite_watch = watch  # kopf's, which asks an API server
    let_go(registry, lambda: seen.append("listed"))
    await queueing.watcher(namespace="team", settings=kopf.OperatorSettings(), resource=JOBS, processor=None)  # type: ignore[arg-type]
    return seen


async def test_each_event_is_handed_on_in_its_order():
    """Bookmarks are the watch's own; the end of the list is told when all of it was handed on."""
    seen = await handed_on(
        an_event(None, "one"),
        an_event(None, "two"),
        watching.Bookmark.LISTED,
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}},
        an_event("MODIFIED", "one"),
        an_event("DELETED", "two"),
    )

    assert seen == [(None, "one"), (None, "two"), "listed", ("MODIFIED", "one"), ("DELETED", "two")]


async def test_a_handler_that_fails_ends_no_watch(caplog: pytest.LogCaptureFixture):
    """What it should have been told is found by the resync; all others go on."""
    seen = await handed_on(an_event("ADDED", "bad"), an_event("ADDED", "good"), fails_at="bad")

    assert seen == [("ADDED", "good")]
    assert "mistake of the operator's own" in caplog.text


async def test_a_long_page_lets_others_have_their_turn():
    """Thousands of events that are there at once do not hold the loop."""
    events = [an_event(None, str(number)) for number in range(3 * AT_ONCE)]
    handing = asyncio.create_task(handed_on(*events))
    turns = 0
    while not handing.done():
        await asyncio.sleep(0)
        turns += 1

    assert len(await handing) == len(events)
    assert turns > 3


def test_kopf_starts_its_watchers_where_we_take_their_place():
    """By this name, and with these arguments."""
    taken = "namespace settings resource processor operator_paused operator_indexed resource_indexed"

    assert set(inspect.signature(KOPFS_WATCHER).parameters) == set(taken.split())
    assert "coro=queueing.watcher(" in inspect.getsource(orchestration.spawn_missing_watchers)


def test_kopfs_watch_is_what_we_read():
    """A stream of events and marks, of which one says that the list is done."""
    wanted = {"settings", "resource", "namespace", "operator_paused"}

    assert wanted <= set(inspect.signature(watching.infinite_watch).parameters)
    assert watching.Bookmark.LISTED in watching.Bookmark


async def test_answers_are_read_with_kopfs_own_credentials():
    """The session has the headers and the authority that kopf would give it, and reads JSON."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.Response(body=orjson.dumps({"items": [{"metadata": {"name": "ü"}}]}))

    app = web.Application()
    app.router.add_get("/list", answer)
    async with TestServer(app) as server:
        info = kopf.ConnectionInfo(server=str(server.make_url("")), scheme="Bearer", token="secret-token")
        made = session(info)
        async with made.aiohttp_session as client, client.get(server.make_url("/list")) as response:
            assert await response.json() == {"items": [{"metadata": {"name": "ü"}}]}

    assert asked == ["Bearer secret-token"]
    assert made.server == info.server
