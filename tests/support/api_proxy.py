"""A proxy before the API server that can hold a call, lose its answer, spoil watches, or cut the line altogether."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from support.cluster import Cluster

T = TypeVar("T")
START_SECONDS = 10.0
LATE_SECONDS = 0.3
SHARE = 0.25
TOLD = (b'{"type":"ADDED"', b'{"type":"MODIFIED"', b'{"type":"DELETED"')
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "host"})


@dataclass
class Trap:
    """Waits for one call and springs once: the call is held before it is passed on, or its answer is lost."""

    kind: Literal["hold", "swallow"]
    method: str
    path: str
    body: str
    sprung: threading.Event = field(default_factory=threading.Event)

    def fits(self, method: str, path: str, body: bytes) -> bool:
        """Whether this call is the one; `path` must be its end, `body` a part of it."""
        return (
            not self.sprung.is_set() and method == self.method and path.endswith(self.path) and self.body in _of(body)
        )

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until it has sprung. Raises AssertionError."""
        assert self.sprung.wait(timeout), f"no {self.method} …{self.path} with {self.body!r} came within {timeout} s"


class Spoiler:
    """Doubles some events of watches, lets some come after the next one, and cuts a watch now and then."""

    def __init__(self, seed: int, *, cut_after: int) -> None:
        self._random = random.Random(seed)
        self._cut_after = cut_after
        self.done = Counter[str]()

    async def spoilt(self, lines: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The events of one watch, until it is cut."""
        left, held = self._random.randint(1, self._cut_after), b""
        source = aiter(lines)
        coming = asyncio.ensure_future(anext(source, b""))
        try:
            while left:
                await asyncio.wait({coming}, timeout=LATE_SECONDS if held else None)
                line = await coming if coming.done() else b""
                if coming.done():
                    coming = asyncio.ensure_future(anext(source, b""))
                    if not line:
                        return
                if line and not held and self._is_struck(line, "late"):
                    held = line
                    continue
                for told in filter(None, (line, line if self._is_struck(line, "twice") else b"", held)):
                    yield told
                held = b""
                left -= 1
            self.done["cut"] += 1
        finally:
            coming.cancel()

    def _is_struck(self, line: bytes, fate: str) -> bool:
        # An error or a bookmark that came twice or late would be no event that is told wrongly.
        struck = line.startswith(TOLD) and self._random.random() < SHARE
        self.done[fate] += struck
        return struck


class ApiProxy:
    """Passes on every call to a cluster's API server, watches too, over plain HTTP on loopback. Use it in a `with`."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._traps: list[Trap] = []
        self._cut = False
        self._spoiler: Spoiler | None = None
        self._open: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api-proxy", daemon=True)

    def __enter__(self) -> ApiProxy:
        self._thread.start()
        self.kubeconfig = self._kubeconfig(self._do(self._start()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def hold(self, method: str, path: str, body: str = "") -> Trap:
        """Hold the next such call for ever: the API server never sees it."""
        return self._arm(Trap("hold", method, path, body))

    def swallow(self, method: str, path: str, body: str = "") -> Trap:
        """Pass on the next such call and never give its answer."""
        return self._arm(Trap("swallow", method, path, body))

    def spoil_watches(self, seed: int, *, cut_after: int) -> Spoiler:
        """Have watches tell events twice and in another order, and end after at most so many."""
        self._spoiler = Spoiler(seed, cut_after=cut_after)
        return self._spoiler

    def cut(self) -> None:
        """End every connection, and every new one at once, until `mend`."""
        self._cut = True
        self._loop.call_soon_threadsafe(self._abort)

    def mend(self) -> None:
        """Let calls through again."""
        self._cut = False

    def _arm(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    def _abort(self) -> None:
        for transport in self._open:
            transport.abort()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    async def _start(self) -> str:
        config = yaml.safe_load(self._cluster.kubeconfig.read_text())
        authority = yaml.safe_load(f"!!binary {config['clusters'][0]['cluster']['certificate-authority-data']}")
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority.decode()), limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None), trust_env=False
        )
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _kubeconfig(self, url: str) -> Path:
        config = yaml.safe_load(self._cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": url}
        path = self._folder / "proxied.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if self._cut:
            transport.abort()
            return web.Response(status=500)
        self._open.add(transport)
        try:
            return await self._pass_on(request)
        finally:
            self._open.discard(transport)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        trap = next((trap for trap in self._traps if trap.fits(request.method, request.path, body)), None)
        if trap is not None and trap.kind == "hold":
            trap.sprung.set()
            await _caller_gone()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = URL(self._cluster.url + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, data=body or None, headers=headers) as upstream:
            if trap is not None:
                await upstream.read()
                trap.sprung.set()
                await _caller_gone()
            kept = {name: value for name, value in upstream.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            pieces: AsyncIterable[bytes] = upstream.content.iter_any()
            if self._spoiler and request.query.get("watch") == "true":
                pieces = self._spoiler.spoilt(_lines(upstream.content.iter_any()))
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
            return response


async def _lines(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *ended, rest = (rest + piece).split(b"\n")
        for line in ended:
            yield line + b"\n"


async def _caller_gone() -> None:
    """Answer nothing; the handler is cancelled when its caller goes."""
    await asyncio.Event().wait()


def _of(body: bytes) -> str:
    return body.decode(errors="replace")
