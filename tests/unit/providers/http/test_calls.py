"""Calls are bounded, guarded, repeated only where that is harmless, and their errors sorted."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from llmbatch.domain.errors import (
    BadAnswer,
    EndpointNotAllowed,
    NoAnswer,
    NotFound,
    NotSent,
    ProviderError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from llmbatch.domain.remote import BatchState
from llmbatch.providers.files_and_batches import FilesAndBatches
from llmbatch.providers.settings import ProviderSettings, Timeouts
from support.providers import KEY, a_batch, a_provider

OK = httpx2.Response(200, json=a_batch())
QUIET = httpx2.Response(429, headers={"Retry-After": "30"})


def created(batches: FilesAndBatches) -> Awaitable[object]:
    return batches.create_batch(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h", metadata={"team": "search"}
    )


async def test_a_create_sends_what_it_was_given():
    """The body is the provider's, the headers say who asks, and the key is in the one place where it belongs."""
    made = a_provider(OK)

    await created(made.batches)

    request = made.requests[0]
    assert (request.method, str(request.url)) == ("POST", "https://api.openai.com/v1/batches")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["user-agent"].startswith("llmbatch-operator/")
    assert request.content == (
        b'{"input_file_id":"file-1","endpoint":"/v1/chat/completions",'
        b'"completion_window":"24h","metadata":{"team":"search"}}'
    )


@pytest.mark.parametrize(
    ("answer", "error", "certain"),
    [
        (httpx2.ConnectError("refused"), NotSent, True),
        (httpx2.ConnectTimeout("late"), NotSent, True),
        (httpx2.PoolTimeout("full"), NotSent, True),
        (EndpointNotAllowed("no"), EndpointNotAllowed, True),
        (httpx2.ReadTimeout("late"), NoAnswer, False),
        (httpx2.ReadError("cut"), NoAnswer, False),
        (httpx2.WriteError("cut"), NoAnswer, False),
        (httpx2.WriteTimeout("late"), NoAnswer, False),
        (httpx2.RemoteProtocolError("closed"), NoAnswer, False),
        (httpx2.Response(200, content=b"<html>"), BadAnswer, False),
        (httpx2.Response(307, headers={"Location": "http://169.254.169.254/"}), BadAnswer, False),
        (httpx2.Response(500), Unavailable, False),
        (httpx2.Response(429), RateLimited, True),
        (httpx2.Response(400, json={"error": {"code": "invalid_value"}}), Refused, True),
    ],
)
async def test_a_create_is_sent_once_whatever_comes_of_it(
    answer: httpx2.Response | Exception, error: type[ProviderError], certain: bool
):
    """Whether it may have had an effect is told, and nothing is tried again or followed elsewhere."""
    made = a_provider(answer)

    with pytest.raises(error) as raised:
        await created(made.batches)

    assert type(raised.value) is error
    assert raised.value.certain is certain
    assert len(made.requests) == 1


HARMLESS: list[Callable[[FilesAndBatches], Awaitable[object]]] = [
    lambda batches: batches.get_batch("batch_1"),
    lambda batches: batches.cancel_batch("batch_1"),
    lambda batches: batches.delete_file("file-1"),
    lambda batches: batches.probe(),
]


@pytest.mark.parametrize("call", HARMLESS)
@pytest.mark.parametrize(
    "answer", [httpx2.Response(503), httpx2.ReadError("cut"), httpx2.ConnectError("no"), httpx2.Response(429)]
)
async def test_what_is_harmless_is_repeated_twice(
    call: Callable[[FilesAndBatches], Awaitable[object]], answer: httpx2.Response | Exception
):
    """Waits grow between the tries, and the last error is the one that is told."""
    made = a_provider(answer)

    with pytest.raises(ProviderError):
        await call(made.batches)

    assert len(made.requests) == 3
    assert made.clock.slept == [0.5, 1.0]


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(401),
        httpx2.Response(404),
        httpx2.Response(400),
        httpx2.Response(409),
        httpx2.Response(429, json={"error": {"code": "insufficient_quota"}}),
        httpx2.Response(200, content=b"?"),
        EndpointNotAllowed("no"),
    ],
)
async def test_what_will_not_change_is_not_repeated(answer: httpx2.Response | Exception):
    """A refused key, an unknown object or a forbidden address is the same a second later."""
    made = a_provider(answer)

    with pytest.raises(ProviderError):
        await made.batches.get_batch("batch_1")

    assert (len(made.requests), made.clock.slept) == (1, [])


