"""The way out to a host that a tenant named."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from llmbatch.storage.gate import Gate, NotAllowed, Target
from support.stored_objects import Networks

DEADLINE_SECONDS = 10
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


@dataclass
class Upstream:
    """A server on loopback that keeps what it was sent."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(REPLY)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def an_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.answer, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    async with server:
        yield upstream


def authorization(gate: Gate) -> str:
    parts = urlsplit(gate.url)
    return "Basic " + base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()


async def ask(gate: Gate, head: str, *, password: str | None = None, then: bytes = b"") -> bytes:
    """What the gate answers to a request head, up to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(gate.url).port)
    header = f"Proxy-Authorization: {password if password is not None else authorization(gate)}\r\n"
    writer.write(head.encode() + b"\r\n" + header.encode() + b"\r\n")
    if then:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
    async with asyncio.timeout(DEADLINE_SECONDS):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_tunnel_leads_to_the_target_and_changes_nothing() -> None:
    """TLS runs through it end to end."""
    async with an_upstream() as upstream:
        target = Target("https", "127.0.0.1", upstream.port)
        async with Gate(target, Networks()) as gate:
            sent = b"any \x00 bytes\r\n\r\n"
            assert await ask(gate, f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1", then=sent) == REPLY
        assert upstream.heads == [sent]


async def test_plain_http_is_passed_on_as_a_server_expects_it() -> None:
    """The path alone, no word of the proxy's own, and one request a connection."""
    async with an_upstream() as upstream:
        target = Target("http", "127.0.0.1", upstream.port)
        async with Gate(target, Networks()) as gate:
            head = f"GET http://127.0.0.1:{upstream.port}/a%20b/c?d=e HTTP/1.1\r\nHost: h\r\nConnection: keep-alive"
            assert await ask(gate, head) == REPLY
        assert upstream.heads == [b"GET /a%20b/c?d=e HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]


@pytest.mark.parametrize(
    "head",
    [
        "CONNECT localhost:{port} HTTP/1.1",
        "CONNECT 127.0.0.1:1 HTTP/1.1",
        "GET http://127.0.0.1:{port}/ HTTP/1.1",
    ],
)
async def test_another_target_is_refused(head: str) -> None:
    """A redirect, or anyone else on the machine, gets nowhere but to the one target."""
    async with an_upstream() as upstream, Gate(Target("https", "127.0.0.1", upstream.port), Networks()) as gate:
        assert (await ask(gate, head.format(port=upstream.port))).startswith(b"HTTP/1.1 403 ")
        assert upstream.heads == []


@pytest.mark.parametrize("password", ["", "Basic Z2F0ZTpndWVzcw=="])
async def test_without_the_password_it_leads_nowhere(password: str) -> None:
    """Others share the loopback interface."""
    async with an_upstream() as upstream, Gate(Target("https", "127.0.0.1", upstream.port), Networks()) as gate:
        answer = await ask(gate, f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1", password=password)
        assert answer.startswith(b"HTTP/1.1 407 ")
        assert upstream.heads == []


@pytest.mark.parametrize(
    "head", ["nonsense", "GET / HTTP/1.1", "CONNECT \u00fc:1 HTTP/1.1", "CONNECT h:x HTTP/1.1", "A B C D"]
)
async def test_what_cannot_be_understood_is_refused(head: str) -> None:
    """Not one byte of it goes anywhere."""
    async with an_upstream() as upstream, Gate(Target("https", "127.0.0.1", upstream.port), Networks()) as gate:
        assert (await ask(gate, head)).startswith(b"HTTP/1.1 407 ")
        assert upstream.heads == []


class Flipping(Networks):
    """Allows an address once, as when a name is pointed elsewhere between the check and the connection."""

    def __init__(self) -> None:
        self.asked = 0

    def refusal(self, address: str) -> str | None:
        self.asked += 1
        return None if self.asked == 1 else f"{address} is refused now"


async def test_the_address_is_checked_again_when_connecting() -> None:
    """A name that leads elsewhere by the time of the connection is refused then, and the reason is kept."""
    async with an_upstream() as upstream:
        target, networks = Target("https", "127.0.0.1", upstream.port), Flipping()
        assert await target.addresses(networks) == ["127.0.0.1"]
        async with Gate(target, networks) as gate:
            assert (await ask(gate, f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1")).startswith(b"HTTP/1.1 403 ")
            assert gate.refusal == "127.0.0.1 is refused now"
        assert upstream.heads == []


async def test_one_refused_address_of_several_refuses_the_host() -> None:
    """A name with a public and a private address is not half allowed."""
    addresses = await Target("http", "localhost", 80).addresses(Networks())
    with pytest.raises(NotAllowed):
        await Target("http", "localhost", 80).addresses(Networks(frozenset({addresses[-1]})))


async def test_nobody_at_the_target_is_a_bad_gateway() -> None:
    """The client learns that there is no connection, and may try again."""
    async with an_upstream() as upstream:
        port = upstream.port
    async with Gate(Target("https", "127.0.0.1", port), Networks()) as gate:
        assert (await ask(gate, f"CONNECT 127.0.0.1:{port} HTTP/1.1")).startswith(b"HTTP/1.1 502 ")


async def test_leaving_ends_open_connections() -> None:
    """Nothing of a gate outlives its context."""

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(held, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Gate(Target("https", "127.0.0.1", port), Networks()) as gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(gate.url).port)
        head = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nProxy-Authorization: {authorization(gate)}\r\n\r\n"
        writer.write(head.encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await gate.__aexit__()
        assert await reader.read() == b""
        writer.close()
