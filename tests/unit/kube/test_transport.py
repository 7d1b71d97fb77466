"""Calls and their errors, against a server on loopback that answers what a real API server answers only when ill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from llmbatch.api.batchjob import BatchJob
from llmbatch.kube.client import Kube
from llmbatch.kube.errors import (
    Conflict,
    Expired,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    Overloaded,
    TooLarge,
    Unauthenticated,
    Unreachable,
    error_of,
)
from llmbatch.kube.transport import Api, Target

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SickServer:
    """Answers the requests in the order of ``answers``."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self.answers.pop(0)(request)

    def answer(self, status: int = 200, body: object = None, **headers: str) -> None:
        async def respond(request: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

        self.answers.append(respond)


@pytest.fixture
async def server() -> AsyncIterator[tuple[SickServer, Kube]]:
    sick = SickServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", sick.handle)
    async with TestServer(app) as running:
        api = Api(Configuration(host=str(running.make_url("")).rstrip("/")), timeout_seconds=600)
        yield sick, Kube(api, lambda: None)
        await api.close()


def a_status(reason: str, **more: object) -> dict[str, object]:
    return {"kind": "Status", "reason": reason, "message": "sk-private", **more}


def an_item(name: str) -> dict[str, object]:
    return {"metadata": {"namespace": "ns", "name": name, "uid": f"u-{name}", "resourceVersion": "1"}}


async def test_a_list_that_is_too_old_goes_on_where_it_was(server: tuple[SickServer, Kube]):
    """With the token that comes with a 410 every object that was there all the time is listed once."""
    sick, kube = server
    sick.answer(body={"metadata": {"continue": "one"}, "items": [an_item("a")]})
    sick.answer(410, a_status("Expired", metadata={"continue": "two"}))
    sick.answer(body={"metadata": {}, "items": [an_item("b")]})

    assert [meta.name async for meta in kube.list_metadata(BatchJob, "ns")] == ["a", "b"]
    assert [request.query.get("continue") for request in sick.requests] == [None, "one", "two"]


async def test_a_list_that_cannot_go_on_is_expired(server: tuple[SickServer, Kube]):
    """A server that offers nothing to go on with, or the same again, is not asked forever."""
    sick, kube = server
    for resume in ("", "same"):
        sick.answer(410, a_status("Expired", metadata={"continue": resume}))
    sick.answer(410, a_status("Expired", metadata={"continue": "same"}))
    with pytest.raises(Expired):
        _ = [meta async for meta in kube.list_metadata(BatchJob, "ns")]
    with pytest.raises(Expired):
        _ = [meta async for meta in kube.list_metadata(BatchJob, "ns")]

    assert sick.answers == []


async def test_a_busy_server_says_how_long_to_wait(server: tuple[SickServer, Kube]):
    """Retry-After is passed on in seconds."""
    sick, kube = server
    sick.answer(429, a_status("TooManyRequests"), Retry_After="7")
    with pytest.raises(Overloaded) as caught:
        await kube.ping()

    assert (caught.value.retry_after, caught.value.retryable) == (7.0, True)


async def test_a_server_that_never_answers_is_given_up(server: tuple[SickServer, Kube]):
    """The time-out is for the whole call, and ends in an error that a retry can help with."""
    sick, kube = server

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    sick.answers.append(hang)
    with pytest.raises(Unreachable, match="no answer in time"):
        await kube.api.call("get", Target("v1", "secrets", "ns", "s"), timeout_seconds=0.05)


async def test_a_server_that_accepts_and_says_nothing_is_given_up_soon():
    """A connection whose TLS never begins has a limit of its own, since nothing was asked yet."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        api = Api(Configuration(host=f"https://127.0.0.1:{port}"), timeout_seconds=600, connect_seconds=0.05)
        with pytest.raises(Unreachable, match="no answer in time"):
            async with asyncio.timeout(30):
                await api.call("get", "/version")
        await api.close()


async def test_a_cut_answer_is_unreachable(server: tuple[SickServer, Kube]):
    """A connection that ends in the middle of an answer is no answer."""
    sick, kube = server

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    sick.answers += [cut] * 4  # the client library may try a read again on a fresh connection
    with pytest.raises(Unreachable):
        await kube.ping()


async def test_a_redirect_is_not_followed(server: tuple[SickServer, Kube]):
    """The operator's token goes to the API server and nowhere else."""
    sick, kube = server
    sick.answer(302, {}, Location="/elsewhere")
    sick.answer(200, {})
    with pytest.raises(KubeError):
        await kube.ping()

    assert len(sick.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "want"),
    [
        (400, a_status("BadRequest"), Invalid),
        (401, a_status("Unauthorized"), Unauthenticated),
        (403, a_status("Forbidden"), Forbidden),
        (404, a_status("NotFound"), Gone),
        (409, a_status("Conflict"), Conflict),
        (413, a_status("RequestEntityTooLarge"), TooLarge),
        (422, a_status("Invalid", details={}), Gone),
        (422, a_status("Invalid", details={"causes": [{"field": "metadata.uid"}]}), Gone),
        (422, a_status("Invalid", details={"causes": [{"field": "data", "reason": "FieldValueTooLong"}]}), TooLarge),
        (422, a_status("Invalid", details={"causes": [{"field": "status.phase"}]}), Invalid),
        (422, "a proxy's own page", Invalid),
        (429, None, Overloaded),
        (500, a_status("InternalError"), Overloaded),
        (503, ["not", "an", "object"], Overloaded),
        (418, {}, KubeError),
    ],
)
async def test_answers_are_sorted(server: tuple[SickServer, Kube], status: int, body: object, want: type[KubeError]):
    """Each answer becomes the error that says what to do next; the server's words are not passed on."""
    sick, kube = server
    sick.answer(status, body)
    with pytest.raises(KubeError) as caught:
        await kube.api.call("patch", Target("v1", "secrets", "ns", "s"), body=b"{}")

    assert type(caught.value) is want
    assert caught.value.status == status
    assert "patch secrets ns/s" in str(caught.value)
    assert "sk-private" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        'secrets "s" is forbidden: User "system:serviceaccount:ops:llmbatch" cannot get resource "secrets" in API '
        'group "" in the namespace "team"',
        'batchjobs.llmbatch.dev is forbidden: User "ops" cannot list resource "batchjobs" in API group "llmbatch.dev" '
        "at the cluster scope",
    ],
)
def test_what_rbac_refuses_is_passed_on(words: str):
    """An administrator needs to know who lacks which right; what follows those words is left out."""
    body = json.dumps(a_status("Forbidden", message=f'{words}: RBAC: role "sk-private" not found')).encode()

    assert str(error_of("get secrets", 403, body)) == f"get secrets: Forbidden: {words}"


@pytest.mark.parametrize(
    "words",
    [
        'admission webhook "w.example" denied the request: the key sk-private is on a list',
        'configmaps "c" is forbidden: it holds sk-private',
        'admission webhook "w" denied the request: secrets "s" is forbidden: User "sk-private" cannot get resource "x" '
        'in API group ""',
    ],
)
def test_what_admission_refuses_is_not_quoted(words: str):
    """A webhook answers 403 too, in words of its own, and may quote the object that it refused."""
    body = json.dumps(a_status("Forbidden", message=words)).encode()

    assert str(error_of("create configmaps", 403, body)) == "create configmaps: Forbidden"
    assert "sk-" not in str(error_of("create", 403, json.dumps(a_status("sk-private is refused")).encode()))


def test_a_terminating_namespace_is_told_from_other_refusals():
    """Both are 403; only one of them goes away with the namespace."""
    body = b'{"reason":"Forbidden","details":{"causes":[{"reason":"NamespaceTerminating"}]}}'
    terminating, other = error_of("create", 403, body), error_of("create", 403, b'{"reason":"Forbidden"}')

    assert isinstance(terminating, Forbidden)
    assert isinstance(other, Forbidden)
    assert (terminating.terminating, other.terminating) == (True, False)