async def test_a_repeated_call_can_succeed():
    """A fault that passes is not noticed above."""
    made = a_provider(httpx2.Response(502), OK)

    assert (await made.batches.get_batch("batch_1")).id == "batch_1"
    assert [code for _, _, code in made.observed] == ["502", "200"]


async def test_a_long_retry_after_quiets_the_account():
    """After a 429 nothing is sent until the time is over, and whoever asks meanwhile is told how long it is."""
    made = a_provider(QUIET, OK)
    with pytest.raises(RateLimited) as raised:
        await created(made.batches)
    assert raised.value.retry_after == 30

    made.clock.passed += 12
    with pytest.raises(RateLimited) as raised:
        await made.batches.get_batch("batch_1")
    assert raised.value.retry_after == 18
    assert len(made.requests) == 1

    made.clock.passed += 18
    await made.batches.get_batch("batch_1")
    assert len(made.requests) == 2


async def test_a_short_retry_after_is_waited_for():
    """A read takes a wait of seconds upon itself, exactly as long as was asked for."""
    made = a_provider(httpx2.Response(429, headers={"Retry-After": "3"}), OK)

    await made.batches.get_batch("batch_1")

    assert sum(made.clock.slept) == 3


async def test_a_limit_on_creations_does_not_stop_batches_from_being_followed():
    """OpenAI refuses creations for the rest of the hour: reads are quiet for a minute only."""
    made = a_provider(httpx2.Response(429, headers={"Retry-After": "1800"}), OK)
    with pytest.raises(RateLimited):
        await created(made.batches)

    made.clock.passed += 61
    await made.batches.get_batch("batch_1")
    with pytest.raises(RateLimited) as raised:
        await created(made.batches)

    assert raised.value.retry_after == 1800 - 61
    assert len(made.requests) == 2


async def test_no_room_is_not_a_rate_limit():
    """A token limit concerns one deployment's batches, not the account's calls."""
    full = httpx2.Response(429, headers={"Retry-After": "30"}, json={"error": {"code": "token_limit_exceeded"}})
    made = a_provider(full, OK)

    with pytest.raises(QuotaExceeded):
        await created(made.batches)
    await made.batches.get_batch("batch_1")


async def test_the_guard_is_asked_before_every_request():
    """Whoever is not the leader any more sends nothing, not even a repetition."""
    lost = RuntimeError("not the leader any more")
    asked = 0

    def guard() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise lost

    made = a_provider(httpx2.Response(503), guard=guard)

    with pytest.raises(RuntimeError, match="not the leader"):
        await made.batches.get_batch("batch_1")
    assert len(made.requests) == 2
    assert made.observed[-1] == ("OpenAI", "batches.get", "RuntimeError")


async def test_every_request_is_observed_with_its_outcome():
    """A status where there was an answer, else the name of what went wrong; never anything of the call itself."""
    made = a_provider(httpx2.Response(401), httpx2.ReadError("cut"), httpx2.ReadError("cut"), OK)

    with pytest.raises(Unauthorized):
        await created(made.batches)
    await made.batches.cancel_batch("batch_1")

    assert made.observed == [
        ("OpenAI", "batches.create", "401"),
        ("OpenAI", "batches.cancel", "NoAnswer"),
        ("OpenAI", "batches.cancel", "NoAnswer"),
        ("OpenAI", "batches.cancel", "200"),
    ]


