"""One call from its arrival to its answer: who calls, what was asked for, what is done to it, and its record."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from llmbatch.emulator.accounts import Account, Directory
from llmbatch.emulator.call_log import Call
from llmbatch.emulator.faults import Fault
from llmbatch.emulator.openai.dialects import Dialect
from llmbatch.emulator.refusals import Refusal
from llmbatch.emulator.settings import Behaviour


class Cut(Exception):
    """The connection is to end without an answer."""


@dataclass
class Exchange:
    """A call that was let in. Handlers call `begin` once they know what was asked for, before they do it."""

    request: web.Request
    dialect: Dialect
    account: Account
    operation: str
    now: float
    record: Call
    fault: Fault | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def behaviour(self) -> Behaviour:
        """How the account behaves."""
        return self.account.behaviour

    async def begin(self, **subject: Any) -> None:
        """Let a fault that was asked for hit this call. Raises Refusal or Cut."""
        self.fault = fault = self.account.faults.take(self.operation, subject)
        if fault is None:
            return
        self.record.fault = fault.kind
        match fault.kind:
            case "latency":
                await asyncio.sleep(fault.duration)
            case "status":
                raise Refusal(
                    fault.status, fault.message, code=fault.code, kind="server_error", retry_after=fault.retry_after
                )
            case "rate_limit":
                raise self.dialect.rate_limited(1.0 if fault.retry_after is None else fault.retry_after)
            case "close_before":
                raise Cut

    def answer(self, body: Mapping[str, Any]) -> web.Response:
        """A good answer in JSON."""
        return json_answer(200, body, self.headers)


Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]


def json_answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer in JSON."""
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json", headers=headers)


class Gate:
    """Lets callers in, runs the operation, and keeps the record. Ends what hangs when `stopping` is set."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.stopping = asyncio.Event()

    def guard(
        self, operation: str, dialect: Dialect, handler: Handler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """An operation as aiohttp wants it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            record = Call(
                time=self._directory.clock(),
                operation=operation,
                status=0,
                user_agent=request.headers.get("User-Agent", ""),
                id=request.match_info.get("id"),
            )
            headers: dict[str, str] = dict(dialect.headers(secrets.token_hex(16), None))
            account: Account | None = None
            try:
                account = self._admit(request, dialect, record)
                exchange = Exchange(request, dialect, account, operation, record.time, record)
                exchange.headers |= dialect.headers(secrets.token_hex(16), account.settings)
                response = await handler(exchange)
            except Refusal as refusal:
                record.status = refusal.status
                response = json_answer(refusal.status, dialect.error(refusal), {**headers, **refusal.headers()})
                await _drain(request)
            except Cut:
                response = _cut(request)
            else:
                await self._after(exchange, response)
                return response
            if account is not None:
                account.calls.add(record)
            return response

        return handle

    def _admit(self, request: web.Request, dialect: Dialect, record: Call) -> Account:
        """The account of the key that the request carries. Raises Refusal."""
        resource = request.match_info.get("resource")
        if dialect.provider == "azure" and not self._directory.has_resource(resource):
            raise dialect.unknown_path(request.method, request.path)
        key = _key(request, dialect)
        found = self._directory.enter(resource, key)
        if found is None:
            former = self._directory.formerly(resource, key)
            if former is None:
                self._directory.strangers += 1
            else:
                record.status = 401
                former.calls.add(record)
            raise dialect.unauthorized()
        account, record.key = found
        _check_headers(request, account, dialect)
        if dialect.needs_api_version and not request.query.get("api-version"):
            raise dialect.unknown_path(request.method, request.path)
        return account

    async def _after(self, exchange: Exchange, response: web.StreamResponse) -> None:
        """Record a call that went well, and do to its answer what was asked for."""
        record, fault = exchange.record, exchange.fault
        record.status = response.status
        if fault is None or fault.kind not in ("hang_after_success", "close_after_success"):
            exchange.account.calls.add(record)
            return
        record.status = 0
        exchange.account.calls.add(record)
        if fault.kind == "hang_after_success":
            await self._hang(exchange.request, fault.duration)
        _cut(exchange.request)

    async def _hang(self, request: web.Request, seconds: float) -> None:
        """Say nothing until the client gives up, the time is over, or the emulator ends."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and not self.stopping.is_set():
            if request.transport is None or request.transport.is_closing():
                return
            try:
                await asyncio.wait_for(self.stopping.wait(), min(0.25, max(end - loop.time(), 0.0)))
            except TimeoutError:
                continue


def _key(request: web.Request, dialect: Dialect) -> str | None:
    if dialect.provider == "azure" and (key := request.headers.get("api-key")):
        return key
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _check_headers(request: web.Request, account: Account, dialect: Dialect) -> None:
    """OpenAI refuses a key together with another organization or project than its own."""
    for header, own in (
        ("OpenAI-Organization", account.settings.organization),
        ("OpenAI-Project", account.settings.project),
    ):
        given = request.headers.get(header)
        if dialect.provider == "openai" and given and own and given != own:
            name = header.removeprefix("OpenAI-").lower()
            raise Refusal(401, f"{header} header should match {name} for API key", code=f"mismatched_{name}")


def _cut(request: web.Request) -> web.StreamResponse:
    """End the connection at once; what is returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _drain(request: web.Request) -> None:
    """Take in the rest of a body that was refused, so that the client is not cut off before it reads why."""
    if not request.can_read_body:
        return
    try:
        while await request.content.readany():
            continue
    except (OSError, web.HTTPException):
        return
