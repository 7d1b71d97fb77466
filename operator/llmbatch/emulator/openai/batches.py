"""The Batches API."""

from __future__ import annotations

from typing import Any, Literal

from aiohttp import web

from llmbatch.emulator.exchanges import Exchange
from llmbatch.emulator.openai import careless
from llmbatch.emulator.openai.creation import BatchRequest, read_batch_request
from llmbatch.emulator.openai.objects import Batch, StoredFile
from llmbatch.emulator.openai.paging import read_page
from llmbatch.emulator.openai.processing import lifecycle
from llmbatch.emulator.openai.representations import batch_view
from llmbatch.emulator.refusals import LineError, Refusal

HOUR = 3_600.0
OPENAI_CREATES_PER_HOUR = 2_000
"""OpenAI: up to 2,000 batches an hour may be created."""
SHUFFLED: Literal["shuffled"] = "shuffled"


class Batches:
    """The operations on batches."""

    async def create(self, exchange: Exchange) -> web.StreamResponse:
        """`POST /batches`."""
        asked = await read_batch_request(exchange)
        await exchange.begin(**asked.subject())
        batch = _accept(exchange, asked)
        exchange.account.add_batch(batch)
        record = exchange.record
        record.id = record.batch_id = batch.id
        record.deployment = batch.deployment
        view = self._view(exchange, batch)
        exchange.account.look(batch, exchange.now)
        return exchange.answer(view)

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """`GET /batches/{id}`."""
        batch = await self._find(exchange)
        await exchange.account.settle([batch])
        return exchange.answer(self._view(exchange, batch))

    async def list(self, exchange: Exchange) -> web.StreamResponse:
        """`GET /batches`."""
        await exchange.begin(query=dict(exchange.request.query))
        page = read_page(exchange, default=20, most=100)
        behaviour, account = exchange.behaviour, exchange.account
        lag = behaviour.list_lag_seconds
        if exchange.fault and exchange.fault.kind == "list_lag":
            lag = exchange.fault.duration
        try:
            found, more = account.batches.page(
                after=page.after,
                limit=page.limit,
                order=SHUFFLED if behaviour.list_order == "shuffled" else "newest",
                keep=lambda batch: exchange.now - batch.created >= lag,
            )
        except KeyError:
            raise exchange.dialect.no_such_batch(page.after or "") from None
        for batch in found:
            account.look(batch, exchange.now)
        await account.settle(found)
        view = page.view([self._view(exchange, batch) for batch in found], more=more)
        return exchange.answer(careless.page_view(view) if behaviour.careless else view)

    async def cancel(self, exchange: Exchange) -> web.StreamResponse:
        """`POST /batches/{id}/cancel`."""
        batch = await self._find(exchange)
        if batch.is_over:
            raise Refusal(409, f"Cannot cancel a batch with status '{batch.state}'.", code="conflict")
        if batch.state != "cancelling":
            lifecycle.cancel(batch, exchange.behaviour, exchange.now)
        return exchange.answer(self._view(exchange, batch))

    async def _find(self, exchange: Exchange) -> Batch:
        batch_id = exchange.request.match_info["id"]
        exchange.record.batch_id = batch_id
        batch = exchange.account.batches.get(batch_id)
        if batch is not None:
            exchange.record.deployment = batch.deployment
        await exchange.begin(id=batch_id, metadata=(batch and batch.metadata) or {})
        if batch is None or exchange.now - batch.created < exchange.behaviour.not_found_after_create_seconds:
            raise exchange.dialect.no_such_batch(batch_id)
        return exchange.account.look(batch, exchange.now)

    def _view(self, exchange: Exchange, batch: Batch) -> dict[str, Any]:
        view = batch_view(batch, exchange.dialect, exchange.behaviour, exchange.now)
        return careless.batch_view(view) if exchange.behaviour.careless else view


def _accept(exchange: Exchange, asked: BatchRequest) -> Batch:
    """Make a batch of a request. Raises Refusal."""
    dialect, behaviour, now = exchange.dialect, exchange.behaviour, exchange.now
    _check_rate(exchange)
    file = exchange.account.live_file(asked.input_file_id, now)
    if file is None and (refusal := dialect.missing_input(asked.input_file_id)):
        raise refusal
    if file is not None and (refusal := dialect.unready_input(file, now)):
        raise refusal
    batch_id = dialect.new_batch_id()
    batch = Batch(
        id=careless.new_id("batches", batch_id) if behaviour.careless else batch_id,
        created=now,
        input_file_id=asked.input_file_id,
        endpoint=asked.endpoint,
        kind=dialect.endpoints[asked.endpoint],
        metadata=asked.metadata,
        input=file,
        output_ttl=asked.output_ttl,
    )
    if file is not None:
        _judge(exchange, batch, file)
        _check_tokens(exchange, batch)
    if behaviour.max_active_batches is not None and len(exchange.account.active(now)) >= behaviour.max_active_batches:
        raise dialect.rate_limited(behaviour.pace.in_progress_seconds)
    exchange.account.creations.append(now)
    return batch


def _judge(exchange: Exchange, batch: Batch, file: StoredFile) -> None:
    """Lay down what the validation of the input will say."""
    dialect, verdict = exchange.dialect, file.verdict
    if verdict is None or file.fault:
        batch.faults = [LineError("invalid_input_file", file.fault or "The input file can't be read.")]
        return
    batch.requests, batch.tokens = verdict.requests, verdict.tokens
    batch.faults = [*verdict.malformed, *verdict.errors]
    if len(verdict.urls) == 1:
        kind = dialect.kind_of(batch.endpoint, verdict.urls[0])
        if kind is None:
            batch.faults.append(LineError("mismatched_url", "", 1, "url"))
        batch.kind = kind or batch.kind
    name = verdict.models[0] if verdict.models else ""
    models = dialect.models(exchange.account.settings)
    batch.deployment = name
    batch.model = name if models is None else models.get(name)
    if batch.model is None and verdict.models:
        batch.faults.append(dialect.unknown_model(name, 1))


def _check_tokens(exchange: Exchange, batch: Batch) -> None:
    """Hold a batch to the enqueued-token limit, in the way that was asked for. Raises Refusal."""
    limit = exchange.behaviour.token_limit
    if limit is None:
        return
    enqueued = sum(
        other.tokens for other in exchange.account.active(exchange.now) if other.deployment == batch.deployment
    )
    if enqueued + batch.tokens <= limit.enqueued_limit:
        return
    refusal = exchange.dialect.over_token_limit(batch, limit.enqueued_limit, limit.status)
    if limit.mode == "create_429":
        raise refusal
    batch.faults = [LineError("token_limit_exceeded", refusal.message)]
    batch.tokens = 0


def _check_rate(exchange: Exchange) -> None:
    """Hold an account to its creations an hour. Raises Refusal."""
    most = exchange.behaviour.creates_per_hour
    if most is None:
        if exchange.dialect.provider == "azure":
            return
        most = OPENAI_CREATES_PER_HOUR
    creations = exchange.account.creations
    while creations and creations[0] <= exchange.now - HOUR:
        creations.popleft()
    if len(creations) >= most:
        raise exchange.dialect.rate_limited(float(round(creations[0] + HOUR - exchange.now) or 1))
