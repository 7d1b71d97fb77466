"""The operator's own credentials on S3, and where they go."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from llmbatch.api import batchfile, batchjob
from llmbatch.api.reasons import Reason
from llmbatch.domain.ambient import AmbientPrefix
from llmbatch.domain.errors import CredentialsError, SourceDenied, StorageError
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.storage import OUTPUT, Ambient, sink_for, source_for
from support.stored_objects import Networks, StoredObjects

LINES = b"lines\n"
ENCRYPTION_KEY = base64.b64encode(b"k" * 32).decode()
CREDENTIALS = "/v1/credentials"
LOOPBACK = Networks(frozenset({"127.0.0.1", "::1"}))
"""Refuses what tenants' Secrets could name here; the operator's own endpoint is not asked about."""


@dataclass
class Store:
    """A server on loopback with one object under every name, and credentials for pods as EKS gives them."""

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    encryption: set[str] = field(default_factory=set)
    written: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    credentials_asked: int = 0

    @property
    def keys(self) -> set[str]:
        """The access keys that signed what came."""
        return {auth.partition("Credential=")[2].partition("/")[0] for _, auth in self.requests}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == CREDENTIALS:
            self.credentials_asked += 1
            expiry = {"Expiration": "2100-01-01T00:00:00Z"}
            return web.json_response({"AccessKeyId": "POD", "SecretAccessKey": "s", "Token": "t", **expiry})
        self.requests.append((request.path, request.headers.get("Authorization", "")))
        self.encryption |= {value for name, value in request.headers.items() if "encryption" in name.lower()}
        if request.method == "PUT":
            self.written[request.path] = await request.read()
        content = self.written.get(request.path, LINES)
        headers = {"ETag": '"1"', "Last-Modified": "Sat, 01 Aug 2026 00:00:00 GMT"}
        status = self.status
        if "Range" in request.headers:  # always for all of the object, which is small
            headers["Content-Range"] = f"bytes 0-{len(content) - 1}/{len(content)}"
            status = 206
        return web.Response(status=status, body=content, headers=headers)


@asynccontextmanager
async def a_store() -> AsyncIterator[Store]:
    store = Store()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", store.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    store.url = f"http://{host}:{port}"
    try:
        yield store
    finally:
        await runner.cleanup()


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of this process without anything of AWS, to be filled."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return monkeypatch


def ambient(*prefixes: str) -> Ambient:
    return Ambient([AmbientPrefix.parse(prefix) for prefix in prefixes], os.environ)


def spec_of(url: str, secret: dict[str, str] | None) -> Mapping[str, object]:
    return {"url": url} | ({"credentialsSecretRef": {"name": "s3"}} if secret else {})


def stored(secret: dict[str, str] | None) -> StoredObjects:
    return StoredObjects({("Secret", "team", "s3"): {key: value.encode() for key, value in (secret or {}).items()}})


async def read(url: str, own: Ambient, *, secret: dict[str, str] | None = None) -> bytes:
    networks = Networks() if secret else LOOPBACK
    spec = batchfile.Source.model_validate(spec_of(url, secret))
    source = source_for(spec, "team", stored(secret), networks, own)
    return b"".join([chunk async for chunk in source.chunks()])


async def write(url: str, own: Ambient, *, secret: dict[str, str] | None = None) -> None:
    networks = Networks() if secret else LOOPBACK
    output = batchjob.Output.model_validate(spec_of(url, secret))
    async with sink_for(output, OutputOwner("run", "team", "uid"), stored(secret), networks, own).open() as writer:
        await writer.write(OUTPUT, LINES)
        await writer.commit()


async def test_keys_of_the_environment_are_used_below_a_prefix(environ: pytest.MonkeyPatch):
    """Without a Secret the operator reads with its own keys, at its own endpoint, wherever that is."""
    async with a_store() as store:
        environ.setenv("AWS_ACCESS_KEY_ID", "OWN")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environ.setenv("AWS_ENDPOINT_URL", store.url)

        assert await read("s3://bucket/team/x", ambient("s3://bucket/{namespace}/")) == LINES
        assert {path for path, _ in store.requests} == {"/bucket/team/x"}
        assert store.keys == {"OWN"}


async def test_pod_identity_is_used_and_asked_once(environ: pytest.MonkeyPatch, tmp_path: Path):
    """EKS Pod Identity names an address and a token; the credentials are kept for the next file."""
    (tmp_path / "token").write_text("token")
    async with a_store() as store:
        environ.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{store.url}{CREDENTIALS}")
        environ.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        environ.setenv("AWS_ENDPOINT_URL_S3", store.url)
        own = ambient("s3://bucket/")

        assert [await read(f"s3://bucket/{name}", own) for name in ("a", "b")] == [LINES, LINES]
        assert store.credentials_asked == 1
        assert store.keys == {"POD"}


async def test_results_are_written_below_a_prefix(environ: pytest.MonkeyPatch):
    """An output that is the prefix itself is below it, since files are; checking it asks nobody."""
    async with a_store() as store:
        environ.setenv("AWS_ACCESS_KEY_ID", "OWN")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environ.setenv("AWS_ENDPOINT_URL", store.url)
        output = batchjob.Output.model_validate({"url": "s3://bucket/team/"})
        sink = sink_for(
            output, OutputOwner("run", "team", "uid"), StoredObjects(), LOOPBACK, ambient("s3://bucket/team/")
        )
        await sink.check()
        assert store.requests == []
        async with sink.open() as writer:
            await writer.write(OUTPUT, LINES)
            assert await writer.commit() == len(LINES)

        assert store.written == {"/bucket/team/output.jsonl": LINES}
        assert store.keys == {"OWN"}


async def test_elsewhere_nobody_is_asked(environ: pytest.MonkeyPatch):
    """Beside the prefix the operator's credentials are not even read; the tenant is told of both ways."""
    async with a_store() as store:
        environ.setenv("AWS_ENDPOINT_URL", store.url)
        environ.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{store.url}{CREDENTIALS}")
        with pytest.raises(CredentialsError, match="--ambient-credential-prefix") as caught:
            await read("s3://bucket/team-b/x", ambient("s3://bucket/team/"))

        assert caught.value.reason is Reason.CREDENTIALS_INVALID
        assert (store.credentials_asked, store.requests) == (0, [])


