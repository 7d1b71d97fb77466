"""The official OpenAI SDK, for OpenAI and for Azure, against the emulator: it must not notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import openai
import orjson
import pytest
from openai.types import Batch, FileObject
from openai.types.chat import ChatCompletion

from support.emulator import Account, Emulator, chat_lines

DEADLINE = 20.0


@dataclass(frozen=True)
class Subject:
    """An SDK client, the account that it talks to, and how its lines must look."""

    sdk: openai.OpenAI
    account: Account
    model: str
    endpoint: str
    error_file_on_success: bool

    def lines(self, count: int) -> bytes:
        """Requests that this account accepts."""
        return chat_lines(count, model=self.model, url=self.endpoint)

    def start(self, content: bytes, **fields: dict[str, str]) -> Batch:
        """Upload an input, and create a batch on it."""
        file = self.sdk.files.create(file=("input.jsonl", content), purpose="batch")
        self.wait(lambda: self.sdk.files.retrieve(file.id).status == "processed")
        return self.sdk.batches.create(
            input_file_id=file.id,
            endpoint=self.endpoint,  # type: ignore[arg-type]  # Azure's classic form has no /v1
            completion_window="24h",
            metadata=fields.get("metadata"),
        )

    def finish(self, batch: Batch) -> Batch:
        """The batch, once it is over."""
        over = {"completed", "failed", "expired", "cancelled"}
        self.wait(lambda: self.sdk.batches.retrieve(batch.id).status in over)
        return self.sdk.batches.retrieve(batch.id)

    def wait(self, done: Callable[[], bool]) -> None:
        """Ask until it is so."""
        deadline = time.monotonic() + DEADLINE
        while not done():
            assert time.monotonic() < deadline, "it did not come to pass in time"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An emulator for all tests here; each makes an account of its own."""
    with Emulator() as running:
        yield running


