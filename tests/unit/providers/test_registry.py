"""A deployment's provider block becomes an adapter, over connections that its account shares."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
import pytest

from llmbatch.api.modeldeployment import ModelDeploymentSpec, OpenAIProvider
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError, EndpointNotAllowed, Refused
from llmbatch.providers.http.calls import Account
from llmbatch.providers.registry import KINDS, Providers, target_of
from llmbatch.providers.settings import Hooks, ProviderSettings
from support.providers import KEY, ImpatientClock, a_batch, a_deployment


def some_providers(**settings: Any) -> tuple[Providers, ImpatientClock]:
    clock = ImpatientClock()
    return Providers(clock=clock, refusal=lambda address: None, settings=ProviderSettings(**settings)), clock


def account_of(provider: object) -> Account:
    found = provider._account  # type: ignore[attr-defined]
    assert isinstance(found, Account)
    return found


def openai(**fields: object) -> ModelDeploymentSpec:
    return a_deployment(openAI={"model": "gpt-4o-mini", **fields})


def azure(**fields: object) -> ModelDeploymentSpec:
    return a_deployment(azureOpenAI={"endpoint": "https://east.example", "deployment": "mini", **fields})


def test_every_block_of_the_schema_has_its_row():
    """A provider that can be written into a manifest can be used."""
    blocks = {field.alias for name, field in ModelDeploymentSpec.model_fields.items() if "_ai" in name}

    assert blocks == set(KINDS)


@pytest.mark.parametrize(
    ("deployment", "label", "prices", "model", "api_url", "prefix"),
    [
        (openai(), "OpenAI", "openai", "gpt-4o-mini", "https://api.openai.com/v1", "/v1"),
        (openai(baseURL="http://llm:8000/v1/"), "OpenAI", "openai", "gpt-4o-mini", "http://llm:8000/v1", "/v1"),
        (azure(), "AzureOpenAI", "azure", "mini", "https://east.example/openai/v1", "/v1"),
        (azure(apiVersion="2024-10-21"), "AzureOpenAI", "azure", "mini", "https://east.example/openai", ""),
        (
            azure(endpoint="https://EAST.example:443/openai/v1/"),
            "AzureOpenAI",
            "azure",
            "mini",
            "https://east.example/openai/v1",
            "/v1",
        ),
    ],
)
def test_a_block_comes_down_to_its_provider_s_form(
    deployment: ModelDeploymentSpec, label: str, prices: str, model: str, api_url: str, prefix: str
):
    """One table an adapter: names, URLs and what the lines must look like."""
    target = target_of(deployment)

    assert (target.label, target.price_provider, target.model) == (label, prices, model)
    assert (target.api_url, target.capabilities.url_prefix) == (api_url, prefix)


def test_a_key_goes_where_its_provider_wants_it():
    """OpenAI: a bearer token beside organization and project; Azure: a header of its own."""
    assert target_of(openai(organization="org-1", project="proj_1")).authorize(KEY) == {
        "Authorization": f"Bearer {KEY}",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj_1",
    }
    assert target_of(azure()).authorize(KEY) == {"api-key": KEY}


def test_an_account_is_endpoint_organization_project_and_key():
    """Deployments of one account see each other's batches, whatever their model and however the URL is written."""
    providers, _ = some_providers()
    one = providers.account_id(azure(), KEY)

    assert providers.account_id(azure(deployment="other", apiVersion="2024-10-21"), KEY) == one
    assert providers.account_id(azure(endpoint="https://East.example/"), KEY + "\n") == one
    assert providers.account_id(azure(), "another-key") != one
    assert providers.account_id(azure(endpoint="https://west.example"), KEY) != one
    assert len({providers.account_id(openai(**f), KEY) for f in ({}, {"project": "p"}, {"organization": "o"})}) == 3


def test_an_account_s_name_gives_no_key_away():
    """The digest is keyed anew by each process, so that it cannot be compared with one made elsewhere."""
    (one, _), (other, _) = some_providers(), some_providers()

    assert KEY not in repr(one.account_id(openai(), KEY))
    assert one.account_id(openai(), KEY) != other.account_id(openai(), KEY)


@pytest.mark.parametrize("key", ["", "  \n", "two words", "line\nbreak", "schlüssel", "a\x00b"])
async def test_what_cannot_be_a_key_is_not_sent(key: str):
    """It is said without showing it, and before a header could be broken with it."""
    providers, _ = some_providers()

    with pytest.raises(CredentialsError) as raised:
        providers.bind(openai(), key)

    assert raised.value.reason is Reason.CREDENTIALS_INVALID
    assert not key.strip() or key.strip() not in str(raised.value)


def test_an_organization_cannot_break_a_header():
    """What a spec says is sent as it is or not at all, even where its schema let more through."""
    block = OpenAIProvider.model_construct(
        base_url="https://api.openai.com/v1", model="m", organization="o\r\nX-Evil: 1", project=None
    )

    with pytest.raises(Refused, match="organization"):
        KINDS["openAI"](block)


@pytest.mark.parametrize("url", ["https://[abc]/v1", "https://[1:2:3:4:5:6:7:8:9]", "https://a.example:99999/v1"])
async def test_an_endpoint_that_is_no_url_is_told_by_its_calls(url: str):
    """Its deployment says so; those who only look at the deployment are not concerned."""
    providers, _ = some_providers()
    spec = openai(baseURL=url)
    assert target_of(spec).label == "OpenAI"

    with pytest.raises(Refused, match="no URL that can be used"):
        await providers.bind(spec, KEY).probe()


