"""What happened to jobs, told once each: a log record, an Event and metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from llmbatch.api import BatchJob
from llmbatch.api.batchjob import Phase, Usage
from llmbatch.domain.job.record import shards
from llmbatch.domain.job.steps import Close, Finish
from llmbatch.kube.events import Events

logger = logging.getLogger("llmbatch.jobs")

OTHER = "other"


class JobMetrics(Protocol):
    """Counts what jobs did."""

    def finished(self, model: str, result: str, seconds: float) -> None:
        """One more job of a model ended so, that long after its creation."""
        ...

    def collected(self, model: str, deployment: str, tokens: Mapping[str, int], cost: Decimal | None) -> None:
        """Tokens by type, and USD where the price is known."""
        ...

    def answered(self, model: str, deployment: str, completed: int, failed: int) -> None:
        """Requests of a job that ended."""
        ...


class JobReporter:
    """Tells of jobs; neither prompts nor completions are anywhere in it.

    ``serves`` says whether any deployment is there for a model.
    """

    def __init__(self, events: Events, metrics: JobMetrics, *, serves: Callable[[str], bool]) -> None:
        self._events = events
        self._metrics = metrics
        self._serves = serves

    async def submitted(self, job: BatchJob, shard: int) -> None:
        """A batch was created or adopted."""
        part = shards(job)[shard]
        logger.info("batch created", extra={"fields": _fields(job, shard, attempt=part.attempt)})
        message = f"batch {part.batch_id} on {_route(job, shard)}, attempt {part.attempt}"
        await self._events.record(job, "Normal", "BatchCreated", message)

    async def finished(self, job: BatchJob, step: Finish) -> None:
        """The job ended."""
        status = job.status
        usage = status.usage.wire() if status.usage else {}
        amount = status.cost.amount if status.cost else None
        # Anybody can make up names of models in a file; metrics tell only of those that a deployment serves.
        model = status.model_name if status.model_name and self._serves(status.model_name) else OTHER
        self._metrics.finished(model, step.reason.value, _seconds(job))
        if status.batch_id and (counts := status.request_counts):
            self._metrics.answered(model, _route(job, 0), counts.completed, counts.failed)
        if status.usage:
            self._metrics.collected(model, _route(job, 0), _by_type(status.usage), Decimal(amount) if amount else None)
        fields = _fields(
            job, 0, phase=step.phase.value, reason=step.reason.value, progress=status.progress, cost_usd=amount, **usage
        )
        logger.info("batch finished" if status.batch_id else "job finished", extra={"fields": fields})
        spent = f", {usage.get('totalTokens', 0)} tokens, {_cost(amount)}" if status.usage else ""
        kind = "Normal" if step.phase in (Phase.SUCCEEDED, Phase.CANCELLED) else "Warning"
        what = "BatchFinished" if status.batch_id else f"Job{step.phase.value}"
        await self._events.record(job, kind, what, f"{step.reason.value}: {step.message}{spent}")

    async def closed(self, job: BatchJob, step: Close) -> None:
        """An attempt failed and another one follows."""
        fields = _fields(job, step.shard, result=step.result.value, reason=step.message)
        logger.warning("attempt failed", extra={"fields": fields})
        await self._events.record(job, "Warning", "AttemptFailed", step.message)


def _seconds(job: BatchJob) -> float:
    created, ended = job.metadata.creation_timestamp, job.status.completion_time
    return max(0.0, (ended - created).total_seconds()) if ended else 0.0


def _by_type(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "cached": usage.cached_input_tokens,
        "output": usage.output_tokens,
        "reasoning": usage.reasoning_tokens,
    }


def _cost(amount: str | None) -> str:
    return f"{amount} USD" if amount else "cost unknown"


def _route(job: BatchJob, shard: int) -> str:
    deployment = shards(job)[shard].deployment
    return f"{deployment.namespace}/{deployment.name}" if deployment else ""


def _fields(job: BatchJob, shard: int, **more: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "namespace": job.metadata.namespace,
        "name": job.metadata.name,
        "deployment": _route(job, shard) or None,
        "batch_id": shards(job)[shard].batch_id,
        **more,
    }
    return {key: value for key, value in fields.items() if value is not None}
