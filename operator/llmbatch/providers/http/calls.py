"""One account's HTTP: bounded, guarded, repeated only where that is harmless, its errors sorted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import httpx2

from llmbatch import __version__
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import (
    BadAnswer,
    EndpointNotAllowed,
    NoAnswer,
    NotSent,
    ProviderError,
    RateLimited,
    Refused,
    Unavailable,
)
from llmbatch.providers.http.pauses import Pauses
from llmbatch.providers.protocol import AccountID, Clock
from llmbatch.providers.refusals import error_of
from llmbatch.providers.settings import Hooks, ProviderSettings

USER_AGENT = f"llmbatch-operator/{__version__}"
LARGEST_ANSWER = 8 * 1024 * 1024
LARGEST_FAULT = 64 * 1024

T = TypeVar("T")

_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


@dataclass(frozen=True, slots=True)
class Call:
    """One thing asked of a provider. ``total`` and ``answer_within`` are seconds, ``largest`` the answer's bytes."""

    operation: str
    method: str
    url: str
    total: float
    answer_within: float
    repeatable: bool = False
    by_id: bool = False
    lane: Literal["call", "upload", "download"] = "call"
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | AsyncIterable[bytes] | None = None
    largest: int = LARGEST_ANSWER


@dataclass(slots=True)
class _Progress:
    """How far a call has come: what is known of it when it is given up."""

    started: float | None = None
    handed_over: bool = False
    code: str = ""


