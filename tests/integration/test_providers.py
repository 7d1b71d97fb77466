"""The providers' adapters against the emulator, over real connections: both providers, all of Azure's URL forms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmbatch.domain.errors import (
    NoAnswer,
    NotFound,
    NotSent,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
)
from llmbatch.domain.remote import BatchState, FileState, RemoteBatch, RemoteFile
from llmbatch.engine.clock import SystemClock
from llmbatch.providers.protocol import BatchProvider
from llmbatch.providers.registry import Providers
from llmbatch.providers.settings import Hooks, ProviderSettings, Timeouts
from support.emulator import Account, chat_lines
from support.providers import a_deployment, id_of, stream

FORMS = ("openai", "azure-classic", "azure-v1")
MONTH = timedelta(days=30)


@dataclass
class Bound:
    """An account of the emulator, and the operator's adapter to it."""

    account: Account
    provider: BatchProvider
    model: str
    observed: list[tuple[str, str, str]]
    uploaded: list[int]
    rebind: Callable[[str], BatchProvider]

    def lines(self, count: int, *, text: str = "What is 6 times 7?") -> bytes:
        url = f"{self.provider.capabilities.url_prefix}/chat/completions"
        return chat_lines(count, model=self.model, url=url, text=text)

    async def upload(self, count: int = 10, *, name: str = "input.jsonl") -> RemoteFile:
        lines = self.lines(count).splitlines(keepends=True)
        return await self.provider.upload(stream(lines), name=name, ttl=MONTH)

    async def create(self, file_id: str, **metadata: str) -> RemoteBatch:
        return await self.provider.create_batch(
            input_file_id=file_id,
            endpoint=f"{self.provider.capabilities.url_prefix}/chat/completions",
            completion_window="24h",
            metadata=metadata,
        )

    async def content(self, file_id: str) -> bytes:
        async with self.provider.download(file_id) as pieces:
            return b"".join([piece async for piece in pieces])

    async def processed(self, file_id: str) -> RemoteFile:
        deadline = time.monotonic() + 20
        while (file := await self.provider.get_file(file_id)).state is FileState.PROCESSING:
            assert time.monotonic() < deadline, "the file is still being processed"
            await asyncio.sleep(0.02)
        return file

    async def until(self, batch_id: str, state: BatchState) -> RemoteBatch:
        deadline = time.monotonic() + 20
        while (batch := await self.provider.get_batch(batch_id)).state is not state:
            assert time.monotonic() < deadline, f"the batch is still {batch.state}"
            await asyncio.sleep(0.02)
        return batch


Bind = Callable[..., Bound]


@pytest.fixture
async def bind(account: Callable[..., Account]) -> AsyncIterator[Bind]:
    """Makes an account and binds to it: `bind("azure-v1", timeouts=…, **fields_of_the_account)`."""
    opened: list[Providers] = []

    def make(form: str = "openai", *, timeouts: Timeouts | None = None, **fields: Any) -> Bound:
        observed: list[tuple[str, str, str]] = []
        uploaded: list[int] = []
        providers = Providers(
            clock=SystemClock(),
            refusal=lambda address: None,
            settings=ProviderSettings(timeouts=timeouts or Timeouts(), backoff=0.01),
            hooks=Hooks(
                observe=lambda who, what, code, seconds: observed.append((who, what, code)),
                uploaded=lambda who, count: uploaded.append(count),
            ),
        )
        opened.append(providers)
        if form == "openai":
            made, model = account("openai", **fields), "gpt-4o-mini"
            deployment = a_deployment(openAI={"baseURL": made.url, "model": model})
        else:
            made, model = account("azure", deployments={"mini-batch": "gpt-4o-mini"}, **fields), "mini-batch"
            version = {"apiVersion": "2025-04-01-preview"} if form == "azure-classic" else {}
            deployment = a_deployment(azureOpenAI={"endpoint": made.url, "deployment": model, **version})
        provider = providers.bind(deployment, made.key)
        return Bound(made, provider, model, observed, uploaded, lambda key: providers.bind(deployment, key))

    yield make
    for providers in opened:
        await providers.aclose()


