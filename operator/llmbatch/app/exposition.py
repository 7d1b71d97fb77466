"""What the index holds, as metrics: read anew at every scrape."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition
from llmbatch.engine.clock import Clock
from llmbatch.observability.families import Reading
from llmbatch.observability.metrics import Metrics, Serving
from llmbatch.reconcile.index.index import Index, route_of
from llmbatch.reconcile.index.projections import FileState
from llmbatch.reconcile.jobs.reporting import OTHER

ENDS = tuple(reason.value for reason in tuple(Reason)[tuple(Reason).index(Reason.COMPLETED) :])
"""The reasons that jobs end with; the enumeration has them last."""
UNFINISHED = tuple(phase for phase in Phase if not phase.finished)


def show_index(metrics: Metrics, index: Index, clock: Clock) -> None:
    """Let the gauges of resources be read from the index. A standby's index is as right as the leader's."""
    counts = index.counts
    metrics.jobs.read = lambda: [((phase.value,), counts.phases[phase]) for phase in Phase]
    metrics.jobs_unfinished.read = lambda: [((reason.value,), n) for reason, n in counts.reasons.items() if n]
    metrics.oldest_job.read = partial(_oldest, index, clock)
    metrics.files.read = lambda: [((state.value,), counts.files[state]) for state in FileState]
    metrics.deployment_ready.read = partial(_ready, metrics, index, clock)
    metrics.active_batches.read = partial(_loads, index, 0)
    metrics.enqueued_tokens.read = partial(_loads, index, 1)


def _oldest(index: Index, clock: Clock) -> Iterator[Reading]:
    now, since = clock.now(), index.counts.oldest()
    for phase in UNFINISHED:
        yield (phase.value,), max(0.0, (now - since.get(phase, now)).total_seconds())


def _ready(metrics: Metrics, index: Index, clock: Clock) -> Iterator[Reading]:
    routes: set[tuple[str, str]] = set()
    for deployment in index.deployments.values():
        route, model = route_of(deployment), deployment.spec.model_name
        routes.add((model, route))
        told = condition(deployment.status.conditions, ConditionType.READY)
        reason = Reason.of(told.reason) if told else Reason.PROBING
        yield (route, model, reason.value), float(told is not None and told.status == "True")
    models = {OTHER, *(model for model, _ in routes)}
    metrics.serving = Serving(frozenset(models), frozenset(routes), ENDS, clock.monotonic())


def _loads(index: Index, which: int) -> Iterator[Reading]:
    for deployment in index.deployments.values():
        route = route_of(deployment)
        yield (route, deployment.spec.model_name), index.load(route)[which]
