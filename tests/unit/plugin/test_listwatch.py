"""Following a collection over connections that end, break and grow too old, against a server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from llmbatch.api import BatchJob
from llmbatch.kube.client import Kube
from llmbatch.kube.errors import Forbidden, InvalidObject, Overloaded, Unreachable, Unreadable
from llmbatch.kube.transport import Api, Target
from llmbatch.kube.watch import watch
from llmbatch.plugin.connection import Connection
from llmbatch.plugin.listwatch import FIRST_PAUSE, LONGEST_PAUSE, follow

SECONDS = 20.0
"""For a test that would otherwise wait for ever."""
JOBS = Target("llmbatch.dev/v1alpha1", "batchjobs", "team")


@dataclass
class Script:
    """What the server answers, call after call: a list of jobs, the lines of a watch, or a status."""

    answers: list[Any] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The next answer; when there is none left, a watch that says nothing."""
        self.asked.append(dict(request.query))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, int):
            return web.json_response({"kind": "Status", "code": answer}, status=answer)
        if isinstance(answer, dict):
            return web.json_response(answer)
        response = web.StreamResponse()
        await response.prepare(request)
        if answer is None:
            await self.done.wait()
            return response
        for line in answer:
            if line is CUT:
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        return response


CUT = object()


@pytest.fixture
async def script() -> AsyncIterator[tuple[Script, Connection]]:
    """A scripted API server, and a connection to it."""
    made = Script()
    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", made.handle)
    async with TestServer(app) as running:
        api = Api(Configuration(host=str(running.make_url("")).rstrip("/")))
        yield made, Connection(api, Kube(api, lambda: None), "team")
        made.done.set()
        await api.close()


def a_job(name: str, version: int) -> dict[str, Any]:
    """A job as it is stored."""
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"inputFileRef": {"name": "questions"}},
    }


def a_list(version: int, *jobs: dict[str, Any]) -> dict[str, Any]:
    """A whole list."""
    return {"metadata": {"resourceVersion": str(version)}, "items": list(jobs)}


def an_event(type_: str, item: dict[str, Any]) -> dict[str, Any]:
    """One line of a watch."""
    return {"type": type_, "object": item}


def a_bookmark(version: int) -> dict[str, Any]:
    """A line that only says how far the watch is."""
    return an_event("BOOKMARK", {"kind": "BatchJob", "metadata": {"resourceVersion": str(version)}})


TOO_OLD = an_event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "metadata": {}})


async def told(script: tuple[Script, Connection], count: int, **options: Any) -> tuple[list[str], list[float]]:
    """The first changes in short, and the pauses that were made."""
    pauses, found = list[float](), list[str]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with asyncio.timeout(SECONDS):
        async for change in follow(script[1], BatchJob, "team", sleep=sleep, **options):
            found.append(f"{change.type} {change.resource.metadata.name}" if change.resource else change.type)
            if len(found) == count:
                break
    return found, pauses


async def test_what_is_there_comes_first_and_then_each_change(script):
    """The list, then a mark that it was all, then what the watch says; bookmarks are no changes."""
    script[0].answers = [
        a_list(5, a_job("a", 3)),
        [a_bookmark(6), an_event("ADDED", a_job("b", 7)), an_event("DELETED", a_job("a", 8))],
    ]

    found, _ = await told(script, 4, name="a", selector="team=search")

    assert found == ["put a", "synced", "put b", "gone a"]
    assert script[0].asked[0] == {"labelSelector": "team=search", "fieldSelector": "metadata.name=a"}
    assert script[0].asked[1]["resourceVersion"] == "5"
    assert script[0].asked[1]["fieldSelector"] == "metadata.name=a"


async def test_a_watch_goes_on_where_the_last_one_ended(script):
    """Whether the server ended it or the line was cut: behind the last event or bookmark."""
    script[0].answers = [
        a_list(5),
        [an_event("ADDED", a_job("a", 7)), a_bookmark(9)],
        [an_event("MODIFIED", a_job("a", 11)), CUT],
        [an_event("MODIFIED", a_job("a", 12))],
    ]

    found, _ = await told(script, 4)

    assert found == ["synced", "put a", "put a", "put a"]
    assert [query.get("resourceVersion") for query in script[0].asked] == [None, "5", "9", "11"]