class Account:
    """The connections, limits and pauses that all deployments of one account share.

    Opened by the first call. Once retired, connections are closed as soon as no call uses them; a call that comes
    late still works.
    """

    def __init__(
        self,
        identity: AccountID,
        label: str,
        headers: Mapping[str, str],
        *,
        settings: ProviderSettings,
        clock: Clock,
        hooks: Hooks,
        connect: Callable[[], httpx2.AsyncBaseTransport],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.identity = identity
        self.settings = settings
        self.last_used = clock.monotonic()
        self._label = label
        self._headers = {**headers, "User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Accept": "*/*"}
        self._clock = clock
        self._hooks = hooks
        self._connect = connect
        self._jitter = jitter
        self._lanes = {
            "call": asyncio.Semaphore(settings.concurrent_calls),
            "upload": asyncio.Semaphore(settings.concurrent_uploads),
            "download": asyncio.Semaphore(settings.concurrent_downloads),
        }
        self._pauses = Pauses(clock)
        self._transport: httpx2.AsyncBaseTransport | None = None
        self._in_use = 0
        self._retired = False

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return self._in_use == 0

    def monotonic(self) -> float:
        """The account's clock."""
        return self._clock.monotonic()

    async def retire(self) -> None:
        """Close the connections, now or when the last call ends."""
        self._retired = True
        await self._close_if_idle()

    async def ask(self, call: Call) -> bytes:
        """The body of the answer, at most ``largest`` bytes of it; any answer but a success is an error."""

        async def once() -> bytes:
            async with self._exchange(call) as response:
                return await _read(response, call.largest, call.operation)

        return await self._repeat(call, once)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of the answer in pieces. Opening is repeated as for any call, reading is not."""
        async with AsyncExitStack() as stack:
            response = await self._repeat(call, lambda: stack.enter_async_context(self._exchange(call)))
            yield _pieces(response, call.operation)

    def uploaded(self, count: int) -> None:
        """An input file of this many bytes was taken."""
        self._hooks.uploaded(self._label, count)

    async def _repeat(self, call: Call, once: Callable[[], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            try:
                return await once()
            except ProviderError as error:
                delay = self._delay(error, attempt) if call.repeatable else None
                if delay is None:
                    raise
            attempt += 1
            await self._clock.sleep(delay)

    def _delay(self, error: ProviderError, attempt: int) -> float | None:
        """Seconds until the call is repeated, or None if it is not."""
        transient = isinstance(error, RateLimited | NoAnswer | NotSent) or (
            isinstance(error, Unavailable) and error.status != 409
        )
        if attempt >= self.settings.retries or not transient or isinstance(error, EndpointNotAllowed):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.settings.patience else None
        return self.settings.backoff * 2**attempt * (0.5 + self._jitter())

    @asynccontextmanager
    async def _exchange(self, call: Call) -> AsyncIterator[httpx2.Response]:
        """One request and its answer, which is a success."""
        progress = _Progress()
        limit = asyncio.timeout(call.total)
        self._in_use += 1
        try:
            async with limit, self._lanes[call.lane]:
                await self._wait_turn(call)
                progress.started = self._clock.monotonic()
                async with self._answered(call, progress) as response:
                    yield response
        except TimeoutError:
            if not limit.expired():
                raise
            progress.code = NoAnswer.__name__
            if progress.handed_over:
                raise NoAnswer(f"{call.operation} was not done within {call.total:g} s") from None
            raise NotSent(f"{call.operation} could not be sent within {call.total:g} s") from None
        except Exception as error:
            if not progress.code or (isinstance(error, ProviderError) and error.status is None):
                progress.code = type(error).__name__
            raise
        finally:
            self._in_use -= 1
            self.last_used = self._clock.monotonic()
            if progress.started is not None:
                seconds = self.last_used - progress.started
                self._hooks.observe(self._label, call.operation, progress.code or "Cancelled", seconds)
            if self._retired:
                await self._close_if_idle()

    async def _wait_turn(self, call: Call) -> None:
        while (left := self._pauses.left(call.operation)) > 0:
            if not call.repeatable or left > self.settings.patience:
                message = f"the provider asked for a pause, {call.operation} waits for its end"
                raise RateLimited(message, retry_after=left)
            await self._clock.sleep(left)

    @asynccontextmanager
    async def _answered(self, call: Call, progress: _Progress) -> AsyncIterator[httpx2.Response]:
        response = await self._send(call, progress)
        try:
            progress.code = str(response.status_code)
            if not response.is_success:
                raise await self._error(call, response)
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise BadAnswer(f"the answer to {call.operation} is compressed, which was not asked for")
            yield response
        finally:
            await response.aclose()

    async def _send(self, call: Call, progress: _Progress) -> httpx2.Response:
        timeouts = self.settings.timeouts
        # The connection may take a while to make, so that the guard is asked again when the first byte goes out.
        extensions: dict[str, Any] = {
            "timeout": {
                "connect": timeouts.connect,
                "read": call.answer_within,
                "write": timeouts.write,
                "pool": timeouts.connect,
            },
            "trace": self._ask_guard,
        }
        request = self._request(call, extensions)
        self._hooks.guard()
        transport = self._transport = self._transport or self._connect()
        progress.handed_over = True
        try:
            return await transport.handle_async_request(request)
        except _UNSENT as error:
            raise NotSent(f"{call.operation}: no connection to the provider ({_cause(error)})") from None
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise NoAnswer(f"{call.operation}: no answer from the provider ({type(error).__name__})") from None

    def _request(self, call: Call, extensions: dict[str, Any]) -> httpx2.Request:
        headers = {**self._headers, **call.headers}
        try:
            made = httpx2.Request(call.method, call.url, headers=headers, content=call.content, extensions=extensions)
            port = made.url.port
            if made.url.host and (port is None or 0 < port < 65536):
                return made
        except (httpx2.InvalidURL, ValueError):
            pass
        message = f"{call.operation}: the endpoint is no URL that can be used; make a ModelDeployment with another one"
        raise Refused(message, reason=Reason.PROVIDER_ERROR)

    async def _ask_guard(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_headers.started":
            self._hooks.guard()

    async def _error(self, call: Call, response: httpx2.Response) -> ProviderError:
        try:
            body = await _read(response, LARGEST_FAULT, call.operation)
        except (NoAnswer, BadAnswer):
            body = b""
        error = error_of(
            call.operation, response.status_code, response.headers, body, now=self._clock.now(), by_id=call.by_id
        )
        if isinstance(error, RateLimited) and error.retry_after is not None:
            self._pauses.note(call.operation, error.retry_after)
        return error

    async def _close_if_idle(self) -> None:
        if self._in_use == 0 and self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.aclose()


def _cause(error: httpx2.TransportError) -> str:
    """What stood in the way of connecting, on one short line; it comes from this side of the connection."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


async def _pieces(response: httpx2.Response, operation: str) -> AsyncIterator[bytes]:
    """The body, checked against Content-Length where there is one."""
    stream = response.stream
    assert isinstance(stream, AsyncIterable)
    announced, received = response.headers.get("content-length", ""), 0
    try:
        async for piece in stream:
            received += len(piece)
            yield piece
    except (httpx2.TransportError, httpx2.StreamError) as error:
        raise NoAnswer(f"{operation}: the answer ended after {received} bytes ({type(error).__name__})") from None
    if announced.isdecimal() and received != int(announced):
        raise NoAnswer(f"{operation}: the answer ended after {received} of {announced} bytes")


async def _read(response: httpx2.Response, largest: int, operation: str) -> bytes:
    body = bytearray()
    async for piece in _pieces(response, operation):
        body += piece
        if len(body) > largest:
            raise BadAnswer(f"the answer to {operation} is larger than {largest} bytes")
    return bytes(body)