@pytest.fixture(params=["openai", "azure-classic", "azure-v1"])
def subject(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[Subject]:
    """Each of the SDK's ways to a provider, with an account that nobody else uses."""
    name = f"account-{abs(hash(request.node.nodeid))}"
    if request.param == "openai":
        account = emulator.account(name)
        sdk = openai.OpenAI(base_url=account.url, api_key=account.key, max_retries=0)
    else:
        account = emulator.account(name, deployments={"mini": "gpt-4o-mini"})
        if request.param == "azure-classic":
            sdk = openai.AzureOpenAI(
                azure_endpoint=account.url, api_key=account.key, api_version="2025-04-01-preview", max_retries=0
            )
        else:
            sdk = openai.OpenAI(base_url=f"{account.url}/openai/v1", api_key=account.key, max_retries=0)
    azure, classic = request.param != "openai", request.param == "azure-classic"
    yield Subject(
        sdk=sdk,
        account=account,
        model="mini" if azure else "gpt-4o-mini",
        endpoint="/chat/completions" if classic else "/v1/chat/completions",
        error_file_on_success=azure,
    )
    sdk.close()


def test_the_sdk_goes_from_upload_to_output(subject: Subject):
    """Upload, create, poll and download work as with the provider, and every answer is a chat completion."""
    batch = subject.start(subject.lines(20), metadata={"team": "search"})
    assert (batch.status, batch.metadata) == ("validating", {"team": "search"})

    done = subject.finish(batch)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (20, 20, 0)
    assert done.output_file_id
    assert bool(done.error_file_id) is subject.error_file_on_success
    answers = [orjson.loads(line) for line in subject.sdk.files.content(done.output_file_id).text.splitlines()]
    assert {answer["custom_id"] for answer in answers} == {f"request-{at}" for at in range(20)}
    for answer in answers:
        completion = ChatCompletion.model_validate(answer["response"]["body"], strict=True)
        assert completion.model == "gpt-4o-mini-2024-07-18"
        assert completion.usage is not None
        assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_what_the_sdk_reads_has_the_types_that_it_declares(subject: Subject):
    """The objects validate strictly, not only loosely as the SDK builds them."""
    done = subject.finish(subject.start(subject.lines(2)))

    Batch.model_validate(done.model_dump(), strict=True)
    FileObject.model_validate(subject.sdk.files.retrieve(done.input_file_id).model_dump(), strict=True)


def test_the_sdk_pages_through_batches_and_files(subject: Subject):
    """Its own iteration over pages finds everything once, newest first."""
    made = [subject.start(subject.lines(1)) for _ in range(5)]

    batches = [batch.id for batch in subject.sdk.batches.list(limit=2)]
    files = [file.id for file in subject.sdk.files.list(limit=2, purpose="batch")]

    assert batches == [batch.id for batch in reversed(made)]
    assert subject.account.calls().count("batches.list") == 3
    assert files == [batch.input_file_id for batch in reversed(made)]


def test_the_sdk_cancels_a_batch(subject: Subject):
    """A cancelled batch is cancelling and then cancelled."""
    subject.account.hold("in_progress")
    batch = subject.start(subject.lines(5))

    assert subject.sdk.batches.cancel(batch.id).status == "cancelling"

    assert subject.finish(batch).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        subject.sdk.batches.cancel(batch.id)


def test_the_sdk_deletes_a_file(subject: Subject):
    """The deletion is confirmed, and the file is not found afterwards."""
    file = subject.sdk.files.create(file=("input.jsonl", subject.lines(1)), purpose="batch")

    assert subject.sdk.files.delete(file.id).deleted is True

    with pytest.raises(openai.NotFoundError):
        subject.sdk.files.retrieve(file.id)


def test_the_sdk_streams_a_download(subject: Subject):
    """A result can be read piece by piece into a file."""
    done = subject.finish(subject.start(subject.lines(3000)))
    assert done.output_file_id

    with subject.sdk.files.with_streaming_response.content(done.output_file_id) as response:
        size = sum(len(piece) for piece in response.iter_bytes())

    assert size == subject.sdk.files.retrieve(done.output_file_id).bytes > 1_000_000


def test_the_sdk_reads_the_errors_of_a_batch_that_failed(subject: Subject):
    """The code and line of bad input arrive in the SDK's own types."""
    failed = subject.finish(subject.start(subject.lines(1) * 2))

    assert failed.status == "failed"
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert [(error.code, error.line) for error in failed.errors.data] == [("duplicate_custom_id", 2)]


def test_the_sdk_raises_the_class_that_belongs_to_each_refusal(subject: Subject):
    """Bad requests, unknown ids, rate limits and faults of the server are told apart by the SDK."""
    file = subject.sdk.files.create(file=("input.jsonl", subject.lines(1)), purpose="batch")

    with pytest.raises(openai.BadRequestError):
        subject.sdk.files.create(file=("input.txt", b"{}"), purpose="batch")
    with pytest.raises(openai.BadRequestError):
        subject.sdk.batches.create(
            input_file_id=file.id,
            endpoint=subject.endpoint,  # type: ignore[arg-type]
            completion_window="24h",
            metadata={str(at): "x" for at in range(17)},
        )
    with pytest.raises(openai.NotFoundError):
        subject.sdk.batches.retrieve("batch_of_nobody")
    subject.account.fault("rate_limit", "batches.list", retry_after=7)
    with pytest.raises(openai.RateLimitError) as limited:
        subject.sdk.batches.list()
    assert limited.value.response.headers["retry-after"] == "7"
    subject.account.fault("status", "batches.list", status=503)
    with pytest.raises(openai.InternalServerError):
        subject.sdk.batches.list()
    subject.account.fault("close_before", "batches.list")
    with pytest.raises(openai.APIConnectionError):
        subject.sdk.batches.list()


def test_the_sdk_is_refused_after_a_rotation(subject: Subject):
    """The old key raises AuthenticationError, the new one goes on with the same things."""
    batch = subject.start(subject.lines(1))
    subject.account.rotate("the-new-key")

    with pytest.raises(openai.AuthenticationError):
        subject.sdk.batches.retrieve(batch.id)

    assert subject.sdk.with_options(api_key="the-new-key").batches.retrieve(batch.id).id == batch.id


def test_the_sdk_retries_by_itself_what_it_always_retries(subject: Subject):
    """Its own retries meet a fault that is over, and it never tells."""
    subject.account.fault("rate_limit", "batches.list", retry_after=0.01, times=2)

    assert list(subject.sdk.with_options(max_retries=2).batches.list()) == []

    assert subject.account.calls().count("batches.list", 429) == 2
    assert subject.account.calls().count("batches.list", 200) == 1
