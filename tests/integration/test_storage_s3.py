"""Sources and sinks on an S3 server, and on servers that mean no good."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import urllib3
from aiohttp import web

from llmbatch.api import batchfile, batchjob
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import (
    OutputDenied,
    OutputFailed,
    SourceDenied,
    SourceNotFound,
    StorageError,
)
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.storage import ERRORS, OUTPUT, SUMMARY, Ambient, Sink, Source, sink_for, source_for
from llmbatch.storage.source import CHUNK_BYTES, RANGE_BYTES
from support.moto import Bucket
from support.stored_objects import Networks, StoredObjects

NAMESPACE = "team"
LARGE_BYTES = 80 * 1024 * 1024
TLS_HANDSHAKE = b"\x16\x03\x01"
"""A record of type handshake, with the version that every client writes there (RFC 8446, 5.1)."""
ACCESS_KEY = "AKIAVERYSECRETID"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def secret_of(data: dict[str, str]) -> StoredObjects:
    return StoredObjects({("Secret", NAMESPACE, "s3"): {key: value.encode() for key, value in data.items()}})


def a_source(
    credentials: dict[str, str], url: str, networks: Networks | None = None, own: Ambient | None = None
) -> Source:
    spec = batchfile.Source.model_validate({"url": url, "credentialsSecretRef": {"name": "s3"}})
    return source_for(spec, NAMESPACE, secret_of(credentials), networks or Networks(), own or Ambient())


def a_sink(credentials: dict[str, str], url: str) -> Sink:
    output = batchjob.Output.model_validate({"url": url, "credentialsSecretRef": {"name": "s3"}})
    return sink_for(output, OutputOwner("run-1", NAMESPACE, "uid-1"), secret_of(credentials), Networks(), Ambient())


async def read(source: Source) -> bytes:
    return b"".join([chunk async for chunk in source.chunks()])


def large_content() -> Iterator[bytes]:
    """80 MiB in which no two chunks are the same, never held together."""
    for number in range(LARGE_BYTES // CHUNK_BYTES):
        yield number.to_bytes(8, "big") * (CHUNK_BYTES // 8)


def unfinished_uploads(bucket: Bucket) -> int:
    answer = urllib3.request("GET", f"{bucket.endpoint}/{bucket.name}?uploads", timeout=10, retries=False)
    assert answer.status == 200
    return answer.data.count(b"<Upload>")


def peak_bytes() -> int:
    """The most memory that this process ever held at once (getrusage: KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_large_results_go_out_and_come_back_in_bounded_memory(bucket: Bucket) -> None:
    """80 MiB are written and read byte for byte while the process grows by far less than that."""
    before, written, found = peak_bytes(), hashlib.sha256(), hashlib.sha256()
    async with a_sink(bucket.credentials, bucket.url + "runs/1/").open() as writer:
        for chunk in large_content():
            written.update(chunk)
            await writer.write(OUTPUT, chunk)
        assert await writer.commit() == LARGE_BYTES
    longest = 0
    async for chunk in a_source(bucket.credentials, bucket.url + "runs/1/output.jsonl").chunks():
        longest = max(longest, len(chunk))
        found.update(chunk)
    assert found.digest() == written.digest()
    assert longest == CHUNK_BYTES
    assert peak_bytes() - before < LARGE_BYTES * 3 // 4


async def test_files_go_below_the_prefix_and_twice_is_the_same(bucket: Bucket) -> None:
    """Each file that has a byte is an object; collecting again overwrites it."""
    for _ in range(2):
        async with a_sink(bucket.credentials, bucket.url + "runs/1").open() as writer:
            await writer.write(OUTPUT, b"a\n")
            await writer.write(ERRORS, b"")
            await writer.write(OUTPUT, b"b\n")
            await writer.write(SUMMARY, b"{}")
            assert await writer.commit() == 6
    assert bucket.keys() == ["runs/1/output.jsonl", "runs/1/summary.json"]
    assert bucket.get("runs/1/output.jsonl") == b"a\nb\n"


@pytest.mark.parametrize(("pieces", "uploads"), [(1, 0), (40, 1)], ids=["small", "large"])
async def test_without_a_commit_nothing_is_left(bucket: Bucket, pieces: int, uploads: int) -> None:
    """Neither an object nor parts of one that nobody sees but somebody pays."""
    async with a_sink(bucket.credentials, bucket.url + "runs/1").open() as writer:
        for _ in range(pieces):
            await writer.write(OUTPUT, b"x" * 1024 * 1024)
        begun = unfinished_uploads(bucket)
    assert begun == uploads
    assert (bucket.keys(), unfinished_uploads(bucket)) == ([], 0)


async def test_an_empty_object_has_no_chunks(bucket: Bucket) -> None:
    """There is no range to ask for in it."""
    bucket.put("empty", b"")
    assert await read(a_source(bucket.credentials, bucket.url + "empty")) == b""


async def test_keys_are_used_as_they_are_written(bucket: Bucket) -> None:
    """Blanks, percent signs and umlauts in a key are part of it."""
    bucket.put("a b/50%20ü.jsonl", b"lines")
    assert await read(a_source(bucket.credentials, bucket.url + "a b/50%20ü.jsonl")) == b"lines"


@pytest.mark.parametrize("url", ["s3://{bucket}/none", "s3://no-such-bucket-anywhere/none"])
async def test_a_missing_object_is_named(bucket: Bucket, url: str) -> None:
    """It can come later, so it is no failure for good."""
    url = url.format(bucket=bucket.name)
    with pytest.raises(SourceNotFound, match=url) as caught:
        await read(a_source(bucket.credentials, url))
    assert (caught.value.reason, caught.value.retryable) == (Reason.OBJECT_NOT_FOUND, True)


async def test_writing_into_a_missing_bucket_fails_with_the_stores_code(bucket: Bucket) -> None:
    """The message says what is missing."""
    async with a_sink(bucket.credentials, "s3://no-such-bucket-anywhere/runs").open() as writer:
        await writer.write(OUTPUT, b"a\n")
        with pytest.raises(OutputFailed, match="NoSuchBucket"):
            await writer.commit()


async def test_two_versions_of_an_object_are_never_mixed(bucket: Bucket) -> None:
    """An object that is replaced while it is read ends the reading."""
    bucket.put("lines", b"1" * (RANGE_BYTES + 1))
    chunks = a_source(bucket.credentials, bucket.url + "lines").chunks()
    assert (await anext(chunks))[:1] == b"1"
    bucket.put("lines", b"2" * (RANGE_BYTES + 1))
    with pytest.raises(StorageError, match="changed while it was read"):
        _ = [chunk async for chunk in chunks]


async def test_nothing_of_the_operators_environment_is_used(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials, endpoints and proxies of the process do not touch a tenant's requests."""
    nowhere = "http://127.0.0.1:1"
    (tmp_path / "token").write_text("token")
    hostile = {
        "AWS_ACCESS_KEY_ID": "OPERATORSOWN", "AWS_SECRET_ACCESS_KEY": "own", "AWS_SESSION_TOKEN": "OPERATORSTOKEN",
        "AWS_ENDPOINT_URL": nowhere, "AWS_ENDPOINT_URL_S3": nowhere, "AWS_ENDPOINT": nowhere, "AWS_BUCKET": "other",
        "AWS_SKIP_SIGNATURE": "true", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true", "AWS_S3_EXPRESS": "true",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/operator",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": nowhere, "AWS_REGION": "eu-west-3", "AWS_ALLOW_HTTP": "false",
        "AWS_SERVER_SIDE_ENCRYPTION": "sse-c", "AWS_SSE_KMS_KEY_ID": "arn:OPERATORSKMS",
        "AWS_SSE_BUCKET_KEY_ENABLED": "true", "AWS_SSE_CUSTOMER_KEY_BASE64": base64.b64encode(b"k" * 32).decode(),
        "AWS_CHECKSUM_ALGORITHM": "sha256", "AWS_CONDITIONAL_PUT": "disabled", "AWS_COPY_IF_NOT_EXISTS": "multipart",
        "AWS_IMDSV1_FALLBACK": "true", "AWS_DISABLE_BULK_DELETE": "true", "AWS_USER_AGENT": "OPERATORSAGENT",
        "HTTP_PROXY": nowhere, "http_proxy": nowhere, "ALL_PROXY": nowhere, "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip
    for key, value in hostile.items():
        monkeypatch.setenv(key, value)
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(status=404)

    async with a_store(handler) as credentials:
        with pytest.raises(SourceNotFound):
            await read(a_source(credentials, "s3://bucket/key", own=Ambient((), os.environ)))
    assert [request.path for request in seen] == ["/bucket/key"]
    assert f"Credential={ACCESS_KEY}/" in seen[0].headers["Authorization"]
    assert "/eu-central-1/s3/" in seen[0].headers["Authorization"]
    assert "OPERATORS" not in str(seen[0].headers)
    assert "Proxy-Authorization" not in seen[0].headers
    assert [name for name in seen[0].headers if name.lower().startswith("x-amz-server-side")] == []


@asynccontextmanager
async def a_store(handler: Handler) -> AsyncIterator[dict[str, str]]:
    """A server on loopback that answers as it likes, and the Secret's data for it."""
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": "also-secret",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }
    finally:
        await runner.cleanup()


REFUSAL = f"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>"


async def test_refused_credentials_are_told_without_showing_them() -> None:
    """The store's answer names the key; our message does not."""

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=403, text=REFUSAL, content_type="application/xml")

    async with a_store(refuse) as credentials:
        with pytest.raises(SourceDenied, match="refused the credentials") as reading:
            await read(a_source(credentials, "s3://bucket/key"))
        async with a_sink(credentials, "s3://bucket/runs").open() as writer:
            await writer.write(OUTPUT, b"a\n")
            with pytest.raises(OutputDenied, match="SignatureDoesNotMatch") as writing:
                await writer.commit()
    for caught in (reading, writing):
        assert ACCESS_KEY not in caught.value.message
        assert caught.value.__suppress_context__


async def test_a_redirect_to_another_host_leads_nowhere() -> None:
    """A store that a tenant names cannot send the operator elsewhere."""
    elsewhere: list[str] = []

    async def secret_place(request: web.Request) -> web.Response:
        elsewhere.append(request.path)
        return web.Response(text="metadata")

    async with a_store(secret_place) as other:

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": other["AWS_ENDPOINT_URL"] + "/latest/meta-data"})

        async with a_store(redirect) as credentials:
            with pytest.raises(StorageError):
                await read(a_source(credentials, "s3://bucket/key"))
    assert elsewhere == []


async def test_an_https_endpoint_is_spoken_to_in_tls_from_the_first_byte() -> None:
    """What reaches the store is the client's own handshake, so nothing on the way can read or change it."""
    first: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.read(3))
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    endpoint = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    async with server:
        with pytest.raises(StorageError, match="cannot be used just now"):
            await read(a_source({**credentials, "AWS_ENDPOINT_URL": endpoint}, "s3://bucket/key"))
    assert set(first) == {TLS_HANDSHAKE}


async def test_a_store_that_always_fails_is_given_up_after_a_few_tries() -> None:
    """Retries are bounded; what follows is the operator's own backoff."""
    tries: list[str] = []

    async def fail(request: web.Request) -> web.Response:
        tries.append(request.method)
        return web.Response(status=503)

    async with a_store(fail) as credentials:
        with pytest.raises(StorageError, match="cannot be used just now") as caught:
            await read(a_source(credentials, "s3://bucket/key"))
    assert (caught.value.reason, caught.value.retryable) == (Reason.SOURCE_UNREACHABLE, True)
    assert tries == ["HEAD"] * 4


async def test_a_store_that_fails_in_mid_upload_ends_the_writing() -> None:
    """The writer learns of it while it writes, does not wait for ever, and has the store forget the parts."""
    methods: set[str] = set()

    async def fail_parts(request: web.Request) -> web.Response:
        methods.add(request.method)
        if request.method == "POST" and "uploads" in request.query:
            answer = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            return web.Response(text=answer, content_type="application/xml")
        await request.read()
        return web.Response(status=400)

    async def write_on(sink: Sink) -> None:
        async with sink.open() as writer:
            for _ in range(64):
                await writer.write(OUTPUT, b"x" * 1024 * 1024)

    async with a_store(fail_parts) as credentials:
        with pytest.raises(OutputFailed):
            await write_on(a_sink(credentials, "s3://bucket/runs"))
    assert methods == {"POST", "PUT", "DELETE"}


async def test_an_object_that_is_not_what_was_written_is_no_success() -> None:
    """The size that the store tells afterwards is compared."""

    async def forget(request: web.Request) -> web.Response:
        await request.read()
        headers = {"ETag": '"1"', "Last-Modified": "Sat, 01 Aug 2026 00:00:00 GMT"}
        return web.Response(headers=headers, body=b"" if request.method == "PUT" else b"?")

    async with (
        a_store(forget) as credentials,
        a_sink(credentials, "s3://bucket/runs").open() as writer,
    ):
        await writer.write(OUTPUT, b"a\n")
        with pytest.raises(OutputFailed, match="not what was written"):
            await writer.commit()


async def test_an_address_refused_at_connect_time_is_told_as_such() -> None:
    """The reason tells the administrator's rule, not a store that is down."""

    class Flipping(Networks):
        def refusal(self, address: str) -> str | None:
            asked.append(address)
            return None if len(asked) == 1 else "it moved"

    asked: list[str] = []

    async def never(request: web.Request) -> web.Response:
        os.abort()

    async with a_store(never) as credentials:
        with pytest.raises(StorageError, match="it moved") as caught:
            await read(a_source(credentials, "s3://bucket/key", Flipping()))
    assert caught.value.reason is Reason.ENDPOINT_NOT_ALLOWED
