"""A way out to one host that a tenant named, past loopback, private and metadata addresses.

The object store's HTTP client resolves names by itself, so an address checked before could be another one when it
connects. It is therefore given this proxy on loopback, which resolves, checks and connects in one place: the address
that was checked is the one connected to, for redirects and for every new connection too. TLS runs through the tunnel
untouched, end to end.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

CONNECT_SECONDS = 10.0
HEAD_SECONDS = 10.0
PUMP_BYTES = 64 * 1024
DEFAULT_PORTS = {"http": 80, "https": 443}
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class NetworkPolicy(Protocol):
    """Says where hosts are, and which addresses may be connected to."""

    async def resolve(self, host: str) -> Sequence[str]:
        """All addresses of a host. Raises OSError."""
        ...

    def refusal(self, address: str) -> str | None:
        """Why this IP address may not be connected to, or None where it may."""
        ...


class NotAllowed(Exception):
    """The name resolves to an address that the policy refuses; the text is the policy's reason."""


@dataclass(frozen=True, slots=True)
class Target:
    """The one host and port that may be reached."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Target:
        """The target of an http or https URL. Raises ValueError for anything else."""
        parts = urlsplit(url)
        port = parts.port if parts.port is not None else DEFAULT_PORTS.get(parts.scheme)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not port:
            raise ValueError("not an http or https URL")
        return cls(parts.scheme, parts.hostname, port)

    async def addresses(self, networks: NetworkPolicy) -> list[str]:
        """Every address of the host, all of them allowed. Raises NotAllowed, and OSError where there is none."""
        addresses = list(await networks.resolve(self.host))
        for address in addresses:
            if reason := networks.refusal(address):
                raise NotAllowed(reason)
        return addresses


class Gate:
    """A forward proxy on loopback that leads to one target, for as long as its context is open.

    ``url`` is for the HTTP client; it carries a password of its own, since others share the loopback interface.
    ``refusal`` holds the policy's reason once a connection was refused.
    """

    def __init__(self, target: Target, networks: NetworkPolicy) -> None:
        self.url = ""
        self.refusal: str | None = None
        self._target = target
        self._networks = networks
        token = secrets.token_urlsafe(24)
        self._password = token
        self._authorization = b"Basic " + base64.b64encode(f"gate:{token}".encode())
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://gate:{self._password}@127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            request = _Request.parse(head)
            if request is None or not hmac.compare_digest(request.authorization, self._authorization):
                await _answer(writer, b"407 Proxy Authentication Required")
            elif request.target != self._target:
                await _answer(writer, b"403 Forbidden")
            else:
                await self._forward(request, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client sees its connection close, which is all there is to say
        finally:
            writer.close()

    async def _forward(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream = await self._connect()
        except NotAllowed as refused:
            self.refusal = str(refused)
            await _answer(writer, b"403 Forbidden")
            return
        except OSError:
            await _answer(writer, b"502 Bad Gateway")
            return
        try:
            if request.onward:
                upstream.write(request.onward)
            else:
                writer.write(_ESTABLISHED)
            await _first_of(_pump(reader, upstream), _pump(upstream_reader, writer))
        finally:
            upstream.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failure: OSError = OSError("no address")
        for address in await self._target.addresses(self._networks):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, self._target.port)
            except (OSError, TimeoutError) as error:
                failure = OSError(str(error))
        raise failure


@dataclass(frozen=True, slots=True)
class _Request:
    """The head of a request to the proxy. ``onward`` is what the target is sent; nothing for a tunnel."""

    target: Target
    authorization: bytes
    onward: bytes

    @classmethod
    def parse(cls, head: bytes) -> _Request | None:
        """The request, or None where it cannot be understood."""
        first, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        try:
            method, where, version = first.split(b" ")
            named = [(field.split(b":", 1)[0].strip().lower(), field) for field in fields]
            authorization = next(
                (field.split(b":", 1)[1].strip() for name, field in named if name == b"proxy-authorization"), b""
            )
            if method == b"CONNECT":
                return cls(Target.of(f"https://{where.decode('ascii')}"), authorization, b"")
            target = Target.of(where.decode("ascii"))
        except ValueError:
            return None
        path = b"/" + where.split(b"://", 1)[1].partition(b"/")[2]
        kept = [field for name, field in named if not name.startswith(b"proxy-") and name != b"connection"]
        # One request a connection: then nothing behind this head needs to be understood, or can lead elsewhere.
        lines = [b" ".join((method, path, version)), *kept, b"Connection: close"]
        return cls(target, authorization, b"\r\n".join(lines) + b"\r\n\r\n")


async def _answer(writer: asyncio.StreamWriter, status: bytes) -> None:
    writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PUMP_BYTES):
        writer.write(data)
        await writer.drain()


async def _first_of(*pumps: Coroutine[Any, Any, None]) -> None:
    """Run both directions until one ends: either side that is gone takes the other with it."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await task
