"""What a Secret must hold to be used for S3."""

from __future__ import annotations

import pytest

from llmbatch.api import batchfile, batchjob
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError, OutputFailed, StorageError
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.storage import Ambient, sink_for, source_for
from llmbatch.storage.credentials import Credentials
from support.stored_objects import Networks, StoredObjects

COMPLETE = {
    "AWS_ACCESS_KEY_ID": b"AKIDEXAMPLE\n",
    "AWS_SECRET_ACCESS_KEY": b"wJalr/XUtnFEMI",
    "AWS_REGION": b"eu-central-1",
}
LOOPBACK = COMPLETE | {"AWS_ENDPOINT_URL": b"http://127.0.0.1:9"}


def test_a_complete_secret_leads_to_the_regions_endpoint() -> None:
    """White space around values is no part of them, and Amazon's endpoint follows from the region."""
    made = Credentials.of(COMPLETE, "s")
    assert (made.access_key_id, made.session_token) == ("AKIDEXAMPLE", None)
    assert made.endpoint == "https://s3.eu-central-1.amazonaws.com"


def test_china_has_a_domain_of_its_own() -> None:
    """AWS: endpoints of the China regions end in amazonaws.com.cn."""
    assert Credentials.of(COMPLETE | {"AWS_REGION": b"cn-north-1"}, "s").endpoint.endswith(
        "cn-north-1.amazonaws.com.cn"
    )


@pytest.mark.parametrize("key", COMPLETE)
@pytest.mark.parametrize("value", [None, b"", b" \n"])
def test_a_missing_or_empty_key_is_named(key: str, value: bytes | None) -> None:
    """Nothing of the operator's own environment stands in for what the Secret lacks."""
    changed = COMPLETE | {key: value}
    secret = {name: content for name, content in changed.items() if content is not None}
    with pytest.raises(CredentialsError, match=f"my-secret lacks {key};") as caught:
        Credentials.of(secret, "my-secret")
    assert caught.value.reason is Reason.CREDENTIALS_INVALID


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("AWS_ACCESS_KEY_ID", b"two\nlines"),
        ("AWS_SECRET_ACCESS_KEY", b"tab\there"),
        ("AWS_SESSION_TOKEN", b"\xff\xfe"),
        ("AWS_SESSION_TOKEN", b"nul\0"),
        ("AWS_REGION", b"x.evil.example/#"),
        ("AWS_REGION", b"EU"),
        ("AWS_ENDPOINT_URL", b"file:///etc/passwd"),
        ("AWS_ENDPOINT_URL", b"https://user:pass@host"),
        ("AWS_ENDPOINT_URL", b"https://host/?x"),
        ("AWS_ENDPOINT_URL", b"https://host:99999"),
        ("AWS_ENDPOINT_URL", b"https://host:0"),
        ("AWS_ENDPOINT_URL", b"https://[::1"),
        ("AWS_ENDPOINT_URL", b"host"),
    ],
)
def test_a_value_that_could_lead_elsewhere_is_refused_without_being_shown(key: str, value: bytes) -> None:
    """Values become parts of URLs and headers, and tenants write them."""
    with pytest.raises(CredentialsError, match=key) as caught:
        Credentials.of(COMPLETE | {key: value}, "s")
    assert caught.value.reason is Reason.CREDENTIALS_INVALID
    assert value.decode(errors="replace") not in caught.value.message


def test_values_do_not_show_in_the_representation() -> None:
    """Keys stay out of logs and tracebacks."""
    made = repr(Credentials.of(COMPLETE, "s"))
    assert "AKID" not in made
    assert "wJalr" not in made


async def read_with(secret: dict[str, bytes] | None, *, networks: Networks, ref: bool = True) -> None:
    objects = StoredObjects({("Secret", "team", "s3"): secret} if secret is not None else {})
    spec = {"url": "s3://bucket/key"} | ({"credentialsSecretRef": {"name": "s3"}} if ref else {})
    source = source_for(batchfile.Source.model_validate(spec), "team", objects, networks, Ambient())
    async for _ in source.chunks():
        pass


async def test_without_credentials_nothing_is_tried() -> None:
    """The operator's own credentials are not used unless the administrator says where; the message names the flag."""
    with pytest.raises(
        CredentialsError, match=r"s3://bucket/key: .* needs credentialsSecretRef.* --ambient-credential-prefix"
    ) as caught:
        await read_with(COMPLETE, networks=Networks(), ref=False)
    assert caught.value.reason is Reason.CREDENTIALS_INVALID


async def test_a_missing_secret_is_named() -> None:
    """It can come later."""
    with pytest.raises(CredentialsError, match="Secret s3 does not exist") as caught:
        await read_with(None, networks=Networks())
    assert (caught.value.reason, caught.value.retryable) == (Reason.SECRET_NOT_FOUND, True)


@pytest.mark.parametrize(
    "endpoint", [b"http://127.0.0.1:9", b"http://localhost:9", b"https://127.1", b"http://2130706433"]
)
async def test_an_address_that_is_not_allowed_is_refused_however_it_is_written(endpoint: bytes) -> None:
    """What counts is the address that a name or a number leads to."""
    networks = Networks(frozenset({"127.0.0.1", "::1"}))
    with pytest.raises(StorageError, match="not allowed") as caught:
        await read_with(COMPLETE | {"AWS_ENDPOINT_URL": endpoint}, networks=networks)
    assert caught.value.reason is Reason.ENDPOINT_NOT_ALLOWED


async def test_a_sink_finds_unusable_credentials_before_anything_is_spent() -> None:
    """The check tells what the collection would stumble over."""
    output = batchjob.Output.model_validate({"url": "s3://bucket/p/", "credentialsSecretRef": {"name": "s3"}})
    objects = StoredObjects({("Secret", "team", "s3"): {**LOOPBACK, "AWS_REGION": b""}})
    sink = sink_for(output, OutputOwner("run", "team", "uid"), objects, Networks(), Ambient())
    assert sink.location == "s3://bucket/p"
    with pytest.raises(CredentialsError, match="AWS_REGION"):
        await sink.check()
    objects.data[("Secret", "team", "s3")] = LOOPBACK
    await sink.check()


def test_an_output_without_a_place_is_refused() -> None:
    """The schema does not let it through, and neither does this."""
    with pytest.raises(OutputFailed):
        sink_for(batchjob.Output(), OutputOwner("run", "team", "uid"), StoredObjects(), Networks(), Ambient())