class Silent(httpx2.AsyncBaseTransport):
    """Takes requests and never answers; `started` is set when one has come."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.answer = asyncio.Event()
        self.most = self.now = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        self.started.set()
        try:
            await self.answer.wait()
        finally:
            self.now -= 1
        return httpx2.Response(200, json=a_batch())


async def test_a_create_has_a_time_for_all_of_it():
    """A provider that drips or hangs cannot hold a create longer than what exactly-once waits for."""
    made = a_provider(transport=Silent(), settings=ProviderSettings(timeouts=Timeouts(create=0.01)))

    with pytest.raises(NoAnswer) as raised:
        await created(made.batches)

    assert not raised.value.certain
    assert made.observed == [("OpenAI", "batches.create", "NoAnswer")]


async def test_a_create_that_never_left_is_certain():
    """Waiting for others of the account counts into the time of a create, and has no effect."""
    silent = Silent()
    settings = ProviderSettings(timeouts=Timeouts(create=0.01), concurrent_calls=1)
    made = a_provider(transport=silent, settings=settings)
    first = asyncio.ensure_future(made.batches.get_batch("batch_1"))
    await silent.started.wait()

    with pytest.raises(NotSent) as raised:
        await created(made.batches)

    assert raised.value.certain
    silent.answer.set()
    await first


async def test_calls_of_an_account_are_bounded():
    """However many jobs there are, only so many requests are under way."""
    silent = Silent()
    made = a_provider(transport=silent, settings=ProviderSettings(concurrent_calls=3))
    tasks = [asyncio.ensure_future(made.batches.get_batch("batch_1")) for _ in range(20)]
    await silent.started.wait()
    silent.answer.set()
    await asyncio.gather(*tasks)

    assert silent.most == 3


async def test_an_answer_without_end_is_cut_off():
    """A hostile endpoint cannot fill the operator's memory."""
    with pytest.raises(BadAnswer, match="larger than"):
        await a_provider(httpx2.Response(200, content=b" " * (17 * 1024 * 1024))).batches.get_batch("batch_1")