async def test_what_changed_while_nobody_watched_is_told_from_a_new_list(script):
    """A version that is too old means a list: what vanished is gone, what changed is put, the rest is told already."""
    script[0].answers = [
        a_list(5, a_job("a", 1), a_job("b", 2), a_job("c", 3)),
        [TOO_OLD],
        a_list(20, a_job("b", 2), a_job("c", 15), a_job("d", 16)),
        [an_event("DELETED", a_job("d", 21))],
    ]

    found, _ = await told(script, 9)

    assert found == ["put a", "put b", "put c", "synced", "gone a", "put c", "put d", "synced", "gone d"]


async def test_breaks_are_told_and_waited_out_ever_longer(script):
    """A server that is ill is asked again after doubling pauses, and the pauses are short again once it is well."""
    well = [an_event("ADDED", a_job("a", 7))]
    script[0].answers = [a_list(5), *[503] * 6, well, 503, well]
    heard = list[type]()

    _, pauses = await told(script, 3, on_break=lambda error: heard.append(type(error)))

    assert heard == [Overloaded] * 7
    assert pauses == [1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE, LONGEST_PAUSE, FIRST_PAUSE, 1.0]


@pytest.mark.parametrize(("answers", "error"), [([503], Overloaded), ([403], Forbidden), ([{}, 403], Forbidden)])
async def test_what_waiting_does_not_mend_is_raised(script, answers, error):
    """A first list that fails, and a right that is missing at any time."""
    script[0].answers = [a_list(5) if answer == {} else answer for answer in answers]

    with pytest.raises(error):
        await told(script, 9)


async def test_a_job_that_cannot_be_read_does_not_hide_the_others(script):
    """One that another version wrote is told apart, with its name, and is nothing that comes or goes."""
    odd = {"metadata": {"name": "odd", "resourceVersion": "6"}}
    script[0].answers = [
        a_list(5, odd, a_job("a", 1)),
        [an_event("ADDED", odd), an_event("DELETED", odd), an_event("ADDED", a_job("b", 7))],
    ]
    heard = list[str]()

    found, _ = await told(script, 3, on_unreadable=lambda error: heard.append(error.name))

    assert found == ["put a", "synced", "put b"]
    assert heard == ["odd", "odd"]


async def test_a_job_that_cannot_be_read_any_more_is_not_gone(script):
    """It stays as it was last known, through events and new lists, until it is deleted."""
    odd = {**a_job("a", 8), "spec": {}}
    script[0].answers = [
        a_list(5, a_job("a", 1)),
        [an_event("MODIFIED", odd), TOO_OLD],
        a_list(20, odd),
        [an_event("DELETED", odd)],
    ]

    found, _ = await told(script, 4, on_unreadable=lambda error: None)

    assert found == ["put a", "synced", "synced", "gone a"]


async def test_a_job_that_is_followed_alone_must_be_readable(script):
    """Nothing could be told of it, and it is not missing."""
    script[0].answers = [a_list(5, {"metadata": {"name": "odd", "namespace": "team", "resourceVersion": "6"}})]

    with pytest.raises(Unreadable, match="team/odd cannot be read by version"):
        await told(script, 1, name="odd")


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b'{"type": "ADDED"}\n'])
async def test_what_is_no_event_is_refused(script, line):
    """Something in between that answers in the API server's place is noticed."""
    script[0].answers = [[line]]

    with pytest.raises(InvalidObject, match="no event"):
        [event async for event in watch(script[1].api, JOBS, "5")]


async def test_a_cut_line_is_unreachable(script):
    """A watch that breaks off says so, after what came before."""
    script[0].answers = [[an_event("ADDED", a_job("a", 7)), CUT]]
    seen = list[str]()

    async def watched() -> None:
        async for event in watch(script[1].api, JOBS, "5"):
            seen.append(event.resource_version)

    with pytest.raises(Unreachable):
        await watched()

    assert seen == ["7"]


async def test_silence_is_a_cut_line(script):
    """Without a byte for too long the connection counts as gone: nobody else may ever end it."""
    with pytest.raises(Unreachable, match="silent"):
        async with script[1].api.lines(JOBS, query={}, silence_seconds=0.05) as lines:
            [line async for line in lines]
