"""Connections that go only where the administrator allows, to the very address that was checked."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import cast

import httpcore2
import httpx2

from llmbatch.domain.errors import EndpointNotAllowed

Refusal = Callable[[str], str | None]
"""Why no connection may be made to this IP address, or None if it may."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a host; raises OSError. Without one, the event loop's few threads are used."""

SocketOptions = Iterable[httpcore2.SOCKET_OPTION]
LEAST_TRY = 2.0
"""Seconds that an address gets at least before the next one is tried."""


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a host, has every address checked, and connects to one of those that were.

    One refused address refuses the host: a name that leads both outside and inside is an attack or a mistake. TLS
    still goes by the host's name. Raises EndpointNotAllowed, and httpcore2's errors of connecting.
    """

    def __init__(
        self,
        refusal: Refusal,
        *,
        resolve: Resolve | None = None,
        connector: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self._refusal = refusal
        self._resolve = resolve or _resolve
        self._connector = connector or cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's signature
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        deadline = None if timeout is None else time.monotonic() + timeout
        addresses = await self._addresses(host, timeout)
        for address in addresses:
            if why := self._refusal(embedded(address)):
                raise EndpointNotAllowed(f"{host} must not be connected to: {why}; --allow-network allows a network")
        for number, address in enumerate(addresses, start=1):
            try:
                return await self._connector.connect_tcp(
                    address,
                    port,
                    timeout=_share(deadline, len(addresses) - number),
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses) or (deadline is not None and time.monotonic() >= deadline):
                    raise
        raise httpcore2.ConnectError("the host has no address")

    async def _addresses(self, host: str, seconds: float | None) -> Sequence[str]:
        """All addresses of a host, the families by turns so that one broken family costs one try.

        ``2130706433`` and ``0x7f.1`` are resolved as addresses too, so they are checked as what they mean.
        """
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._resolve(host)
        except TimeoutError:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError("the name cannot be resolved") from None
        preferred = [address for address in addresses if (":" in address) is (":" in addresses[0])]
        others = [address for address in addresses if address not in preferred]
        return [address for turn in zip_longest(preferred, others) for address in turn if address is not None]

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's signature
        socket_options: SocketOptions | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise EndpointNotAllowed("a socket in the file system is not an endpoint")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """httpx2 over a pool of guarded connections. No environment variable has a say in where they go."""

    def __init__(
        self,
        refusal: Refusal,
        *,
        connections: int,
        ssl_context: ssl.SSLContext | None,
        proxy: str | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._refusal = refusal if proxy else None
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            proxy=_proxy(proxy) if proxy else None,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=30.0,
            network_backend=None if proxy else GuardedBackend(refusal, resolve=resolve),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._refusal is not None:
            refuse_literal(request.url.host, self._refusal)
        assert isinstance(request.stream, AsyncIterable)
        with _translated():
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        assert isinstance(response.stream, AsyncIterable)
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response.stream),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


def embedded(address: str) -> str:
    """The address that counts: without a zone, and the IPv4 address inside of an IPv4-mapped one."""
    plain = address.split("%", 1)[0]
    try:
        parsed = ipaddress.ip_address(plain)
    except ValueError:
        return plain
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def refuse_literal(host: str, refusal: Refusal) -> None:
    """Raise EndpointNotAllowed for a host that is a refused address, in any form that a resolver reads as one."""
    try:
        address = socket.inet_ntoa(socket.inet_aton(host)) if ":" not in host else host.strip("[]")
    except OSError:
        return
    if why := refusal(embedded(address)):
        raise EndpointNotAllowed(f"{host} must not be connected to: {why}; --allow-network allows a network")


async def _resolve(host: str) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _share(deadline: float | None, others: int) -> float | None:
    """Seconds for this address: the time that is left, shared with the others behind it."""
    if deadline is None:
        return None
    left = max(0.0, deadline - time.monotonic())
    return left if others == 0 else min(left, max(LEAST_TRY, left / (others + 1)))


def _proxy(url: str) -> httpcore2.Proxy:
    parsed = httpx2.Proxy(url)
    return httpcore2.Proxy(
        httpcore2.URL(
            scheme=parsed.url.raw_scheme,
            host=parsed.url.raw_host,
            port=parsed.url.port,
            target=parsed.url.raw_path,
        ),
        auth=parsed.raw_auth,
    )


@contextmanager
def _translated() -> Iterator[None]:
    """httpcore2's errors as httpx2's of the same name."""
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        kind = getattr(httpx2, type(error).__name__, httpx2.TransportError)
        raise kind(str(error)) from None
    except (httpcore2.ProxyError, httpcore2.UnsupportedProtocol) as error:
        raise httpx2.ConnectError(str(error)) from None


class _Body(httpx2.AsyncByteStream):
    """An answer's body whose errors are httpx2's."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()
