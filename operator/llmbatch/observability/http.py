"""The two small servers of the process: metrics and health."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST


class Health(NamedTuple):
    """Whether all is well, and why not."""

    ok: bool
    reason: str = ""


Check = Callable[[], Health | tuple[bool, str]]


class Server:
    """A server that is listening on ``address`` (host:port, the port that was really bound)."""

    def __init__(self, runner: web.AppRunner, address: str) -> None:
        self.address = address
        self._runner = runner

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


async def serve_metrics(address: str, text: Callable[[], Awaitable[bytes]]) -> Server:
    """``/metrics`` in Prometheus' text format, which ``text`` gives. Raises OSError, ValueError."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=await text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return await _serve(address, {"/metrics": metrics})


async def serve_health(address: str, *, live: Check, ready: Check) -> Server:
    """``/healthz`` and ``/readyz``: 200, or 503 with the reason. Raises OSError, ValueError."""

    async def healthz(request: web.Request) -> web.Response:
        return _answer(live)

    async def readyz(request: web.Request) -> web.Response:
        return _answer(ready)

    return await _serve(address, {"/healthz": healthz, "/readyz": readyz})


def _answer(check: Check) -> web.Response:
    ok, reason = check()
    return web.Response(text="ok\n" if ok else f"{reason}\n", status=200 if ok else 503)


async def _serve(address: str, routes: dict[str, Callable]) -> Server:
    host, port = split_address(address)
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    # Signals are the process's own business, and one line a scrape is nobody's.
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port) if host else web.SockSite(runner, listening(port))
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    bound_host, bound_port = runner.addresses[0][:2]
    return Server(runner, f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}")


def listening(port: int, *, dual_stack: bool | None = None) -> socket.socket:
    """A socket on all addresses: of IPv6 and IPv4, or of IPv4 alone on a node without IPv6. Raises OSError."""
    if socket.has_dualstack_ipv6() if dual_stack is None else dual_stack:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def split_address(address: str) -> tuple[str | None, int]:
    """Host and port of ``host:port``, ``[v6]:port`` or ``:port`` (all addresses). Raises ValueError."""
    host, found, port = address.rpartition(":")
    if not found or not port.isdigit() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError(f"{address!r} is not an address; write host:port")
    return host.removeprefix("[").removesuffix("]") or None, int(port)
