"""Connections go to the address that was checked, and to no other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence

import httpcore2
import httpx2
import pytest

from llmbatch.domain.errors import EndpointNotAllowed
from llmbatch.providers.http.network import GuardedBackend, GuardedTransport, embedded


def inside(address: str) -> str | None:
    """Refuses what is on this machine or in the private network."""
    return f"{address} is private" if address.startswith(("127.", "10.", "169.254.", "::1", "fd")) else None


class Wire(httpcore2.AsyncNetworkStream):
    """A connection that ends at its TLS handshake, noting the name that it was for."""

    def __init__(self, names: list[str | None]) -> None:
        self.names = names

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        self.names.append(server_hostname)
        raise httpcore2.ConnectError("far enough")

    async def aclose(self) -> None:
        return None


class Connector(httpcore2.AsyncNetworkBackend):
    """Notes where connections are made to; some addresses do not answer."""

    def __init__(self, dead: Iterable[str] = ()) -> None:
        self.dead = set(dead)
        self.tried: list[tuple[str, float | None]] = []
        self.names: list[str | None] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.tried.append((host, timeout))
        if host in self.dead:
            raise httpcore2.ConnectTimeout("silence")
        return Wire(self.names)


def resolver(*addresses: str):
    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return resolve


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["2001:db8::1", "::ffff:10.0.0.1"]])
async def test_one_forbidden_address_forbids_the_host(addresses: list[str]):
    """A name that leads outside and inside is not connected to at all: which one would be luck."""
    connector = Connector()
    backend = GuardedBackend(inside, resolve=resolver(*addresses), connector=connector)

    with pytest.raises(EndpointNotAllowed, match=r"api\.example must not be connected to: 10\.0\.0\.1 is private"):
        await backend.connect_tcp("api.example", 443)
    assert connector.tried == []


async def test_the_connection_is_made_to_the_address_that_was_checked():
    """A name that changes its mind between the check and the connection changes nothing."""
    connector = Connector()

    await GuardedBackend(inside, resolve=resolver("93.184.216.34"), connector=connector).connect_tcp("a.example", 443)

    assert [host for host, _ in connector.tried] == ["93.184.216.34"]


async def test_a_dead_address_leaves_time_for_the_next():
    """Of several addresses each gets its share of the time, so that a broken one does not cost all of it."""
    connector = Connector(dead=["2001:db8::1"])
    backend = GuardedBackend(inside, resolve=resolver("2001:db8::1", "93.184.216.34"), connector=connector)

    await backend.connect_tcp("a.example", 443, timeout=10.0)

    (first, share), (second, rest) = connector.tried
    assert (first, second) == ("2001:db8::1", "93.184.216.34")
    assert share is not None
    assert rest is not None
    assert share <= 5.0 < rest


async def test_a_host_without_a_living_address_was_not_reached():
    """The last address's error is the one that is told."""
    backend = GuardedBackend(inside, resolve=resolver("2001:db8::1"), connector=Connector(dead=["2001:db8::1"]))

    with pytest.raises(httpcore2.ConnectTimeout):
        await backend.connect_tcp("a.example", 443)
    with pytest.raises(httpcore2.ConnectError):
        await GuardedBackend(inside, resolve=resolver()).connect_tcp("a.example", 443)


async def test_tls_goes_by_the_name_and_not_by_the_address():
    """The certificate must be the host's, wherever its address was found."""
    connector = Connector()
    backend = GuardedBackend(inside, resolve=resolver("93.184.216.34"), connector=connector)
    pool = httpcore2.AsyncConnectionPool(network_backend=backend, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    with pytest.raises(httpcore2.ConnectError, match="far enough"):
        await pool.request("GET", "https://api.example/")

    assert connector.names == ["api.example"]


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "::1", "localhost"])
async def test_an_address_is_checked_as_what_it_means(host: str):
    """Decimal, hexadecimal, octal and short forms are addresses too."""
    with pytest.raises(EndpointNotAllowed, match="is private"):
        await GuardedBackend(inside).connect_tcp(host, 9)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example", ""])
async def test_a_name_that_leads_nowhere_is_a_failed_connection(host: str):
    """Names that cannot be resolved, and those that cannot even be asked for."""
    with pytest.raises((httpcore2.ConnectError, EndpointNotAllowed)):
        await GuardedBackend(inside).connect_tcp(host, 9, timeout=5.0)


async def test_a_socket_file_is_no_endpoint():
    """There is no way to a file of this machine."""
    with pytest.raises(EndpointNotAllowed):
        await GuardedBackend(inside).connect_unix_socket("/run/some.sock")


@pytest.mark.parametrize(
    ("address", "counts"),
    [("::ffff:127.0.0.1", "127.0.0.1"), ("fe80::1%eth0", "fe80::1"), ("0:0:0:0:0:0:0:1", "::1"), ("odd", "odd")],
)
def test_the_address_that_counts_is_the_one_inside(address: str, counts: str):
    """An IPv4 address is checked as such in IPv6's clothes too."""
    assert embedded(address) == counts


@pytest.fixture
async def answering() -> AsyncIterator[int]:
    """The port of a server that answers anything with 204."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_the_environment_s_proxies_are_not_asked(answering: int, monkeypatch: pytest.MonkeyPatch):
    """A tenant's key goes to the endpoint and to nobody between."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    transport = GuardedTransport(lambda address: None, connections=1, ssl_context=None)

    response = await transport.handle_async_request(httpx2.Request("GET", f"http://127.0.0.1:{answering}/"))

    assert response.status_code == 204
    await response.aclose()
    await transport.aclose()


async def test_the_administrator_s_proxy_is_used_but_not_for_forbidden_addresses(answering: int):
    """Names are then the proxy's to judge; what is an address already is still refused."""
    transport = GuardedTransport(inside, connections=1, ssl_context=None, proxy=f"http://127.0.0.1:{answering}")

    response = await transport.handle_async_request(httpx2.Request("GET", "http://api.example/"))
    assert response.status_code == 204
    await response.aclose()
    with pytest.raises(EndpointNotAllowed):
        await transport.handle_async_request(httpx2.Request("GET", "http://2852039166/latest/meta-data"))
    await transport.aclose()


async def test_a_server_that_is_not_there_was_not_reached():
    """httpcore2's errors come out as httpx2's."""
    async with await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    transport = GuardedTransport(lambda address: None, connections=1, ssl_context=None)

    with pytest.raises(httpx2.ConnectError):
        await transport.handle_async_request(httpx2.Request("GET", f"http://127.0.0.1:{port}/"))
    await transport.aclose()