@pytest.mark.parametrize("form", FORMS)
async def test_a_batch_goes_its_whole_way(bind: Bind, form: str):
    """Upload, find, create, follow, collect, delete: the same for every provider and URL form."""
    bound = bind(form)
    provider = bound.provider
    await provider.probe()

    file = await bound.upload(10)
    assert [found.id for found in await provider.find_files("input.jsonl")] == [file.id]
    assert (await provider.get_file(file.id)).state is FileState.PROCESSED
    assert await bound.content(file.id) == bound.lines(10)
    assert bound.uploaded == [len(bound.lines(10))]

    batch = await bound.create(file.id, team="search")
    assert [id_of(listed) async for page in provider.list_batches() for listed in page] == [batch.id]
    done = await bound.until(batch.id, BatchState.COMPLETED)

    assert (done.counts.total, done.counts.completed, done.counts.failed) == (10, 10, 0)
    assert (done.metadata, done.input_file_id) == ({"team": "search"}, file.id)
    assert done.output_file_id is not None
    assert len((await bound.content(done.output_file_id)).splitlines()) == 10

    for file_id in (file.id, done.output_file_id, file.id):
        await provider.delete_file(file_id)
    with pytest.raises(NotFound):
        await provider.get_file(file.id)
    assert {call.user_agent.split("/")[0] for call in bound.account.calls().log} == {"llmbatch-operator"}


@pytest.mark.parametrize("form", FORMS)
async def test_a_copy_is_uploaded_with_a_time_to_live(bind: Bind, form: str):
    """The provider says until when it keeps the file, and it is what was asked for."""
    file = await bind(form).upload()

    assert file.created_at is not None
    assert file.expires_at == file.created_at + MONTH


async def test_a_file_of_many_megabytes_arrives_whole(bind: Bind):
    """Its size known or not, in pieces of a line, it is the same content."""
    bound = bind()
    content = bound.lines(5_000, text="x" * 1_000)
    for name, size in (("known.jsonl", len(content)), ("unknown.jsonl", None)):
        lines = content.splitlines(keepends=True)
        file = await bound.provider.upload(stream(lines), name=name, ttl=None, size=size)
        assert file.bytes == len(content)
        assert bound.account.content(file.id) == content


async def test_azure_works_on_a_file_before_it_can_be_used(bind: Bind):
    """A file is processing until Azure has read it, and bad where it could not."""
    bound = bind("azure-v1", file_processing_seconds=0.3)
    file = await bound.upload()
    assert file.state is FileState.PROCESSING

    bound.account.fault("file_error", "files.create")
    bad = await bound.upload(name="bad.jsonl")

    assert (await bound.processed(file.id)).state is FileState.PROCESSED
    found = await bound.processed(bad.id)
    assert found.state is FileState.ERROR
    assert found.error


@pytest.mark.parametrize("form", FORMS)
async def test_a_provider_s_oddities_are_evened_out(bind: Bind, form: str):
    """Capital states, empty texts for nothing, lists in no order and an error file of no bytes."""
    bound = bind(form, capitalised_states=True, nulls_as_empty_strings=True, list_order="shuffled", seed=3)
    bound.account.foreign_batches(250)
    file = await bound.upload()
    batch = await bound.create(file.id)
    done = await bound.until(batch.id, BatchState.COMPLETED)

    pages = [page async for page in bound.provider.list_batches()]
    ids = [id_of(listed) for page in pages for listed in page]
    assert (len(pages), len(ids), len(set(ids))) == (3, 251, 251)
    assert done.id in ids
    if done.error_file_id is not None:
        assert await bound.content(done.error_file_id) == b""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["hang_after_success", "close_after_success"])
async def test_a_create_that_is_not_answered_may_have_had_its_effect(bind: Bind, form: str, kind: str):
    """It is not sent again, its error says so, and the batch is there to be found by its tag."""
    bound = bind(form, timeouts=Timeouts(create=0.5))
    file = await bound.upload()
    bound.account.fault(kind, "batches.create")

    with pytest.raises(NoAnswer) as raised:
        await bound.create(file.id, tag="one")

    assert not raised.value.certain
    found = [batch async for page in bound.provider.list_batches() for batch in page]
    assert [dict(batch.metadata) for batch in found] == [{"tag": "one"}]
    assert bound.account.calls().count("batches.create") == 1


async def test_a_failing_create_is_sent_once(bind: Bind):
    """A 500 may have had its effect too."""
    bound = bind()
    file = await bound.upload()
    bound.account.fault("status", "batches.create", status=500, times="always")

    with pytest.raises(Unavailable) as raised:
        await bound.create(file.id)

    assert not raised.value.certain
    assert bound.account.calls().count("batches.create") == 1


async def test_a_read_outlives_faults_that_pass(bind: Bind):
    """A cut connection and a 503 are not noticed above."""
    bound = bind()
    file = await bound.upload()
    bound.account.fault("close_before", "files.get")
    bound.account.fault("status", "files.get", status=503)

    assert (await bound.provider.get_file(file.id)).id == file.id
    assert [code for _, what, code in bound.observed if what == "files.get"] == ["NoAnswer", "503", "200"]


