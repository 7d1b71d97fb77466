"""An input file is streamed as a form, once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import timedelta

import httpx2
import pytest

from llmbatch.domain.errors import NoAnswer, SourceChanged, Unavailable
from support.providers import a_batch, a_deployment, a_provider, stream

AZURE = {"endpoint": "https://east.example", "deployment": "d"}
STORED = httpx2.Response(200, json={"id": "file-1", "filename": "a.jsonl", "status": "processed", "bytes": 10})


def form_of(request: httpx2.Request) -> tuple[dict[str, str], str, bytes]:
    """The fields, the file's name and its content, read as RFC 7578 has it."""
    boundary = re.fullmatch(r"multipart/form-data; boundary=(\w+)", request.headers["content-type"])
    assert boundary
    *parts, end = request.content.split(b"--" + boundary[1].encode())
    assert end == b"--\r\n"
    fields: dict[str, str] = {}
    name, content = "", b""
    for part in parts[1:]:
        head, body = part.split(b"\r\n\r\n", 1)
        assert body.endswith(b"\r\n")
        if match := re.search(rb'name="file"; filename="([^"]+)"', head):
            name, content = match[1].decode(), body[:-2]
        elif match := re.search(rb'name="([^"]+)"', head):
            fields[match[1].decode()] = body[:-2].decode()
    return fields, name, content


async def test_the_form_holds_the_lines_as_they_are():
    """Nothing is added to the content or taken from it, and its bytes are counted."""
    made = a_provider(STORED)
    lines = [b'{"a": 1}\n', b'{"b": "--x\\r\\n"}\n', b""]

    file = await made.batches.upload(stream(lines), name="a.jsonl", ttl=None)

    assert form_of(made.requests[0]) == ({"purpose": "batch"}, "a.jsonl", b"".join(lines))
    assert (file.id, made.uploaded) == ("file-1", [sum(map(len, lines))])


@pytest.mark.parametrize(
    ("block", "ttl", "seconds"),
    [
        ({"openAI": {"model": "m"}}, timedelta(minutes=1), 3_600),
        ({"openAI": {"model": "m"}}, timedelta(days=20), 20 * 86_400),
        ({"openAI": {"model": "m"}}, timedelta(days=90), 30 * 86_400),
        ({"azureOpenAI": AZURE}, timedelta(days=1), 14 * 86_400),
        ({"azureOpenAI": AZURE}, timedelta(days=90), 30 * 86_400),
    ],
)
async def test_a_copy_s_life_is_brought_into_the_provider_s_range(
    block: dict[str, object], ttl: timedelta, seconds: int
):
    """OpenAI: an hour to 30 days; Azure: 14 to 30 days."""
    made = a_provider(STORED, deployment=a_deployment(**block))

    await made.batches.upload(stream([b"{}"]), name="a.jsonl", ttl=ttl)

    fields = form_of(made.requests[0])[0]
    assert fields["expires_after[anchor]"] == "created_at"
    assert fields["expires_after[seconds]"] == str(seconds)


async def test_a_known_size_is_announced():
    """With a size there is a Content-Length of the whole form, without one the body is chunked."""
    made = a_provider(STORED)

    await made.batches.upload(stream([b"12345", b"67890"]), name="a.jsonl", ttl=None, size=10)
    await made.batches.upload(stream([b"12345", b"67890"]), name="a.jsonl", ttl=None)

    known, unknown = made.requests
    assert int(known.headers["content-length"]) == len(known.content)
    assert "transfer-encoding" not in known.headers
    assert unknown.headers["transfer-encoding"] == "chunked"


class Reader(httpx2.AsyncBaseTransport):
    """Reads a body piece by piece, and says how many lines were taken for each."""

    def __init__(self, taken: Callable[[], int]) -> None:
        self.taken = taken
        self.seen: list[tuple[int, int]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, AsyncIterable)
        async for piece in request.stream:
            self.seen.append((len(piece), self.taken()))
        return httpx2.Response(200, content=STORED.content)


async def test_an_upload_holds_no_more_than_a_piece():
    """Lines are taken as they are sent: memory does not grow with the file."""
    taken = 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield b"x" * 1023 + b"\n"

    reader = Reader(lambda: taken)

    await a_provider(transport=reader).batches.upload(lines(), name="a.jsonl", ttl=None)

    assert max(size for size, _ in reader.seen) <= 66 * 1024
    sent = 0
    for size, count in reader.seen:
        sent += size
        assert count * 1024 <= sent


@pytest.mark.parametrize(
    ("answer", "error"), [(httpx2.Response(500), Unavailable), (httpx2.ReadTimeout("late"), NoAnswer)]
)
async def test_an_upload_is_never_repeated(answer: httpx2.Response | Exception, error: type[Exception]):
    """The copy may be there: the caller looks for it by its name."""
    made = a_provider(answer)

    with pytest.raises(error):
        await made.batches.upload(stream([b"{}"]), name="a.jsonl", ttl=None)

    assert (len(made.requests), made.uploaded) == (1, [])


async def test_a_source_s_error_is_not_the_provider_s():
    """What goes wrong with the lines comes out as it is."""

    async def lines() -> AsyncIterator[bytes]:
        yield b"{}\n"
        raise SourceChanged("the content is not what was validated")

    made = a_provider(STORED)

    with pytest.raises(SourceChanged):
        await made.batches.upload(lines(), name="a.jsonl", ttl=None)
    assert made.observed == [("OpenAI", "files.create", "SourceChanged")]


async def test_a_name_cannot_break_out_of_the_form():
    """A file's name is the operator's own making; one with quotes or line breaks is a mistake."""
    with pytest.raises(ValueError, match="letters, digits"):
        await a_provider(STORED).batches.upload(stream([]), name='a"\r\nx: y.jsonl', ttl=None)


async def test_uploads_hold_up_neither_calls_nor_downloads():
    """A batch is followed, and its results come, while as many files as may be are under way to its account."""
    hold, started = asyncio.Event(), asyncio.Semaphore(0)

    async def lines() -> AsyncIterator[bytes]:
        started.release()
        await hold.wait()
        yield b"{}\n"

    made = a_provider(handler=lambda r: STORED if r.method == "POST" else httpx2.Response(200, json=a_batch()))
    tasks = [asyncio.ensure_future(made.batches.upload(lines(), name="a.jsonl", ttl=None)) for _ in range(20)]
    async with asyncio.timeout(10):
        for _ in range(made.account.settings.concurrent_uploads):
            await started.acquire()

    async with asyncio.timeout(10):
        assert (await made.batches.get_batch("batch_1")).id == "batch_1"
        async with made.batches.download("file-1") as pieces:
            assert [piece async for piece in pieces]
    assert started.locked()
    hold.set()
    await asyncio.gather(*tasks)
