"""Calls to the API server: JSON in, JSON out, over the official client's connections."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from llmbatch.domain.lines import BLANK, Lines
from llmbatch.kube.errors import Gone, InvalidObject, Unreachable, error_of

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"

Observe = Callable[[str, str, str, float], None]
"""Told of every call: verb, resource, HTTP status or ``error``, seconds."""

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Of one line of a watch: far above what any object can be."""

METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
# A path segment that cannot climb, split or become another call. Kubernetes' own names are all within.
SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")


@dataclass(frozen=True, slots=True)
class Target:
    """One object, or with an empty ``name`` one collection. ``group_version`` is ``v1`` for the core group."""

    group_version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def path(self) -> str:
        """The path below the server's address. Raises Gone for a name that no object can have."""
        parts = ["/apis" if "/" in self.group_version else "/api", self.group_version]
        for given in (self.namespace, self.name):
            # Names come from specs that tenants write: `..` must not become a call to something else.
            if given and not SEGMENT.fullmatch(given):
                raise Gone(f"{self.plural}: no object can have that name", status=404)
        if self.namespace:
            parts += ["namespaces", self.namespace]
        parts.append(self.plural)
        parts += [part for part in (self.name, self.subresource) if part]
        return "/".join(parts)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.plural, "/".join(filter(None, (self.namespace, self.name))))))


class Api(RESTClientObject):
    """The official client's session and credentials, without its models.

    Deserialising into generated models costs more than the call, and its ``json.dumps`` writes any other alphabet
    as escapes, with which a 1 MiB output exceeds what the API server takes. ``timeout_seconds`` is for
    a whole call, ``connect_seconds`` for a new connection with its TLS. ``impersonation`` are headers of every call.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        timeout_seconds: float = 30.0,
        connect_seconds: float = 10.0,
        user_agent: str = "llmbatch-operator",
        impersonation: Sequence[tuple[str, str]] = (),
        observe: Observe = lambda verb, resource, code, seconds: None,
        refresh: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        super().__init__(configuration)
        self.answered_at: float | None = None
        """When the API server last answered anything at all, by ``time.monotonic``."""
        self._timeout_seconds = timeout_seconds
        self._connect_seconds = connect_seconds
        self._user_agent = user_agent
        self._impersonation = impersonation
        self._observe = observe
        self._refresh = refresh
        self._refreshing: asyncio.Task[None] | None = None

    async def call(
        self,
        verb: str,
        target: Target | str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_seconds: float | None = None,
    ) -> bytes:
        """One request and the body of its answer; ``target`` may be a bare path. Raises KubeError."""
        resource = "" if isinstance(target, str) else "/".join(filter(None, (target.plural, target.subresource)))
        url = self._url(target, query)
        headers = await self._headers(accept)
        if body is not None:
            headers["Content-Type"] = content_type
        started = time.monotonic()
        code = "error"
        try:
            status, answer, retry_after = await self._send(METHODS[verb], url, headers, body, timeout_seconds)
            code = str(status)
        except TimeoutError as error:
            raise Unreachable(f"{verb} {target}: no answer in time from the API server") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{verb} {target}: the API server is unreachable ({type(error).__name__})") from error
        finally:
            self._observe(verb, resource, code, time.monotonic() - started)
        self.answered_at = time.monotonic()
        if status >= 300:
            raise error_of(f"{verb} {target}", status, answer, retry_after)
        return answer

    @asynccontextmanager
    async def lines(
        self, target: Target, *, query: Mapping[str, str | int], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer that goes on, such as a watch; more than ``silence_seconds`` without a byte is a cut
        connection. Raises KubeError, also while it is read."""
        what = f"watch {target}"
        headers = await self._headers(JSON)
        limit = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds, sock_read=silence_seconds)
        try:
            async with self._request("GET", self._url(target, query), headers, None, limit) as response:
                if response.status >= 300:
                    retry_after = response.headers.get("Retry-After")
                    raise error_of(what, response.status, await response.read(), retry_after)
                yield _lines_of(response.content.iter_any(), what)
        except TimeoutError as error:
            raise Unreachable(f"{what}: the API server fell silent") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{what}: the API server is unreachable ({type(error).__name__})") from error

    async def close(self) -> None:
        """Close every connection."""
        if self._refreshing:
            self._refreshing.cancel()
        await super().close()

    async def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, timeout_seconds: float | None
    ) -> tuple[int, bytes, str | None]:
        total = timeout_seconds or self._timeout_seconds
        limit = aiohttp.ClientTimeout(total=total, sock_connect=self._connect_seconds)
        async with self._request(method, url, headers, body, limit) as response:
            return response.status, await response.read(), response.headers.get("Retry-After")

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self.pool_manager is None:
            self.pool_manager = self._create_pool_manager()
            if self._refresh:
                self._refreshing = asyncio.create_task(self._refresh(), name="refresh-credentials")
        options: dict[str, Any] = {}
        if self.configuration.tls_server_name:
            options["server_hostname"] = self.configuration.tls_server_name
        if self.proxy:
            options["proxy"] = self.proxy
        async with self.pool_manager.request(
            method,
            url,
            data=body,
            headers=[*headers.items(), *self._impersonation],
            timeout=limit,
            allow_redirects=False,
            **options,
        ) as response:
            yield response

    def _url(self, target: Target | str, query: Mapping[str, str | int] | None) -> str:
        path = target if isinstance(target, str) else target.path
        return self.configuration.host + path + (f"?{urlencode(query)}" if query else "")

    async def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": self._user_agent}
        if token := await self.configuration.get_api_key_with_prefix("BearerToken"):
            headers["Authorization"] = token
        return headers


async def _lines_of(chunks: AsyncIterator[bytes], what: str) -> AsyncIterator[bytes]:
    cut = Lines(MAX_LINE_BYTES)
    async for chunk in chunks:
        for line in cut.feed(chunk):
            if line is None:
                raise InvalidObject(f"{what}: a line is over {MAX_LINE_BYTES} bytes")
            if line.strip(BLANK):
                yield line