async def test_retry_after_is_obeyed(bind: Bind):
    """From the refusal on nothing is sent to the account until the time is over."""
    bound = bind()
    file = await bound.upload()
    bound.account.fault("rate_limit", "batches.create", status=429, retry_after=30)

    with pytest.raises(RateLimited) as raised:
        await bound.create(file.id)
    assert raised.value.retry_after == 30
    before = bound.account.calls().total
    for _ in range(3):
        with pytest.raises(RateLimited):
            await bound.provider.get_file(file.id)
        with pytest.raises(RateLimited):
            await bound.create(file.id)

    assert bound.account.calls().total == before


@pytest.mark.parametrize("form", FORMS)
async def test_no_room_is_told_apart_from_too_fast(bind: Bind, form: str):
    """The enqueued-token limit is a quota: another deployment may have room."""
    bound = bind(form, token_limit={"enqueued_limit": 5, "mode": "create_429"})
    file = await bound.upload()

    with pytest.raises(QuotaExceeded) as raised:
        await bound.create(file.id)

    assert (raised.value.code, raised.value.certain) == ("token_limit_exceeded", True)


@pytest.mark.parametrize("form", FORMS)
async def test_a_refusal_is_certain_and_says_why(bind: Bind, form: str):
    """What the provider understood and refused is not tried again."""
    bound = bind(form)
    file = await bound.upload()

    with pytest.raises(Refused) as raised:
        await bound.create(file.id, team="x" * 513)

    assert raised.value.certain
    assert "x" * 20 not in str(raised.value)
    assert bound.account.batches() == []


@pytest.mark.parametrize("form", FORMS)
async def test_a_rotated_key_is_refused_and_the_new_one_works(bind: Bind, form: str):
    """The old key's adapter says Unauthorized; objects are the account's, whatever its key."""
    bound = bind(form)
    file = await bound.upload()
    bound.account.rotate("another-key")

    with pytest.raises(Unauthorized):
        await bound.provider.probe()

    assert bound.account.calls().count("batches.list", 401) == 1
    assert (await bound.rebind("another-key").get_file(file.id)).id == file.id


@pytest.mark.parametrize("form", FORMS)
async def test_a_cancel_is_accepted_and_repeated_without_harm(bind: Bind, form: str):
    """A batch that is being cancelled, or was, is returned as it is."""
    bound = bind(form, in_progress_seconds=3600.0)
    file = await bound.upload()
    batch = await bound.create(file.id)

    first = await bound.provider.cancel_batch(batch.id)
    assert first.state in (BatchState.CANCELLING, BatchState.CANCELLED)
    await bound.until(batch.id, BatchState.CANCELLED)
    assert (await bound.provider.cancel_batch(batch.id)).state is BatchState.CANCELLED


async def test_a_download_that_is_cut_is_no_answer(bind: Bind):
    """Half a result is never taken for one."""
    bound = bind()
    file = await bound.upload(100)
    bound.account.fault("cut_body", "files.content", body_bytes=500)

    with pytest.raises(NoAnswer, match="ended after"):
        await bound.content(file.id)
    assert await bound.content(file.id) == bound.lines(100)


@pytest.mark.parametrize("form", FORMS)
async def test_what_is_not_there_is_not_found(bind: Bind, form: str):
    """An unknown id is an answer, and is asked for once."""
    bound = bind(form)

    with pytest.raises(NotFound):
        await bound.provider.get_batch("batch_unknown")
    with pytest.raises(NotFound):
        await bound.content("file-unknown")
    assert bound.account.calls().total == 2


async def test_a_provider_that_is_gone_was_not_reached(bind: Bind):
    """Nothing listens there: the create surely had no effect."""
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    providers = Providers(clock=SystemClock(), refusal=lambda address: None, settings=ProviderSettings(retries=0))
    deployment = a_deployment(openAI={"baseURL": f"http://127.0.0.1:{port}/v1", "model": "m"})
    provider = providers.bind(deployment, "some-key")

    with pytest.raises(NotSent) as raised:
        await provider.create_batch(input_file_id="file-1", endpoint="/v1/x", completion_window="24h", metadata={})

    assert raised.value.certain
    await providers.aclose()


async def test_times_are_aware(bind: Bind):
    """A batch's time of creation can be compared with the cluster's clock."""
    bound = bind()
    file = await bound.upload()

    created_at = (await bound.create(file.id)).created_at
    assert created_at is not None
    assert abs(created_at - datetime.now(UTC)) < timedelta(minutes=5)
