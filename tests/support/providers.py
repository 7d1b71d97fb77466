"""A provider's adapter over a transport that a test answers for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx2

from llmbatch.api.modeldeployment import ModelDeploymentSpec
from llmbatch.domain.remote import RemoteBatch, UnreadableBatch
from llmbatch.providers.files_and_batches import FilesAndBatches
from llmbatch.providers.http.calls import Account
from llmbatch.providers.protocol import AccountID
from llmbatch.providers.registry import target_of
from llmbatch.providers.settings import Hooks, ProviderSettings

KEY = "sk-test-0123456789abcdef"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class ImpatientClock:
    """A clock on which a sleep takes no time but passes it; `slept` are the seconds of each."""

    passed: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds


@dataclass
class Provider:
    """An adapter, what it sent, and what it told of it."""

    batches: FilesAndBatches
    account: Account
    clock: ImpatientClock
    requests: list[httpx2.Request]
    observed: list[tuple[str, str, str]]
    uploaded: list[int]


Answer = httpx2.Response | Exception
Handler = Callable[[httpx2.Request], Answer]


def a_deployment(**block: object) -> ModelDeploymentSpec:
    """A deployment with one provider block, OpenAI's unless said otherwise."""
    auth = {"secretKeyRef": {"name": "provider", "key": "api-key"}}
    kind, fields = next(iter(block.items())) if block else ("openAI", {"model": "gpt-4o-mini"})
    assert isinstance(fields, dict)
    return ModelDeploymentSpec.model_validate({"modelName": "questions", kind: {**fields, "auth": auth}})


def a_provider(
    *answers: Answer,
    handler: Handler | None = None,
    deployment: ModelDeploymentSpec | None = None,
    guard: Callable[[], None] = lambda: None,
    settings: ProviderSettings | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> Provider:
    """An adapter whose requests are answered in turn, the last answer again and again, or by a function."""
    clock, requests = ImpatientClock(), []
    observed: list[tuple[str, str, str]] = []
    uploaded: list[int] = []
    queue = list(answers)

    async def answer(request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        requests.append(request)
        found = handler(request) if handler else queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(found, Exception):
            raise found
        # An answer that is given twice needs a stream of its own each time.
        return httpx2.Response(found.status_code, headers=found.headers, content=found.content)

    target = target_of(deployment or a_deployment())
    account = Account(
        AccountID(target.label, target.endpoint, target.organization, target.project, "digest"),
        target.label,
        target.authorize(KEY),
        settings=settings or ProviderSettings(),
        clock=clock,
        hooks=Hooks(
            guard=guard,
            observe=lambda who, what, code, seconds: observed.append((who, what, code)),
            uploaded=lambda who, count: uploaded.append(count),
        ),
        connect=lambda: transport or httpx2.MockTransport(answer),
        jitter=lambda: 0.5,
    )
    return Provider(FilesAndBatches(target, account), account, clock, requests, observed, uploaded)


def a_batch(**fields: object) -> dict[str, object]:
    """A batch object as OpenAI writes it."""
    return {
        "id": "batch_1",
        "object": "batch",
        "status": "in_progress",
        "created_at": 1_767_225_600,
        "input_file_id": "file-1",
        "metadata": {},
        **fields,
    }


def id_of(batch: RemoteBatch | UnreadableBatch) -> str:
    """The id of a batch that could be read."""
    assert isinstance(batch, RemoteBatch)
    return batch.id


async def stream(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Lines as they come from a source."""
    for line in lines:
        yield line