class Raw(httpx2.AsyncBaseTransport):
    """Answers with bytes that are what they are."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self.body = body

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx2.Response(200, headers=self.headers, stream=httpx2.ByteStream(self.body))


async def test_a_compressed_answer_is_not_unpacked():
    """A few bytes cannot become gigabytes."""
    transport = Raw({"content-encoding": "gzip"}, gzip.compress(b"{}"))

    with pytest.raises(BadAnswer, match="compressed"):
        await a_provider(transport=transport).batches.get_batch("batch_1")


async def read_into(received: bytearray, batches: FilesAndBatches) -> None:
    async with batches.download("file-1") as pieces:
        async for piece in pieces:
            received += piece


async def test_a_body_that_ends_too_early_is_no_answer():
    """Results are whole or they are an error, however the connection ended."""
    made = a_provider(transport=Raw({"content-length": "100"}, b"0123456789"))
    received = bytearray()

    with pytest.raises(NoAnswer, match="10 of 100 bytes"):
        await read_into(received, made.batches)

    assert received == b"0123456789"
    assert made.observed == [("OpenAI", "files.content", "NoAnswer")]


async def test_opening_a_download_is_repeated():
    """Nothing was handed out yet, so that trying again is harmless."""
    made = a_provider(httpx2.Response(503), httpx2.Response(200, content=b"{}\n"))

    async with made.batches.download("file-1") as pieces:
        assert b"".join([piece async for piece in pieces]) == b"{}\n"


async def test_an_error_of_whoever_reads_a_download_stays_theirs():
    """A sink that times out is not a provider that does."""
    made = a_provider(httpx2.Response(200, content=b"{}\n"))

    with pytest.raises(TimeoutError, match="the sink"):
        async with made.batches.download("file-1"):
            raise TimeoutError("the sink")


async def test_deleting_what_is_gone_succeeds():
    """A delete that is repeated after a lost answer finds nothing, which is what was wanted."""
    made = a_provider(httpx2.ReadError("cut"), httpx2.Response(404))

    await made.batches.delete_file("file-1")

    assert len(made.requests) == 2


@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize("state", ["completed", "cancelled", "cancelling"])
async def test_cancelling_what_has_ended_tells_how_it_ended(status: int, state: str):
    """A cancel comes too late, or twice: what counts is the batch as it is."""
    made = a_provider(httpx2.Response(status), httpx2.Response(200, json=a_batch(status=state)))

    assert (await made.batches.cancel_batch("batch_1")).state is BatchState(state)


async def test_a_cancel_that_is_refused_while_the_batch_runs_is_refused():
    """Only a batch that is at its end excuses a refusal."""
    made = a_provider(httpx2.Response(400), OK)

    with pytest.raises(Refused):
        await made.batches.cancel_batch("batch_1")


@pytest.mark.parametrize("forged", ["", " ", ".", "..", "../files/file-1", "a/../../files", "a\n", "x" * 1025])
async def test_a_forged_id_is_asked_of_nobody(forged: str):
    """Ids come from annotations that anyone can write, and must not lead to another path."""
    made = a_provider(OK)

    with pytest.raises(NotFound):
        await made.batches.get_batch(forged)
    with pytest.raises(NotFound):
        async with made.batches.download(forged):
            pass

    assert made.requests == []


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("batches/k3x", "/v1/batches/batches%2Fk3x"),
        ("gs://bucket/a b", "/v1/batches/gs%3A%2F%2Fbucket%2Fa%20b"),
        ("a?limit=1#x%2e", "/v1/batches/a%3Flimit%3D1%23x%252e"),
        ("ü", "/v1/batches/%C3%BC"),
    ],
)
async def test_an_id_is_one_part_of_a_path(written: str, path: str):
    """Providers whose ids are paths or addresses know them escaped."""
    made = a_provider(httpx2.Response(200, json=a_batch(id=written)))

    assert (await made.batches.get_batch(written)).id == written
    assert made.requests[0].url.raw_path == path.encode()


async def test_no_error_holds_the_key():
    """Not even where a provider or a library repeats what it was sent."""
    echo = httpx2.Response(401, json={"error": {"code": "invalid_api_key", "message": f"Incorrect API key: {KEY}"}})
    wordy = httpx2.Response(429, json={"error": {"code": "rate_limit_exceeded", "message": f"Too fast, {KEY}"}})
    for answer in (echo, wordy, httpx2.LocalProtocolError(f"Illegal header value {KEY}"), httpx2.ReadError(KEY)):
        with pytest.raises(ProviderError) as raised:
            await created(a_provider(answer).batches)
        assert KEY not in str(raised.value)
        assert KEY not in repr(raised.value)


class Open(httpx2.AsyncBaseTransport):
    """Answers, and knows whether it was closed."""

    closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert not self.closed
        return httpx2.Response(200, json=a_batch())

    async def aclose(self) -> None:
        self.closed = True


async def test_a_retired_account_still_answers_and_then_lets_go():
    """Whoever holds an adapter of an account that was closed meanwhile can finish, and leaves nothing open."""
    transport = Open()
    made = a_provider(transport=transport)
    await made.account.retire()

    assert (await made.batches.get_batch("batch_1")).id == "batch_1"
    assert made.account.idle
    assert transport.closed


async def test_a_probe_is_one_free_call():
    """It lists a single batch, which costs nothing and shows that the key works."""
    made = a_provider(httpx2.Response(200, json={"data": [], "has_more": False}))

    await made.batches.probe()

    assert [(r.method, str(r.url)) for r in made.requests] == [("GET", "https://api.openai.com/v1/batches?limit=1")]