async def test_a_secret_goes_before_the_operators_own(environ: pytest.MonkeyPatch):
    """Who names a Secret is served with it, at its endpoint, below a prefix too."""
    async with a_store() as own, a_store() as theirs:
        environ.setenv("AWS_ACCESS_KEY_ID", "OWN")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environ.setenv("AWS_ENDPOINT_URL", own.url)
        secret = {"AWS_ACCESS_KEY_ID": "THEIRS", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}

        await read("s3://bucket/x", ambient("s3://bucket/"), secret=secret | {"AWS_ENDPOINT_URL": theirs.url})
        assert theirs.keys == {"THEIRS"}
        assert own.requests == []


async def test_a_refusal_of_the_operators_own_credentials_says_whose_they_are(environ: pytest.MonkeyPatch):
    """The tenant cannot mend it, and learns that; no key is shown."""
    async with a_store() as store:
        store.status = 403
        environ.setenv("AWS_ACCESS_KEY_ID", "OWN")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environ.setenv("AWS_ENDPOINT_URL", store.url)
        with pytest.raises(SourceDenied, match="the operator's own credentials") as caught:
            await read("s3://bucket/x", ambient("s3://bucket/"))

        assert "OWN" not in caught.value.message


async def test_variables_that_cannot_be_are_told_without_being_shown(environ: pytest.MonkeyPatch):
    """The client refuses its environment before it asks anybody."""
    environ.setenv("AWS_IMDSV1_FALLBACK", "NONSENSE")
    with pytest.raises(CredentialsError, match="ask the administrator") as caught:
        await read("s3://bucket/x", ambient("s3://bucket/"))

    assert "NONSENSE" not in caught.value.message


ENCRYPTIONS = [
    ({"AWS_SERVER_SIDE_ENCRYPTION": "sse-c", "AWS_SSE_CUSTOMER_KEY_BASE64": ENCRYPTION_KEY}, ENCRYPTION_KEY),
    ({"AWS_SERVER_SIDE_ENCRYPTION": "aws:kms", "AWS_SSE_KMS_KEY_ID": "arn:aws:kms:own"}, "arn:aws:kms:own"),
    ({"AWS_server_side_encryption": "aws:kms", "AWS_sse_kms_key_id": "arn:aws:kms:own"}, "arn:aws:kms:own"),
]


@pytest.mark.parametrize(("variables", "key"), ENCRYPTIONS)
async def test_keys_of_encryption_are_sent_to_the_operators_own_store_only(
    environ: pytest.MonkeyPatch, variables: dict[str, str], key: str
):
    """A tenant's store, which a tenant may run, hears nothing of them."""
    async with a_store() as own, a_store() as theirs:
        secret = {"AWS_ACCESS_KEY_ID": "THEIRS", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}
        secret["AWS_ENDPOINT_URL"] = theirs.url
        for name, value in ({"AWS_ACCESS_KEY_ID": "OWN", "AWS_SECRET_ACCESS_KEY": "secret"} | variables).items():
            environ.setenv(name, value)
        environ.setenv("AWS_ENDPOINT_URL", own.url)
        found = ambient("s3://bucket/")

        await read("s3://bucket/x", found, secret=secret)
        await write("s3://bucket/p/", found, secret=secret)
        assert (theirs.encryption, theirs.keys, len(theirs.written)) == (set(), {"THEIRS"}, 1)
        await write("s3://bucket/p/", found)
        assert key in own.encryption


async def test_a_mistake_in_the_operators_variables_is_told_to_a_tenant_with_a_secret(environ: pytest.MonkeyPatch):
    """What the client cannot start with is no error of the tenant's, and no traceback."""
    environ.setenv("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms:NONSENSE")
    secret = {"AWS_ACCESS_KEY_ID": "THEIRS", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}
    with pytest.raises(StorageError, match="ask the administrator") as caught:
        await read("s3://bucket/x", Ambient(), secret=secret | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    assert "NONSENSE" not in caught.value.message


async def test_an_operator_without_credentials_says_so_and_logs_it_once(
    environ: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The tenant learns whom to ask, and the administrator whom the operator has asked."""
    caplog.set_level(logging.WARNING)
    async with a_store() as store:
        store.status = 404  # as an instance's metadata are on a node that has no role
        environ.setenv("AWS_METADATA_ENDPOINT", store.url)
        environ.setenv("AWS_ENDPOINT_URL", store.url)
        own = ambient("s3://bucket/")
        for name in ("x", "y"):
            with pytest.raises(StorageError, match=r"with the operator's own credentials; .* ask the administrator"):
                await read(f"s3://bucket/{name}", own)
        host = store.url.removeprefix("http://")
        logged = [record.getMessage() for record in caplog.records]

    assert logged == [f"a store cannot be used with the operator's own credentials: GenericError at {host}"]


async def test_an_operator_without_its_token_says_so(
    environ: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A ServiceAccount that is not annotated well is told apart from a store that is away; the path is not shown."""
    environ.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "none"))
    environ.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/operator")
    with pytest.raises(StorageError, match="with the operator's own credentials"):
        await read("s3://bucket/x", ambient("s3://bucket/"))

    assert "GenericError, the token file cannot be read" in caplog.text
    assert str(tmp_path) not in caplog.text