async def test_deployments_of_one_account_share_its_connections():
    """Limits and pauses are the account's, so that they are shared too."""
    providers, _ = some_providers()

    first, second = providers.bind(openai(), KEY), providers.bind(openai(model="gpt-4o"), KEY)

    assert account_of(first) is account_of(second)
    assert account_of(providers.bind(openai(), "another-key")) is not account_of(first)
    await providers.aclose()


async def test_an_account_that_is_not_used_any_more_is_let_go():
    """A rotated key's connections do not stay open for ever, whether or not older accounts are still in use."""
    providers, clock = some_providers(idle_after=600.0)
    kept, old = (account_of(providers.bind(openai(), key)) for key in ("kept-key", "old-key"))

    for _ in range(2):
        clock.passed += 300
        kept.last_used = clock.monotonic()
    new = account_of(providers.bind(openai(), "new-key"))

    assert account_of(providers.bind(openai(), "kept-key")) is kept
    assert account_of(providers.bind(openai(), "new-key")) is new
    assert account_of(providers.bind(openai(), "old-key")) is not old
    await providers.aclose()


async def test_the_number_of_accounts_is_bounded():
    """However often keys are rotated, only so many accounts are kept: those that were used last."""
    providers, clock = some_providers(max_accounts=3)
    accounts = []
    for number in range(4):
        clock.passed += 1
        accounts.append(account_of(providers.bind(openai(), f"key-{number}")))

    assert account_of(providers.bind(openai(), "key-3")) is accounts[3]
    assert account_of(providers.bind(openai(), "key-1")) is accounts[1]
    assert account_of(providers.bind(openai(), "key-0")) is not accounts[0]
    await providers.aclose()


async def test_a_forbidden_endpoint_is_not_connected_to():
    """What a tenant writes into a deployment goes through the administrator's policy."""
    providers = Providers(clock=ImpatientClock(), refusal=lambda address: f"{address} is a loopback address")
    connected = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(EndpointNotAllowed, match=r"127\.0\.0\.1 is a loopback address"):
            await providers.bind(openai(baseURL=f"http://127.0.0.1:{port}/v1"), KEY).probe()
        await asyncio.sleep(0)

    assert not connected.is_set()
    await providers.aclose()


async def test_connections_are_kept_and_bounded():
    """A hundred calls at a time, and a hundred after them, cost a few connections."""
    connections = 0
    body = orjson.dumps(a_batch())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    providers, _ = some_providers(concurrent_calls=4)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for _ in range(2):
            provider = providers.bind(openai(baseURL=f"http://127.0.0.1:{port}/v1"), KEY)
            await asyncio.gather(*(provider.get_batch("batch_1") for _ in range(100)))
        await providers.aclose()

    assert connections <= 4


async def test_the_guard_is_asked_again_when_the_connection_is_made():
    """Connecting takes its time: who lost the lease meanwhile does not send one byte."""
    received = bytearray()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read())
        writer.close()
        ended.set()

    asked = 0

    def guard() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise PermissionError("not the leader any more")

    providers = Providers(clock=ImpatientClock(), refusal=lambda address: None, hooks=Hooks(guard=guard))
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            with pytest.raises(PermissionError):
                await providers.bind(openai(baseURL=f"http://127.0.0.1:{port}/v1"), KEY).probe()
            await ended.wait()
        await providers.aclose()

    assert received == b""


@pytest.mark.parametrize(
    ("deployment", "endpoint", "line_url", "batch_endpoint"),
    [
        (openai(), "/v1/responses", "/v1/responses", "/v1/responses"),
        (openai(baseURL="https://llm.example/api/paas/v4"), "/v4/chat/completions", "/v4/chat/completions", None),
        (azure(), "/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions"),
        (azure(), "/v1/responses", "/v1/responses", "/chat/completions"),
        (azure(apiVersion="2024-10-21"), "/v1/embeddings", "/embeddings", "/embeddings"),
        (azure(apiVersion="2024-10-21"), "/v1/responses", "/v1/responses", "/chat/completions"),
    ],
)
def test_an_endpoint_is_written_as_the_provider_has_it(
    deployment: ModelDeploymentSpec, endpoint: str, line_url: str, batch_endpoint: str | None
):
    """In lines and in creates; Azure reads from the file whether the Responses API is wanted."""
    capabilities = target_of(deployment).capabilities

    assert capabilities.line_url(endpoint) == line_url
    assert capabilities.batch_endpoint(endpoint) == (batch_endpoint or line_url)


@pytest.mark.parametrize(
    ("base_url", "original"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://API.OpenAI.com:443/v1/", True),
        ("https://api.openai.com.example/v1", False),
        ("https://llm.example/v1", False),
        ("https://[abc]/v1", False),
    ],
)
def test_only_openai_itself_is_held_to_openais_limits(base_url: str, original: bool):
    """Another API says itself what it takes, and may list files under a purpose of its own."""
    target = target_of(openai(baseURL=base_url))

    assert (target.capabilities.endpoints is not None) is original
    assert target.capabilities.streams is not original
    assert bool(target.files_query) is original
